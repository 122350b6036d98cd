"""Losses by hand."""

import jax.numpy as jnp
import pytest

from jaxdeblur.losses import LOSSES

PREDICTION, SHARP = jnp.array([[0.5, 0.0], [1.0, 0.25]]), jnp.array([[0.25, 0.0], [0.5, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mse", (0.0625 + 0 + 0.25 + 0.0625) / 4),
        ("mae", (0.25 + 0 + 0.5 + 0.25) / 4),
        ("charbonnier", (2 * (0.0625 + 1e-6) ** 0.5 + 1e-3 + (0.25 + 1e-6) ** 0.5) / 4),
    ],
)
def test_losses_by_hand(name, expected):
    assert float(LOSSES[name](PREDICTION, SHARP)) == pytest.approx(expected, rel=1e-6)
