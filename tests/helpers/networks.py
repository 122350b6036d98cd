"""Small networks with random weights, and one that changes nothing."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdeblur.models import build_model
from jaxdeblur.runs.train_state import init_variables

SMALL = {
    "nafnet": {"width": 8, "encoder_blocks": (1,), "middle_blocks": 1, "decoder_blocks": (1,)},
    "transformnet": {"width": 4, "num_blocks": 1},
    "resnetencdec": {"width": 4, "stage_sizes": (1, 1, 1, 1)},
    "unet": {"width": 8, "num_levels": 2, "num_blocks": 1},
}


def random_network(name: str) -> tuple[nn.Module, Any]:
    """Return a small network and random variables for which its output is neither flat nor saturated."""
    model, rng = build_model(name, **SMALL[name]), np.random.default_rng(1)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return 0.02 * noise if not leaf.any() else np.asarray(leaf)
        return 1 + 0.2 * np.abs(noise) if path[-1].key in ("scale", "var") else 0.1 * noise

    return model, jax.tree.map_with_path(draw, init_variables(model, jax.random.key(0)))


class Identity(nn.Module):
    """A network that returns its input."""

    multiple = 4

    @nn.compact
    def __call__(self, x, train):
        return x
