"""Random properties of an exposure other than motion: scale, noise, compression and the averaging domain.

Each exposure draws its values from `CaptureRules`, always the same number of random values, so that changing one option
does not change the others' values. Images are uint8 RGB (H, W, 3).
"""

import dataclasses
import io

import numpy as np
from PIL import Image

from jaxdeblur.synthesis.ranges import Range, check_log_range, check_range, check_share, log_uniform

_HALF_CHROMA_SHARE = 0.25  # of compressed exposures use 4:2:2; the others 4:2:0, like phones and most cameras


@dataclasses.dataclass(frozen=True)
class CaptureRules:
    """Ranges that each exposure's values are drawn from. The defaults have no effect.

    Attributes:
        still_share: share of exposures without motion, in which `blur` is `sharp` apart from noise and JPEG.
        reduce: factor by which the photo is downscaled before blurring; log-uniform.
        reduce_after: factor by which the pair is downscaled after blurring; log-uniform.
        shot_noise: standard deviation of photon noise at saturation; log-uniform, from the same random value as
            `read_noise`, since high sensitivity increases both.
        read_noise: standard deviation of the noise without light; log-uniform.
        noise_blur: standard deviation in pixels of the Gaussian that smooths the noise, as demosaicking and denoising
            do; uniform.
        noise_free_share: share of exposures without noise.
        jpeg_quality: JPEG quality, 1 to 100; uniform.
        jpeg_share: share of exposures whose blurry image is compressed.
        domain_mix: share of exposures averaged in linear light, in a data set with `blur` only.

    Raises:
        InputError: a value is out of range.
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
    """The values of one exposure, see `CaptureRules`; a `jpeg_quality` of 0 means no compression."""

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
        """Return the capture with both downscaling factors raised to a power; 0 disables them."""
        return dataclasses.replace(self, reduce=self.reduce**exponent, reduce_after=self.reduce_after**exponent)


def sample_capture(rng: np.random.Generator, rules: CaptureRules) -> Capture:
    """Draw the values of one exposure."""
    still, reduce, reduce_after, noise_free, noise, noise_blur, compressed, quality, chroma, linear = rng.random(10)
    noisy = noise_free >= rules.noise_free_share
    least_quality, most_quality = rules.jpeg_quality
    rounded_quality = round(least_quality + (most_quality - least_quality) * quality)
    return Capture(
        still=bool(still < rules.still_share),
        reduce=log_uniform(rules.reduce, reduce),
        reduce_after=log_uniform(rules.reduce_after, reduce_after),
        shot_noise=log_uniform(rules.shot_noise, noise) if noisy else 0.0,
        read_noise=log_uniform(rules.read_noise, noise) if noisy else 0.0,
        noise_blur=rules.noise_blur[0] + (rules.noise_blur[1] - rules.noise_blur[0]) * noise_blur if noisy else 0.0,
        jpeg_quality=rounded_quality if compressed < rules.jpeg_share else 0,
        chroma="4:2:2" if chroma < _HALF_CHROMA_SHARE else "4:2:0",
        linear=bool(linear < rules.domain_mix),
    )


def reduced_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return a size (H, W) divided by a factor, rounded, at least 1."""
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def reduce_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Downscale an image (H, W, 3) to a size (H, W) with a Lanczos filter; returned unchanged if it has that size."""
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0))


def compress(image: np.ndarray, quality: int, chroma: str) -> np.ndarray:
    """Compress an image as JPEG and decode it.

    Args:
        image: uint8 (H, W, 3).
        quality: on the IJG's scale, 1 to 100.
        chroma: subsampling, "4:4:4", "4:2:2" or "4:2:0".
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=chroma)
    return np.array(Image.open(file))
