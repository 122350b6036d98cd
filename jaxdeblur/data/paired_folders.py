"""Pairs of image files in folders: matched, scanned once, and read one by one.

Folder layouts are those of `folder_layout.py`, GOPRO_Large's among them (Nah, Kim, Lee, CVPR 2017, arXiv 1612.02177; CC
BY 4.0); image formats and their conversion to uint8 RGB (H, W, 3) are those of `images/decode.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxdeblur.console import say
from jaxdeblur.data.file_scan import FileScan, scan_files
from jaxdeblur.data.folder_layout import Layout, read_layout
from jaxdeblur.data.pair_source import WHOLE, KeepPair, NamedPair, PairName, Window, fingerprint
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.images.decode import SUFFIXES, read_image

TOO_SMALL = "smaller than the crop"
ReadImage = Callable[[Path], np.ndarray]


@dataclasses.dataclass(frozen=True)
class PairFiles:
    """The two files of a pair.

    Attributes:
        sequence: name of the sequence.
        frame: name within the sequence.
        blur: blurry image.
        sharp: sharp image.
        size: (H, W) of both.
        digests: SHA-256 of the blurry and the sharp file.
    """

    sequence: str
    frame: str
    blur: Path
    sharp: Path
    size: tuple[int, int]
    digests: tuple[str, str]


class FolderSource:
    """A `PairSource` of image files.

    Attributes:
        pairs: in order of sequence, then frame.
        names: (sequence, frame) of each pair.
        sizes: (H, W) of each pair.
        digests: SHA-256 of each pair's blurry and sharp file.
        skipped: (sequence, frame) of each pair left out.
    """

    def __init__(self, pairs: Sequence[PairFiles], skipped: Sequence[PairName] = (), read: ReadImage = read_image):
        self.pairs = list(pairs)
        self.names = [(pair.sequence, pair.frame) for pair in self.pairs]
        self.sizes = [pair.size for pair in self.pairs]
        self.digests = [pair.digests for pair in self.pairs]
        self.skipped: Sequence[PairName] = list(skipped)
        self._read = read

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> NamedPair:
        return self.read(index, WHOLE)

    def read(self, index: int, window: Window) -> NamedPair:
        """Return a pair cropped to a window of rows and columns.

        Raises:
            InputError: a file is gone or has changed since it was scanned.
        """
        pair = self.pairs[index]
        blur, sharp = self._read_checked(pair.blur, pair.size), self._read_checked(pair.sharp, pair.size)
        return NamedPair(blur=blur[window], sharp=sharp[window], sequence=pair.sequence, frame=pair.frame)

    def _read_checked(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        image = self._read(path)
        height, width = image.shape[:2]
        if (height, width) != size:
            raise InputError(
                f"{path}: {_pixels((height, width))} pixels, but {_pixels(size)} at the start. The file has changed: "
                "restart.",
                code="image-changed",
            )
        return image

    def select(self, keep: KeepPair) -> "FolderSource":
        """Return a source of the pairs, and the skipped ones, for whose (sequence, frame) `keep` is true."""
        pairs = [pair for pair in self.pairs if keep(pair.sequence, pair.frame)]
        return FolderSource(pairs, [name for name in self.skipped if keep(*name)], self._read)

    def with_reader(self, read: ReadImage) -> "FolderSource":
        """Return a source of the same pairs whose files are read by `read`."""
        return FolderSource(self.pairs, self.skipped, read)

    def fingerprint(self) -> str:
        """Return the `fingerprint` of the pairs."""
        return fingerprint(self.names, self.digests)


def open_folder(
    folder: Path,
    blur_variant: str,
    *,
    skip_invalid: bool,
    min_side: int = 0,
    keep: KeepPair | None = None,
) -> FolderSource:
    """Scan the pairs of one split and return them, sorted by sequence, then frame.

    Args:
        folder: in one of the layouts of `folder_layout.py`.
        blur_variant: 'blur' (linear) or 'blur_gamma'.
        skip_invalid: leave out invalid pairs, with a message, instead of refusing the folder.
        min_side: pairs with a smaller side, in pixels, are invalid.
        keep: whether a pair of this sequence and frame belongs to the source; other pairs are neither opened nor
            reported. None for all pairs.

    Raises:
        InputError: the folder is missing (code "no-data-folder"), holds no pairs ("no-pairs"), or pairs are unpaired,
            unreadable, too small, or differ in size or orientation ("invalid-pairs"); all at once.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder; expected one with image pairs in `{blur_variant}` and `sharp`.",
            code="no-data-folder",
        )
    layout = read_layout(folder, blur_variant)
    if keep:
        layout = _restrict(layout, keep)
    matched, problems = _match(layout)
    pairs, pair_problems = _scan_pairs(folder, matched, min_side)
    problems = sorted(layout.problems + problems + pair_problems)
    if layout.ignored:
        suffixes = ", ".join(sorted(layout.ignored))
        say(f"{folder}: ignored {layout.ignored.total()} file(s) without an image suffix ({suffixes}).")
    if problems and not (skip_invalid and pairs):
        message = _describe_refusal(folder, problems, min_side, any_valid=bool(pairs))
        raise InputError(message, code="invalid-pairs")
    if not pairs:
        raise InputError(_describe_empty(folder, blur_variant, layout), code="no-pairs")
    skipped = sorted((layout.blur.keys() | layout.sharp.keys()) - {(pair.sequence, pair.frame) for pair in pairs})
    if problems:
        heading = f"{folder}: data.skip_invalid leaves out {len(skipped)} invalid pair(s), {len(problems)} problem(s):"
        say(list_problems(heading, problems, f"{len(pairs)} valid pairs remain."))
    return FolderSource(pairs, skipped)


def _restrict(layout: Layout, keep: KeepPair) -> Layout:
    blur = {name: files for name, files in layout.blur.items() if keep(*name)}
    sharp = {name: files for name, files in layout.sharp.items() if keep(*name)}
    return dataclasses.replace(layout, blur=blur, sharp=sharp, problems=[], reported=set())


def _match(layout: Layout) -> tuple[dict[PairName, tuple[Path, Path]], list[str]]:
    """Return the (blurry, sharp) files of each pair in order, and a line for every unpaired or ambiguous file."""
    matched, problems = {}, []
    for name in sorted(layout.blur.keys() | layout.sharp.keys()):
        blur, sharp = layout.blur.get(name, []), layout.sharp.get(name, [])
        if len(blur) == len(sharp) == 1:
            matched[name] = (blur[0], sharp[0])
        for files, counterparts in ((blur, sharp), (sharp, blur)):
            if len(files) > 1:
                duplicates = ", ".join(str(path) for path in files[1:])
                problems.append(f"{files[0]}: has the same name as {duplicates}; keep one of them")
            elif files and not counterparts:
                expected = layout.counterparts[files[0]]
                if layout.reported.isdisjoint(expected.parents):
                    problems.append(f"{files[0]}: unpaired, {expected} is missing")
    return matched, problems


def _scan_pairs(
    folder: Path, matched: Mapping[PairName, tuple[Path, Path]], min_side: int
) -> tuple[list[PairFiles], list[str]]:
    """Return the valid pairs among matched files, and a line for every problem of the others."""
    scans = scan_files(folder, [path for files in matched.values() for path in files])
    pairs: list[PairFiles] = []
    problems: list[str] = []
    for (sequence, frame), (blur, sharp) in matched.items():
        pair_problems = _check_pair(blur, scans[blur], sharp, scans[sharp], min_side)
        problems += pair_problems
        if not pair_problems:
            digests = (scans[blur].sha256, scans[sharp].sha256)
            pairs.append(PairFiles(sequence, frame, blur, sharp, scans[blur].size, digests))
    return pairs, problems


def _check_pair(blur: Path, blur_scan: FileScan, sharp: Path, sharp_scan: FileScan, min_side: int) -> list[str]:
    """Return a line for every problem of a pair."""
    both = ((blur, blur_scan), (sharp, sharp_scan))
    if unreadable := [f"{path}: {scan.problem}" for path, scan in both if scan.problem]:
        return unreadable
    problems = []
    if blur_scan.orientation != sharp_scan.orientation:  # which of the two is right cannot be known here
        problems.append(
            f"{blur}: EXIF orientation {blur_scan.orientation}, but its counterpart {sharp} has "
            f"{sharp_scan.orientation}"
        )
    if blur_scan.size != sharp_scan.size:
        problems.append(
            f"{blur}: {_pixels(blur_scan.size)} pixels, but its counterpart {sharp} has {_pixels(sharp_scan.size)}"
        )
    if min(*blur_scan.size, *sharp_scan.size) < min_side:
        smaller = min(blur_scan.size, sharp_scan.size, key=min)
        problems.append(f"{blur}: {_pixels(smaller)} pixels, {TOO_SMALL} of {min_side}")
    return problems


def _describe_refusal(folder: Path, problems: list[str], min_side: int, *, any_valid: bool) -> str:
    too_small = [problem for problem in problems if TOO_SMALL in problem]
    if not any_valid and len(too_small) == len(problems):
        return f"{folder}: all {len(too_small)} pairs are {TOO_SMALL} of {min_side} pixels. Lower stages[i].crop."
    remedy = "Every blurry image needs a sharp one of the same name, size and orientation. Fix these files"
    remedy += ", or lower stages[i].crop" if too_small else ""
    remedy += ", or train without them: --config.data.skip_invalid=true." if any_valid else "; no valid pair remains."
    heading = f"{folder}: {len(problems)} problem(s) with the image pairs:"
    return list_problems(heading, problems, remedy, shown=None)


def _describe_empty(folder: Path, blur_variant: str, layout: Layout) -> str:
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    listed = ", ".join(names[:10]) or "nothing"
    ignored = ", ".join(f"{count} {suffix}" for suffix, count in sorted(layout.ignored.items()))
    return (
        f"{folder}: no pairs found; expected <sequence>/{blur_variant}/<frame> and <sequence>/sharp/<frame>, or "
        f"{blur_variant}/<frame> and sharp/<frame>, with one of the suffixes {', '.join(SUFFIXES)}. Found: {listed}"
        f"{f'; files without an image suffix: {ignored}' if ignored else ''}."
    )


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
