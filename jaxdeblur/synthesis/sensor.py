"""Sensor model: highlight recovery, noise, clipping and encoding.

Photos are uint8 RGB (H, W, 3). Light is float32 and saturates the sensor at 1; stored values in [0, 1] are
light^(1 / exponent), so with an exponent of 1 they are used as light.
"""

import dataclasses
import math

import cv2
import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.frame_averaging import GAMMA

_CODE = "sensor-out-of-range"


@dataclasses.dataclass(frozen=True)
class Sensor:
    """Parameters of the sensor.

    Attributes:
        highlight_gain: light of a white pixel (255 in all channels) relative to its value; 1: no gain. Channels that
            are clipped alone, such as a sky's blue, are unchanged: a gain would change the hue.
        highlight_threshold: largest value of a pixel's darkest channel without gain; from here to 255, the gain grows
            linearly from 1 to `highlight_gain`.
        shot_noise: standard deviation of photon noise at saturation; proportional to the square root of the light.
        read_noise: standard deviation of the noise without light.
        noise_blur: standard deviation in pixels of the Gaussian that smooths the noise, whose variance is kept;
            neighbours correlate as after demosaicking and denoising. 0: white noise.
        linear_noise: add noise in linear light, instead of in the domain that instants are averaged in.

    Raises:
        InputError: a value is out of range (code "sensor-out-of-range").
    """

    highlight_gain: float = 1.0
    highlight_threshold: int = 250
    shot_noise: float = 0.0
    read_noise: float = 0.0
    noise_blur: float = 0.0
    linear_noise: bool = False

    def __post_init__(self):
        if not 1 <= self.highlight_gain < math.inf:
            raise InputError(f"highlight_gain: {self.highlight_gain:g}, expected 1 or more.", code=_CODE)
        if not 0 <= self.highlight_threshold < 255:
            raise InputError(f"highlight_threshold: {self.highlight_threshold}, expected 0 to 254.", code=_CODE)
        for name in ("shot_noise", "read_noise", "noise_blur"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: {getattr(self, name)}, expected 0 or more.", code=_CODE)


def to_light(photo: np.ndarray, sensor: Sensor, exponent: float) -> np.ndarray:
    """Convert stored values (H, W, 3) to light, float32; above 1 for highlights with gain."""
    stored = np.arange(256)
    light: np.ndarray = cv2.LUT(photo, ((stored / 255) ** exponent).astype(np.float32))
    red, green, blue = cv2.split(photo)
    darkest = cv2.min(cv2.min(red, green), blue)  # tens of times faster than photo.min(axis=2)
    if sensor.highlight_gain > 1 and darkest.max() > sensor.highlight_threshold:
        ramp = np.clip((stored - sensor.highlight_threshold) / (255 - sensor.highlight_threshold), 0, 1)
        gain = (1 + (sensor.highlight_gain - 1) * ramp) ** (exponent / GAMMA)
        light *= cv2.LUT(darkest, gain.astype(np.float32))[..., np.newaxis]
    return light


def develop(light: np.ndarray, sensor: Sensor, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Convert light to stored values, uint8 of the same shape: add noise, clip and encode."""
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
    """Return Gaussian noise of variance 1, float32 (H, W, 3), smoothed by a Gaussian of `blur` pixels."""
    if not blur:
        return rng.standard_normal(shape, np.float32)
    reach = math.ceil(3 * blur)
    kernel: np.ndarray = cv2.getGaussianKernel(2 * reach + 1, blur)
    kernel /= np.linalg.norm(kernel)
    noise = rng.standard_normal((shape[0] + 2 * reach, shape[1] + 2 * reach, *shape[2:]), np.float32)
    return cv2.sepFilter2D(noise, -1, kernel, kernel)[reach:-reach, reach:-reach]
