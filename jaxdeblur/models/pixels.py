"""Rearranging, resampling, padding and cropping pixels: functions without parameters. NHWC throughout."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

Padding = Literal["reflect", "zeros"]


class TilePosition(NamedTuple):
    """Offset of a tile's first row and column in the image, and the size of the whole image, in pixels."""

    top: jax.Array | int
    left: jax.Array | int
    height: jax.Array | int
    width: jax.Array | int

    def downscaled(self, factor: int) -> "TilePosition":
        """Return the position at 1/factor of the resolution; all four numbers are multiples of `factor`."""
        return TilePosition(*(number // factor for number in self))


def depth_to_space(x: jax.Array) -> jax.Array:
    """Rearrange (B, H, W, 4 C) into (B, 2 H, 2 W, C); channels are ordered (row phase, column phase, C).

    Pixel shuffle of Shi et al. 2016 (arXiv 1609.05158).
    """
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, 2, 2, channels // 4)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H, 2, W, 2, C)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """Rearrange (B, H, W, 4 C) into (B, 2 H, 2 W, C) as PyTorch does: channels ordered (C, row phase, column phase)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, channels // 4, 2, 2)
    x = x.transpose(0, 1, 4, 2, 5, 3)  # (B, H, 2, W, 2, C)
    return x.reshape(batch, 2 * height, 2 * width, channels // 4)


def space_to_depth(x: jax.Array) -> jax.Array:
    """Rearrange (B, 2 H, 2 W, C) into (B, H, W, 4 C): the inverse of `depth_to_space`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)  # (B, H, W, 2, 2, C)
    return x.reshape(batch, height // 2, width // 2, 4 * channels)


def upsample_bilinear_2x(x: jax.Array, position: TilePosition | None = None) -> jax.Array:
    """Upsample bilinearly by 2 with aligned corners: PyTorch's Upsample(scale_factor=2, align_corners=True).

    `jax.image.resize` aligns pixel edges instead. With aligned corners the weights depend on where a pixel lies in the
    whole image, so a tile needs its `position`.
    """
    height, width = x.shape[1:3]
    position = position or TilePosition(0, 0, height, width)
    return _upsample_axis(_upsample_axis(x, 1, position.top, position.height), 2, position.left, position.width)


def _upsample_axis(x: jax.Array, axis: int, offset: jax.Array | int, whole_length: jax.Array | int) -> jax.Array:
    """Double the length of an axis that starts at row `offset` of an image of `whole_length` rows.

    Let n be the image's length. Its output row 2 i lies i / (2 n - 1) before input row i, and output row 2 i + 1 lies
    (n - 1 - i) / (2 n - 1) after it. At the ends of a tile, where the neighbouring row is missing, its first or last
    row is repeated.
    """
    length = x.shape[axis]
    row = offset + jnp.arange(length)
    shape = [length if i == axis else 1 for i in range(x.ndim)]
    before, after = (
        (numerator / (2 * whole_length - 1)).astype(x.dtype).reshape(shape)
        for numerator in (row, whole_length - 1 - row)
    )
    first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, length - 1))
    previous = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, length - 1, axis=axis)], axis)
    following = jnp.concatenate([jax.lax.slice_in_dim(x, 1, length, axis=axis), last], axis)
    pairs = jnp.stack([x + before * (previous - x), x + after * (following - x)], axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * length, *x.shape[axis + 1 :])


def fit_to(x: jax.Array, height: int, width: int) -> jax.Array:
    """Zero-pad or crop to (height, width) as the PyTorch original does.

    Its `F.pad(x, [d // 2, d - d // 2, ...])` uses floor division: a difference of -1 crops the *first* row.
    """
    rows, columns = height - x.shape[1], width - x.shape[2]
    config = ((0, 0, 0), (rows // 2, rows - rows // 2, 0), (columns // 2, columns - columns // 2, 0), (0, 0, 0))
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)


def shift_tile_like_fit_to(x: jax.Array, position: TilePosition, factor: int) -> jax.Array:
    """Shift a tile by the row and column that `fit_to` crops from the whole image's feature map.

    Halving with rounding up and doubling may lengthen the image's feature map by one, in which case `fit_to` crops its
    first row or column. A tile's feature maps have even sizes, so they are not cropped; they are shifted instead, and
    the last row or column becomes arbitrary.

    Args:
        x: feature map of the tile, at 1/factor of the image's resolution.
        position: of the tile, in pixels of the image.
        factor: see `x`.
    """
    for axis, length in ((1, position.height), (2, position.width)):
        excess = 2 * -(-length // (2 * factor)) - -(-length // factor)  # 0 or 1
        x = jnp.where(excess == 1, jnp.roll(x, -1, axis), x)
    return x


def at_multiple_of(
    multiple: int, network: Callable[[jax.Array], jax.Array], x: jax.Array, padding: Padding = "reflect"
) -> jax.Array:
    """Apply `network` to x padded to multiples of `multiple` at the bottom and right; crop the result.

    Raises:
        ValueError: the image is too small to be reflected that far.
    """
    height, width = x.shape[1:3]
    padded = pad_to_multiple(multiple, x, padding)
    return network(x) if padded is x else network(padded)[:, :height, :width]


def pad_to_multiple(multiple: int, x: jax.Array, padding: Padding = "reflect") -> jax.Array:
    """Return (B, H, W, C) padded to multiples of `multiple` at the bottom and right.

    Raises:
        ValueError: the image is too small to be reflected that far.
    """
    height, width = x.shape[1:3]
    rows, columns = -height % multiple, -width % multiple
    if rows == 0 and columns == 0:
        return x
    if padding == "reflect" and (height <= rows or width <= columns):
        raise ValueError(f"image of {height}x{width} is too small to reflect to a multiple of {multiple}")
    extend = _reflect_at_end if padding == "reflect" else _zeros_at_end
    return extend(extend(x, 1, multiple), 2, multiple)


def _reflect_at_end(x: jax.Array, axis: int, multiple: int) -> jax.Array:
    """Extend `axis` to a multiple by reflection. Unlike `jnp.pad`, this works for symbolic sizes."""
    size = x.shape[axis]
    padded = -(-size // multiple) * multiple  # known to be a multiple even where `size` is a symbol
    mirrored = jax.lax.slice_in_dim(x, 2 * size - 1 - padded, size - 1, axis=axis)
    return jnp.concatenate([x, jnp.flip(mirrored, axis)], axis)


def _zeros_at_end(x: jax.Array, axis: int, multiple: int) -> jax.Array:
    """Extend `axis` to a multiple by zeros."""
    padded = -(-x.shape[axis] // multiple) * multiple
    config = [(0, padded - x.shape[axis] if i == axis else 0, 0) for i in range(x.ndim)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)
