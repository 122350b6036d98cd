"""The forms that pairs are stored in, and the way from a pair's two files to the examples of a form.

Images are uint8 RGB, (H, W, 3). One form does not serve all: `256`, frames resized once, and `tiles`, full frames cut
up, hold raw pixels, which cost a copy to read where decoding two 1280x720 PNGs costs some 50 ms; a tile is small, so
that a random crop reads little. `full` keeps the published PNGs.
"""

import hashlib

from jaxdeblur.data.gopro.archive import Archive, PairFiles
from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import resize_image, verify_image

DATA_SET, DATA_VERSION = "gopro_large", "1.0.0"
STORED_SIDE, STORED_FILTER = 256, "bicubic"
TILE = 128  # side in pixels; tiles at the right and the lower edge may be smaller
FORMS = {
    "256": f"whole frames resized to {STORED_SIDE}x{STORED_SIDE} ({STORED_FILTER}, Pillow), raw pixels",
    "full": "full frames, the published PNG files",
    "tiles": f"full frames in tiles of {TILE}x{TILE}, raw pixels, row by row; one example is one tile",
}
BYTES_PER_PAIR = {"256": 2 * STORED_SIDE**2 * 3, "full": 1.9e6, "tiles": 2 * 720 * 1280 * 3}  # of 1280x720


def config_name(blur: str, form: str) -> str:
    """Return the name of the builder config of a blur variant and form: `blur_256`, `blur_gamma_full`."""
    return f"{blur}_{form}"


def cut_tiles(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of a frame's tiles, row by row."""
    rows, columns = ([slice(i, min(i + TILE, side)) for i in range(0, side, TILE)] for side in (height, width))
    return [(row, column) for row in rows for column in columns]


def read_pair(archive: Archive, pair: PairFiles, *, form: str) -> tuple[list[dict], dict, list[str]]:
    """Read a pair and check it.

    Args:
        archive: where its files are.
        pair: their names.
        form: one of FORMS.

    Returns:
        The pair's examples: `blur` and `sharp`, uint8 or for `full` the bytes of PNGs, and for tiles `top` and `left`.
        The pair's facts: its size and its files' SHA-256. And a line for everything that is wrong with it; then the
        other two are empty.
    """
    contents, images, problems = {}, {}, []
    for variant, name in (("blur", pair.blur), ("sharp", pair.sharp)):
        try:
            contents[variant] = archive.read(name)
            images[variant], _ = verify_image(contents[variant])
        except InputError as error:
            problems.append(f"{name}: {error}")
            continue
        # The bytes of a PNG that hold its depth, 8, and its colour type, 2 for RGB.
        if not contents[variant].startswith(b"\x89PNG") or contents[variant][24:26] != b"\x08\x02":
            problems.append(f"{name}: no 8-bit RGB PNG, as GOPRO_Large's files are")
    if not problems and images["blur"].shape != images["sharp"].shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in images.values())
        problems.append(f"{pair.blur} and {pair.sharp} are of two sizes, {sizes}")
    if problems:
        return [], {}, problems
    facts = {f"{variant}_sha256": hashlib.sha256(content).hexdigest() for variant, content in contents.items()}
    facts["height"], facts["width"] = images["blur"].shape[:2]
    if form == "full":
        return [contents], facts, []
    if form == "256":
        return [{key: resize_image(image, STORED_SIDE, STORED_FILTER) for key, image in images.items()}], facts, []
    tiles = cut_tiles(facts["height"], facts["width"])
    return (
        [
            {"blur": images["blur"][tile], "sharp": images["sharp"][tile], "top": tile[0].start, "left": tile[1].start}
            for tile in tiles
        ],
        facts,
        [],
    )
