"""The gradients of a convolution as matrix products (im2col), for XLA's CPU backend. NHWC.

XLA computes the kernel's gradient as a convolution whose window is the whole image, at 14 to 34 GFLOP/s on CPUs, where
a matrix product reaches 150 to 250 (2 cores). Here the windows of one of the two images are laid out as channels, a few
rows at a time, so that they stay in the cache and use little memory.

Where there are fewer pixels than channels, as in 2 images of 16x16 with 1024 channels, transposing the kernel costs as
much as the products; there the input's gradient is computed with the kernel in its stored layout.
"""

from functools import partial

import jax
import jax.numpy as jnp

Padding = tuple[tuple[int, int], tuple[int, int]]

PIXELS = 2048  # whose windows are laid out at a time; from 1024 to 4096 it makes little difference


def kernel_gradient(x: jax.Array, gradient: jax.Array, size: int, stride: int, padding: Padding) -> jax.Array:
    """Return the gradient of a kernel, (size, size, in, out).

    Args:
        x: the convolution's input, (B, H, W, in).
        gradient: of the output, (B, H', W', out).
        size: height and width of the kernel.
        stride: of the convolution.
        padding: zeros around x.
    """
    if size == 1:
        return _correlate(x[:, ::stride, ::stride], gradient, 1, 1)
    if stride == 1 and gradient.shape[3] < x.shape[3] and not is_small(gradient.shape):
        # Fewer channels are laid out if the gradient's windows move over x, in the opposite direction.
        opposite = tuple((size - 1 - low, size - 1 - high) for low, high in padding)
        flipped = _correlate(jnp.pad(gradient, ((0, 0), *opposite, (0, 0))), x, size, 1)  # (size, size, out, in)
        return flipped[::-1, ::-1].swapaxes(2, 3)
    return _correlate(jnp.pad(x, ((0, 0), *padding, (0, 0))), gradient, size, stride)


def input_gradient(shape: tuple[int, ...], kernel: jax.Array, gradient: jax.Array, padding: Padding) -> jax.Array:
    """Return the gradient of the input, an array of `shape`, of a convolution of stride 1 on small images."""
    taps = jnp.einsum("ijcd,bhwd->ijcbhw", kernel, gradient)
    total = jnp.zeros((shape[3], *shape[:3]), gradient.dtype)  # (in, B, H, W)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            # Row h of the output used row h + i - low of the input.
            shifts = [
                (tap - low, length - output_length - tap + low, 0)
                for tap, (low, _), length, output_length in zip(
                    (i, j), padding, shape[1:3], gradient.shape[1:3], strict=True
                )
            ]
            total += jax.lax.pad(taps[i, j], jnp.zeros((), total.dtype), ((0, 0, 0), (0, 0, 0), *shifts))
    return total.transpose(1, 2, 3, 0)


def is_small(image: tuple[int, ...]) -> bool:
    """Return whether images of this shape have at most as many pixels as channels."""
    batch, height, width, channels = image
    return batch * height * width <= channels


def _correlate(moving: jax.Array, fixed: jax.Array, size: int, stride: int) -> jax.Array:
    """Return the sums over all pixels n of moving[stride n + (i, j), c] fixed[n, d] as (size, size, c, d)."""
    batch, height, width, features = fixed.shape
    if is_small(fixed.shape):
        product = jnp.einsum("bhwc,bhwd->cd", _windows(moving, height, width, size, stride), fixed)
        return product.reshape(size, size, moving.shape[3], features)
    rows = height if size == 1 else max(1, min(height, PIXELS // (batch * width)))
    while height % rows:
        rows -= 1

    def sum_over_rows(first: jax.Array | int) -> jax.Array:
        take = partial(jax.lax.dynamic_slice_in_dim, axis=1)
        part = take(moving, stride * first, stride * (rows - 1) + size)
        # In this order, with the windows second, XLA transposes the smaller of the two.
        windows = _windows(part, rows, width, size, stride)
        return jnp.einsum("bhwd,bhwc->dc", take(fixed, first, rows), windows)

    total = jnp.zeros((features, size * size * moving.shape[3]), fixed.dtype)
    if rows == height:
        total = sum_over_rows(0)
    else:
        total = jax.lax.fori_loop(0, height // rows, lambda i, total: total + sum_over_rows(i * rows), total)
    # Without the barrier XLA computes the transposed product, by slower code.
    total = jax.lax.optimization_barrier(total).reshape(features, size, size, moving.shape[3])
    return total.transpose(1, 2, 3, 0)


def _windows(image: jax.Array, height: int, width: int, size: int, stride: int) -> jax.Array:
    """Return the windows of height x width pixels as channels, (B, height, width, size * size * channels)."""
    down, across = stride * (height - 1) + 1, stride * (width - 1) + 1
    parts = [image[:, i : i + down : stride, j : j + across : stride] for i in range(size) for j in range(size)]
    return jnp.concatenate(parts, axis=-1)
