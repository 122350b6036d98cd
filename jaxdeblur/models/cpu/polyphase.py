"""Wide kernels on few channels, by phases, for XLA's CPU backend. NHWC.

A 9x9 convolution of 3 channels gives the machine short sums of products. Cut into its 2x2 phases, pixels with even and
odd rows and columns, an image has half the sides and four times the channels, and the same convolution becomes a 5x5
one: on 2 cores, 2 images of 256x256 to 32 channels, 11 ms instead of 15, and the gradient of its kernel is a product of
300 by 128. A kernel of stride 2 leaves one phase of the output.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur.models.cpu.im2col_gradients import Padding

FEW_CHANNELS = 8


def pays(image: tuple[int, ...], kernel: tuple[int, ...], padding: Padding) -> bool:
    """Return whether a convolution of images and kernels of these shapes is faster by phases, and can be cut so."""
    size, _, inputs, features = kernel
    can = image[1] % 2 == 0 and image[2] % 2 == 0 and padding == ((size // 2, size // 2),) * 2 and size % 2 == 1
    return can and size >= 7 and min(inputs, features) < FEW_CHANNELS


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int, convolve: Callable[[jax.Array, jax.Array, Padding], jax.Array]
) -> jax.Array:
    """Return the convolution with padding size // 2, of stride 1 or 2, by `convolve`, one of stride 1 on phases."""
    size, _, inputs, features = kernel.shape
    taps, reach = _taps(size, stride)
    blocks, _, targets, _ = taps.shape
    taps = jnp.asarray(taps, kernel.dtype)
    kernel = jnp.einsum("tabk,ucdl,klio->tuacibdo", taps, taps, kernel)
    kernel = kernel.reshape(blocks, blocks, 4 * inputs, targets * targets * features)
    y = convolve(space_to_depth(x), kernel, (reach, reach))  # (B, H/2, W/2, 4 or 1 times features)
    return depth_to_space(y) if stride == 1 else y


def _taps(size: int, stride: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Return ones where a tap joins phases, [block, phase of the input, phase of the output, tap], and the padding.

    Input pixel 2 (n + block) + source reaches output pixel 2 n + target, or n where the stride is 2, by the tap
    2 block + source - target + size // 2.
    """
    targets = 2 if stride == 1 else 1
    middle = size // 2
    first, last = -((middle + 1) // 2), (middle + targets - 1) // 2
    taps = np.zeros((last - first + 1, 2, targets, size), np.float32)
    for block in range(first, last + 1):
        for source in range(2):
            for target in range(targets):
                tap = 2 * block + source - target + middle
                if 0 <= tap < size:
                    taps[block - first, source, target, tap] = 1.0
    return taps, (-first, last)


def depth_to_space(x: jax.Array) -> jax.Array:
    """Rearrange (B, H, W, 4 C) into (B, 2 H, 2 W, C); channels are ordered (row phase, column phase, C)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H, 2, W, 2, C)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def space_to_depth(x: jax.Array) -> jax.Array:
    """Rearrange (B, 2 H, 2 W, C) into (B, H, W, 4 C): the inverse of `depth_to_space`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H, W, 2, 2, C)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)
