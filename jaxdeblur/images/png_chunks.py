"""PNG chunks (ISO/IEC 15948), and PNGs whose colour profile or text is larger than Pillow accepts.

Pillow refuses a whole file because of one profile or text of more than `PngImagePlugin.MAX_TEXT_CHUNK` bytes (1 MiB)
unpacked; other programs open it.
"""

import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import PngImagePlugin

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD = b"XML:com.adobe.xmp"
MAX_UNPACKED = 2**26  # bytes; larger ones are taken for decompression bombs


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Position of a chunk in its file: type, offset of the data and length of the data in bytes."""

    kind: bytes
    start: int
    length: int

    def read(self, file: BinaryIO) -> bytes:
        """Return the chunk's data."""
        file.seek(self.start)
        return file.read(self.length)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Encode a chunk: length, type, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def list_chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the chunks of a PNG in order, none for other formats. The file may be read in between."""
    file.seek(0)
    position = len(PNG_SIGNATURE)
    if file.read(position) != PNG_SIGNATURE:
        return
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        yield Chunk(kind, position + 8, length)
        position += length + 12
        file.seek(position)


def large_chunks(file: BinaryIO) -> list[Chunk]:
    """Return the profiles and texts for which Pillow would refuse a PNG; none for other formats."""
    large, text_bytes = [], 0
    for chunk in list_chunks(file):
        if chunk.kind != b"iCCP" and chunk.kind not in TEXT_CHUNKS:
            continue
        content = unpack_chunk(chunk.kind, chunk.read(file), PngImagePlugin.MAX_TEXT_CHUNK)
        is_text = chunk.kind in TEXT_CHUNKS
        if content is None or (is_text and text_bytes + len(content) > PngImagePlugin.MAX_TEXT_MEMORY):
            large.append(chunk)
        elif is_text:
            text_bytes += len(content)
    return large


def unpack_chunk(kind: bytes, data: bytes, limit: int) -> bytes | None:
    """Return the decompressed profile or text in a chunk's data; None if it exceeds `limit` bytes.

    Corrupt data give b"" or what precedes the error; Pillow decides whether to accept the file.
    """
    _, _, rest = data.partition(b"\0")
    compressed = kind in (b"iCCP", b"zTXt")
    if kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    elif compressed:
        rest = rest[1:]
    if not compressed:
        return rest if len(rest) <= limit else None
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(rest, limit)
    except zlib.error:
        return b""
    return None if decompressor.unconsumed_tail else content


def without_large_chunks(file: BinaryIO) -> BinaryIO:
    """Return the file, rewound; a PNG with chunks that Pillow refuses as a copy in memory without them."""
    if large := large_chunks(file):
        return _without_chunks(file, large)
    file.seek(0)
    return file


def _without_chunks(file: BinaryIO, chunks: list[Chunk]) -> io.BytesIO:
    copy, position = io.BytesIO(), 0
    for chunk in chunks:
        file.seek(position)
        copy.write(file.read(chunk.start - 8 - position))
        position = chunk.start + chunk.length + 4
    file.seek(position)
    copy.write(file.read())
    copy.seek(0)
    return copy
