"""Motion blur made from sharp photographs: what a moving camera's sensor gathers during an exposure.

Photographs are uint8 RGB, (H, W, 3). Light is float32, 1 where the sensor saturates. The model is that of Rim et al.,
ECCV 2022 ("Realistic Blur Synthesis for Learning Image Deblurring"): instants are averaged, highlights that the
photograph has clipped are made brighter first, noise is added, the sum is clipped and stored. Averaging takes place
either on stored values or on light, as GOPRO_Large has both (Nah et al., CVPR 2017). Everything is a pure function of
its arguments; randomness comes from the generator passed in.
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

# Stored value = light^(1 / exponent). `blur` takes stored values for light, as GOPRO_Large's does.
EXPONENTS = {"blur": 1.0, "blur_gamma": GAMMA}
_PLANE, _NO_OBJECTS = DepthRules(), ObjectRules()
_DEPTH_STREAM, _OBJECT_STREAM = 1, 2  # appended to the noise's seed
_TILE = (64, 1280)  # rows and columns made at once: the fastest size, and memory stays bounded


@dataclasses.dataclass(frozen=True)
class Exposure:
    """The rules that each exposure's motion is drawn from, and how it is stored.

    Raises:
        InputError: path lengths are drawn log-uniformly and a region's or an object's may be 0.
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
    """What moves in one exposure of one photograph, and what is seen of it.

    Attributes:
        cameras: homographies (T, 3, 3) from the camera's pixels to the photograph's.
        regions: patches that move by themselves.
        window: left, top, width, height of the image in the photograph.
        noise_seed: seed of the sensor's noise.
        depth: distances of the scene; None: a plane.
        objects_replaced: objects for which no good outline was found; regions of random outline move in their place.
    """

    cameras: np.ndarray
    regions: tuple[Region, ...]
    window: Window
    noise_seed: int
    depth: Depth | None = None
    objects_replaced: int = 0

    def at_rest(self) -> "Motion":
        """Return the middle instant alone: neither the camera nor a region moves."""
        middle = len(self.cameras) // 2
        return Motion(self.cameras[middle : middle + 1], (), self.window, self.noise_seed)


def sample_motion(
    rng: np.random.Generator,
    exposure: Exposure,
    size: tuple[int, int],
    side: int = 0,
    outlines: Outlines | None = None,
) -> Motion:
    """Draw the motion of one exposure of a photograph.

    Depth and objects are drawn from generators of their own: the rest is the same with them and without.

    Args:
        rng: source of all randomness.
        exposure: the rules.
        size: (H, W) of the photograph.
        side: side of a square window in pixels, placed at random; 0: all of the photograph but the borders that the
            camera's motion uncovers.
        outlines: of the photograph; needed if there are to be objects.

    Raises:
        InputError: the photograph is too small.
    """
    focal = exposure.shake.focal * max(size)
    path = sample_trajectory(rng, exposure.shake, focal)
    cameras = project(path, focal, size)
    regions = sample_regions(rng, exposure.regions, exposure.shake, size)
    noise_seed = int(rng.integers(1 << 62))
    depth, replaced = None, 0
    if exposure.depth.relief[1]:
        depth = sample_depth(np.random.default_rng([noise_seed, _DEPTH_STREAM]), exposure.depth, path, focal, size)
    left, top, width, height = safe_window(size, cameras if depth is None else depth.extremes)
    if side:
        if min(width, height) < side:
            left_over = f"{size[1]}x{size[0]} pixels, of which the camera's motion leaves {width}x{height}"
            raise InputError(f"{left_over}: too small for a window of {side}x{side}", code="photograph-too-small")
        left += int(rng.integers(width - side + 1))
        top += int(rng.integers(height - side + 1))
        width = height = side
    window = (left, top, width, height)
    if exposure.objects.count:
        own = np.random.default_rng([noise_seed, _OBJECT_STREAM])
        objects, replaced = sample_objects(own, exposure.objects, exposure.shake, outlines, size, window)
        instead = dataclasses.replace(exposure.regions, count=replaced, travel=exposure.objects.travel)
        regions += sample_regions(own, instead, exposure.shake, size) + tuple(objects)
    if depth is not None:
        regions = tuple(_at_its_distance(region, cameras, depth) for region in regions)
    return Motion(cameras, regions, window, noise_seed, depth, replaced)


def _at_its_distance(region: Region, cameras: np.ndarray, depth: Depth) -> Region:
    """Return a region that moves with the camera as the scene does at its middle, on top of its own motion."""
    middle = region.corners.mean(axis=0, keepdims=True)
    parallax = (depth.move(middle) - move_points(cameras, middle))[:, 0]
    return dataclasses.replace(region, path=region.path - parallax)


def make_pair(photo: np.ndarray, motion: Motion, exposure: Exposure) -> dict[str, np.ndarray]:
    """Return one exposure of a photograph (H, W, 3): `sharp` and the variants of blur, uint8 of one size, by name.

    `sharp` is the middle instant without noise: the photograph's own values, but brightened highlights are clipped.
    """
    quiet = dataclasses.replace(exposure.sensor, shot_noise=0.0, read_noise=0.0)
    pair = {"sharp": expose(photo, motion.at_rest(), quiet, EXPONENTS["blur"])}
    background = fill_behind(photo, motion.regions)
    for variant in exposure.variants:
        pair[variant] = expose(photo, motion, exposure.sensor, EXPONENTS[variant], background)
    return pair


def expose(
    photo: np.ndarray, motion: Motion, sensor: Sensor, exponent: float, background: np.ndarray | None = None
) -> np.ndarray:
    """Return what the moving camera stores of a photograph (H, W, 3), uint8 (height, width, 3).

    Memory beyond the photograph and the result is bounded: the window is made in tiles. Beyond the photograph's edge
    the camera sees black: `motion.window` has to lie inside `safe_window`.

    Args:
        photo: (H, W, 3).
        motion: what moves, and what is seen.
        sensor: highlights and noise; the noise is the same in every domain.
        exponent: of EXPONENTS; the domain the instants are averaged in.
        background: (H, W, 3), what lies behind the regions; None: the photograph.
    """
    cv2.setNumThreads(1)  # photographs are made in parallel, not parts of them
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
