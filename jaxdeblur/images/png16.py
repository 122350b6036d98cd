"""RGB of 16 bits a channel, which Pillow itself reads and writes at 8 bits only.

Reading PNG and TIFF: Pillow's decoders unpack either byte of each value, as the name of the raw mode says, so an image
is decoded twice. Writing PNG (ISO/IEC 15948): around what Pillow writes for the metadata.
"""

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from jaxdeblur.images.png_chunks import PNG_START, png_chunk

ROWS = 64  # encoded at once
# The raw mode that unpacks the other byte; N is the machine's order.
_NATIVE, _OTHER = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_LOW_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", _OTHER))
}


def stored_bits(image: Image.Image) -> int:
    """Return how many bits a channel has in the file, 8 or 16; of an image that is decoded, or has no file, 8."""
    tiles = getattr(image, "tile", None)
    return 16 if tiles and "16" in _raw_mode(tiles[0].args) else 8


def has_low_bytes(image: Image.Image) -> bool:
    """Return whether `decode_low_bytes` knows how, of an image that is not decoded yet."""
    return bool(image.tile) and all(_raw_mode(tile.args) in _LOW_BYTE for tile in image.tile)


def decode_low_bytes(image: Image.Image) -> None:
    """Make an image that is not decoded yet decode the lower byte of each value, not the upper one."""
    image.tile = [tile._replace(args=_swapped(tile.args)) for tile in image.tile]


def _raw_mode(arguments: Any) -> str:
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _swapped(arguments: Any) -> Any:
    low = _LOW_BYTE[_raw_mode(arguments)]
    return (low, *arguments[1:]) if isinstance(arguments, tuple) else low


def write_png(file: BinaryIO, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write uint16 (H, W, 3 or 4) as PNG; `options` are those of Pillow's `save`."""
    height, width, channels = pixels.shape
    skeleton = io.BytesIO()
    Image.new("RGB", (1, 1)).save(skeleton, "PNG", **options)
    content, position = skeleton.getvalue(), len(PNG_START)
    file.write(PNG_START)
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IHDR":
            colour = {3: 2, 4: 6}[channels]
            file.write(png_chunk(kind, struct.pack(">2I5B", width, height, 16, colour, 0, 0, 0)))
        elif kind == b"IDAT":
            for data in _deflated(_filtered(pixels)):
                file.write(png_chunk(kind, data))
        else:
            file.write(content[position : position + length + 12])
        position += length + 12


def _filtered(pixels: np.ndarray) -> Iterator[bytes]:
    """Yield rows, each less the one above it (filter type 2)."""
    above = np.zeros((1, pixels.shape[1] * pixels.shape[2] * 2), np.uint8)
    for top in range(0, len(pixels), ROWS):
        rows = pixels[top : top + ROWS].astype(">u2", order="C").view(np.uint8).reshape(-1, above.shape[1])
        change = rows - np.concatenate([above, rows[:-1]])
        yield np.concatenate([np.full((len(rows), 1), 2, np.uint8), change], axis=1).tobytes()
        above = rows[-1:]


def _deflated(parts: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj()
    for part in parts:
        if data := compressor.compress(part):
            yield data
    yield compressor.flush()
