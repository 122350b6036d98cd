"""Cameras' raw files, told by their content: most are TIFFs whose first image is a small preview.

Formats: TIFF 6.0, BigTIFF, DNG 1.7 and TIFF/EP (ISO 12234-2), from which most makers' formats derive.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

# In lower case.
RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".kdc", ".mef", ".mos"),
    *(".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
)
# Formats that are not TIFF: where they are told, by which bytes, and what they are called.
_STARTS = (
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
_SENSOR_DATA = {32803, 34892}  # colour filter array, and linear raw
_MOST_DIRECTORIES, _MOST_ENTRIES = 64, 4096
_TYPE_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # of the whole numbers among TIFF's types


def raw_kind(file: BinaryIO) -> str:
    """Return what kind of raw file this is, in words; nothing for any other file.

    A TIFF whose first image says that it is a reduced version of another counts as one: as a photograph it would be
    restored at a preview's size.
    """
    file.seek(0)
    start = file.read(16)
    for offset, mark, name in _STARTS:
        if start[offset : offset + len(mark)] == mark:
            return name
    if start[:4] in (b"II*\0", b"MM\0*") and start[8:10] == b"CR":
        return "Canon CR2"
    first = True
    for tags in _directories(file):
        if _DNG_VERSION in tags:
            return "DNG"
        if _SENSOR_DATA & set(tags.get(_PHOTOMETRIC, ())):
            return "TIFF with sensor data"
        if first and tags.get(_SUBFILE_TYPE, (0,))[0] & 1:
            return "TIFF whose first image is a reduced-resolution preview"
        first = False
    return ""


def _directories(file: BinaryIO) -> Iterator[dict[int, tuple[int, ...]]]:
    """Yield those tags that matter here, of all directories of a TIFF and of those below them; none of other files."""
    file.seek(0)
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = struct.unpack_from(f"{order}H", start, 2)[0] if order and len(start) >= 8 else 0
    if version == 42:
        pending = [*struct.unpack_from(f"{order}I", start, 4)]
    elif version == 43 and len(start) == 16:
        pending = [*struct.unpack_from(f"{order}Q", start, 8)]
    else:
        return
    seen = set()
    while pending and len(seen) < _MOST_DIRECTORIES:
        offset = pending.pop(0)
        if not offset or offset in seen:
            continue
        seen.add(offset)
        try:
            tags, following = _read_directory(file, offset, order, big=version == 43)
        except (struct.error, OSError, OverflowError):  # a file cut short; whoever decodes it says so
            continue
        pending += [following, *tags.get(_SUB_IFDS, ())]
        yield tags


def _read_directory(file: BinaryIO, offset: int, order: str, *, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the tags that matter of one directory, and where the next one is."""
    count_format, entry_format, offset_format = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    file.seek(offset)
    number = _unpack(file, order + count_format)[0]
    entries = [_unpack(file, order + entry_format) for _ in range(min(number, _MOST_ENTRIES))]
    following = _unpack(file, order + offset_format)[0] if number <= _MOST_ENTRIES else 0
    tags = {}
    for tag, kind, count, value in entries:
        if tag not in (_SUBFILE_TYPE, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION) or not 0 < count <= _MOST_DIRECTORIES:
            continue
        if kind not in _TYPE_FORMATS:
            continue
        value_format = f"{order}{count}{_TYPE_FORMATS[kind]}"
        if struct.calcsize(value_format) > len(value):
            file.seek(struct.unpack(order + offset_format, value)[0])
            tags[tag] = _unpack(file, value_format)
        else:
            tags[tag] = struct.unpack_from(value_format, value)
    return tags, following


def _unpack(file: BinaryIO, layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
