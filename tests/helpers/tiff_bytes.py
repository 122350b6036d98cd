"""TIFF files and EXIF by hand (TIFF 6.0, BigTIFF), with whatever tags a test needs."""

import struct

import numpy as np

Entry = tuple[int, int, bytes]  # tag, type, and data of all values
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 13: 4, 99: 1}  # bytes of one value of a type
SHORT, LONG = 3, 4


def short(*values: int) -> bytes:
    """Return the data of values of the type SHORT."""
    return struct.pack(f"<{len(values)}H", *values)


def long(*values: int) -> bytes:
    """Return the data of values of the type LONG."""
    return struct.pack(f"<{len(values)}I", *values)


def directory(entries: list[Entry], start: int, following: int = 0) -> bytes:
    """Return a directory that lies at `start`, and the data that its entries point to."""
    body, table, end = b"", struct.pack("<H", len(entries)), start + 2 + 12 * len(entries) + 4
    for tag, kind, data in sorted(entries):
        value = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", end + len(body))
        body += data if len(data) > 4 else b""
        table += struct.pack("<HHI", tag, kind, len(data) // SIZES[kind]) + value
    return table + struct.pack("<I", following) + body


def exif(entries: list[Entry]) -> bytes:
    """Return an EXIF block."""
    return b"Exif\0\0II*\0" + long(8) + directory(entries, 8)


def storage(pixels: np.ndarray, photometric: int) -> list[Entry]:
    """Return the tags of an uncompressed image (H, W, C) of uint8 but for where its pixels lie."""
    height, width, channels = pixels.shape
    return [
        (256, SHORT, short(width)),
        (257, SHORT, short(height)),
        (258, SHORT, short(*[8] * channels)),
        (259, SHORT, short(1)),
        (262, SHORT, short(photometric)),
        (277, SHORT, short(channels)),
        (278, SHORT, short(height)),
        (279, LONG, long(pixels.size)),
    ]


def tiff(pixels: np.ndarray, entries: list[Entry], *, photometric: int = 2, below: list[Entry] | None = None) -> bytes:
    """Return a TIFF of uint8 (H, W, C) with more tags, and, in `below`, the tags of an image that SubIFDs points to."""
    entries = [*storage(pixels, photometric), *entries, (273, LONG, long(0))]
    if below is not None:
        entries.append((330, LONG, long(0)))
    length = 8 + len(directory(entries, 8))
    entries = [entry for entry in entries if entry[0] not in (273, 330)]
    entries.append((273, LONG, long(length)))
    sub = b""
    if below is not None:
        entries.append((330, LONG, long(length + pixels.size)))
        sub = directory(below, length + pixels.size)
    return b"II*\0" + long(8) + directory(entries, 8) + pixels.tobytes() + sub
