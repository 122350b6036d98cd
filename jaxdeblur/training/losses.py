"""Training losses by name, averaged over two batches (B, H, W, 3), float32 in [0, 1]."""

import jax
import jax.numpy as jnp


def mse(prediction: jax.Array, sharp: jax.Array) -> jax.Array:
    """Return the mean squared error."""
    return jnp.mean(jnp.square(prediction - sharp))


def mae(prediction: jax.Array, sharp: jax.Array) -> jax.Array:
    """Return the mean absolute error."""
    return jnp.mean(jnp.abs(prediction - sharp))


def charbonnier(prediction: jax.Array, sharp: jax.Array) -> jax.Array:
    """Return mean(sqrt(d^2 + 1e-6)): a smooth absolute error (Lai et al. 2017, arXiv 1710.01992)."""
    return jnp.mean(jnp.sqrt(jnp.square(prediction - sharp) + 1e-6))


def psnr(prediction: jax.Array, sharp: jax.Array) -> jax.Array:
    """Return the mean over the batch of 10 log10(mse + 1e-8): the negative PSNR in dB (as in NAFNet, arXiv 2204.04676).

    Identical images give -80 dB.
    """
    image_mse = jnp.mean(jnp.square(prediction - sharp), axis=tuple(range(1, prediction.ndim)))  # (B,)
    return jnp.mean(10.0 * jnp.log10(image_mse + 1e-8))


LOSSES = {"mse": mse, "mae": mae, "charbonnier": charbonnier, "psnr": psnr}
