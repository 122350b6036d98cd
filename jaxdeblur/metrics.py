"""Image metrics, each defined once: float64 on the host, so they do not depend on device or batch size.

Images are (H, W, 3) RGB. A prediction is float in any range and is clipped to [0, 1] first; a target is uint8 and is
divided by 255. PSNR is in dB with a data range of 1.
"""

from collections.abc import Sequence

import numpy as np
import scipy.stats

# Identical images have infinite PSNR, which would make every mean infinite: a mean squared error counts as at least
# this much, so that the highest PSNR is 100 dB.
MSE_FLOOR = 1e-10
METRICS = ("psnr", "psnr_uint8", "psnr_batch16", "mse")
POOL_SIZE = 16


def psnr_from_mse(mse: float) -> float:
    """Return -10 log10(mse) in dB for values in [0, 1]; at most 100 dB."""
    return float(-10.0 * np.log10(max(mse, MSE_FLOOR)))


def image_metrics(prediction: np.ndarray, sharp: np.ndarray) -> dict[str, float]:
    """Return the metrics of one image.

    Args:
        prediction: (H, W, 3) float.
        sharp: (H, W, 3) uint8.

    Returns:
        psnr: on the clipped float prediction, in dB.
        psnr_uint8: on the prediction rounded to the nearest of 256 levels, as a saved file would hold it, in dB.
        mse: mean squared error of the clipped float prediction.
    """
    if prediction.shape != sharp.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, sharp has {sharp.shape}")
    target = sharp.astype(np.float64) / 255.0
    clipped = np.clip(prediction.astype(np.float64), 0.0, 1.0)
    mse = float(np.mean(np.square(clipped - target)))
    rounded = np.round(clipped * 255.0) / 255.0
    return {
        "psnr": psnr_from_mse(mse),
        "psnr_uint8": psnr_from_mse(float(np.mean(np.square(rounded - target)))),
        "mse": mse,
    }


def summarize(images: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the means of `image_metrics` over images, in their order, and the original's pooled PSNR.

    psnr_batch16 is how the PyTorch original scores: the mean squared error of 16 consecutive images taken together,
    turned into dB, then averaged over these batches. The last batch may be smaller; it counts like the others. Images
    are taken to be of one size.
    """
    errors = [image["mse"] for image in images]
    pooled = [psnr_from_mse(float(np.mean(errors[i : i + POOL_SIZE]))) for i in range(0, len(errors), POOL_SIZE)]
    summary = {name: float(np.mean([image[name] for image in images])) for name in ("psnr", "psnr_uint8", "mse")}
    summary["psnr_batch16"] = float(np.mean(pooled))
    return {name: summary[name] for name in METRICS}


def gain_over_identity(gains: Sequence[float], sequences: Sequence[str]) -> dict[str, float | None]:
    """Return the mean of per-image PSNR gains with a 95% interval, in dB.

    Frames of one sequence resemble each other and are no independent evidence, so the interval is Student's t over
    sequences: the linearised standard error of a ratio of sequence totals (Cochran 1977, section 6.3, for clusters of
    unequal size), with one degree of freedom less than there are sequences. Unlike a bootstrap it stays wide
    when there are few. With fewer than two sequences there is no interval, and its ends are None.
    """
    gains_array, names = np.asarray(gains), np.asarray(sequences)
    groups = [gains_array[names == name] for name in dict.fromkeys(sequences)]
    mean, count = float(gains_array.mean()), len(groups)
    low = high = None
    if count > 1:
        residuals = np.array([(group - mean).sum() for group in groups])
        error = np.sqrt(count / (count - 1) * np.square(residuals).sum()) / gains_array.size
        reach = float(scipy.stats.t.ppf(0.975, count - 1) * error)
        low, high = mean - reach, mean + reach
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "images_better": int((gains_array > 0).sum()),
        "images": int(gains_array.size),
        "sequences": count,
    }
