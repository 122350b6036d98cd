"""Detects camera raw files by content: most are TIFFs whose first image is a small preview.

Formats: TIFF 6.0, BigTIFF, DNG 1.7 and TIFF/EP (ISO 12234-2), from which most makers' formats derive.
"""

import struct
from collections.abc import Iterator
from typing import IO

RAW_SUFFIXES = (  # compared in lower case
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos"),
    *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
_SIGNATURES = (  # (offset, bytes, name) of formats that are not TIFF
    (0, b"FUJIFILMCCD-RAW", "Fujifilm RAF"),
    (4, b"ftypcrx ", "Canon CR3"),
    (6, b"HEAPCCDR", "Canon CRW"),
    (0, b"IIU\0", "Panasonic RW2"),
    (0, b"IIRO", "Olympus ORF"),
    (0, b"IIRS", "Olympus ORF"),
    (0, b"MMOR", "Olympus ORF"),
    (0, b"FOVb", "Sigma X3F"),
    (0, b"\0MRM", "Minolta MRW"),
)
_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 254, 262, 330, 50706
_SENSOR_DATA = {32803, 34892}  # photometric interpretations: colour filter array, linear raw
_MAX_DIRECTORIES, _MAX_ENTRIES, _MAX_VALUES = 64, 4096, 64  # beyond these, a file is not a photo's
_INTEGER_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # struct formats by TIFF type

Tags = dict[int, tuple[int, ...]]


def raw_kind(file: IO[bytes]) -> str:
    """Return the name of the raw format of a file; "" if it is not a raw file.

    A TIFF whose first image is marked as a reduced-resolution version of another counts as raw: as a photo, it would
    be restored at the size of the preview.
    """
    file.seek(0)
    start = file.read(16)
    for offset, signature, name in _SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return name
    if start[:4] in (b"II*\0", b"MM\0*") and start[8:10] == b"CR":
        return "Canon CR2"
    for index, tags in enumerate(_directories(file)):
        if _DNG_VERSION in tags:
            return "DNG"
        if _SENSOR_DATA & set(tags.get(_PHOTOMETRIC, ())):
            return "TIFF with sensor data"
        if not index and tags.get(_SUBFILE_TYPE, (0,))[0] & 1:
            return "TIFF whose first image is a reduced-resolution preview"
    return ""


def _directories(file: IO[bytes]) -> Iterator[Tags]:
    """Yield the relevant tags of every directory and subdirectory of a TIFF; nothing for other formats."""
    file.seek(0)
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
    version = struct.unpack_from(f"{order}H", start, 2)[0] if order and len(start) >= 8 else 0
    if version == 42:
        pending = [*struct.unpack_from(f"{order}I", start, 4)]
    elif version == 43 and len(start) == 16:
        pending = [*struct.unpack_from(f"{order}Q", start, 8)]
    else:
        return
    visited: set[int] = set()
    while pending and len(visited) < _MAX_DIRECTORIES:
        offset = pending.pop(0)
        if not offset or offset in visited:
            continue
        visited.add(offset)
        try:
            tags, next_offset = _read_directory(file, offset, order, big=version == 43)
        except (struct.error, OSError, OverflowError):  # a truncated file, which its decoder reports
            continue
        pending += [next_offset, *tags.get(_SUB_IFDS, ())]
        yield tags


def _read_directory(file: IO[bytes], offset: int, order: str, *, big: bool) -> tuple[Tags, int]:
    """Return the relevant tags of a directory and the offset of the next one (0: none)."""
    count_format, entry_format, offset_format = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    file.seek(offset)
    number = _unpack(file, order + count_format)[0]
    entries = [_unpack(file, order + entry_format) for _ in range(min(number, _MAX_ENTRIES))]
    next_offset = _unpack(file, order + offset_format)[0] if number <= _MAX_ENTRIES else 0
    tags: Tags = {}
    for tag, kind, count, value in entries:
        if tag not in (_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION) or not 0 < count <= _MAX_VALUES:
            continue
        if kind not in _INTEGER_FORMATS:
            continue
        value_format = f"{order}{count}{_INTEGER_FORMATS[kind]}"
        if struct.calcsize(value_format) > len(value):  # `value` is an offset
            file.seek(struct.unpack(order + offset_format, value)[0])
            tags[tag] = _unpack(file, value_format)
        else:
            tags[tag] = struct.unpack_from(value_format, value)
    return tags, next_offset


def _unpack(file: IO[bytes], layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
