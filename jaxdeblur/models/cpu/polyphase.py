"""Large kernels on few channels, by polyphase decomposition, for XLA's CPU backend. NHWC.

A 9x9 convolution of 3 channels has short inner sums. Split into its 2x2 phases (even and odd rows and columns), an
image has half the height and width and four times the channels, and the convolution becomes a 5x5 one: on 2 cores, 2
images of 256x256 to 32 channels take 11 ms instead of 15, and the kernel's gradient is a 300 by 128 matrix product.
With stride 2 only one of the output's phases is computed.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur.models.cpu.im2col_gradients import Padding
from jaxdeblur.models.pixels import depth_to_space, space_to_depth

FEW_CHANNELS = 8


def is_faster(image: tuple[int, ...], kernel: tuple[int, ...], padding: Padding) -> bool:
    """Return whether this is the faster algorithm for these shapes, and applicable."""
    size, _, inputs, features = kernel
    even_image = image[1] % 2 == 0 and image[2] % 2 == 0
    applicable = even_image and padding == ((size // 2, size // 2),) * 2 and size % 2 == 1
    return applicable and size >= 7 and min(inputs, features) < FEW_CHANNELS


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int, convolve: Callable[[jax.Array, jax.Array, Padding], jax.Array]
) -> jax.Array:
    """Return the convolution with padding size // 2 and stride 1 or 2, using `convolve` of stride 1 on the phases."""
    size, _, inputs, features = kernel.shape
    one_hot, reach = _taps_between_phases(size, stride)
    blocks, _, output_phases, _ = one_hot.shape
    taps = jnp.asarray(one_hot, kernel.dtype)
    # (row, column) x (t, u: block; a, c: input phase; b, d: output phase; k, l: tap), i: input, o: output channel.
    kernel = jnp.einsum("tabk,ucdl,klio->tuacibdo", taps, taps, kernel)
    kernel = kernel.reshape(blocks, blocks, 4 * inputs, output_phases * output_phases * features)
    y = convolve(space_to_depth(x), kernel, (reach, reach))  # (B, H/2, W/2, 4 or 1 times features)
    return depth_to_space(y) if stride == 1 else y


def _taps_between_phases(size: int, stride: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Return which tap connects two phases, and the padding of the phases.

    Input pixel 2 (n + block) + source contributes to output pixel 2 n + target (stride 1) or n (stride 2) through tap
    2 block + source - target + size // 2.

    Returns:
        One-hot array [block, input phase, output phase, tap]; padding before and after.
    """
    output_phases = 2 if stride == 1 else 1
    middle = size // 2
    first, last = -((middle + 1) // 2), (middle + output_phases - 1) // 2
    taps = np.zeros((last - first + 1, 2, output_phases, size), np.float32)
    for block in range(first, last + 1):
        for source in range(2):
            for target in range(output_phases):
                tap = 2 * block + source - target + middle
                if 0 <= tap < size:
                    taps[block - first, source, target, tap] = 1.0
    return taps, (-first, last)
