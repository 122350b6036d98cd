"""Exposures of a photograph: what is drawn for each of them, and the pair that comes of it.

`synthetic` blurs, `capture` says what else happens to an image; this module joins the two.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.camera_shake import move_points
from jaxdeblur.synthesis.capture import Capture, CaptureRules, compress, reduce_image, reduced_size, sample_capture
from jaxdeblur.synthesis.exposure import Exposure, Motion, make_pair, sample_motion
from jaxdeblur.synthesis.object_outlines import Outlines

_CAPTURE_STREAM = 1  # appended to an exposure's seed: motion is the same whatever else is drawn
_FITS = tuple(step / 10 for step in range(10, -1, -1))  # powers of the factors of reduction, tried in turn


def draw_exposure(
    seed: Sequence[int],
    exposure: Exposure,
    rules: CaptureRules,
    size: tuple[int, int],
    side: int,
    outlines: Outlines | None = None,
) -> tuple[Capture, Motion]:
    """Draw all that decides one exposure of a photograph.

    Where the photograph would get too small for the window and the motion, it is reduced less than was drawn.

    Args:
        seed: of this exposure.
        exposure: the rules of motion.
        rules: the rules of everything else.
        size: (H, W) of the photograph.
        side: side of the pair's square window in pixels; 0: all of the photograph.
        outlines: of the photograph; needed if there are to be objects.

    Raises:
        InputError: the photograph is too small, even when it is not reduced.
    """
    drawn = sample_capture(np.random.default_rng([*seed, _CAPTURE_STREAM]), rules)
    for power in _FITS:
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
    """Return the pair of one exposure of a photograph (H, W, 3): `sharp` and the variants of blur, uint8, by name.

    Noise is added before the pair is reduced and JPEG compression comes last, as in a frame that is shrunk for its use.
    `sharp` has neither.

    Args:
        photo: (H, W, 3), not reduced.
        capture: what `draw_exposure` drew for a photograph of this size.
        motion: the same.
        exposure: the rules the motion was drawn by.
        side: the same as for `draw_exposure`.
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
    """Return what an exposure drew, rounded for reading: the camera's path, and all that is not as it is by default.

    `travel` is how far the middle of the window moves over the photograph, in pixels of the pair.
    """
    left, top, width, height = motion.window
    track = move_points(motion.cameras, np.array([[left + (width - 1) / 2, top + (height - 1) / 2]]))[:, 0]
    travel = np.linalg.norm(np.diff(track, axis=0), axis=1).sum() / capture.reduce_after
    drawn = {"travel": round(float(travel), 2)}
    if motion.depth is not None:
        drawn["depth_relief"] = round(motion.depth.relief, 3)
    objects = sum(region.solid for region in motion.regions)
    drawn |= {name: n for name, n in (("objects", objects), ("objects_replaced", motion.objects_replaced)) if n}
    for field in dataclasses.fields(Capture):
        value = getattr(capture, field.name)
        if value != field.default and (field.name != "chroma" or capture.jpeg_quality):
            drawn[field.name] = float(f"{value:.4g}") if isinstance(value, float) else value
    return drawn
