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
    """Return each channel's mean over the image, (B, 1, 1, C) float32."""
    return jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32, where=_inside_mask(x))
