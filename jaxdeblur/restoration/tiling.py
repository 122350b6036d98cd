"""Tiles of an image for a network: few distinct shapes, overlapping tiles, and weights that blend them.

Sizes and positions are in pixels; shapes are (height, width).
"""

import dataclasses

import numpy as np

from jaxdeblur.errors import InputError, list_problems

# The deepest network downsamples by 2 five times; tiles that start at multiples of 32 align with its feature maps.
MULTIPLE = 32
# Shapes for whole images: long sides, and aspect ratios that are common among photos.
LONG_SIDES = (128, 256, 384, 512, 768, 1024, 1280)
ASPECTS = (1, 3 / 4, 9 / 16)
# Larger images are tiled: a network needs 0.3 to 1 KB of memory per pixel.
WHOLE_PIXELS = 1_300_000
TILE = 1024
TILE_SIDES = (64, 128, 256, 512)  # for images that are small in one direction only
OVERLAP = 160


def up_to_multiple(side: int) -> int:
    """Return `side` rounded up to a multiple of MULTIPLE."""
    return -(-side // MULTIPLE) * MULTIPLE


def check_tiles(tile: int | None, overlap: int) -> dict[str, bool]:
    """Return a message for each constraint on --tile and --overlap, and whether it holds."""
    tile = TILE if tile is None else tile
    are_integers = all(isinstance(number, int | np.integer) for number in (tile, overlap))
    return {
        f"--tile: {tile}, expected 0 or a multiple of {MULTIPLE}": are_integers and tile >= 0 and tile % MULTIPLE == 0,
        f"--overlap: {overlap}, expected 0 to --tile - {MULTIPLE}": are_integers
        and (not tile or 0 <= overlap <= tile - MULTIPLE),
    }


def require_tiles(tile: int | None, overlap: int) -> None:
    """Refuse invalid tiles; see `plan_tiles`.

    Raises:
        InputError: states what is wrong with each number ("tiles").
    """
    if problems := [message for message, holds in check_tiles(tile, overlap).items() if not holds]:
        raise InputError(list_problems("Invalid tiles:", problems, "Change these numbers."), code="tiles")


def _whole_shapes() -> list[tuple[int, int]]:
    shapes = {(up_to_multiple(round(long * aspect)), long) for long in LONG_SIDES for aspect in ASPECTS}
    shapes |= {(width, height) for height, width in shapes}
    return sorted((shape for shape in shapes if np.prod(shape) <= WHOLE_PIXELS), key=np.prod)


WHOLE_SHAPES = _whole_shapes()


@dataclasses.dataclass(frozen=True)
class TileGrid:
    """The tiles of an image.

    Attributes:
        shape: of every tile.
        padded: shape of the image padded at the bottom and right to hold all tiles; multiples of MULTIPLE.
        tops: first rows of the tiles, increasing.
        lefts: first columns of the tiles, increasing.
        overlap: minimum overlap of neighbouring tiles.
    """

    shape: tuple[int, int]
    padded: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    overlap: int


def plan_tiles(height: int, width: int, *, tile: int | None, overlap: int) -> TileGrid:
    """Return the tiles of an image.

    Args:
        height: of the image.
        width: of the image.
        tile: side of the tiles, a multiple of MULTIPLE; 0 never tiles, None tiles images that exceed every shape in
            WHOLE_SHAPES.
        overlap: of neighbouring tiles, 0 to `tile` - MULTIPLE.

    Raises:
        InputError: `tile` or `overlap` is invalid ("tiles").
    """
    require_tiles(tile, overlap)
    padded = (up_to_multiple(height), up_to_multiple(width))
    if not tile:
        whole = next((shape for shape in WHOLE_SHAPES if height <= shape[0] and width <= shape[1]), None)
        if whole:
            return TileGrid(whole, whole, (0,), (0,), overlap)
    if tile is None:
        tile = TILE
    if tile == 0:
        return TileGrid(padded, padded, (0,), (0,), overlap)
    shape = (_tile_side(height, tile), _tile_side(width, tile))
    padded = (max(padded[0], shape[0]), max(padded[1], shape[1]))
    tops, lefts = (_starts(length, side, overlap) for length, side in zip(padded, shape, strict=True))
    return TileGrid(shape, padded, tops, lefts, overlap)


def _tile_side(length: int, tile: int) -> int:
    """Return the smallest of TILE_SIDES that holds an image side, or `tile`."""
    return next((side for side in TILE_SIDES if length <= side < tile), tile)


def _starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    if length == tile:  # tiles of narrow images may be smaller than the overlap
        return (0,)
    step = (tile - overlap) // MULTIPLE * MULTIPLE
    return (*range(0, length - tile, step), length - tile)


def blending_weights(length: int, tile: int, starts: tuple[int, ...], overlap: int) -> list[np.ndarray]:
    """Return each tile's blending weights along one axis, (tile,) float32; they sum to one at every pixel.

    Towards a neighbour, the outer three eighths of the overlap have weight zero, because missing context outside the
    tile affects them. Over the middle quarter, the weights rise as a squared sine, which leaves no visible seam.
    """
    outer, ramp = 3 * overlap // 8, max(overlap // 4, 1)
    distance = np.arange(tile) + 0.5 - outer  # from the start of the ramp
    rise = np.sin(np.clip(distance / ramp, 0.0, 1.0) * np.pi / 2) ** 2
    total, weights = np.zeros(length), []
    for start in starts:
        weight = np.ones(tile)
        if start > 0:
            weight *= rise
        if start + tile < length:
            weight *= rise[::-1]
        weights.append(weight)
        total[start : start + tile] += weight
    return [
        (weight / total[start : start + tile]).astype(np.float32) for start, weight in zip(starts, weights, strict=True)
    ]
