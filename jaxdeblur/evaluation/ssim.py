"""Structural similarity (SSIM) of Wang et al. 2004, in the two variants that papers on deblurring report.

Images are float64 (H, W, 3) RGB in [0, 1]. The window is an 11x11 Gaussian of sigma 1.5 and K1 = 0.01, K2 = 0.03, as in
section III.C of the paper.
"""

import numpy as np
from scipy import ndimage

WINDOW = 11
RADIUS = WINDOW // 2
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # (K L)^2 with a data range L of 1


def ssim(image: np.ndarray, reference: np.ndarray) -> float | None:
    """Return the mean SSIM over channels and over the windows that lie entirely inside the image.

    These are scikit-image's numbers with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`.

    Returns:
        None for an image with a side under 11 pixels, which contains no window.
    """
    if min(image.shape[:2]) < WINDOW:
        return None
    inside = slice(RADIUS, -RADIUS)
    return float(_ssim_map(image, reference, mix_channels=False)[:, inside, inside].mean())


def ssim_matlab(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the SSIM of published GOPRO tables: MATLAB's `ssim(A, ref)` of an RGB image, as in NAFNet's test code.

    MATLAB treats the image as a volume of H x W x 3 voxels. Differences from `ssim`:

    - The window is an 11x11x11 Gaussian, which mixes the colour channels.
    - The volume is padded by replicating its border on all six sides, and the mean is over all voxels, so the value is
      defined for every size.
    - Tables report it for saved 8-bit images: `image_metrics` passes the rounded prediction.

    L is 1 here (255 for uint8). NAFNet uses L = 1 for 8-bit images that are entirely black, which is not reproduced.
    """
    return float(_ssim_map(image, reference, mix_channels=True).mean())


def _ssim_map(image: np.ndarray, reference: np.ndarray, *, mix_channels: bool) -> np.ndarray:
    """Return the SSIM index at every position, (3, H, W): equation 13."""
    x, y = (np.ascontiguousarray(np.moveaxis(values, -1, 0)) for values in (image, reference))  # (3, H, W)
    mean_x, mean_y = _window_mean(x, mix_channels), _window_mean(y, mix_channels)  # equation 14
    # Sum of the variances and covariance: equations 15 (squared) and 16, as E[xy] - E[x] E[y].
    variances = _window_mean(x * x + y * y, mix_channels) - (mean_x * mean_x + mean_y * mean_y)
    covariance = _window_mean(x * y, mix_channels) - mean_x * mean_y
    return ((2 * (mean_x * mean_y) + C1) * (2 * covariance + C2)) / (
        (mean_x * mean_x + mean_y * mean_y + C1) * (variances + C2)
    )


def _window_mean(values: np.ndarray, mix_channels: bool) -> np.ndarray:
    """Return the Gaussian-weighted mean around every position of (3, H, W), with the border replicated."""
    for axis in (1, 2):
        values = _correlate(values, axis)
    # Along so short an axis a matrix product is faster; the rows of the matrix are the window at each channel.
    return np.tensordot(_correlate(np.eye(3), axis=0), values, axes=1) if mix_channels else values


def _correlate(values: np.ndarray, axis: int) -> np.ndarray:
    weights = np.exp(-0.5 * np.square(np.arange(-RADIUS, RADIUS + 1) / SIGMA))
    return ndimage.correlate1d(values, weights / weights.sum(), axis=axis, mode="nearest")
