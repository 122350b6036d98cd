"""Which image belongs to which: finds the files of all pairs below a folder, by name alone.

Wherever a folder holds `blur` and `sharp`, at any depth, an image in the one is the twin of the image in the other that
lies in the same subfolder and has the same name but for the suffix. A pair's sequence is the path to the folder that
holds both, then the path below them, and its frame is the file's name without suffix:

    <sequence>/blur/<frame>.png      <sequence>/sharp/<frame>.png      GOPRO_Large's layout
    blur/<sequence>/<frame>.png      sharp/<sequence>/<frame>.jpg      two folders, nested
    blur/<frame>.png                 sharp/<frame>.tif                 two folders, flat: <sequence> is their folder
"""

import dataclasses
import os
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

from jaxdeblur.files import printable
from jaxdeblur.images.decode import SUFFIXES

BLUR_VARIANTS = ("blur", "blur_gamma")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files below a folder.

    Attributes:
        blur: by (sequence, frame), the blurred images of that name: one, if all is well.
        sharp: the same of the sharp ones.
        twins: by file, where its twin is expected.
        problems: a line for every folder that is wrong.
        told: those folders whose images need no line of their own.
        ignored: how many files with which suffixes were passed over for being no images.
    """

    blur: dict[tuple[str, str], list[Path]]
    sharp: dict[tuple[str, str], list[Path]]
    twins: dict[Path, Path]
    problems: list[str]
    told: set[Path]
    ignored: Counter[str]


def read_layout(folder: Path, blur: str) -> Layout:
    """Return the files of all pairs below a folder; hidden ones (`.name`) do not count.

    Args:
        folder: one split of a data set.
        blur: name of the folders with blurred images, one of BLUR_VARIANTS; images of the other are left alone.
    """
    layout = Layout(defaultdict(list), defaultdict(list), {}, [], set(), Counter())
    _visit(layout, folder, folder, blur, frozenset())
    return layout


def _visit(layout: Layout, root: Path, folder: Path, blur: str, above: frozenset) -> None:
    """Find pairs of folders from `folder` downwards."""
    folders, images, above = _list(layout, folder, above)
    if images:
        names = ", ".join(path.name for path in images[:3]) + (", ..." if len(images) > 3 else "")
        layout.problems.append(f"{folder}: {len(images)} image(s) in no folder `{blur}` or `sharp` ({names})")
    if any(name in folders for name in (*BLUR_VARIANTS, "sharp")):
        absent = [f"`{name}`" for name in (blur, "sharp") if name not in folders]
        if absent:
            layout.problems.append(f"{folder}: no folder {' or '.join(absent)} (found: {', '.join(folders)})")
            layout.told.add(folder)  # once is enough: not for every image in it
        for kinds in ((blur, "sharp"), ("sharp", blur)):
            if kinds[0] in folders:
                _collect(layout, root, folder, kinds, Path(), above)
    for name, path in folders.items():
        if name not in (*BLUR_VARIANTS, "sharp"):
            _visit(layout, root, path, blur, above)


def _collect(layout: Layout, root: Path, holder: Path, kinds: tuple[str, str], below: Path, above: frozenset) -> None:
    """Take in all images in the folder `below` of the first of two kinds; the other kind is where the twins are."""
    kind, twin = kinds
    folders, images, above = _list(layout, holder / kind / below, above)
    sequence = (holder.relative_to(root) / below).as_posix()
    if sequence == ".":
        sequence = os.path.basename(os.path.abspath(root))
    files = layout.sharp if kind == "sharp" else layout.blur
    for path in images:
        files[_plain(sequence), _plain(path.stem)].append(path)
        layout.twins[path] = holder / twin / below / f"{path.stem}.*"
    for name in folders:
        _collect(layout, root, holder, kinds, below / name, above)


def _list(layout: Layout, folder: Path, above: frozenset) -> tuple[dict[str, Path], list[Path], frozenset]:
    """Return a folder's subfolders by name, its images, and `above` with the folder's own identity added.

    `above` holds the identities of all folders on the way here: a link back to one of them leads nowhere new.
    """
    folders, images = {}, []
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        entries = [] if identity in above else sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        layout.problems.append(f"{folder}: cannot be read ({error.strerror})")
        layout.told.add(folder)
        return {}, [], above
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
    return folders, images, above | {identity}


def _plain(name: str) -> str:
    # Some systems spell an accented letter as one character, some as two: both are one name.
    return printable(unicodedata.normalize("NFC", name))
