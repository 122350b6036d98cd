"""What differs from one exposure to the next other than its motion: scale, noise, compression, the domain averaged in.

Each exposure of a photograph draws its own values from `CaptureRules`; whatever the rules, the same number of values is
drawn, so that changing one option leaves the others' values as they were. Images are uint8 RGB, (H, W, 3).
"""

import dataclasses
import io

import numpy as np
from PIL import Image

from jaxdeblur.synthesis.ranges import Range, check_log_range, check_range, check_share, log_uniform

_HALF_CHROMA_SHARE = 0.25  # of compressed exposures; the others are stored as 4:2:0, as phones and most cameras do


@dataclasses.dataclass(frozen=True)
class CaptureRules:
    """Ranges that each exposure's values are drawn from. The defaults change nothing.

    Attributes:
        still_share: share of the exposures in which nothing moves, so that `blur` is `sharp` but for noise and JPEG.
        reduce: factors that the photograph is reduced by before it is blurred; drawn log-uniformly.
        reduce_after: factors that the pair is reduced by after it was blurred; drawn log-uniformly.
        shot_noise: standard deviations of photon noise where the sensor saturates; drawn log-uniformly, by the same
            draw as `read_noise`: a high sensitivity has much of both.
        read_noise: standard deviations of the noise without light; drawn log-uniformly.
        noise_blur: standard deviations in pixels of the Gaussian that noise is smoothed by, as demosaicking and
            denoising do; drawn evenly.
        noise_free_share: share of the exposures without noise.
        jpeg_quality: JPEG qualities, 1 to 100; drawn evenly.
        jpeg_share: share of the exposures whose blurred images are compressed.
        domain_mix: share of the exposures that are averaged in linear light, in a data set of `blur` alone.

    Raises:
        InputError: a value is out of its range.
    """

    still_share: float = 0.0
    reduce: Range = (1.0, 1.0)
    reduce_after: Range = (1.0, 1.0)
    shot_noise: Range = (0.0, 0.0)
    read_noise: Range = (0.0, 0.0)
    noise_blur: Range = (0.0, 0.0)
    noise_free_share: float = 0.0
    jpeg_quality: Range = (70.0, 95.0)
    jpeg_share: float = 0.0
    domain_mix: float = 0.0

    def __post_init__(self):
        for name in ("still_share", "noise_free_share", "jpeg_share", "domain_mix"):
            check_share(name, getattr(self, name))
        for name in ("shot_noise", "read_noise"):
            check_log_range(name, getattr(self, name))
        for name, least, most in (("reduce", 1, 64), ("reduce_after", 1, 64), ("noise_blur", 0, 10)):
            check_range(name, getattr(self, name), least, most)
        check_range("jpeg_quality", self.jpeg_quality, 1, 100)


@dataclasses.dataclass(frozen=True)
class Capture:
    """The values of one exposure; `CaptureRules` explains them. `jpeg_quality` 0: not compressed."""

    still: bool = False
    reduce: float = 1.0
    reduce_after: float = 1.0
    shot_noise: float = 0.0
    read_noise: float = 0.0
    noise_blur: float = 0.0
    jpeg_quality: int = 0
    chroma: str = "4:2:0"
    linear: bool = False

    def reduced_by(self, exponent: float) -> "Capture":
        """Return the capture with both factors of reduction raised to a power: 0 reduces nothing."""
        return dataclasses.replace(self, reduce=self.reduce**exponent, reduce_after=self.reduce_after**exponent)


def sample_capture(rng: np.random.Generator, rules: CaptureRules) -> Capture:
    """Draw the values of one exposure."""
    still, reduce, reduce_after, noise_free, noise, noise_blur, compressed, quality, chroma, linear = rng.random(10)
    noisy = noise_free >= rules.noise_free_share
    least_quality, most_quality = rules.jpeg_quality
    drawn_quality = round(least_quality + (most_quality - least_quality) * quality)
    return Capture(
        still=bool(still < rules.still_share),
        reduce=log_uniform(rules.reduce, reduce),
        reduce_after=log_uniform(rules.reduce_after, reduce_after),
        shot_noise=log_uniform(rules.shot_noise, noise) if noisy else 0.0,
        read_noise=log_uniform(rules.read_noise, noise) if noisy else 0.0,
        noise_blur=rules.noise_blur[0] + (rules.noise_blur[1] - rules.noise_blur[0]) * noise_blur if noisy else 0.0,
        jpeg_quality=drawn_quality if compressed < rules.jpeg_share else 0,
        chroma="4:2:2" if chroma < _HALF_CHROMA_SHARE else "4:2:0",
        linear=bool(linear < rules.domain_mix),
    )


def reduced_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return a size (H, W) divided by a factor, rounded, at least 1."""
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def reduce_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image (H, W, 3) reduced to a size (H, W) with Lanczos' filter; the image itself if it has that size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0))


def compress(image: np.ndarray, quality: int, chroma: str) -> np.ndarray:
    """Return what is left of an image (H, W, 3) that was stored as JPEG.

    Args:
        image: (H, W, 3).
        quality: of the IJG's scale, 1 to 100.
        chroma: subsampling, "4:4:4", "4:2:2" or "4:2:0".
    """
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=quality, subsampling=chroma)
    return np.array(Image.open(stored))
