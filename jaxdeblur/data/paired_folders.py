"""Pairs of a blurred and a sharp photograph in folders: found, looked at once, and read one by one.

The layouts are those of `layout.py`, GOPRO_Large's among them (Nah, Kim, Lee, CVPR 2017, arXiv 1612.02177; CC BY 4.0);
formats and how they become uint8 RGB (H, W, 3) stand in `images.py`.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxdeblur.console import say
from jaxdeblur.data.file_scan import FileScan, scan_files
from jaxdeblur.data.folder_layout import Layout, read_layout
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.images.decode import SUFFIXES, read_image

SMALL = "smaller than the crop"
ReadImage = Callable[[Path], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pair:
    """Where one pair lies, what it is called, how large its images are, and the SHA-256 of its files."""

    sequence: str
    frame: str
    blur: Path
    sharp: Path
    size: tuple[int, int]  # (H, W)
    digests: tuple[str, str]  # of the blurred and of the sharp file


class FolderSource:
    """Random access to pairs: `source[i]` is a dict with uint8 `blur` and `sharp`, and `sequence` and `frame`.

    Attributes:
        pairs: in the order of their sequences, then frames.
        names: sequence and frame of each pair.
        sizes: (H, W) of each pair.
        digests: SHA-256 of each pair's blurred and sharp file.
        skipped: sequence and frame of each pair that was left out.
    """

    def __init__(self, pairs: Sequence[Pair], skipped: Sequence[tuple[str, str]] = (), read: ReadImage = read_image):
        self.pairs = list(pairs)
        self.names = [(pair.sequence, pair.frame) for pair in self.pairs]
        self.sizes = [pair.size for pair in self.pairs]
        self.digests = [pair.digests for pair in self.pairs]
        self.skipped = list(skipped)
        self._read = read

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        return self.read(index, np.s_[:, :])

    def read(self, index: int, window: tuple[slice, slice]) -> dict:
        """Return the same as `source[index]`, with the images cut to some rows and columns."""
        pair = self.pairs[index]
        images = {"blur": self._read(pair.blur), "sharp": self._read(pair.sharp)}
        for key, image in images.items():
            if image.shape[:2] != pair.size:
                found, expected = _pixels(image.shape[:2]), _pixels(pair.size)
                path = getattr(pair, key)
                raise InputError(f"{path}: {found} pixels, but {expected} at the start. It has changed: start again.")
        cut = {key: image[window] for key, image in images.items()}
        return {**cut, "sequence": pair.sequence, "frame": pair.frame}

    def select(self, keep: Callable[[str, str], bool]) -> "FolderSource":
        """Return a source of the pairs, also of those left out, for whose sequence and frame `keep` is true."""
        pairs = [pair for pair in self.pairs if keep(pair.sequence, pair.frame)]
        return FolderSource(pairs, [name for name in self.skipped if keep(*name)], self._read)

    def reading_by(self, read: ReadImage) -> "FolderSource":
        """Return a source of the same pairs whose files are read by `read`."""
        return FolderSource(self.pairs, self.skipped, read)

    def fingerprint(self) -> str:
        """Return the `fingerprint` of these pairs."""
        return fingerprint(self.names, self.digests)


def fingerprint(names: Sequence[tuple[str, str]], digests: Sequence[tuple[str, str]]) -> str:
    """Return a SHA-256 over pairs, the same wherever and however they are stored.

    Args:
        names: sequence and frame of each pair.
        digests: SHA-256 of its blurred and of its sharp image file.
    """
    digest = hashlib.sha256()
    for name, files in zip(names, digests, strict=True):
        digest.update(("/".join((*name, *files)) + "\n").encode())
    return digest.hexdigest()


def open_folder(
    folder: Path,
    blur: str,
    *,
    skip_bad: bool,
    least_side: int = 0,
    keep: Callable[[str, str], bool] | None = None,
) -> FolderSource:
    """Return the pairs of one split, sorted by sequence, then frame, after a look at every file (see `scan.py`).

    Args:
        folder: holds the pairs in one of the layouts of `layout.py`.
        blur: 'blur' (linear) or 'blur_gamma'; which of the two the blurred images come from.
        skip_bad: leave bad pairs out and say so, instead of refusing them.
        least_side: pairs are bad if a side has fewer pixels than this, the side of the crop.
        keep: whether a pair of this sequence and frame belongs to the source; files of others are not opened, and what
            is wrong with them is no problem. None: all belong to it.

    Raises:
        InputError: no such folder, no pairs, or pairs that are incomplete, unreadable, too small, or whose sizes or
            orientations differ; all at once.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; expected one with image pairs in `{blur}` and `sharp`.")
    layout = read_layout(folder, blur)
    if keep:
        layout = _restrict(layout, keep)
    matched, problems = _match(layout)
    scans = scan_files(folder, [path for files in matched.values() for path in files])
    pairs = []
    for (sequence, frame), (blurred, sharp) in matched.items():
        found = _check_pair(blurred, scans[blurred], sharp, scans[sharp], least_side)
        problems += found
        if not found:
            digests = (scans[blurred].sha256, scans[sharp].sha256)
            pairs.append(Pair(sequence, frame, blurred, sharp, scans[blurred].size, digests))
    problems = sorted(layout.problems + problems)
    if layout.ignored:
        suffixes = ", ".join(sorted(layout.ignored))
        say(f"{folder}: ignored {layout.ignored.total()} file(s) that are no images by their suffix ({suffixes}).")
    if problems and not (skip_bad and pairs):
        raise InputError(_refusal(folder, problems, least_side, any_good=bool(pairs)))
    if not pairs:
        raise InputError(_nothing_found(folder, blur, layout))
    skipped = sorted((layout.blur.keys() | layout.sharp.keys()) - {(pair.sequence, pair.frame) for pair in pairs})
    if problems:
        heading = f"{folder}: data.skip_bad leaves out {len(skipped)} bad pair(s), {len(problems)} problem(s):"
        say(list_problems(heading, problems, f"{len(pairs)} good pairs are left."))
    return FolderSource(pairs, skipped)


def _restrict(layout: Layout, keep: Callable[[str, str], bool]) -> Layout:
    parts = ({name: files for name, files in part.items() if keep(*name)} for part in (layout.blur, layout.sharp))
    blur, sharp = parts
    return dataclasses.replace(layout, blur=blur, sharp=sharp, problems=[], told=set())


def _match(layout: Layout) -> tuple[dict[tuple[str, str], tuple[Path, Path]], list[str]]:
    """Return the blurred and the sharp file of each pair in order, and a line for every file that has no one twin."""
    matched, problems = {}, []
    for name in sorted(layout.blur.keys() | layout.sharp.keys()):
        blurred, sharp = layout.blur.get(name, []), layout.sharp.get(name, [])
        if len(blurred) == len(sharp) == 1:
            matched[name] = (blurred[0], sharp[0])
        for files, twins in ((blurred, sharp), (sharp, blurred)):
            if len(files) > 1:
                others = ", ".join(str(path) for path in files[1:])
                problems.append(f"{files[0]}: has the same name as {others}; keep one of them")
            elif files and not twins and layout.told.isdisjoint(layout.twins[files[0]].parents):
                problems.append(f"{files[0]}: its twin {layout.twins[files[0]]} is missing")
    return matched, problems


def _check_pair(blurred: Path, blur_scan: FileScan, sharp: Path, sharp_scan: FileScan, least_side: int) -> list[str]:
    """Return a line for everything that is wrong with a pair."""
    both = ((blurred, blur_scan), (sharp, sharp_scan))
    if unreadable := [f"{path}: {scan.problem}" for path, scan in both if scan.problem]:
        return unreadable
    problems = []
    if blur_scan.orientation != sharp_scan.orientation:
        # Which of the two is right, nobody can tell from here.
        found, expected = blur_scan.orientation, sharp_scan.orientation
        problems.append(f"{blurred}: EXIF orientation {found}, but its twin {sharp} has {expected}")
    if blur_scan.size != sharp_scan.size:
        found, expected = _pixels(blur_scan.size), _pixels(sharp_scan.size)
        problems.append(f"{blurred}: {found} pixels, but its twin {sharp} has {expected}")
    if min(*blur_scan.size, *sharp_scan.size) < least_side:
        smaller = min(blur_scan.size, sharp_scan.size, key=min)
        problems.append(f"{blurred}: {_pixels(smaller)} pixels, {SMALL} of {least_side}")
    return problems


def _refusal(folder: Path, problems: list[str], least_side: int, *, any_good: bool) -> str:
    small = [problem for problem in problems if SMALL in problem]
    if not any_good and len(small) == len(problems):
        return f"{folder}: all {len(small)} pairs are {SMALL} of {least_side} pixels. Lower stages[i].crop."
    remedy = "Every blurred image needs a sharp one of the same name, size and orientation. Mend these files"
    remedy += ", or lower stages[i].crop" if small else ""
    remedy += ", or train without them: --config.data.skip_bad=true." if any_good else "; no good pair is left."
    heading = f"{folder}: {len(problems)} problem(s) with the image pairs:"
    return list_problems(heading, problems, remedy, shown=None)


def _nothing_found(folder: Path, blur: str, layout: Layout) -> str:
    found = ", ".join(sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))[:10]) or "nothing"
    others = ", ".join(f"{count} {suffix}" for suffix, count in sorted(layout.ignored.items()))
    return (
        f"{folder}: no pairs found; expected <sequence>/{blur}/<frame> and <sequence>/sharp/<frame>, or {blur}/<frame> "
        f"and sharp/<frame>, with one of the suffixes {', '.join(SUFFIXES)}. Found: {found}"
        f"{f'; files that are no images: {others}' if others else ''}."
    )


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
