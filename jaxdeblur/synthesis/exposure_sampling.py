"""Draws an exposure of a photo and makes its pair: combines motion (`exposure.py`) and capture (`capture.py`)."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.camera_shake import move_points
from jaxdeblur.synthesis.capture import Capture, CaptureRules, compress, reduce_image, reduced_size, sample_capture
from jaxdeblur.synthesis.exposure import Exposure, Motion, make_pair, sample_motion
from jaxdeblur.synthesis.object_outlines import Outlines

_CAPTURE_STREAM = 1  # appended to an exposure's seed, so that motion does not depend on the capture
_POWERS = tuple(step / 10 for step in range(10, -1, -1))  # of the downscaling factors, tried in turn


def draw_exposure(
    seed: Sequence[int],
    exposure: Exposure,
    rules: CaptureRules,
    size: tuple[int, int],
    side: int,
    outlines: Outlines | None = None,
) -> tuple[Capture, Motion]:
    """Draw the capture and the motion of one exposure of a photo.

    Where the photo would be too small for window and motion, it is downscaled less than drawn.

    Args:
        seed: of this exposure.
        exposure: distribution of the motion.
        rules: distribution of everything else.
        size: (H, W) of the photo.
        side: side of the pair's square window in pixels; 0: the whole photo.
        outlines: of the photo; required for objects.

    Raises:
        InputError: the photo is too small even at full size (code "photograph-too-small").
    """
    drawn = sample_capture(np.random.default_rng([*seed, _CAPTURE_STREAM]), rules)
    for power in _POWERS:
        capture = drawn.reduced_by(power)
        seen, window = reduced_size(size, capture.reduce), round(side * capture.reduce_after)
        if power and window > min(seen):
            continue
        try:
            motion = sample_motion(np.random.default_rng(seed), exposure, seen, window, outlines)
        except InputError as error:
            if error.code != "photograph-too-small" or capture.reduce == capture.reduce_after == 1:
                raise
        else:
            break
    return capture, motion.at_rest() if capture.still else motion


def make_exposure(
    photo: np.ndarray, capture: Capture, motion: Motion, exposure: Exposure, side: int
) -> dict[str, np.ndarray]:
    """Return the pair of one exposure: `sharp` and the blur variants by name, uint8 (height, width, 3).

    Noise is added before the pair is downscaled, and JPEG compression comes last, as in a photo resized for use.
    `sharp` has neither.

    Args:
        photo: (H, W, 3), at full size.
        capture: from `draw_exposure`, for a photo of this size.
        motion: likewise.
        exposure: the distribution that the motion was drawn from.
        side: as for `draw_exposure`.
    """
    noise = {name: getattr(capture, name) for name in ("shot_noise", "read_noise", "noise_blur")}
    exposure = dataclasses.replace(exposure, sensor=dataclasses.replace(exposure.sensor, **noise))
    if capture.linear:
        exposure = dataclasses.replace(exposure, variants=("blur_gamma",))
    pair = make_pair(reduce_image(photo, reduced_size(photo.shape[:2], capture.reduce)), motion, exposure)
    if capture.linear:
        pair["blur"] = pair.pop("blur_gamma")
    final = (side, side) if side else reduced_size(pair["sharp"].shape[:2], capture.reduce_after)
    pair = {name: reduce_image(image, final) for name, image in pair.items()}
    if capture.jpeg_quality:
        for name in pair.keys() - {"sharp"}:
            pair[name] = compress(pair[name], capture.jpeg_quality, capture.chroma)
    return pair


def describe_exposure(capture: Capture, motion: Motion) -> dict[str, float | str]:
    """Return the values of an exposure that differ from the defaults, rounded, and the camera's path length.

    `travel` is the path length of the window's centre over the photo, in pixels of the pair.
    """
    left, top, width, height = motion.window
    track = move_points(motion.cameras, np.array([[left + (width - 1) / 2, top + (height - 1) / 2]]))[:, 0]
    travel = np.linalg.norm(np.diff(track, axis=0), axis=1).sum() / capture.reduce_after
    values: dict[str, float | str] = {"travel": round(float(travel), 2)}
    if motion.depth is not None:
        values["depth_relief"] = round(motion.depth.relief, 3)
    objects = sum(region.solid for region in motion.regions)
    counts = {"objects": objects, "objects_replaced": motion.objects_replaced}
    values |= {name: count for name, count in counts.items() if count}
    for field in dataclasses.fields(Capture):
        value = getattr(capture, field.name)
        if value != field.default and (field.name != "chroma" or capture.jpeg_quality):
            values[field.name] = float(f"{value:.4g}") if isinstance(value, float) else value
    return values
