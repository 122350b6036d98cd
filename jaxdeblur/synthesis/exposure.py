"""Synthetic motion blur from a sharp photo: the light that a moving camera integrates during an exposure.

Photos are uint8 RGB (H, W, 3). Light is float32 and saturates the sensor at 1. The model is that of Rim et al., ECCV
2022 ("Realistic Blur Synthesis for Learning Image Deblurring"): clipped highlights are brightened, instants averaged,
noise added, and the result clipped and stored. Averaging is done either on stored values or on light, as GOPRO_Large
has both (Nah et al., CVPR 2017). All functions are pure; randomness comes from the generator passed in.
"""

import dataclasses

import cv2
import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.camera_shake import Shake, move_points, project, sample_trajectory
from jaxdeblur.synthesis.frame_averaging import GAMMA
from jaxdeblur.synthesis.moving_objects import fill_behind, sample_objects
from jaxdeblur.synthesis.moving_patches import ObjectRules, Region, RegionRules, sample_regions
from jaxdeblur.synthesis.object_outlines import Outlines
from jaxdeblur.synthesis.parallax import Depth, DepthRules, sample_depth
from jaxdeblur.synthesis.ranges import check_log_range
from jaxdeblur.synthesis.sensor import Sensor, develop, to_light
from jaxdeblur.synthesis.warping import Window, integrate, safe_window

# Stored value = light^(1 / exponent). `blur` uses stored values as light, like that of GOPRO_Large.
EXPONENTS = {"blur": 1.0, "blur_gamma": GAMMA}
_PLANE, _NO_OBJECTS = DepthRules(), ObjectRules()
_DEPTH_STREAM, _OBJECT_STREAM = 1, 2  # appended to the noise's seed
_TILE = (64, 1280)  # rows and columns computed at once: the fastest size, with bounded memory


@dataclasses.dataclass(frozen=True)
class Exposure:
    """Distribution of each exposure's motion, and how the result is stored.

    Raises:
        InputError: with `log_travel`, a region's or an object's path length may be 0 (code "range-out-of-range").
    """

    shake: Shake
    regions: RegionRules
    sensor: Sensor
    variants: tuple[str, ...]
    depth: DepthRules = _PLANE
    objects: ObjectRules = _NO_OBJECTS

    def __post_init__(self):
        for name, rules in (("region_travel", self.regions), ("object_travel", self.objects)):
            if self.shake.log_travel and rules.count:
                check_log_range(name, rules.travel)


@dataclasses.dataclass(frozen=True)
class Motion:
    """The motion in one exposure of a photo, and the window that is seen.

    Attributes:
        cameras: homographies (T, 3, 3) from the camera's pixels to the photo's.
        regions: independently moving patches.
        window: left, top, width, height of the image in the photo.
        noise_seed: seed of the sensor's noise.
        depth: distances of the scene; None: a plane.
        objects_replaced: number of objects without a good outline, replaced by regions of random outline.
    """

    cameras: np.ndarray
    regions: tuple[Region, ...]
    window: Window
    noise_seed: int
    depth: Depth | None = None
    objects_replaced: int = 0

    def at_rest(self) -> "Motion":
        """Return the middle instant only, without motion."""
        middle = len(self.cameras) // 2
        return Motion(self.cameras[middle : middle + 1], (), self.window, self.noise_seed)


def sample_motion(
    rng: np.random.Generator,
    exposure: Exposure,
    size: tuple[int, int],
    side: int = 0,
    outlines: Outlines | None = None,
) -> Motion:
    """Draw the motion of one exposure of a photo.

    Depth and objects use separate generators: the other values do not depend on them.

    Args:
        rng: source of all randomness.
        exposure: the distribution.
        size: (H, W) of the photo.
        side: side of a square window in pixels, at a random position; 0: the whole photo without the borders that
            the camera's motion uncovers.
        outlines: of the photo; required for objects.

    Raises:
        InputError: the photo is too small (code "photograph-too-small").
    """
    focal = exposure.shake.focal * max(size)
    path = sample_trajectory(rng, exposure.shake, focal)
    cameras = project(path, focal, size)
    regions = sample_regions(rng, exposure.regions, exposure.shake, size)
    noise_seed = int(rng.integers(1 << 62))
    depth, replaced = None, 0
    if exposure.depth.relief[1]:
        depth = sample_depth(np.random.default_rng([noise_seed, _DEPTH_STREAM]), exposure.depth, path, focal, size)
    window = _draw_window(rng, size, cameras if depth is None else depth.extremes, side)
    if exposure.objects.count:
        assert outlines is not None
        object_rng = np.random.default_rng([noise_seed, _OBJECT_STREAM])
        objects, replaced = sample_objects(object_rng, exposure.objects, exposure.shake, outlines, size, window)
        replacements = dataclasses.replace(exposure.regions, count=replaced, travel=exposure.objects.travel)
        regions += sample_regions(object_rng, replacements, exposure.shake, size) + tuple(objects)
    if depth is not None:
        regions = tuple(with_parallax(region, cameras, depth) for region in regions)
    return Motion(cameras, regions, window, noise_seed, depth, replaced)


def _draw_window(rng: np.random.Generator, size: tuple[int, int], cameras: np.ndarray, side: int) -> Window:
    """Return the `safe_window` of a photo of `size` (H, W), or a random square of `side` pixels in it."""
    left, top, width, height = safe_window(size, cameras)
    if not side:
        return left, top, width, height
    if min(width, height) < side:
        raise InputError(
            f"{size[1]}x{size[0]} pixels, of which the camera's motion leaves {width}x{height}: too small for a "
            f"window of {side}x{side}",
            code="photograph-too-small",
        )
    left += int(rng.integers(width - side + 1))
    top += int(rng.integers(height - side + 1))
    return left, top, side, side


def with_parallax(region: Region, cameras: np.ndarray, depth: Depth) -> Region:
    """Return a region whose parallax is that of the scene at the region's centre, added to its own motion."""
    middle = region.corners.mean(axis=0, keepdims=True)
    parallax = (depth.move(middle) - move_points(cameras, middle))[:, 0]
    return dataclasses.replace(region, path=region.path - parallax)


def make_pair(photo: np.ndarray, motion: Motion, exposure: Exposure) -> dict[str, np.ndarray]:
    """Return one exposure of a photo (H, W, 3): `sharp` and the blur variants by name, uint8 (height, width, 3).

    `sharp` is the middle instant without noise: the photo's values, with brightened highlights clipped.
    """
    noiseless = dataclasses.replace(exposure.sensor, shot_noise=0.0, read_noise=0.0)
    pair = {"sharp": expose(photo, motion.at_rest(), noiseless, EXPONENTS["blur"])}
    background = fill_behind(photo, motion.regions)
    for variant in exposure.variants:
        pair[variant] = expose(photo, motion, exposure.sensor, EXPONENTS[variant], background)
    return pair


def expose(
    photo: np.ndarray, motion: Motion, sensor: Sensor, exponent: float, background: np.ndarray | None = None
) -> np.ndarray:
    """Return the stored image of the moving camera, uint8 (height, width, 3).

    Computed in tiles, so memory beyond photo and result is bounded. Outside the photo the camera sees black:
    `motion.window` must lie inside `safe_window`.

    Args:
        photo: (H, W, 3).
        motion: motion and window.
        sensor: highlights and noise; the noise does not depend on the domain.
        exponent: one of EXPONENTS; the domain in which instants are averaged.
        background: (H, W, 3), the scene behind the regions; None: the photo.
    """
    cv2.setNumThreads(1)  # photos are processed in parallel, not parts of them
    left, top, width, height = motion.window

    def convert(part: np.ndarray) -> np.ndarray:
        return to_light(part, sensor, exponent)

    rng = np.random.default_rng(motion.noise_seed)
    image = np.empty((height, width, 3), np.uint8)
    rows, columns = _TILE
    for row in range(0, height, rows):
        for column in range(0, width, columns):
            tile = (left + column, top + row, min(columns, width - column), min(rows, height - row))
            light = integrate(photo, tile, motion.cameras, motion.regions, convert, motion.depth, background)
            image[row : row + rows, column : column + columns] = develop(light, sensor, exponent, rng)
    return image
