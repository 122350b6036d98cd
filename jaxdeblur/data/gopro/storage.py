"""Storage formats of GOPRO_Large, and conversion of a pair's two files to the examples of a format.

Images are uint8 RGB, (H, W, 3). `256` (frames resized once) and `tiles` (full frames cut into tiles) hold raw pixels,
which cost a copy to read, where decoding two 1280x720 PNGs takes about 50 ms; a random crop reads few of the small
tiles. `full` keeps the published PNGs.
"""

import hashlib
from typing import Any

import numpy as np

from jaxdeblur.data.gopro.archive import Archive, ArchivePair
from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import verify_image
from jaxdeblur.images.resize import resize_image

DATA_SET, DATA_VERSION = "gopro_large", "1.0.0"
STORED_SIDE, STORED_FILTER = 256, "bicubic"
TILE = 128  # side in pixels; tiles at the right and lower border may be smaller
FORMATS = {
    "256": f"whole frames resized to {STORED_SIDE}x{STORED_SIDE} ({STORED_FILTER}, Pillow), raw pixels",
    "full": "full frames, the published PNG files",
    "tiles": f"full frames in tiles of {TILE}x{TILE}, raw pixels, row by row; one example is one tile",
}
BYTES_PER_PAIR = {"256": 2 * STORED_SIDE**2 * 3, "full": 1.9e6, "tiles": 2 * 720 * 1280 * 3}  # for 1280x720


def config_name(blur: str, storage_format: str) -> str:
    """Return the name of a builder config, such as `blur_256` or `blur_gamma_full`."""
    return f"{blur}_{storage_format}"


def cut_tiles(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of a frame's tiles, row by row."""
    rows, columns = ([slice(i, min(i + TILE, side)) for i in range(0, side, TILE)] for side in (height, width))
    return [(row, column) for row in rows for column in columns]


def read_pair(
    archive: Archive, pair: ArchivePair, *, storage_format: str
) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Read and check a pair.

    Args:
        archive: holds its files.
        pair: their names.
        storage_format: one of FORMATS.

    Returns:
        The pair's examples, with `blur` and `sharp` (uint8; for `full`, PNG bytes), and `top` and `left` of tiles; its
        metadata, the size and the files' SHA-256; and a line for every problem, in which case the others are empty.
    """
    contents: dict[str, bytes] = {}
    images: dict[str, np.ndarray] = {}
    problems = []
    for variant, name in (("blur", pair.blur), ("sharp", pair.sharp)):
        try:
            contents[variant] = archive.read(name)
            images[variant], _ = verify_image(contents[variant])
        except InputError as error:
            problems.append(f"{name}: {error}")
            continue
        # In a PNG header: bit depth 8, colour type 2 (RGB).
        if not contents[variant].startswith(b"\x89PNG") or contents[variant][24:26] != b"\x08\x02":
            problems.append(f"{name}: not an 8-bit RGB PNG, as GOPRO_Large's files are")
    if not problems and images["blur"].shape != images["sharp"].shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in images.values())
        problems.append(f"{pair.blur} and {pair.sharp} differ in size, {sizes}")
    if problems:
        return [], {}, problems
    metadata: dict[str, Any] = {
        f"{variant}_sha256": hashlib.sha256(content).hexdigest() for variant, content in contents.items()
    }
    metadata["height"], metadata["width"] = images["blur"].shape[:2]
    if storage_format == "full":
        return [contents], metadata, []
    if storage_format == "256":
        resized = {key: resize_image(image, STORED_SIDE, STORED_FILTER) for key, image in images.items()}
        return [resized], metadata, []
    tiles = [
        {"blur": images["blur"][tile], "sharp": images["sharp"][tile], "top": tile[0].start, "left": tile[1].start}
        for tile in cut_tiles(metadata["height"], metadata["width"])
    ]
    return tiles, metadata, []
