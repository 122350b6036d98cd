"""RGB with 16 bits per channel, which Pillow reads and writes at 8 bits only.

Reading PNG and TIFF: Pillow's raw mode selects which byte of each value is unpacked, so an image is decoded twice, once
per byte. Writing PNG (ISO/IEC 15948): Pillow writes the metadata of a 1x1 image, whose pixels are then replaced.
"""

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile

from jaxdeblur.images.png_chunks import PNG_SIGNATURE, png_chunk

ROWS_PER_BLOCK = 64  # encoded at once
# From raw mode to the one that unpacks the other byte; N is the machine's byte order.
_NATIVE, _OTHER = ("L", "B") if sys.byteorder == "little" else ("B", "L")
_LOW_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", _OTHER))
}


def stored_bits(image: Image.Image) -> int:
    """Return the bits per channel in an image's file, 8 or 16; 8 for a decoded image or one without a file."""
    tiles = getattr(image, "tile", None)
    return 16 if tiles and "16" in _raw_mode(tiles[0].args) else 8


def has_low_bytes(image: ImageFile.ImageFile) -> bool:
    """Return whether `decode_low_bytes` supports an image, which must not be decoded yet."""
    return bool(image.tile) and all(_raw_mode(tile.args) in _LOW_BYTE for tile in image.tile)


def decode_low_bytes(image: ImageFile.ImageFile) -> None:
    """Make an image that is not decoded yet decode the lower byte of each value instead of the upper one."""
    image.tile = [tile._replace(args=_low_byte_arguments(tile.args)) for tile in image.tile]


def _raw_mode(arguments: Any) -> str:
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _low_byte_arguments(arguments: Any) -> Any:
    low = _LOW_BYTE[_raw_mode(arguments)]
    return (low, *arguments[1:]) if isinstance(arguments, tuple) else low


def write_png16(file: BinaryIO, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write uint16 (H, W, 3 or 4) as PNG; `options` are arguments of Pillow's `save`."""
    height, width, channels = pixels.shape
    template = io.BytesIO()
    Image.new("RGB", (1, 1)).save(template, "PNG", **options)
    content, position = template.getvalue(), len(PNG_SIGNATURE)
    file.write(PNG_SIGNATURE)
    while position < len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == b"IHDR":
            colour_type = {3: 2, 4: 6}[channels]
            file.write(png_chunk(kind, struct.pack(">2I5B", width, height, 16, colour_type, 0, 0, 0)))
        elif kind == b"IDAT":
            for data in _compressed(_filtered(pixels)):
                file.write(png_chunk(kind, data))
        else:
            file.write(content[position : position + length + 12])
        position += length + 12


def _filtered(pixels: np.ndarray) -> Iterator[bytes]:
    """Yield blocks of rows with filter type 2 (Up): differences from the row above."""
    above = np.zeros((1, pixels.shape[1] * pixels.shape[2] * 2), np.uint8)
    for top in range(0, len(pixels), ROWS_PER_BLOCK):
        block = pixels[top : top + ROWS_PER_BLOCK].astype(">u2", order="C")
        rows = block.view(np.uint8).reshape(-1, above.shape[1])
        differences = rows - np.concatenate([above, rows[:-1]])
        yield np.concatenate([np.full((len(rows), 1), 2, np.uint8), differences], axis=1).tobytes()
        above = rows[-1:]


def _compressed(blocks: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj()
    for block in blocks:
        if data := compressor.compress(block):
            yield data
    yield compressor.flush()
