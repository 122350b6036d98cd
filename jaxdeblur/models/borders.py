"""Where an image ends within a larger array, so that a network treats its lower and right borders as the array's own.

Layers pad with zeros around the array that they are given. If the image fills only a part of it, they must see zeros
beyond the image as well, in every feature map: then the image becomes exactly what it becomes alone, and one compiled
program serves images of many sizes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp


class _Image(NamedTuple):
    rows: jax.Array | int
    columns: jax.Array | int
    array: tuple[int, int]


# Holds while a network is traced, as jax.default_matmul_precision does: an argument would go through every layer.
_image: ContextVar[_Image | None] = ContextVar("image", default=None)


@contextmanager
def image_within(rows: jax.Array | int, columns: jax.Array | int, array: tuple[int, int]) -> Iterator[None]:
    """Trace a network for an image that is the first rows and columns of the array; the rest is ignored.

    Args:
        rows: of the image, from the array's top on; may be more than the array has.
        columns: of the image.
        array: height and width, divisible by every factor that the network reduces them by.
    """
    token = _image.set(_Image(rows, columns, array))
    try:
        yield
    finally:
        _image.reset(token)


def _inside(x: jax.Array) -> jax.Array | None:
    """Return which pixels of a feature map (B, h, w, C) belong to the image, (h, w, 1); None: all."""
    image = _image.get()
    if image is None:
        return None
    rows, columns = (
        # A side of n becomes one of ceil(n / factor) by strided layers.
        jnp.arange(side) < -(-length // (whole // side))
        for side, length, whole in zip(x.shape[1:3], image[:2], image.array, strict=True)
    )
    return rows[:, None, None] & columns[:, None]


def clear_outside(x: jax.Array) -> jax.Array:
    """Return a feature map (B, h, w, C) with zeros beyond the image; to be called before a layer that sees neighbours.

    An array that the image fills (no `image_within`) is returned as it is.
    """
    inside = _inside(x)
    return x if inside is None else jnp.where(inside, x, jnp.zeros((), x.dtype))


def mean_of_image(x: jax.Array) -> jax.Array:
    """Return each channel's mean over the image, (B, 1, 1, C) float32."""
    inside = _inside(x)
    return jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32, where=inside)
