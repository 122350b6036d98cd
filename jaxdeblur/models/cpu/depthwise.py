"""3x3 depthwise convolutions as nine shifted products, for XLA's CPU backend. NHWC.

XLA takes some forty times longer on CPUs for a convolution with many groups than its few operations need, whereas
shifted products fuse into one loop. Sums are in float32 or wider.
"""

import functools

import jax
import jax.numpy as jnp

TAPS = tuple((row, column) for row in range(3) for column in range(3))
# In the kernel's gradient, rows whose products are added in one fused loop: XLA's own sum over all pixels is four times
# slower on a CPU.
ROWS_AT_ONCE = 8


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve each channel of (B, H, W, C) with its own kernel, (3, 3, 1, C), zero-padded."""
    height, width = x.shape[1:3]
    wide = jnp.promote_types(jnp.float32, x.dtype)
    padded, kernel = _pad(x).astype(wide), kernel.astype(wide)
    products = (padded[:, i : i + height, j : j + width] * kernel[i, j, 0] for i, j in TAPS)
    return functools.reduce(jnp.add, products).astype(x.dtype)


def gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the gradients of x and of the kernel, given the output's, (B, H, W, C)."""
    height, width = x.shape[1:3]
    wide = jnp.promote_types(jnp.float32, x.dtype)
    # Rows of zeros, which add nothing to the sums, make the height a multiple.
    missing = ((0, 0), (0, -height % ROWS_AT_ONCE), (0, 0), (0, 0))
    inputs, outputs = (jnp.pad(array, missing).astype(wide) for array in (_pad(x), gradient))
    end = outputs.shape[1]
    taps = []
    for i, j in TAPS:
        rows = (
            inputs[:, i + row : i + end : ROWS_AT_ONCE, j : j + width] * outputs[:, row::ROWS_AT_ONCE]
            for row in range(ROWS_AT_ONCE)
        )
        taps.append(functools.reduce(jnp.add, rows))  # (B, H/8, W, C)
    kernel_gradient = jnp.sum(jnp.stack(taps), axis=(1, 2, 3)).reshape(kernel.shape)
    return convolve(gradient, kernel[::-1, ::-1]), kernel_gradient.astype(kernel.dtype)


def _pad(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
