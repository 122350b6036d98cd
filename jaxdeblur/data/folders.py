"""Pairs of images in GOPRO_Large's folder layout: `{train,test}/<sequence>/{blur,blur_gamma,sharp}/<frame>.png`.

GOPRO_Large: Nah, Kim, Lee, CVPR 2017 (arXiv 1612.02177), released under CC BY 4.0. Images are uint8 RGB, (H, W, 3).
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxdeblur.errors import InputError, list_problems

BLUR_VARIANTS = ("blur", "blur_gamma")
SUFFIX = ".png"


@dataclasses.dataclass(frozen=True)
class Pair:
    """Where one pair lies, what it is called and how large its images are."""

    sequence: str
    frame: str
    blur: Path
    sharp: Path
    size: tuple[int, int]  # (H, W)


class FolderSource:
    """Random access to pairs: `source[i]` is a dict with uint8 `blur` and `sharp`, and `sequence` and `frame`."""

    def __init__(self, pairs: Sequence[Pair]):
        self.pairs = list(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        pair = self.pairs[index]
        return {
            "blur": read_image(pair.blur),
            "sharp": read_image(pair.sharp),
            "sequence": pair.sequence,
            "frame": pair.frame,
        }

    def fingerprint(self) -> str:
        """Return a SHA-256 over the pairs' names and file sizes: the same data anywhere has the same one."""
        digest = hashlib.sha256()
        # Sizes in bytes stand for the content: reading 18 GB at every start would take minutes.
        for pair in self.pairs:
            sizes = f"{pair.blur.stat().st_size}/{pair.sharp.stat().st_size}"
            digest.update(f"{pair.sequence}/{pair.blur.parent.name}/{pair.frame}/{sizes}\n".encode())
        return digest.hexdigest()


def read_image(path: Path) -> np.ndarray:
    """Return an image file as uint8 RGB (H, W, 3).

    Raises:
        InputError: the file is missing, no image, cut short or damaged.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for damaged files
        raise InputError(
            f"{path}: cannot be read as an image ({error}). Put a good copy of the same file in its place."
        ) from error


def find_pairs(root: Path, split: str, blur: str) -> list[Pair]:
    """Return all pairs of a split in official order (sorted by sequence, then frame), after a look at every file.

    The look reads headers and file endings, not pixels, so it takes seconds for all of GOPRO_Large.

    Args:
        root: folder with `train` and `test`.
        split: 'train' or 'test'.
        blur: 'blur' (linear) or 'blur_gamma'; which of the two the blurred images come from.

    Raises:
        InputError: no such folder, no pairs, or pairs that are incomplete, unreadable or of two sizes; all at once.
    """
    folder = _split_folder(root, split)
    pairs, problems = [], []
    for sequence in sorted(path for path in folder.iterdir() if path.is_dir()):
        found, missing = _match_frames(sequence, blur)
        pairs += found
        problems += missing
    with ThreadPoolExecutor() as pool:
        sizes = list(pool.map(_check_pair, pairs))
    problems += [size for size in sizes if isinstance(size, str)]
    if problems:
        remedy = "Every blurred frame needs a sharp one of its name and size: restore the files or remove both twins."
        raise InputError(list_problems(f"{folder}: {len(problems)} problem(s) with the image pairs:", problems, remedy))
    if not pairs:
        raise InputError(
            f"{folder}: no pairs found; expected <sequence>/{blur}/<frame>{SUFFIX} and <sequence>/sharp/..."
        )
    return [dataclasses.replace(pair, size=size) for pair, size in zip(pairs, sizes, strict=True)]


def hold_out(pairs: Sequence[Pair], sequences: Sequence[str]) -> tuple[list[Pair], list[Pair]]:
    """Split training pairs into (training, validation) by whole sequences, so that no scene is in both.

    Raises:
        InputError: a sequence is not there, or nothing is left on one side.
    """
    present = sorted({pair.sequence for pair in pairs})
    missing = [name for name in sequences if name not in present]
    remedy = "Set data.validation_sequences to some of the sequences in train/, but not all."
    if missing or not sequences:
        found = f"found {', '.join(present)}"
        raise InputError(f"data.validation_sequences: {', '.join(missing) or 'empty'}; {found} in train/. {remedy}")
    training = [pair for pair in pairs if pair.sequence not in sequences]
    if not training:
        raise InputError(f"data.validation_sequences: all sequences of train/ are held out. {remedy}")
    return training, [pair for pair in pairs if pair.sequence in sequences]


def _split_folder(root: Path, split: str) -> Path:
    layout = "the folder that holds GOPRO_Large's `train` and `test`"
    if not root.is_dir():
        raise InputError(f"data.root: {root} is no folder; expected {layout}. Pass --config.data.root=PATH.")
    folder = root / split
    if not folder.is_dir():
        found = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
        raise InputError(f"data.root: {root} has no folder `{split}` (found: {found}); expected {layout}.")
    return folder


def _match_frames(sequence: Path, blur: str) -> tuple[list[Pair], list[str]]:
    """Return the sequence's pairs by frame name, and a line for every file without its twin."""
    folders = {name: sequence / name for name in (blur, "sharp")}
    absent = [name for name, folder in folders.items() if not folder.is_dir()]
    if absent:
        found = ", ".join(sorted(path.name for path in sequence.iterdir() if path.is_dir())) or "no folders"
        return [], [f"{sequence}: no folder {' or '.join(f'`{name}`' for name in absent)} (found: {found})"]
    files = {name: {p.stem: p for p in folder.glob(f"*{SUFFIX}")} for name, folder in folders.items()}
    problems = []
    for name, twin in ((blur, "sharp"), ("sharp", blur)):
        lonely = sorted(files[name].keys() - files[twin].keys())
        problems += [f"{files[name][stem]}: its twin {folders[twin] / (stem + SUFFIX)} is missing" for stem in lonely]
    stems = sorted(files[blur].keys() & files["sharp"].keys())
    pairs = [Pair(sequence.name, stem, files[blur][stem], files["sharp"][stem], (0, 0)) for stem in stems]
    return pairs, problems


def _check_pair(pair: Pair) -> tuple[int, int] | str:
    """Return the pair's common size (H, W), or what is wrong with it."""
    sizes = []
    for path in (pair.blur, pair.sharp):
        try:
            with Image.open(path) as image:
                sizes.append((image.height, image.width))
                if (image.format, image.mode) not in (("PNG", "RGB"), ("PNG", "L")):
                    return f"{path}: {image.format} of mode {image.mode}, expected 8-bit RGB or grey PNG"
            with open(path, "rb") as file:
                file.seek(-12, 2)
                if file.read()[4:8] != b"IEND":
                    return f"{path}: cut short (the PNG has no end)"
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
            return f"{path}: cannot be read as an image ({error})"
    if sizes[0] != sizes[1]:
        (height, width), (sharp_height, sharp_width) = sizes
        return f"{pair.blur}: {width}x{height} pixels, but its twin {pair.sharp} has {sharp_width}x{sharp_height}"
    return sizes[0]
