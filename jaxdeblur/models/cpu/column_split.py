"""Convolutions to few channels, column by column, for XLA's CPU backend. NHWC.

XLA's CPU code multiplies 16 channels of the output at a time: to put out 3 costs as much as 16. Here the columns of a
kernel come to be channels: a kernel of one column puts out what each of them would, and these are moved and summed up.
On 2 cores, 2 images of 256x256, from 32 channels to 3: 9x9 takes 14 ms instead of 71, 3x3 4 instead of 12.
"""

import jax
import jax.numpy as jnp

from jaxdeblur.models.cpu.im2col_gradients import Padding
from jaxdeblur.models.cpu.polyphase import FEW_CHANNELS


def pays(kernel: tuple[int, ...]) -> bool:
    """Return whether a convolution of stride 1 with a kernel of this shape is faster so."""
    size, _, inputs, features = kernel
    return size > 1 and features < FEW_CHANNELS <= inputs


def convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Return the convolution of stride 1 of (B, H, W, in) with (k, k, in, out), padded with zeros."""
    size, _, inputs, features = kernel.shape
    columns = kernel.transpose(0, 2, 1, 3).reshape(size, 1, inputs, size * features)
    rows, (left, right) = padding
    y = jax.lax.conv_general_dilated(x, columns, (1, 1), (rows, (0, 0)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = jnp.pad(y, ((0, 0), (0, 0), (left, right), (0, 0)))
    y = y.reshape(*y.shape[:3], size, features)
    width = y.shape[2] - size + 1
    return sum(y[:, :, i : i + width, i] for i in range(size))
