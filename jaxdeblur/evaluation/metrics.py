"""Image metrics, each defined once, in float64 on the host: results do not depend on the device or the batch size.

Images are (H, W, 3) RGB. A prediction is float and is clipped to [0, 1] first; a target is uint8 and is divided by 255.
PSNR is in dB for a data range of 1; SSIM is 1 for equal images.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxdeblur.evaluation.ssim import ssim, ssim_matlab
from jaxdeblur.runs.records import ImageMetrics, MeanMetrics

# From (prediction, sharp), as `image_metrics` takes them, to a number.
Metric = Callable[[np.ndarray, np.ndarray], float]

# Identical images have infinite PSNR, which would make every mean infinite. A lower bound of the mean squared error
# limits PSNR to 100 dB.
MSE_FLOOR = 1e-10
IMAGE_METRICS = tuple(field.name for field in dataclasses.fields(ImageMetrics))
METRICS = tuple(field.name for field in dataclasses.fields(MeanMetrics))
POOL_SIZE = 16  # images per batch of psnr_batch16


def psnr_from_mse(mse: float) -> float:
    """Return -10 log10(mse) in dB for values in [0, 1]; at most 100 dB, the value for identical images."""
    return float(-10.0 * np.log10(max(mse, MSE_FLOOR)))


def image_metrics(
    prediction: np.ndarray, sharp: np.ndarray, *, similarity: bool = True, lpips: Metric | None = None
) -> ImageMetrics:
    """Return the metrics of one image; None for those that are not measured.

    Args:
        prediction: (H, W, 3) float.
        sharp: (H, W, 3) uint8.
        similarity: measure both variants of SSIM, which takes 20 times as long as the errors.
        lpips: as `lpips.read_lpips` returns it.

    Returns:
        psnr: of the clipped float prediction.
        psnr_uint8: of the prediction rounded to the nearest of 256 levels, as in a saved file.
        ssim: `ssim.ssim` of the clipped float prediction; None for an image with a side under 11 pixels.
        ssim_matlab: `ssim.ssim_matlab` of the rounded prediction.
        lpips: as `lpips` defines it.
        mae: mean absolute error of the clipped float prediction.
        mse: mean squared error of the clipped float prediction.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != sharp.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, sharp has {sharp.shape}")
    target = sharp.astype(np.float64) / 255.0
    clipped = np.clip(prediction.astype(np.float64), 0.0, 1.0)
    rounded = np.round(clipped * 255.0) / 255.0
    error = clipped - target
    mse = float(np.mean(np.square(error)))
    return ImageMetrics(
        psnr=psnr_from_mse(mse),
        psnr_uint8=psnr_from_mse(float(np.mean(np.square(rounded - target)))),
        ssim=ssim(clipped, target) if similarity else None,
        ssim_matlab=ssim_matlab(rounded, target) if similarity else None,
        lpips=lpips(prediction, sharp) if lpips else None,
        mae=float(np.mean(np.abs(error))),
        mse=mse,
    )


def summarize(images: Sequence[ImageMetrics]) -> MeanMetrics:
    """Return the means over images, in their order, and the PSNR as the PyTorch original pools it.

    psnr_batch16 is the original's: the mean squared error of 16 consecutive images of one size is averaged, converted
    to dB and then averaged over these batches. The last batch may be smaller and has the same weight as the others.
    A metric that an image lacks, such as `ssim` of a tiny one, has no mean: None.
    """
    errors = [image.mse for image in images]
    pooled = [psnr_from_mse(float(np.mean(errors[i : i + POOL_SIZE]))) for i in range(0, len(errors), POOL_SIZE)]
    means: dict[str, Any] = metric_means(images)
    return MeanMetrics(**means, psnr_batch16=float(np.mean(pooled)))


def metric_means(images: Sequence[ImageMetrics]) -> dict[str, float | None]:
    """Return the mean of each of `IMAGE_METRICS`; None for one that an image lacks."""
    columns = {name: [getattr(image, name) for image in images] for name in IMAGE_METRICS}
    return {name: None if None in values else float(np.mean(values)) for name, values in columns.items()}
