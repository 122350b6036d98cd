"""Metrics against scikit-image and by hand."""

import numpy as np
import pytest
import scipy.stats
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from jaxdeblur import metrics

RNG = np.random.default_rng(0)
SHARP = RNG.integers(0, 256, (20, 30, 3), np.uint8)
PREDICTION = SHARP / 255.0 + RNG.normal(0, 0.05, SHARP.shape)  # in part outside [0, 1]


def test_psnr_and_mse_agree_with_scikit_image():
    found = metrics.image_metrics(PREDICTION.astype(np.float32), SHARP)
    clipped, target = np.clip(PREDICTION, 0, 1), SHARP / 255.0
    assert found["mse"] == pytest.approx(mean_squared_error(clipped, target), rel=1e-5)
    assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(target, clipped, data_range=1), abs=1e-4)
    stored = np.round(clipped * 255).astype(np.uint8)
    assert found["psnr_uint8"] == pytest.approx(peak_signal_noise_ratio(SHARP, stored, data_range=255), abs=1e-9)


def test_rounding_is_to_nearest_not_down():
    """A prediction 0.6 of a level above its target is stored one level above; truncation would call it perfect."""
    found = metrics.image_metrics(np.full((2, 2, 3), 10.6 / 255), np.full((2, 2, 3), 10, np.uint8))
    assert found["psnr_uint8"] == pytest.approx(20 * np.log10(255), abs=1e-9)


def test_identical_images_count_as_100_db():
    found = metrics.image_metrics(SHARP / 255.0, SHARP)
    assert found["mse"] == pytest.approx(0, abs=1e-15)
    assert found["psnr"] == found["psnr_uint8"] == 100


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(1, 2, 3\).*\(2, 1, 3\)"):
        metrics.image_metrics(np.zeros((1, 2, 3)), np.zeros((2, 1, 3), np.uint8))


def test_pooled_psnr_by_hand():
    """17 images: 16 of which the MSE averages 0.01 (20 dB), and a last batch of one at 0.1 (10 dB): 15 dB."""
    errors = [0.005, 0.015] * 8 + [0.1]
    images = [{"mse": e, "psnr": metrics.psnr_from_mse(e), "psnr_uint8": 0.0} for e in errors]
    summary = metrics.summarize(images)
    assert summary["psnr_batch16"] == pytest.approx(15)
    assert summary["mse"] == pytest.approx(np.mean(errors))
    assert summary["psnr"] == pytest.approx(np.mean([-10 * np.log10(e) for e in errors]))


def test_gain_interval_widens_when_frames_of_a_sequence_agree():
    """The same gains as one sequence each, or as three sequences of like frames: the latter says less."""
    gains = [0.1] * 10 + [0.4] * 10 + [0.7] * 10
    apart = metrics.gain_over_identity(gains, [str(i) for i in range(30)])
    together = metrics.gain_over_identity(gains, ["a"] * 10 + ["b"] * 10 + ["c"] * 10)
    assert apart["mean"] == together["mean"] == pytest.approx(0.4)
    # By hand: three means 0.1, 0.4, 0.7 have standard error 0.3 / sqrt(3), and t for 2 degrees of freedom is 4.3027.
    assert together["high"] - 0.4 == pytest.approx(4.3027 * 0.3 / 3**0.5, rel=1e-4)
    assert 0.4 - together["low"] == pytest.approx(together["high"] - 0.4)
    assert 0.25 < apart["low"] < 0.4 < apart["high"] < 0.55
    assert (together["images"], together["sequences"], together["images_better"]) == (30, 3, 30)


def test_the_interval_of_single_images_is_students():
    """Each image its own sequence: the textbook interval of a mean."""
    gains = [0.3, 0.1, 0.5, -0.2, 0.4]
    low, high = scipy.stats.t.interval(0.95, 4, loc=np.mean(gains), scale=scipy.stats.sem(gains))
    found = metrics.gain_over_identity(gains, list("abcde"))
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_one_sequence_gives_no_interval():
    found = metrics.gain_over_identity([0.1, -0.2], ["a", "a"])
    assert (found["low"], found["high"], found["images_better"]) == (None, None, 1)
