"""Networks on images that fill only the upper left part of an array, as if the image were the whole array.

Convolutions pad an array with zeros. If the image ends earlier, every feature map must be zero beyond the image too;
the result then equals that of the image alone, and one compiled program serves images of many sizes. NHWC.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp


class _ImageSize(NamedTuple):
    rows: jax.Array | int
    columns: jax.Array | int
    array_shape: tuple[int, int]


# Set while a network is traced, like jax.default_matmul_precision; otherwise every layer would need an argument.
_image_size: ContextVar[_ImageSize | None] = ContextVar("image_size", default=None)


@contextmanager
def image_within(rows: jax.Array | int, columns: jax.Array | int, array: tuple[int, int]) -> Iterator[None]:
    """Trace a network for an image that occupies the first rows and columns of its input array.

    Args:
        rows: height of the image; may exceed the array's.
        columns: width of the image; may exceed the array's.
        array: height and width of the array, divisible by all of the network's downsampling factors.
    """
    token = _image_size.set(_ImageSize(rows, columns, array))
    try:
        yield
    finally:
        _image_size.reset(token)


def image_sides(x: jax.Array) -> tuple[jax.Array | int, jax.Array | int]:
    """Return the height and width that the image has in a feature map (B, h, w, C); they may exceed the map's."""
    size = _image_size.get()
    if size is None:
        return x.shape[1], x.shape[2]
    height, width = (
        # Strided layers reduce a length n to ceil(n / factor).
        -(-image_length // (array_length // feature_length))
        for feature_length, image_length, array_length in zip(x.shape[1:3], size[:2], size.array_shape, strict=True)
    )
    return height, width


def _inside_mask(x: jax.Array) -> jax.Array | None:
    """Return the mask (h, w, 1) of a feature map's pixels that belong to the image; None if all do."""
    if _image_size.get() is None:
        return None
    height, width = image_sides(x)
    rows, columns = jnp.arange(x.shape[1]) < height, jnp.arange(x.shape[2]) < width
    return rows[:, None, None] & columns[:, None]


def clear_outside(x: jax.Array) -> jax.Array:
    """Zero a feature map (B, h, w, C) beyond the image; call it before every layer that mixes pixels.

    Without `image_within` the array is returned unchanged.
    """
    inside = _inside_mask(x)
    return x if inside is None else jnp.where(inside, x, jnp.zeros((), x.dtype))


def mean_of_image(x: jax.Array) -> jax.Array:
    """Return each channel's mean over the image, (B, 1, 1, C), at least float32."""
    return jnp.mean(x, axis=(1, 2), keepdims=True, dtype=_sum_dtype(x), where=_inside_mask(x))


def local_mean_of_image(x: jax.Array, box: int) -> jax.Array:
    """Return each channel's means over square boxes around the pixels: TLC (Chu et al. 2022, arXiv 2112.04491).

    Boxes are shifted to lie inside the image, which repeats the outermost means, and cut where they exceed its height
    or width. The pixel is at offset (box - 1) // 2 of its box.

    Args:
        x: feature map (B, h, w, C).
        box: side in pixels of the feature map.

    Returns:
        (B, h, w, C), or (B, 1, 1, C) where the box is known to cover the array; at least float32.
    """
    if all(isinstance(side, int) and side <= box for side in x.shape[1:3]):
        return mean_of_image(x)
    height, width = image_sides(x)
    means = clear_outside(x).astype(_sum_dtype(x))
    return _sliding_mean(_sliding_mean(means, 1, height, box), 2, width, box)


def _sliding_mean(x: jax.Array, axis: int, image_length: jax.Array | int, box: int) -> jax.Array:
    length = x.shape[axis]
    image_length = jnp.minimum(jnp.asarray(image_length), length)
    side = jnp.minimum(image_length, box)
    starts = jnp.clip(jnp.arange(length) - (side - 1) // 2, 0, image_length - side)
    zero = jnp.zeros_like(jax.lax.slice_in_dim(x, 0, 1, axis=axis))
    sums = jnp.concatenate([zero, jnp.cumsum(x, axis)], axis)
    return (jnp.take(sums, starts + side, axis, mode="clip") - jnp.take(sums, starts, axis, mode="clip")) / side.astype(
        x.dtype
    )


def _sum_dtype(x: jax.Array) -> jnp.dtype:
    """Return the type to sum in: float32, or float64 for float64."""
    return jnp.promote_types(x.dtype, jnp.float32)
