"""Finds the scenes to blur below a folder.

A scene is a unit that must not be in two splits: a photo, a folder of frames or a video. Its name is its path below the
input folder with `_` for `/`, without suffix; the input folder itself has its own name.
"""

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import printable
from jaxdeblur.images.decode import SUFFIXES
from jaxdeblur.images.png_chunks import without_large_chunks
from jaxdeblur.videos.reader import VIDEO_SUFFIXES


@dataclasses.dataclass(frozen=True)
class Scene:
    """A scene: a photo, a video, or the files of its frames in order."""

    name: str
    source: Path | tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The photo, the video or the folder of frames."""
        return self.source if isinstance(self.source, Path) else self.source[0].parent


def find_photos(folder: Path) -> list[Scene]:
    """Return every image file at any depth as a scene, sorted by name; only headers are read.

    Raises:
        InputError: the folder is missing (code "no-input-folder"), has no images ("no-scenes"), or images are
            unreadable or have equal names ("invalid-scenes"); all at once.
    """
    images = sorted(path for path in _list_files(folder) if path.suffix.lower() in SUFFIXES)
    if not images:
        raise InputError(
            f"{folder}: no photos found; expected files that end in {', '.join(SUFFIXES)}.", code="no-scenes"
        )
    scenes = [Scene(_scene_name(folder, path), path) for path in images]
    problems = [size for size in _read_sizes(images) if isinstance(size, str)]
    _raise_problems(folder, _duplicate_names(scenes) + problems)
    return sorted(scenes, key=lambda scene: scene.name)


def find_sequences(folder: Path, min_frames: int) -> list[Scene]:
    """Return every folder of frames and every video, at any depth, as a scene, sorted by name.

    Frames are the images in a folder, in natural order of their names.

    Args:
        folder: to search; itself a scene if it holds images.
        min_frames: frames needed; videos are not opened and therefore not checked.

    Raises:
        InputError: the folder is missing (code "no-input-folder"), has no frames ("no-scenes"), or frames are too few,
            unreadable or differ in size, or scenes have equal names ("invalid-scenes"); all at once.
    """
    files = _list_files(folder)
    frames: dict[Path, list[Path]] = {}
    for path in sorted(path for path in files if path.suffix.lower() in SUFFIXES):
        frames.setdefault(path.parent, []).append(path)
    scenes = [Scene(_scene_name(folder, path), path) for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    scenes += [
        Scene(_scene_name(folder, path), tuple(sorted(images, key=_natural_key))) for path, images in frames.items()
    ]
    if not scenes:
        suffixes = ", ".join(SUFFIXES + VIDEO_SUFFIXES)
        raise InputError(
            f"{folder}: no frames found; expected folders of images, or videos: {suffixes}.", code="no-scenes"
        )
    problems = _duplicate_names(scenes)
    for path, images in frames.items():
        if len(images) < min_frames:
            problems.append(f"{path}: {len(images)} frame(s), too few for a window of {min_frames}")
        problems += _unequal_sizes(images)
    _raise_problems(folder, problems)
    return sorted(scenes, key=lambda scene: scene.name)


def _list_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder. Pass --input DIR.", code="no-input-folder")
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _scene_name(folder: Path, path: Path) -> str:
    relative = path.relative_to(folder)
    if path.is_file():
        relative = relative.with_suffix("")
    return printable("_".join(relative.parts) or folder.resolve().name)


def _duplicate_names(scenes: list[Scene]) -> list[str]:
    """Return a line for every scene whose name, ignoring case, is that of an earlier one."""
    by_name: dict[str, Scene] = {}
    problems = []
    for scene in scenes:
        first = by_name.setdefault(scene.name.lower(), scene)
        if first is not scene:
            problems.append(f"{scene.path}: would be named `{scene.name}`, like {first.path}; rename one")
    return problems


def _unequal_sizes(images: list[Path]) -> list[str]:
    """Return a line for every image that is unreadable or differs in size from the first readable one."""
    problems: list[str] = []
    first: tuple[int, int] | None = None
    for path, size in zip(images, _read_sizes(images), strict=True):
        if isinstance(size, str):
            problems.append(size)
        elif size != (first := first or size):
            problems.append(f"{path}: {size[0]}x{size[1]} pixels, but earlier ones {first[0]}x{first[1]}")
    return problems


def _read_sizes(images: list[Path]) -> list[tuple[int, int] | str]:
    """Return each image's (width, height) from its header, or a problem."""

    def read_size(path: Path) -> tuple[int, int] | str:
        try:
            with path.open("rb") as file, Image.open(without_large_chunks(file)) as image:
                return image.size
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return f"{path}: cannot be read as an image ({error})"

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read_size, images))


def _raise_problems(folder: Path, problems: list[str]) -> None:
    if problems:
        heading = f"{folder}: {len(problems)} problem(s) with the input:"
        remedy = "Fix these files, or remove them from the folder."
        raise InputError(list_problems(heading, problems, remedy), code="invalid-scenes")
