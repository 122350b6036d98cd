"""Image metrics, each defined once: float64 on the host, so they do not depend on device or batch size.

Images are (H, W, 3) RGB. A prediction is float in any range and is clipped to [0, 1] first; a target is uint8 and is
divided by 255. PSNR is in dB with a data range of 1.
"""

from collections.abc import Sequence

import numpy as np

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


def gain_over_identity(
    gains: Sequence[float], sequences: Sequence[str], *, resamples: int = 10_000, seed: int = 0
) -> dict[str, float | None]:
    """Return the mean of per-image PSNR gains with a 95% interval, in dB.

    The interval is the percentile bootstrap (Efron 1979) over sequences, not images: frames of one sequence resemble
    each other, so they are no independent evidence. With fewer than two sequences there is no interval, and its ends
    are None.
    """
    gains_array, names = np.asarray(gains), np.asarray(sequences)
    groups = [gains_array[names == name] for name in dict.fromkeys(sequences)]
    low = high = None
    if len(groups) > 1:
        sums, counts = np.array([g.sum() for g in groups]), np.array([g.size for g in groups])
        drawn = np.random.default_rng(seed).integers(len(groups), size=(resamples, len(groups)))
        means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
        low, high = (float(q) for q in np.percentile(means, [2.5, 97.5]))
    return {
        "mean": float(gains_array.mean()),
        "low": low,
        "high": high,
        "images_better": int((gains_array > 0).sum()),
        "images": int(gains_array.size),
        "sequences": len(groups),
    }
