"""The function that exported files compute."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeblur.weights.load import TrainedNetwork


def restore_function(network: TrainedNetwork) -> Callable[[jax.Array], jax.Array]:
    """Return the function from images (B, H, W, 3) to restored ones, clipped to [0, 1], weights included."""

    def restore(image: jax.Array) -> jax.Array:
        restored: Any = network.model.apply(network.variables, image, train=False)
        return jnp.clip(restored, 0.0, 1.0)

    return restore
