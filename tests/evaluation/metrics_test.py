"""Metrics against scikit-image and by hand."""

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from jaxdeblur.evaluation import metrics
from jaxdeblur.runs.records import ImageMetrics

RNG = np.random.default_rng(0)
SHARP = RNG.integers(0, 256, (20, 30, 3), np.uint8)
PREDICTION = SHARP / 255.0 + RNG.normal(0, 0.05, SHARP.shape)  # partly outside [0, 1]


def test_psnr_and_mse_agree_with_scikit_image():
    scores = metrics.image_metrics(PREDICTION.astype(np.float32), SHARP)
    clipped, target = np.clip(PREDICTION, 0, 1), SHARP / 255.0
    assert scores.mse == pytest.approx(mean_squared_error(clipped, target), rel=1e-5)
    assert scores.mae == pytest.approx(np.abs(clipped - target).mean(), rel=1e-5)
    assert scores.psnr == pytest.approx(peak_signal_noise_ratio(target, clipped, data_range=1), abs=1e-4)
    stored = np.round(clipped * 255).astype(np.uint8)
    assert scores.psnr_uint8 == pytest.approx(peak_signal_noise_ratio(SHARP, stored, data_range=255), abs=1e-9)


def test_predictions_are_rounded_to_the_nearest_level():
    """A prediction 0.6 levels above its target is saved one level above; truncation would make it perfect."""
    scores = metrics.image_metrics(np.full((2, 2, 3), 10.6 / 255), np.full((2, 2, 3), 10, np.uint8))
    assert scores.psnr_uint8 == pytest.approx(20 * np.log10(255), abs=1e-9)


def test_identical_images_have_100_db():
    scores = metrics.image_metrics(SHARP / 255.0, SHARP)
    assert scores.mse == pytest.approx(0, abs=1e-15)
    assert scores.psnr == scores.psnr_uint8 == 100


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(1, 2, 3\).*\(2, 1, 3\)"):
        metrics.image_metrics(np.zeros((1, 2, 3)), np.zeros((2, 1, 3), np.uint8))


def test_pooled_psnr_by_hand():
    """17 images: 16 of which the MSE averages 0.01 (20 dB), and a last batch of one at 0.1 (10 dB): 15 dB."""
    errors = [0.005, 0.015] * 8 + [0.1]
    other_metrics = {"psnr_uint8": 0.0, "ssim": 0.5, "ssim_matlab": 0.5, "lpips": None, "mae": 0.1}
    images = [ImageMetrics(mse=e, psnr=metrics.psnr_from_mse(e), **other_metrics) for e in errors]
    summary = metrics.summarize(images)
    assert summary.psnr_batch16 == pytest.approx(15)
    assert summary.mse == pytest.approx(np.mean(errors))
    assert summary.psnr == pytest.approx(np.mean([-10 * np.log10(e) for e in errors]))


def test_slow_metrics_are_optional():
    scores = metrics.image_metrics(
        PREDICTION, SHARP, similarity=False, lpips=lambda prediction, sharp: float(prediction[0, 0, 0] * sharp.shape[1])
    )
    assert (scores.ssim, scores.ssim_matlab) == (None, None)
    assert scores.lpips == PREDICTION[0, 0, 0] * 30
    assert scores.psnr == metrics.image_metrics(PREDICTION, SHARP).psnr
    assert metrics.image_metrics(PREDICTION, SHARP).lpips is None
