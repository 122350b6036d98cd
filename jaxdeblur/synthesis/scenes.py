"""The scenes that blur is made from, below one folder, and which split each of them goes to.

A scene is what must not lie in two splits: a photograph, a folder of frames or a video. Its name is its path below the
input folder with `_` for `/` and without a file's ending; the input folder itself goes by its own name.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import printable
from jaxdeblur.images.decode import SUFFIXES
from jaxdeblur.images.png_chunks import without_large_chunks

SPLITS = ("train", "validation", "test")
# Ends of file names, in lower case; upper case is as good.
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mts", ".webm")


@dataclasses.dataclass(frozen=True)
class Scene:
    """What one scene is made of: a photograph's or a video's file, or the files of its frames in order."""

    name: str
    source: Path | tuple[Path, ...]


def find_photographs(folder: Path) -> list[Scene]:
    """Return every image file at any depth as a scene, sorted by name, after a look at their headers.

    Raises:
        InputError: no such folder, no images, images that cannot be read, or two of one name; all at once.
    """
    images = sorted(path for path in _list_files(folder) if path.suffix.lower() in SUFFIXES)
    if not images:
        raise InputError(f"{folder}: no photographs found; expected files that end in {', '.join(SUFFIXES)}.")
    scenes = [Scene(_scene_name(folder, path), path) for path in images]
    problems = [size for size in _read_sizes(images) if isinstance(size, str)]
    _refuse(folder, _twins(scenes) + problems)
    return sorted(scenes, key=lambda scene: scene.name)


def find_sequences(folder: Path, least: int) -> list[Scene]:
    """Return every folder that holds frames and every video, at any depth, as a scene, sorted by name.

    Frames of a folder are its images, sorted by file name, numbers by their value.

    Args:
        folder: where to look; itself a scene if it holds images.
        least: frames needed; videos are not opened, so theirs are not counted.

    Raises:
        InputError: no such folder, no frames, frames that are too few, unreadable or of two sizes, or two scenes of
            one name; all at once.
    """
    files = _list_files(folder)
    frames: dict[Path, list[Path]] = {}
    for path in sorted(path for path in files if path.suffix.lower() in SUFFIXES):
        frames.setdefault(path.parent, []).append(path)
    scenes = [Scene(_scene_name(folder, path), path) for path in files if path.suffix.lower() in VIDEOS]
    scenes += [Scene(_scene_name(folder, path), tuple(sorted(images, key=_order))) for path, images in frames.items()]
    if not scenes:
        endings = ", ".join(SUFFIXES + VIDEOS)
        raise InputError(f"{folder}: no frames found; expected folders of images, or videos: {endings}.")
    problems = _twins(scenes)
    for path, images in frames.items():
        if len(images) < least:
            problems.append(f"{path}: {len(images)} frame(s), too few for a window of {least}")
        problems += _unequal_sizes(images)
    _refuse(folder, problems)
    return sorted(scenes, key=lambda scene: scene.name)


def assign_splits(
    names: Iterable[str], chosen: Mapping[str, Iterable[str]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Return each scene's split: as chosen by name, or else drawn by seed.

    Of the scenes, round(share * all) go to a split with a share, but at least one where the share is not 0, and at
    least one is left to train on unless the shares add up to 1 or all are named. The others are for training.

    Args:
        names: all scenes.
        chosen: names of the scenes of `validation` and `test`; a split that is not in here is drawn.
        shares: shares of the splits to draw, of all scenes.
        seed: of the draw.

    Raises:
        InputError: a name is unknown or in two splits, shares are no shares, or there are too few scenes.
    """
    names = sorted(names)
    splits = {name: split for split, some in chosen.items() for name in some}
    unknown = sorted(splits.keys() - set(names))
    if unknown:
        raise InputError(list_problems("no such scene:", unknown, f"Scenes found: {', '.join(names[:20])}."))
    if sum(len(set(some)) for some in chosen.values()) > len(splits):
        raise InputError("a scene is named for validation and for the test; it can be in one split only.")
    if any(not 0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1:
        found = ", ".join(f"{split} {share:g}" for split, share in shares.items())
        raise InputError(f"shares of {found}: expected 0 to 1 each, and no more than 1 together.")
    free = [name for name in names if name not in splits]
    counts = {split: max(1, round(share * len(names))) for split, share in shares.items() if share}
    trained_on = 0 if sum(shares.values()) == 1 or not (free or counts) else 1
    if len(counts) + trained_on > len(free):
        wanted = [*counts, "train"] if trained_on else list(counts)
        raise InputError(
            f"{len(free)} scene(s) to share among {', '.join(wanted)}, and none may be in two: {', '.join(free)}. Give "
            "more scenes, or leave a split out with --test_share 0, --validation_share 0; --test_share 1 "
            "--validation_share 0 makes a test set alone."
        )
    while sum(counts.values()) + trained_on > len(free):
        counts[max(counts, key=counts.get)] -= 1
    drawn = [free[index] for index in np.random.default_rng(seed).permutation(len(free))]
    for split, count in counts.items():
        splits |= dict.fromkeys(drawn[:count], split)
        drawn = drawn[count:]
    rest = "train" if trained_on or not counts else max(shares, key=shares.get)
    return splits | dict.fromkeys(drawn, rest)


def _list_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder. Pass --input DIR.")
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _order(path: Path) -> list:
    """Return a key by which frame2 comes before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _scene_name(folder: Path, path: Path) -> str:
    relative = path.relative_to(folder)
    if path.is_file():
        relative = relative.with_suffix("")
    return printable("_".join(relative.parts) or folder.resolve().name)


def _twins(scenes: list[Scene]) -> list[str]:
    """Return a line for every scene whose name, upper and lower case aside, another one has already."""
    seen: dict[str, Scene] = {}
    problems = []
    for scene in scenes:
        first = seen.setdefault(scene.name.lower(), scene)
        if first is not scene:
            paths = [item.source if isinstance(item.source, Path) else item.source[0].parent for item in (first, scene)]
            problems.append(f"{paths[1]}: would be called `{scene.name}`, as {paths[0]} is; rename one")
    return problems


def _unequal_sizes(images: list[Path]) -> list[str]:
    """Return a line for every image that cannot be read or has another size than the first that can."""
    problems, first = [], None
    for path, size in zip(images, _read_sizes(images), strict=True):
        if isinstance(size, str):
            problems.append(size)
        elif size != (first := first or size):
            problems.append(f"{path}: {size[0]}x{size[1]} pixels, those before it {first[0]}x{first[1]}")
    return problems


def _read_sizes(images: list[Path]) -> list[tuple[int, int] | str]:
    """Return each image's (width, height) by its header, or what is wrong with it."""

    def read_size(path: Path) -> tuple[int, int] | str:
        try:
            with path.open("rb") as file, Image.open(without_large_chunks(file)) as image:
                return image.size
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return f"{path}: cannot be read as an image ({error})"

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read_size, images))


def _refuse(folder: Path, problems: list[str]) -> None:
    if problems:
        remedy = "Mend these files, or take them out of the folder."
        raise InputError(list_problems(f"{folder}: {len(problems)} problem(s) with the input:", problems, remedy))
