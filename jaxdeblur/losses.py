"""Training losses by name: means over all elements of two arrays of one shape, values in [0, 1]."""

import jax
import jax.numpy as jnp


def mse(prediction: jax.Array, sharp: jax.Array) -> jax.Array:
    """Return the mean squared error."""
    return jnp.mean(jnp.square(prediction - sharp))


def mae(prediction: jax.Array, sharp: jax.Array) -> jax.Array:
    """Return the mean absolute error."""
    return jnp.mean(jnp.abs(prediction - sharp))


def charbonnier(prediction: jax.Array, sharp: jax.Array) -> jax.Array:
    """Return mean(sqrt(d^2 + 1e-6)): the absolute error made smooth at zero (Lai et al. 2017, arXiv 1710.01992)."""
    return jnp.mean(jnp.sqrt(jnp.square(prediction - sharp) + 1e-6))


LOSSES = {"mse": mse, "mae": mae, "charbonnier": charbonnier}
