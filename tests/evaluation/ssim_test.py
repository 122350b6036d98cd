"""SSIM against scikit-image, against SciPy's N-dimensional correlation, and by hand."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.metrics import structural_similarity

from jaxdeblur.evaluation.metrics import image_metrics, summarize
from jaxdeblur.evaluation.ssim import ssim, ssim_matlab

RNG = np.random.default_rng(0)
SHARP = RNG.integers(0, 256, (20, 30, 3), np.uint8)
PREDICTION = SHARP / 255.0 + RNG.normal(0, 0.05, SHARP.shape)  # partly outside [0, 1]


def make_image_pairs():
    """Return (name, image, other), float64 in [0, 1]."""
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


def reference_ssim_matlab(image, other):
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


def reference_ssim(image, other):
    return structural_similarity(
        image, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=-1
    )


@IMAGE_PAIRS
def test_ssim_equals_scikit_image(image, other):
    assert ssim(image, other) == pytest.approx(reference_ssim(image, other), abs=1e-9)
    assert ssim(image, other) == pytest.approx(ssim(other, image), abs=1e-12)


@IMAGE_PAIRS
def test_ssim_matlab_equals_its_definition(image, other):
    assert ssim_matlab(image, other) == pytest.approx(reference_ssim_matlab(image, other), abs=1e-9)


def test_ssim_by_hand():
    """Flat images have no variance: (2 a b + C1) / (a^2 + b^2 + C1). Equal ones give exactly 1."""
    flat, half, black, white = (np.full((12, 12, 3), value) for value in (0.8, 0.4, 0.0, 1.0))
    for similarity in (ssim, ssim_matlab):
        assert similarity(flat, half) == pytest.approx((0.64 + 1e-4) / (0.8 + 1e-4), abs=1e-9)
        assert similarity(black, white) == pytest.approx(1e-4 / 1.0001, abs=1e-12)
        assert similarity(SHARP / 255.0, SHARP / 255.0) == 1.0


def test_ssim_is_of_the_float_prediction_and_ssim_matlab_of_the_rounded_one():
    scores = image_metrics(PREDICTION, SHARP)
    clipped, target = np.clip(PREDICTION, 0, 1), SHARP / 255.0
    assert scores.ssim == pytest.approx(reference_ssim(clipped, target), abs=1e-9)
    assert scores.ssim_matlab == pytest.approx(reference_ssim_matlab(np.round(clipped * 255) / 255, target), abs=1e-9)


def test_an_image_smaller_than_the_window_has_no_ssim():
    """scikit-image refuses it; MATLAB's variant pads the image and is defined at every size."""
    small = image_metrics(PREDICTION[:10], SHARP[:10])
    assert small.ssim is None
    expected = reference_ssim_matlab(np.round(np.clip(PREDICTION[:10], 0, 1) * 255) / 255, SHARP[:10] / 255)
    assert small.ssim_matlab == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ValueError, match="win_size exceeds image extent"):
        reference_ssim(PREDICTION[:10], SHARP[:10] / 255)
    large = image_metrics(PREDICTION[:11], SHARP[:11])
    assert summarize([large, small]).ssim is None
    assert summarize([large, large]).ssim == large.ssim


def test_ssim_of_real_frames(real_gopro):
    """Crops of blur against sharp, since the N-dimensional correlation is slow."""
    scores = []
    for path in sorted(real_gopro.glob("test/*/blur/*.png"))[::3]:
        images = [np.asarray(Image.open(p)) for p in (path, path.parent.parent / "sharp" / path.name)]
        blur, sharp = (image[300:380, 600:700] for image in images)
        scores.append(image_metrics(blur / 255.0, sharp))
        blur, sharp = blur / 255.0, sharp / 255.0
        assert scores[-1].ssim == pytest.approx(reference_ssim(blur, sharp), abs=1e-9)
        assert scores[-1].ssim_matlab == pytest.approx(reference_ssim_matlab(blur, sharp), abs=1e-9)
    assert scores
    assert all(0 < image.ssim < 1 and image.ssim != image.ssim_matlab for image in scores)
