"""Image metrics, each defined once: float64 on the host, so they do not depend on device or batch size.

Images are (H, W, 3) RGB. A prediction is float in any range and is clipped to [0, 1] first; a target is uint8 and is
divided by 255. PSNR is in dB with a data range of 1; SSIM has none, and is 1 for equal images.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

Score = Callable[[np.ndarray, np.ndarray], float]

# Identical images have infinite PSNR, which would make every mean infinite: a mean squared error counts as at least
# this much, so that the highest PSNR is 100 dB.
MSE_FLOOR = 1e-10
IMAGE_METRICS = ("psnr", "psnr_uint8", "ssim", "ssim_matlab", "lpips", "mae", "mse")
METRICS = ("psnr", "psnr_uint8", "psnr_batch16", "ssim", "ssim_matlab", "lpips", "mae", "mse")
POOL_SIZE = 16

# The window and the constants (K L)^2, L = 1, of Wang et al. 2004, section III.C.
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
_REACH = SSIM_WINDOW // 2
# Rows or columns filtered by one matrix product: more waste multiplications by zero, fewer waste calls.
_BLOCK = 24


def psnr_from_mse(mse: float) -> float:
    """Return -10 log10(mse) in dB for values in [0, 1]; at most 100 dB, which is what identical images get."""
    return float(-10.0 * np.log10(max(mse, MSE_FLOOR)))


def image_metrics(
    prediction: np.ndarray, sharp: np.ndarray, *, similarity: bool = True, lpips: Score | None = None
) -> dict[str, float | None]:
    """Return the metrics of one image, those of `IMAGE_METRICS`; None for one that is not measured.

    Args:
        prediction: (H, W, 3) float.
        sharp: (H, W, 3) uint8.
        similarity: measure both kinds of SSIM, which takes 20 times as long as all errors together.
        lpips: from these two to LPIPS, as `lpips.read_lpips` returns it.

    Returns:
        psnr: on the clipped float prediction, in dB; identical images count as 100 dB (`MSE_FLOOR`).
        psnr_uint8: on the prediction rounded to the nearest of 256 levels, as a saved file would hold it, in dB.
        ssim: `ssim` of the clipped float prediction; None for an image with a side under 11 pixels.
        ssim_matlab: `ssim_matlab` of the rounded prediction.
        lpips: as `lpips` says.
        mae: mean absolute error of the clipped float prediction.
        mse: mean squared error of the clipped float prediction.
    """
    if prediction.shape != sharp.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, sharp has {sharp.shape}")
    target = sharp.astype(np.float64) / 255.0
    clipped = np.clip(prediction.astype(np.float64), 0.0, 1.0)
    rounded = np.round(clipped * 255.0) / 255.0
    error = clipped - target
    mse = float(np.mean(np.square(error)))
    return {
        "psnr": psnr_from_mse(mse),
        "psnr_uint8": psnr_from_mse(float(np.mean(np.square(rounded - target)))),
        "ssim": ssim(clipped, target) if similarity else None,
        "ssim_matlab": ssim_matlab(rounded, target) if similarity else None,
        "lpips": lpips(prediction, sharp) if lpips else None,
        "mae": float(np.mean(np.abs(error))),
        "mse": mse,
    }


def ssim(image: np.ndarray, other: np.ndarray) -> float | None:
    """Return the structural similarity of two float64 images (H, W, 3) in [0, 1]: Wang et al. 2004, equation 13.

    Per channel with an 11x11 Gaussian window of sigma 1.5, variances with weights that sum to one, and K = 0.01, 0.03;
    the mean over channels and over the places where the window lies wholly inside the image. These are scikit-image's
    numbers with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`. In an image with a side
    under 11 pixels the window lies nowhere (scikit-image raises ValueError): None.
    """
    if min(image.shape[:2]) < SSIM_WINDOW:
        return None
    return _mean_similarity(image, other, mixing=None)


def ssim_matlab(image: np.ndarray, other: np.ndarray) -> float:
    """Return the similarity of two float64 images (H, W, 3) in [0, 1] as the field's tables for GOPRO have it.

    It is what MATLAB's `ssim(A, ref)` does with an RGB image, and NAFNet's test code after it: the image counts as a
    volume of H x W x 3 voxels. It differs from `ssim` in this:

    - the window is an 11x11x11 Gaussian of sigma 1.5, so it mixes the colour channels;
    - the volume is continued by its border voxels (replicate) on all six sides, and the mean is over all voxels;
    - the tables take it of saved 8-bit images: `image_metrics` gives it the rounded prediction.

    Defined for every size. Constants are (0.01 L)^2 and (0.03 L)^2 with L the range of values, which is always 1 here
    (255 for uint8); NAFNet takes L = 1 for 8-bit images that are black all over, which this does not follow.
    """
    around = ((_REACH, _REACH), (_REACH, _REACH), (0, 0))
    return _mean_similarity(np.pad(image, around, mode="edge"), np.pad(other, around, mode="edge"), _channel_mixing())


def summarize(images: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the means of `image_metrics` over images, in their order, and the original's pooled PSNR.

    psnr_batch16 is how the PyTorch original scores: the mean squared error of 16 consecutive images taken together,
    turned into dB, then averaged over these batches. The last batch may be smaller; it counts like the others. Images
    are taken to be of one size. PSNR, pooled too, is 100 dB at most (`MSE_FLOOR`). A metric that some image does not
    have, as `ssim` of one that is too small, has no mean: None.
    """
    errors = [image["mse"] for image in images]
    pooled = [psnr_from_mse(float(np.mean(errors[i : i + POOL_SIZE]))) for i in range(0, len(errors), POOL_SIZE)]
    summary = {name: mean_or_none([image[name] for image in images]) for name in IMAGE_METRICS}
    summary["psnr_batch16"] = float(np.mean(pooled))
    return {name: summary[name] for name in METRICS}


def mean_or_none(values: Sequence[float | None]) -> float | None:
    """Return the mean, or None if a value is missing."""
    return None if None in values else float(np.mean(values))


def _mean_similarity(image: np.ndarray, other: np.ndarray, mixing: np.ndarray | None) -> float:
    """Return the mean of the similarity over all windows that fit; `mixing` (3, 3) also filters along channels.

    The two images' sum s and difference d and their squares hold all the moments in four maps instead of five:
    4 x y = s^2 - d^2 and 2 (x^2 + y^2) = s^2 + d^2. A strip at a time, so that all of it stays in the cache.
    """
    x, y = np.ascontiguousarray(image.transpose(2, 0, 1)), np.ascontiguousarray(other.transpose(2, 0, 1))  # (3, H, W)
    channels, height, width = x.shape
    total, rows, columns = 0.0, height - 2 * _REACH, width - 2 * _REACH
    for top in range(0, rows, _BLOCK):
        strip = slice(top, min(top + _BLOCK, rows) + 2 * _REACH)
        maps = np.empty((4, *x[:, strip].shape))
        np.add(x[:, strip], y[:, strip], out=maps[0])
        np.subtract(x[:, strip], y[:, strip], out=maps[1])
        np.square(maps[:2], out=maps[2:])
        s, d, s2, d2 = _smooth(maps) if mixing is None else _mix(mixing, _smooth(maps))  # each (3, rows, columns)
        s, d = np.square(s, out=s), np.square(d, out=d)
        # Every factor of equation 13 times two, which cancels: 4 mu_x mu_y, 2 (mu_x^2 + mu_y^2), and so on.
        product, power = s - d, s + d
        covariance, variance = s2 - d2, s2 + d2
        covariance += 2 * SSIM_C2 - product
        variance += 2 * SSIM_C2 - power
        product += 2 * SSIM_C1
        power += 2 * SSIM_C1
        product *= covariance
        power *= variance
        product /= power
        total += float(product.sum())
    return total / (channels * rows * columns)


def _mix(mixing: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return (N, C, H, W) with channels replaced by their sums with the rows of `mixing`, (C, C), as weights."""
    return np.matmul(mixing, maps.reshape(*maps.shape[:2], -1)).reshape(maps.shape)


def _smooth(maps: np.ndarray) -> np.ndarray:
    """Return (..., H, W) under the Gaussian window, where it fits: (..., H - 10, W - 10).

    By products with a banded matrix, a block of rows or columns at a time: twice as fast as
    `scipy.ndimage.correlate1d`, of which it differs by rounding only.
    """
    band = _band()
    height, width = maps.shape[-2] - 2 * _REACH, maps.shape[-1] - 2 * _REACH
    down = np.empty((*maps.shape[:-2], height, maps.shape[-1]))
    for i in range(0, height, _BLOCK):
        count = min(_BLOCK, height - i)
        block = maps[..., i : i + count + 2 * _REACH, :]
        np.matmul(band[:count, : count + 2 * _REACH], block, out=down[..., i : i + count, :])
    across = np.empty((down[..., 0].size, width))
    down = down.reshape(-1, maps.shape[-1])
    for i in range(0, width, _BLOCK):
        count = min(_BLOCK, width - i)
        block = down[:, i : i + count + 2 * _REACH]
        np.matmul(block, band[:count, : count + 2 * _REACH].T, out=across[:, i : i + count])
    return across.reshape(*maps.shape[:-2], height, width)


@functools.cache
def _band() -> np.ndarray:
    """Return the matrix that filters a block, (_BLOCK, _BLOCK + 10): row i holds the window at i."""
    band = np.zeros((_BLOCK, _BLOCK + 2 * _REACH))
    for i in range(_BLOCK):
        band[i, i : i + SSIM_WINDOW] = _gaussian()
    return band


def _channel_mixing() -> np.ndarray:
    """Return the window along three channels that are continued by the outer two, as a matrix (3, 3)."""
    mixing = np.zeros((3, 3))
    for channel in range(3):
        for offset, weight in enumerate(_gaussian(), start=-_REACH):
            mixing[channel, min(max(channel + offset, 0), 2)] += weight
    return mixing


def _gaussian() -> np.ndarray:
    weights = np.exp(-0.5 * np.square(np.arange(-_REACH, _REACH + 1) / SSIM_SIGMA))
    return weights / weights.sum()
