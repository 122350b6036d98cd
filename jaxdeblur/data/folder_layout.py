"""Matches blurry and sharp image files below a folder by name.

Wherever a folder holds `blur` and `sharp`, at any depth, images match that lie in the same subfolder of both and have
the same name but for the suffix. A pair's sequence is the path to the folder that holds both, then the path below them;
its frame is the file name without suffix:

    <sequence>/blur/<frame>.png      <sequence>/sharp/<frame>.png      GOPRO_Large's layout
    blur/<sequence>/<frame>.png      sharp/<sequence>/<frame>.jpg      two folders, nested
    blur/<frame>.png                 sharp/<frame>.tif                 two folders, flat: <sequence> is their folder
"""

import dataclasses
import os
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

from jaxdeblur.data.pair_source import PairName
from jaxdeblur.files import printable
from jaxdeblur.images.decode import SUFFIXES

BLUR_VARIANTS = ("blur", "blur_gamma")

_Identities = frozenset[tuple[int, int]]  # (device, inode)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The image files below a folder.

    Attributes:
        blur: blurry images by name; exactly one each in a valid layout.
        sharp: sharp images by name, likewise.
        counterparts: by file, where its counterpart is expected.
        problems: a line for every invalid folder.
        reported: folders whose images need no line of their own.
        ignored: number of files by suffix that are not images.
    """

    blur: dict[PairName, list[Path]]
    sharp: dict[PairName, list[Path]]
    counterparts: dict[Path, Path]
    problems: list[str]
    reported: set[Path]
    ignored: Counter[str]


def read_layout(folder: Path, blur_variant: str) -> Layout:
    """List the files of all pairs below a folder, ignoring hidden ones (`.name`).

    Args:
        folder: one split of a data set.
        blur_variant: name of the folders with blurry images, one of BLUR_VARIANTS; the other variant is ignored.
    """
    layout = Layout(defaultdict(list), defaultdict(list), {}, [], set(), Counter())
    _visit(layout, folder, folder, blur_variant, frozenset())
    return layout


def _visit(layout: Layout, root: Path, folder: Path, blur_variant: str, ancestors: _Identities) -> None:
    """Search `folder` and its subfolders for folders that hold pairs."""
    folders, images, ancestors = _list(layout, folder, ancestors)
    if images:
        names = ", ".join(path.name for path in images[:3]) + (", ..." if len(images) > 3 else "")
        layout.problems.append(
            f"{folder}: {len(images)} image(s) outside the folders `{blur_variant}` and `sharp` ({names})"
        )
    if any(name in folders for name in (*BLUR_VARIANTS, "sharp")):
        absent = [f"`{name}`" for name in (blur_variant, "sharp") if name not in folders]
        if absent:
            layout.problems.append(f"{folder}: no folder {' or '.join(absent)} (found: {', '.join(folders)})")
            layout.reported.add(folder)  # not again for every image in it
        for kind, counterpart in ((blur_variant, "sharp"), ("sharp", blur_variant)):
            if kind in folders:
                _collect(layout, root, folder, (kind, counterpart), Path(), ancestors)
    for name, path in folders.items():
        if name not in (*BLUR_VARIANTS, "sharp"):
            _visit(layout, root, path, blur_variant, ancestors)


def _collect(
    layout: Layout, root: Path, holder: Path, kinds: tuple[str, str], below: Path, ancestors: _Identities
) -> None:
    """Add the images in `holder`/kind/`below` and its subfolders; `kinds` is (kind, counterpart)."""
    kind, counterpart = kinds
    folders, images, ancestors = _list(layout, holder / kind / below, ancestors)
    sequence = (holder.relative_to(root) / below).as_posix()
    if sequence == ".":
        sequence = os.path.basename(os.path.abspath(root))
    files = layout.sharp if kind == "sharp" else layout.blur
    for path in images:
        files[_normalized(sequence), _normalized(path.stem)].append(path)
        layout.counterparts[path] = holder / counterpart / below / f"{path.stem}.*"
    for name in folders:
        _collect(layout, root, holder, kinds, below / name, ancestors)


def _list(layout: Layout, folder: Path, ancestors: _Identities) -> tuple[dict[str, Path], list[Path], _Identities]:
    """Return a folder's subfolders by name, its images, and `ancestors` with the folder itself.

    `ancestors` detects symbolic links to a parent folder, which are not followed.
    """
    folders, images = {}, []
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        entries = [] if identity in ancestors else sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        layout.problems.append(f"{folder}: cannot be read ({error.strerror})")
        layout.reported.add(folder)
        return {}, [], ancestors
    for entry in entries:
        if entry.name.startswith("."):
            continue
        suffix = os.path.splitext(entry.name)[1].lower()
        if entry.is_dir():
            folders[entry.name] = folder / entry.name
        elif suffix in SUFFIXES:
            images.append(folder / entry.name)
        else:
            layout.ignored[suffix or "no suffix"] += 1
    return folders, images, ancestors | {identity}


def _normalized(name: str) -> str:
    # An accented letter is one character on some systems and two on others.
    return printable(unicodedata.normalize("NFC", name))
