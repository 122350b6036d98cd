"""Gaussian image pyramids as scikit-image's `pyramid_gaussian` makes them. NHWC."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur.models.borders import image_sides

SIGMA = 2 * 2 / 6  # scikit-image's default for downscaling by 2
RADIUS = int(4 * SIGMA + 0.5)  # SciPy truncates a Gaussian at four standard deviations
_GAUSSIAN = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / SIGMA) ** 2)
# Linear interpolation at half the size averages pairs of rows: output i is made of rows 2 i - 3 to 2 i + 4.
TAPS = np.convolve(_GAUSSIAN / _GAUSSIAN.sum(), (0.5, 0.5)).tolist()


def gaussian_pyramid(x: jax.Array, num_levels: int) -> list[jax.Array]:
    """Return images (B, H, W, C), (B, H/2, W/2, C), ...; height and width are multiples of 2 ** (num_levels - 1)."""
    pyramid = [x]
    while len(pyramid) < num_levels:
        x = _halve_axis(_halve_axis(x, 1), 2)
        pyramid.append(x)
    return pyramid


def _halve_axis(x: jax.Array, axis: int) -> jax.Array:
    """Blur and downsample an axis by 2.

    Beyond its borders, which `image_within` may set, the image is reflected with its edge repeated: d c b a | a b c d.
    """
    size, length = x.shape[axis], image_sides(x)[axis - 1]
    position = (jnp.arange(size + 2 * RADIUS) - RADIUS) % (2 * length)
    reflected = jnp.minimum(position, 2 * length - 1 - position)
    x = jnp.take(x, jnp.clip(reflected, 0, size - 1), axis=axis)  # the image may be larger than its array
    half = size // 2
    pairs = x.reshape(*x.shape[:axis], half + RADIUS, 2, *x.shape[axis + 1 :])
    total = jnp.zeros((), x.dtype)
    for i, weight in enumerate(TAPS):
        rows = jax.lax.index_in_dim(pairs, i % 2, axis + 1, keepdims=False)
        total = total + weight * jax.lax.slice_in_dim(rows, i // 2, i // 2 + half, axis=axis)
    return total
