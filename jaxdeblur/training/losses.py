"""Training losses by name, averaged over two batches (B, H, W, 3), float32 in [0, 1]."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdeblur.models.pixels import pad_to_multiple
from jaxdeblur.models.pyramid import gaussian_pyramid

Loss = Callable[[jax.Array, jax.Array], jax.Array]


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


def mean_over_scales(loss: Loss, prediction: jax.Array, coarse: Sequence[jax.Array], sharp: jax.Array) -> jax.Array:
    """Return the mean of the losses at all scales, the targets being the sharp images' Gaussian pyramid.

    Args:
        loss: of one scale.
        prediction: (B, H, W, 3), the finest scale.
        coarse: of the other scales, from the coarsest on (`COARSE_OUTPUTS`); without any, the result is the plain loss.
        sharp: (B, H, W, 3).
    """
    if not coarse:
        return loss(prediction, sharp)
    padded = pad_to_multiple(2 ** len(coarse), sharp)  # as networks pad the blurred images
    _, *targets = gaussian_pyramid(padded, len(coarse) + 1)
    losses = [loss(prediction, sharp), *map(loss, reversed(coarse), targets)]
    return jnp.mean(jnp.stack(losses))


LOSSES: dict[str, Loss] = {"mse": mse, "mae": mae, "charbonnier": charbonnier, "psnr": psnr}
