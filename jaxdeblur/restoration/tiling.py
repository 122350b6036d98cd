"""How an image is cut for a network: shapes that few programs serve, tiles that overlap, and weights that blend them.

Sides and places are in pixels; shapes are (height, width).
"""

import dataclasses

import numpy as np

from jaxdeblur.errors import InputError, list_problems

# The deepest network halves sides five times; where its maps line up with the image's, tiles may begin.
MULTIPLE = 32
# Long sides of the shapes of whole images, and how the short side relates to it, as photographs mostly have it.
LONG_SIDES = (128, 256, 384, 512, 768, 1024, 1280)
ASPECTS = (1, 3 / 4, 9 / 16)
# A larger image is cut into tiles: a network holds 0.3 to 1 KB per pixel at once.
WHOLE_PIXELS = 1_300_000
TILE = 1024
TILE_SIDES = (64, 128, 256, 512)  # of images that are small in one direction alone
OVERLAP = 160


def up_to_multiple(side: int) -> int:
    """Return the least multiple of MULTIPLE that is not below `side`."""
    return -(-side // MULTIPLE) * MULTIPLE


def check_tiles(tile: int | None, overlap: int) -> dict[str, bool]:
    """Return what each of --tile and --overlap must be, in words, and whether it is."""
    tile = TILE if tile is None else tile
    whole_numbers = all(isinstance(number, int | np.integer) for number in (tile, overlap))
    return {
        f"--tile: {tile}, expected 0 or a multiple of {MULTIPLE}": whole_numbers and tile >= 0 and tile % MULTIPLE == 0,
        f"--overlap: {overlap}, expected 0 to --tile less {MULTIPLE}": whole_numbers
        and (not tile or 0 <= overlap <= tile - MULTIPLE),
    }


def require_tiles(tile: int | None, overlap: int) -> None:
    """Refuse tiles that no image can be cut into; see `cut_image`.

    Raises:
        InputError: says what is wrong with each number (code "tiles").
    """
    if problems := [words for words, good in check_tiles(tile, overlap).items() if not good]:
        raise InputError(list_problems("Images cannot be cut:", problems, "Change these numbers."), code="tiles")


def _whole_shapes() -> list[tuple[int, int]]:
    shapes = {(up_to_multiple(round(long * aspect)), long) for long in LONG_SIDES for aspect in ASPECTS}
    shapes |= {shape[::-1] for shape in shapes}
    return sorted((shape for shape in shapes if np.prod(shape) <= WHOLE_PIXELS), key=np.prod)


WHOLE_SHAPES = _whole_shapes()


@dataclasses.dataclass(frozen=True)
class Cut:
    """How one image is cut.

    Attributes:
        shape: of every tile.
        padded: of the image with what tiles reach beyond its lower and right ends; multiples of MULTIPLE.
        tops: first rows of the tiles, rising.
        lefts: first columns of the tiles.
        overlap: of neighbouring tiles at the least.
    """

    shape: tuple[int, int]
    padded: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    overlap: int


def cut_image(height: int, width: int, *, tile: int | None, overlap: int) -> Cut:
    """Return how an image is cut.

    Args:
        height: of the image.
        width: of the image.
        tile: side of the tiles, a multiple of MULTIPLE; 0 never cuts, None cuts what no shape of whole images holds.
        overlap: of neighbouring tiles, 0 to `tile` less MULTIPLE.

    Raises:
        InputError: `tile` or `overlap` is none of these (code "tiles").
    """
    require_tiles(tile, overlap)
    padded = (up_to_multiple(height), up_to_multiple(width))
    if not tile:
        shape = next((shape for shape in WHOLE_SHAPES if height <= shape[0] and width <= shape[1]), None)
        if shape:
            return Cut(shape, shape, (0,), (0,), overlap)
    if tile is None:
        tile = TILE
    if tile == 0:
        return Cut(padded, padded, (0,), (0,), overlap)
    shape = tuple(next((side for side in TILE_SIDES if length <= side < tile), tile) for length in (height, width))
    padded = tuple(map(max, padded, shape))
    tops, lefts = (_starts(*lengths, overlap) for lengths in zip(padded, shape, strict=True))
    return Cut(shape, padded, tops, lefts, overlap)


def _starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    if length == tile:  # tiles of narrow images may be smaller than the overlap
        return (0,)
    step = (tile - overlap) // MULTIPLE * MULTIPLE
    return (*range(0, length - tile, step), length - tile)


def blending_weights(length: int, tile: int, starts: tuple[int, ...], overlap: int) -> list[np.ndarray]:
    """Return the weights of each tile along one axis, (tile,) float32; those of all tiles sum to one at each pixel.

    Towards a neighbour, the outer three eighths of the overlap have no weight: what is outside the tile has reached
    them. Over the quarter in the middle, weights rise like a squared sine, which leaves no edge.
    """
    outer, ramp = 3 * overlap // 8, max(overlap // 4, 1)
    distance = np.arange(tile) + 0.5 - outer  # from where the ramp begins
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
