"""PNG chunks (ISO/IEC 15948), and files whose colour profile or text is larger than Pillow accepts.

Pillow refuses a whole file for one profile or text of more than `PngImagePlugin.MAX_TEXT_CHUNK` bytes (1 MiB)
unpacked, which every other program opens.
"""

import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import PngImagePlugin

PNG_START = b"\x89PNG\r\n\x1a\n"
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD = b"XML:com.adobe.xmp"
MOST_UNPACKED = 2**26  # bytes; what unpacks to more is no photograph's


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Where a chunk lies in its file: its kind, where its data starts and the data's length in bytes."""

    kind: bytes
    start: int
    length: int

    def read(self, file: BinaryIO) -> bytes:
        """Return the chunk's data."""
        file.seek(self.start)
        return file.read(self.length)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk as a PNG holds it: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def list_chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yield the chunks of a PNG in order; nothing of another file. The file may be read between two of them."""
    file.seek(0)
    position = len(PNG_START)
    if file.read(position) != PNG_START:
        return
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        yield Chunk(kind, position + 8, length)
        position += length + 12
        file.seek(position)


def large_chunks(file: BinaryIO) -> list[Chunk]:
    """Return the profile and texts of a PNG that Pillow would refuse the file for; none of another file."""
    large, texts = [], 0
    for chunk in list_chunks(file):
        if chunk.kind != b"iCCP" and chunk.kind not in TEXT_CHUNKS:
            continue
        content = unpacked(chunk.kind, chunk.read(file), PngImagePlugin.MAX_TEXT_CHUNK)
        is_text = chunk.kind in TEXT_CHUNKS
        if content is None or (is_text and texts + len(content) > PngImagePlugin.MAX_TEXT_MEMORY):
            large.append(chunk)
        elif is_text:
            texts += len(content)
    return large


def unpacked(kind: bytes, data: bytes, most: int) -> bytes | None:
    """Return the profile or text in a chunk's data, decompressed; None if it has more than `most` bytes.

    Of damaged data it is what is left; Pillow decides what becomes of them.
    """
    _, _, rest = data.partition(b"\0")
    compressed = kind in (b"iCCP", b"zTXt")
    if kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    elif compressed:
        rest = rest[1:]
    if not compressed:
        return rest if len(rest) <= most else None
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(rest, most)
    except zlib.error:
        return b""
    return None if decompressor.unconsumed_tail else content


def readable(file: BinaryIO) -> BinaryIO:
    """Return the file, at its start, or a copy in memory without what would make Pillow refuse a good PNG."""
    if large := large_chunks(file):
        return _without_chunks(file, large)
    file.seek(0)
    return file


def _without_chunks(file: BinaryIO, chunks: list[Chunk]) -> io.BytesIO:
    """Return the file without some of its chunks."""
    kept, position = io.BytesIO(), 0
    for chunk in chunks:
        file.seek(position)
        kept.write(file.read(chunk.start - 8 - position))
        position = chunk.start + chunk.length + 4
    file.seek(position)
    kept.write(file.read())
    kept.seek(0)
    return kept
