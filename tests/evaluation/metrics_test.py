"""Metrics against scikit-image, SciPy's direct filters and by hand."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from jaxdeblur.evaluation import metrics

RNG = np.random.default_rng(0)
SHARP = RNG.integers(0, 256, (20, 30, 3), np.uint8)
PREDICTION = SHARP / 255.0 + RNG.normal(0, 0.05, SHARP.shape)  # in part outside [0, 1]


def test_psnr_and_mse_agree_with_scikit_image():
    found = metrics.image_metrics(PREDICTION.astype(np.float32), SHARP)
    clipped, target = np.clip(PREDICTION, 0, 1), SHARP / 255.0
    assert found["mse"] == pytest.approx(mean_squared_error(clipped, target), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(clipped - target).mean(), rel=1e-5)
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
    others = {"psnr_uint8": 0.0, "ssim": 0.5, "ssim_matlab": 0.5, "lpips": None, "mae": 0.1}
    images = [{"mse": e, "psnr": metrics.psnr_from_mse(e), **others} for e in errors]
    summary = metrics.summarize(images)
    assert summary["psnr_batch16"] == pytest.approx(15)
    assert summary["mse"] == pytest.approx(np.mean(errors))
    assert summary["psnr"] == pytest.approx(np.mean([-10 * np.log10(e) for e in errors]))


def make_image_pairs():
    """(name, image, other), float64 in [0, 1]; sizes are no multiples of the filter's blocks, nor below them only."""
    rng = np.random.default_rng(1)
    noise = rng.random((75, 109, 3))
    flat = np.broadcast_to([0.2, 0.5, 0.9], (40, 33, 3))
    half = np.zeros((32, 50, 3))
    half[:, 25:] = 1.0
    return [
        ("noise", noise, np.clip(noise + rng.normal(0, 0.1, noise.shape), 0, 1)),
        ("unlike noise", noise[:42, :43], rng.random((42, 43, 3))),
        ("identical", noise, noise),
        ("flat", flat, flat * 0.5),
        ("black and white", np.zeros((20, 20, 3)), np.ones((20, 20, 3))),
        ("an edge and its negative", half, 1 - half),
        ("one window", noise[:11, :11], noise[20:31, 5:16]),
        ("other colours", noise, noise[..., [1, 2, 0]]),
    ]


IMAGE_PAIRS = pytest.mark.parametrize(("image", "other"), [pytest.param(*p[1:], id=p[0]) for p in make_image_pairs()])


def similarity_of_a_volume(image, other):
    """SSIM from its definition: five moments under one 11x11x11 window in SciPy's N-dimensional correlation."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = line[:, None, None] * line[:, None] * line
    window /= window.sum()
    mean_x, mean_y, xx, yy, xy = (
        ndimage.correlate(values, window, mode="nearest")
        for values in (image, other, image * image, other * other, image * other)
    )
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return (luminance * contrast).mean()


def similarity_of_scikit_image(image, other):
    return structural_similarity(
        image, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1
    )


@IMAGE_PAIRS
def test_ssim_is_scikit_images(image, other):
    assert metrics.ssim(image, other) == pytest.approx(similarity_of_scikit_image(image, other), abs=1e-9)
    assert metrics.ssim(image, other) == pytest.approx(metrics.ssim(other, image), abs=1e-12)


@IMAGE_PAIRS
def test_ssim_matlab_is_that_of_a_volume(image, other):
    assert metrics.ssim_matlab(image, other) == pytest.approx(similarity_of_a_volume(image, other), abs=1e-9)


def test_similarity_by_hand():
    """Flat images have no variance: (2 a b + C1) / (a^2 + b^2 + C1). Equal ones give exactly 1."""
    flat, half, black, white = (np.full((12, 12, 3), value) for value in (0.8, 0.4, 0.0, 1.0))
    for similarity in (metrics.ssim, metrics.ssim_matlab):
        assert similarity(flat, half) == pytest.approx((0.64 + 1e-4) / (0.8 + 1e-4), abs=1e-9)
        assert similarity(black, white) == pytest.approx(1e-4 / 1.0001, abs=1e-12)
        assert similarity(SHARP / 255.0, SHARP / 255.0) == 1.0


def test_which_similarity_takes_which_image():
    found = metrics.image_metrics(PREDICTION, SHARP)
    clipped, target = np.clip(PREDICTION, 0, 1), SHARP / 255.0
    assert found["ssim"] == pytest.approx(similarity_of_scikit_image(clipped, target), abs=1e-9)
    assert found["ssim_matlab"] == pytest.approx(
        similarity_of_a_volume(np.round(clipped * 255) / 255, target), abs=1e-9
    )


def test_an_image_smaller_than_the_window_has_no_ssim():
    """scikit-image refuses it; a volume that is continued by its border voxels is defined at every size."""
    small = metrics.image_metrics(PREDICTION[:10], SHARP[:10])
    assert small["ssim"] is None
    expected = similarity_of_a_volume(np.round(np.clip(PREDICTION[:10], 0, 1) * 255) / 255, SHARP[:10] / 255)
    assert small["ssim_matlab"] == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ValueError, match="win_size exceeds image extent"):
        similarity_of_scikit_image(PREDICTION[:10], SHARP[:10] / 255)
    large = metrics.image_metrics(PREDICTION[:11], SHARP[:11])
    assert metrics.summarize([large, small])["ssim"] is None
    assert metrics.summarize([large, large])["ssim"] == large["ssim"]


def test_similarity_of_real_frames(real_gopro):
    """A crop each, since the direct filter is slow; blur against sharp, as the identity is scored."""
    found = []
    for path in sorted(real_gopro.glob("test/*/blur/*.png"))[::3]:
        images = [np.asarray(Image.open(p)) for p in (path, path.parent.parent / "sharp" / path.name)]
        blur, sharp = (image[300:380, 600:700] for image in images)
        found.append(metrics.image_metrics(blur / 255.0, sharp))
        blur, sharp = blur / 255.0, sharp / 255.0
        assert found[-1]["ssim"] == pytest.approx(similarity_of_scikit_image(blur, sharp), abs=1e-9)
        assert found[-1]["ssim_matlab"] == pytest.approx(similarity_of_a_volume(blur, sharp), abs=1e-9)
    assert found
    assert all(0 < image["ssim"] < 1 and image["ssim"] != image["ssim_matlab"] for image in found)


def test_what_takes_long_is_measured_where_it_is_wanted():
    found = metrics.image_metrics(
        PREDICTION, SHARP, similarity=False, lpips=lambda prediction, sharp: float(prediction[0, 0, 0] * sharp.shape[1])
    )
    assert (found["ssim"], found["ssim_matlab"]) == (None, None)
    assert found["lpips"] == PREDICTION[0, 0, 0] * 30
    assert found["psnr"] == metrics.image_metrics(PREDICTION, SHARP)["psnr"]
    assert metrics.image_metrics(PREDICTION, SHARP)["lpips"] is None
