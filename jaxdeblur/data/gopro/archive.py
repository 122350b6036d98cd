"""GOPRO_Large as published: the zip, read in place, or the folder that it unpacks to.

Files are `{train,test}/<sequence>/{blur,blur_gamma,sharp}/<frame>.png`, below any number of other folders.
"""

import dataclasses
import hashlib
import os
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxdeblur.errors import InputError, list_problems

SEQUENCES = {
    "train": (
        *("GOPR0372_07_00", "GOPR0372_07_01", "GOPR0374_11_00", "GOPR0374_11_01", "GOPR0374_11_02", "GOPR0374_11_03"),
        *("GOPR0378_13_00", "GOPR0379_11_00", "GOPR0380_11_00", "GOPR0384_11_01", "GOPR0384_11_02", "GOPR0384_11_03"),
        *("GOPR0384_11_04", "GOPR0385_11_00", "GOPR0386_11_00", "GOPR0477_11_00", "GOPR0857_11_00", "GOPR0868_11_01"),
        *("GOPR0868_11_02", "GOPR0871_11_01", "GOPR0881_11_00", "GOPR0884_11_00"),
    ),
    "test": (
        *("GOPR0384_11_00", "GOPR0384_11_05", "GOPR0385_11_01", "GOPR0396_11_00", "GOPR0410_11_00", "GOPR0854_11_00"),
        *("GOPR0862_11_00", "GOPR0868_11_00", "GOPR0869_11_00", "GOPR0871_11_00", "GOPR0881_11_01"),
    ),
}
NUM_PAIRS = {"train": 2103, "test": 1111}
MEMBER = re.compile(r"(?:^|/)(train|test)/([^/]+)/(blur|blur_gamma|sharp)/([^/.][^/]*)\.png$", re.IGNORECASE)

# From (split, sequence) to {variant: {frame: file name}}.
Listing = dict[tuple[str, str], dict[str, dict[str, str]]]


@dataclasses.dataclass(frozen=True)
class ArchivePair:
    """The name of a pair and of its two files inside the archive."""

    sequence: str
    frame: str
    blur: str
    sharp: str


class Archive:
    """The files of a zip or a folder, by name.

    Attributes:
        source: zip or folder.
        sizes: size in bytes by file name.

    Raises:
        InputError: the source is missing (code "archive-missing"), or a truncated zip ("archive-corrupt").
    """

    def __init__(self, source: Path):
        self.source = source
        self._zip = None
        if source.is_dir():
            self.sizes = _list_folder(source)
            return
        if not source.is_file():
            raise InputError(
                f"{source}: no such file or folder; expected GOPRO_Large.zip or the folder of its files.",
                code="archive-missing",
            )
        try:
            self._zip = zipfile.ZipFile(source)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{source}: cannot be read as a zip ({error}); {source.stat().st_size:,} bytes. It may be truncated: "
                "compare its size with that on the download page, and download it again.",
                code="archive-corrupt",
            ) from error
        self.sizes = {entry.filename: entry.file_size for entry in self._zip.infolist() if not entry.is_dir()}

    def read(self, name: str) -> bytes:
        """Return the content of a file; thread-safe.

        Raises:
            InputError: it is corrupt (code "archive-file-corrupt"); the message leaves out the name.
        """
        try:
            return self._zip.read(name) if self._zip else (self.source / name).read_bytes()
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"cannot be read ({error})", code="archive-file-corrupt") from error


def _list_folder(folder: Path) -> dict[str, int]:
    """Return the sizes of all files below a folder by name; follows links, visits each folder once."""
    sizes: dict[str, int] = {}
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders.sort()
        paths = [Path(parent) / name for name in files]
        sizes |= {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths if path.is_file()}
    return sizes


def plan_pairs(archive: Archive, blur: str, *, partial: bool) -> tuple[dict[str, list[ArchivePair]], list[str]]:
    """Return the pairs of each split in official order, sorted by sequence, then frame, and what is missing.

    Args:
        archive: files.
        blur: 'blur' or 'blur_gamma'.
        partial: accept a part of the data set. Frames must still be paired.

    Returns:
        The pairs by split, and a line for everything that is missing from the whole data set.

    Raises:
        InputError: lists all problems; without `partial`, also what is missing (code "archive-incomplete").
    """
    listing, problems = _list_images(archive)
    pairs: dict[str, list[ArchivePair]] = {split: [] for split in SEQUENCES}
    missing: list[str] = []
    for (split, sequence), variants in sorted(listing.items()):
        absent = [name for name in (blur, "sharp") if not variants[name]]
        if absent:
            present = ", ".join(sorted(name for name in variants if variants[name]))
            missing.append(f"{split}/{sequence}: no {' and no '.join(absent)} (found: {present})")
            continue
        matched, unpaired = _match(split, sequence, variants, blur)
        pairs[split] += matched
        problems += unpaired
    for split in SEQUENCES:
        missing += _missing(split, listing, pairs[split])
    empty = [split for split, matched in pairs.items() if not matched]
    if empty and (partial or not listing):
        expected = f"{{train,test}}/<sequence>/{{{blur},sharp}}/<frame>.png"
        names = sorted(archive.sizes)
        listed = ", ".join(names[:3]) + (f", ... ({len(names)} files)" if len(names) > 3 else "")
        problems.append(f"no pairs in {' and '.join(empty)}: expected {expected}; found {listed or 'nothing'}")
    if problems or (missing and not partial):
        problems += [] if partial else missing
        remedy = "Use the complete archive of the data set's authors" + (
            "." if partial else ", or pass --partial (partial=True) to prepare the files present."
        )
        heading = f"{archive.source}: {len(problems)} problem(s):"
        raise InputError(list_problems(heading, problems, remedy, shown=None), code="archive-incomplete")
    return pairs, missing


def _list_images(archive: Archive) -> tuple[Listing, list[str]]:
    listing: Listing = defaultdict(lambda: {"blur": {}, "blur_gamma": {}, "sharp": {}})
    problems = []
    for name in archive.sizes:
        # Some Windows programs write backslashes into zips.
        if name.startswith("__MACOSX/") or not (match := MEMBER.search(name.replace("\\", "/"))):
            continue
        split, sequence, variant, frame = match.groups()
        files = listing[split.lower(), sequence][variant.lower()]
        if frame in files:
            problems.append(f"{name}: the same frame as {files[frame]}")
        files[frame] = name
    return listing, problems


def _match(split: str, sequence: str, variants: dict[str, dict], blur: str) -> tuple[list[ArchivePair], list[str]]:
    """Return the pairs of a sequence, and a line for every unpaired file."""
    blurry, sharp = variants[blur], variants["sharp"]
    unpaired = [
        f"{split}/{sequence}: {blur}/{frame}.png is unpaired, none in sharp/" for frame in blurry.keys() - sharp
    ]
    unpaired += [
        f"{split}/{sequence}: sharp/{frame}.png is unpaired, none in {blur}/" for frame in sharp.keys() - blurry
    ]
    frames = sorted(blurry.keys() & sharp.keys())
    return [ArchivePair(sequence, frame, blurry[frame], sharp[frame]) for frame in frames], sorted(unpaired)


def _missing(split: str, listing: Listing, pairs: list[ArchivePair]) -> list[str]:
    """Return a line for every difference between a split and that of the whole data set."""
    present = {sequence for listed_split, sequence in listing if listed_split == split}
    lines = []
    if absent := [name for name in SEQUENCES[split] if name not in present]:
        lines.append(f"{split}: {len(absent)} of {len(SEQUENCES[split])} sequences missing: {', '.join(absent)}")
    if unknown := sorted(present - {*SEQUENCES[split]}):
        lines.append(f"{split}: sequences not in GOPRO_Large: {', '.join(unknown)}")
    if len(pairs) != NUM_PAIRS[split]:
        lines.append(f"{split}: {len(pairs):,} pairs, expected {NUM_PAIRS[split]:,}")
        frames: dict[str, list[str]] = defaultdict(list)
        for pair in pairs:
            frames[pair.sequence].append(pair.frame)
        lines += [line for sequence, names in frames.items() for line in _gaps(f"{split}/{sequence}", names)]
    return lines


def _gaps(sequence: str, frames: list[str]) -> list[str]:
    """Return a line if a sequence's frame numbers, consecutive in GOPRO_Large, have gaps."""
    numbers = [int(frame) for frame in frames if frame.isdigit()]
    lost = sorted({*range(min(numbers, default=0), max(numbers, default=0))} - {*numbers})
    listed = ", ".join(f"{number:06d}" for number in lost[:3]) + (" ..." if len(lost) > 3 else "")
    return [f"{sequence}: {len(lost)} frame(s) missing in between: {listed}"] if lost else []


def listing_sha256(archive: Archive, pairs: Mapping[str, Sequence[ArchivePair]]) -> str:
    """Return the SHA-256 of the names and sizes of the files of pairs, which are given by split."""
    digest = hashlib.sha256()
    for split, split_pairs in pairs.items():
        for pair in split_pairs:
            sizes = f"{archive.sizes[pair.blur]}/{archive.sizes[pair.sharp]}"
            digest.update(f"{split}/{pair.sequence}/{pair.frame}/{sizes}\n".encode())
    return digest.hexdigest()
