"""Losses, compared with NumPy and scikit-image."""

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from jaxdeblur.training.losses import LOSSES

PREDICTION, SHARP = jnp.array([[0.5, 0.0], [1.0, 0.25]]), jnp.array([[0.25, 0.0], [0.5, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", (0.0625 + 0 + 0.25 + 0.0625) / 4),
        ("mae", (0.25 + 0 + 0.5 + 0.25) / 4),
        ("charbonnier", (2 * (0.0625 + 1e-6) ** 0.5 + 1e-3 + (0.25 + 1e-6) ** 0.5) / 4),
    ],
)
def test_losses_match_numpy(name, expected):
    assert float(LOSSES[name](PREDICTION, SHARP)) == pytest.approx(expected, rel=1e-6)


def test_psnr_is_minus_scikit_images_mean_over_images():
    """The PSNR of each image is averaged; pooling the errors of unequal images would give another number."""
    rng = np.random.default_rng(0)
    sharp = rng.random((3, 12, 10, 3))
    prediction = sharp + rng.normal(size=sharp.shape) * np.array([0.01, 0.1, 0.3])[:, None, None, None]
    expected = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(sharp, prediction, strict=True)]
    assert float(LOSSES["psnr"](jnp.asarray(prediction), jnp.asarray(sharp))) == pytest.approx(
        -np.mean(expected), rel=1e-3
    )


def test_psnr_of_equal_images_is_finite():
    assert float(LOSSES["psnr"](jnp.ones((2, 4, 4, 3)), jnp.ones((2, 4, 4, 3)))) == pytest.approx(-80.0)
