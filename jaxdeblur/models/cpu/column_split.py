"""Convolutions to few output channels, split into kernel columns, for XLA's CPU backend. NHWC.

XLA's CPU code computes 16 output channels at a time, so 3 cost as much as 16. Here a (k, k) convolution is computed as
a (k, 1) convolution whose output channels are the k kernel columns, followed by shifts and a sum. On 2 cores, 2 images
of 256x256, from 32 channels to 3: 9x9 takes 14 ms instead of 71, 3x3 4 ms instead of 12.
"""

import jax
import jax.numpy as jnp

from jaxdeblur.models.cpu.im2col_gradients import Padding
from jaxdeblur.models.cpu.polyphase import FEW_CHANNELS


def is_faster(kernel: tuple[int, ...]) -> bool:
    """Return whether this is the faster algorithm for a kernel of this shape and stride 1."""
    size, _, inputs, features = kernel
    return size > 1 and features < FEW_CHANNELS <= inputs


def convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return the convolution of stride 1 of (B, H, W, in) with (k, k, in, out), zero-padded."""
    size, _, inputs, features = kernel.shape
    columns = kernel.transpose(0, 2, 1, 3).reshape(size, 1, inputs, size * features)
    rows, (left, right) = padding
    y = jax.lax.conv_general_dilated(x, columns, (1, 1), (rows, (0, 0)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = jnp.pad(y, ((0, 0), (0, 0), (left, right), (0, 0)))
    y = y.reshape(*y.shape[:3], size, features)  # (B, H', W + left + right, column, out)
    width = y.shape[2] - size + 1
    total = y[:, :, :width, 0]
    for i in range(1, size):
        total = total + y[:, :, i : i + width, i]
    return total
