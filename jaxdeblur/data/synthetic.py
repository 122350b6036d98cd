"""Motion blur made from sharp photographs: what a moving camera's sensor gathers during an exposure.

Photographs are uint8 RGB, (H, W, 3). Light is float32, 1 where the sensor saturates. The model is that of Rim et al.,
ECCV 2022 ("Realistic Blur Synthesis for Learning Image Deblurring"): instants are averaged, highlights that the
photograph has clipped are made brighter first, noise is added, the sum is clipped and stored. Averaging takes place
either on stored values or on light, as GOPRO_Large has both (Nah et al., CVPR 2017). Everything is a pure function of
its arguments; randomness comes from the generator passed in.
"""

import dataclasses
import math

import cv2
import numpy as np

from jaxdeblur.data.frames import GAMMA
from jaxdeblur.data.ranges import check_log_range
from jaxdeblur.data.regions import Region, RegionRules, sample_regions
from jaxdeblur.data.trajectories import Shake, project, sample_trajectory
from jaxdeblur.data.warping import Window, integrate, safe_window
from jaxdeblur.errors import InputError

# Stored value = light^(1 / exponent). `blur` takes stored values for light, as GOPRO_Large's does.
EXPONENTS = {"blur": 1.0, "blur_gamma": GAMMA}
_TILE = (64, 1280)  # rows and columns made at once: the fastest size, and memory stays bounded


@dataclasses.dataclass(frozen=True)
class Sensor:
    """What the sensor does to light.

    Attributes:
        highlight_gain: how much brighter a white pixel (255 in all channels) is than the photograph shows, in light;
            1: no brighter. Channels that are clipped alone, such as a sky's blue, stay: a gain would change the hue.
        highlight_threshold: greatest value of a pixel's darkest channel that gains nothing; the gain grows evenly from
            1 here to `highlight_gain` at 255.
        shot_noise: standard deviation of photon noise where the sensor saturates; it grows with the root of the light.
        read_noise: standard deviation of the noise that is there without light.
        noise_blur: standard deviation in pixels of the Gaussian that the noise is smoothed by, whose deviation stays
            as it was: neighbours correlate as after demosaicking and denoising; 0: they do not.
        linear_noise: whether noise is added in linear light whatever domain the instants are averaged in; otherwise it
            is added in that domain.

    Raises:
        InputError: a value is out of its range.
    """

    highlight_gain: float = 1.0
    highlight_threshold: int = 250
    shot_noise: float = 0.0
    read_noise: float = 0.0
    noise_blur: float = 0.0
    linear_noise: bool = False

    def __post_init__(self):
        if not 1 <= self.highlight_gain < math.inf:
            raise InputError(f"highlight_gain: {self.highlight_gain:g}, expected 1 or more.")
        if not 0 <= self.highlight_threshold < 255:
            raise InputError(f"highlight_threshold: {self.highlight_threshold}, expected 0 to 254.")
        for name in ("shot_noise", "read_noise", "noise_blur"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: {getattr(self, name)}, expected 0 or more.")


def to_light(photo: np.ndarray, sensor: Sensor, exponent: float) -> np.ndarray:
    """Return the light behind stored values (H, W, 3), float32; more than 1 for brightened highlights."""
    stored = np.arange(256)
    light = cv2.LUT(photo, ((stored / 255) ** exponent).astype(np.float32))
    red, green, blue = cv2.split(photo)
    darkest = cv2.min(cv2.min(red, green), blue)  # tens of times as fast as photo.min(axis=2)
    if sensor.highlight_gain > 1 and darkest.max() > sensor.highlight_threshold:
        ramp = np.clip((stored - sensor.highlight_threshold) / (255 - sensor.highlight_threshold), 0, 1)
        gain = (1 + (sensor.highlight_gain - 1) * ramp) ** (exponent / GAMMA)
        light *= cv2.LUT(darkest, gain.astype(np.float32))[..., np.newaxis]
    return light


def develop(light: np.ndarray, sensor: Sensor, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Return light as stored values, uint8 of the same shape: noise is added, then it is clipped and encoded."""
    if sensor.shot_noise or sensor.read_noise:
        if sensor.linear_noise and exponent != GAMMA:
            light, exponent = cv2.pow(light, GAMMA / exponent), GAMMA
        deviation = np.sqrt(np.float32(sensor.shot_noise**2) * light + np.float32(sensor.read_noise**2))
        light = light + deviation * _sample_noise(light.shape, sensor.noise_blur, rng)
    light = np.clip(light, 0, 1)
    if exponent != 1:
        light = np.power(light, np.float32(1 / exponent))
    return np.rint(light * 255).astype(np.uint8)


def _sample_noise(shape: tuple[int, ...], blur: float, rng: np.random.Generator) -> np.ndarray:
    """Return Gaussian noise of deviation 1, float32 (H, W, 3), smoothed by a Gaussian of deviation `blur` in pixels."""
    if not blur:
        return rng.standard_normal(shape, np.float32)
    reach = math.ceil(3 * blur)
    kernel = cv2.getGaussianKernel(2 * reach + 1, blur)
    kernel /= np.linalg.norm(kernel)
    noise = rng.standard_normal((shape[0] + 2 * reach, shape[1] + 2 * reach, *shape[2:]), np.float32)
    return cv2.sepFilter2D(noise, -1, kernel, kernel)[reach:-reach, reach:-reach]


@dataclasses.dataclass(frozen=True)
class Exposure:
    """The rules that each exposure's motion is drawn from, and how it is stored.

    Raises:
        InputError: path lengths are drawn log-uniformly and regions' may be 0.
    """

    shake: Shake
    regions: RegionRules
    sensor: Sensor
    variants: tuple[str, ...]

    def __post_init__(self):
        if self.shake.log_travel and self.regions.count:
            check_log_range("region_travel", self.regions.travel)


@dataclasses.dataclass(frozen=True)
class Motion:
    """What moves in one exposure of one photograph, and what is seen of it.

    Attributes:
        cameras: homographies (T, 3, 3) from the camera's pixels to the photograph's.
        regions: patches that move by themselves.
        window: left, top, width, height of the image in the photograph.
        noise_seed: seed of the sensor's noise.
    """

    cameras: np.ndarray
    regions: tuple[Region, ...]
    window: Window
    noise_seed: int

    def at_rest(self) -> "Motion":
        """Return the middle instant alone: neither the camera nor a region moves."""
        middle = len(self.cameras) // 2
        return dataclasses.replace(self, cameras=self.cameras[middle : middle + 1], regions=())


def sample_motion(rng: np.random.Generator, exposure: Exposure, size: tuple[int, int], side: int = 0) -> Motion:
    """Draw the motion of one exposure of a photograph.

    Args:
        rng: source of all randomness.
        exposure: the rules.
        size: (H, W) of the photograph.
        side: side of a square window in pixels, placed at random; 0: all of the photograph but the borders that the
            camera's motion uncovers.

    Raises:
        InputError: the photograph is too small.
    """
    focal = exposure.shake.focal * max(size)
    cameras = project(sample_trajectory(rng, exposure.shake, focal), focal, size)
    regions = sample_regions(rng, exposure.regions, exposure.shake, size)
    noise_seed = int(rng.integers(1 << 62))
    left, top, width, height = safe_window(size, cameras)
    if side:
        if min(width, height) < side:
            left_over = f"{size[1]}x{size[0]} pixels, of which the camera's motion leaves {width}x{height}"
            raise InputError(f"{left_over}: too small for a window of {side}x{side}", code="photograph-too-small")
        left += int(rng.integers(width - side + 1))
        top += int(rng.integers(height - side + 1))
        width = height = side
    return Motion(cameras, regions, (left, top, width, height), noise_seed)


def make_pair(photo: np.ndarray, motion: Motion, exposure: Exposure) -> dict[str, np.ndarray]:
    """Return one exposure of a photograph (H, W, 3): `sharp` and the variants of blur, uint8 of one size, by name.

    `sharp` is the middle instant without noise: the photograph's own values, but brightened highlights are clipped.
    """
    quiet = dataclasses.replace(exposure.sensor, shot_noise=0.0, read_noise=0.0)
    pair = {"sharp": expose(photo, motion.at_rest(), quiet, EXPONENTS["blur"])}
    for variant in exposure.variants:
        pair[variant] = expose(photo, motion, exposure.sensor, EXPONENTS[variant])
    return pair


def expose(photo: np.ndarray, motion: Motion, sensor: Sensor, exponent: float) -> np.ndarray:
    """Return what the moving camera stores of a photograph (H, W, 3), uint8 (height, width, 3).

    Memory beyond the photograph and the result is bounded: the window is made in tiles. Beyond the photograph's edge
    the camera sees black: `motion.window` has to lie inside `safe_window`.

    Args:
        photo: (H, W, 3).
        motion: what moves, and what is seen.
        sensor: highlights and noise; the noise is the same in every domain.
        exponent: of EXPONENTS; the domain the instants are averaged in.
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
            light = integrate(photo, tile, motion.cameras, motion.regions, convert)
            image[row : row + rows, column : column + columns] = develop(light, sensor, exponent, rng)
    return image
