"""The gradients of a convolution as matrix products, for XLA's CPU backend. NHWC.

XLA writes that of the kernel as a convolution whose window is the whole image, which its CPU code runs at 14 to 34
GFLOP/s where a matrix product runs at 150 to 250 (2 cores). Here windows of one of the two images are laid beside each
other as channels, for some rows at a time: few enough that they stay in the cache and take no memory to speak of.

Where there are fewer pixels than channels, 2 images of 16x16 with 1024, transposing the kernel costs as much as the
products. There the gradient of the input is made of products with the kernel as it lies.
"""

from functools import partial

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]

PIXELS = 2048  # whose windows are laid out at a time; from 1024 to 4096 it makes little difference


def kernel_gradient(x: jax.Array, gradient: jax.Array, size: int, stride: int, padding: Padding) -> jax.Array:
    """Return the gradient of a kernel, (size, size, in, out).

    Args:
        x: what was convolved, (B, H, W, in).
        gradient: of the output, (B, H', W', out).
        size: side of the kernel.
        stride: of the convolution.
        padding: of x, with zeros.
    """
    if size == 1:
        return _products(x[:, ::stride, ::stride], gradient, 1, 1)
    if stride == 1 and gradient.shape[3] < x.shape[3] and not is_small(gradient.shape):
        # Fewer channels are laid out when x stands still and the gradient is moved, the opposite way.
        opposite = tuple((size - 1 - low, size - 1 - high) for low, high in padding)
        turned = _products(jnp.pad(gradient, ((0, 0), *opposite, (0, 0))), x, size, 1)
        return turned[::-1, ::-1].swapaxes(2, 3)
    return _products(jnp.pad(x, ((0, 0), *padding, (0, 0))), gradient, size, stride)


def input_gradient(shape: tuple[int, ...], kernel: jax.Array, gradient: jax.Array, padding: Padding) -> jax.Array:
    """Return the gradient of what was convolved with stride 1, an array of `shape`, for small images."""
    taps = jnp.einsum("ijcd,bhwd->ijcbhw", kernel, gradient)
    total = jnp.zeros((shape[3], *shape[:3]), gradient.dtype)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            # Row h of the output took row h + i - low of the input.
            moved = [
                (tap - low, full - part - tap + low, 0)
                for tap, (low, _), full, part in zip((i, j), padding, shape[1:3], gradient.shape[1:3], strict=True)
            ]
            total += jax.lax.pad(taps[i, j], jnp.zeros((), total.dtype), ((0, 0, 0), (0, 0, 0), *moved))
    return total.transpose(1, 2, 3, 0)


def is_small(image: tuple[int, ...]) -> bool:
    """Return whether images of this shape have so few pixels that a kernel is larger than the windows of all."""
    batch, height, width, channels = image
    return batch * height * width <= channels


def _products(moved: jax.Array, still: jax.Array, size: int, stride: int) -> jax.Array:
    """Return the sums over all pixels n of moved[stride n + (i, j), c] still[n, d] as (size, size, c, d)."""
    batch, height, width, features = still.shape
    if is_small(still.shape):
        product = jnp.einsum("bhwc,bhwd->cd", _windows(moved, height, width, size, stride), still)
        return product.reshape(size, size, moved.shape[3], features)
    rows = height if size == 1 else max(1, min(height, PIXELS // (batch * width)))
    while height % rows:
        rows -= 1

    def of_rows(first: jax.Array | int) -> jax.Array:
        take = partial(jax.lax.dynamic_slice_in_dim, axis=1)
        part = take(moved, stride * first, stride * (rows - 1) + size)
        # In this order, with the windows second, XLA transposes the smaller of the two.
        windows = _windows(part, rows, width, size, stride)
        return jnp.einsum("bhwd,bhwc->dc", take(still, first, rows), windows)

    total = jnp.zeros((features, size * size * moved.shape[3]), still.dtype)
    if rows == height:
        total = of_rows(0)
    else:
        total = jax.lax.fori_loop(0, height // rows, lambda i, total: total + of_rows(i * rows), total)
    # Without the barrier XLA makes the product in the transposed order, by slower code.
    total = jax.lax.optimization_barrier(total).reshape(features, size, size, moved.shape[3])
    return total.transpose(1, 2, 3, 0)


def _windows(image: jax.Array, height: int, width: int, size: int, stride: int) -> jax.Array:
    """Return the windows of height x width pixels as channels, (B, height, width, size size channels)."""
    down, across = stride * (height - 1) + 1, stride * (width - 1) + 1
    parts = [image[:, i : i + down : stride, j : j + across : stride] for i in range(size) for j in range(size)]
    return jnp.concatenate(parts, axis=-1)
