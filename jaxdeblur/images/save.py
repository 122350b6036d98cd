"""Photographs to files: PNG, TIFF, WebP, BMP without loss, JPEG where it is asked for; whole or not at all."""

import dataclasses
import fcntl
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.images import png16
from jaxdeblur.images.metadata import profile_colours, save_options
from jaxdeblur.images.photo import Photo
from jaxdeblur.images.tiff import write_tiff

UNFINISHED = ".unfinished"  # how names of files end that are being written


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """What one format can hold.

    Attributes:
        name: Pillow's.
        suffixes: of files, in lower case; the first is that of new ones.
        options: of Pillow's `save`.
        deep: holds 16 bits a channel.
        alpha: holds transparency.
        longest_side: in pixels.
    """

    name: str
    suffixes: tuple[str, ...]
    options: dict[str, Any]
    deep: bool = False
    alpha: bool = True
    longest_side: int = 2**31 - 1


FILE_FORMATS = {
    "png": FileFormat("PNG", (".png",), {}, deep=True),
    "tiff": FileFormat("TIFF", (".tif", ".tiff"), {}, deep=True),
    # exact: colours under full transparency stay
    "webp": FileFormat("WEBP", (".webp",), {"lossless": True, "exact": True, "quality": 50}, longest_side=16383),
    "bmp": FileFormat("BMP", (".bmp",), {}, alpha=False),
    "jpeg": FileFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), {"subsampling": 0}, alpha=False, longest_side=65500),
}


def format_of_suffix(suffix: str) -> str | None:
    """Return the key in FILE_FORMATS of a file's suffix in any case, or None."""
    return next((key for key, kind in FILE_FORMATS.items() if suffix.lower() in kind.suffixes), None)


def with_pixels(photo: Photo, pixels: np.ndarray, alpha: np.ndarray | None) -> Photo:
    """Return the photograph with other pixels."""
    return dataclasses.replace(photo, pixels=pixels, alpha=alpha)


def to_image(photo: Photo) -> Image.Image:
    """Return the photograph as Pillow's image: L, LA, RGB or RGBA, or I;16 for grey of 16 bits.

    Grey with a colour profile for RGB is RGB.
    """
    channels = _channels(photo)
    image = Image.fromarray(np.ascontiguousarray(channels if channels.shape[2] == 3 else channels[..., 0]))
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(np.ascontiguousarray(photo.alpha)))
    return image


def _channels(photo: Photo) -> np.ndarray:
    """Return the colours as they are written, (H, W, 3), or (H, W, 1) for grey.

    The mean of three channels is the grey that is nearest to them.
    """
    if not photo.grey:
        return photo.pixels
    total = sum(photo.pixels[..., channel].astype(np.uint32) for channel in range(3))
    grey = ((total + 1) // 3).astype(photo.pixels.dtype)[..., None]
    return np.repeat(grey, 3, axis=-1) if profile_colours(photo.metadata.icc) == "RGB" else grey


def write_photo(
    photo: Photo, path: Path, file_format: str, *, quality: int, when_whole: Callable[[Path], None]
) -> list[str]:
    """Write a photograph, whole or not at all, and return what the format could not hold.

    Args:
        photo: what to write.
        path: what is there is replaced.
        file_format: a key of FILE_FORMATS.
        quality: of a JPEG, 1 to 100; colours are stored at full resolution (4:4:4).
        when_whole: is called with the file when it is whole, before it gets its name.

    Raises:
        InputError: the format cannot hold the photograph, or its metadata.
        OSError: the disk is full, or the folder cannot be written to.
    """
    kind = FILE_FORMATS[file_format]
    photo, notes = _fit(photo, kind, path)
    options, lost = save_options(photo.metadata, kind.name, photo.pixels.shape[1::-1])
    options |= kind.options | ({"quality": quality} if kind.name == "JPEG" else {})
    try:
        with _unfinished(path) as (file, unfinished):
            _encode(file, photo, kind.name, options)
            file.flush()
            os.fsync(file.fileno())  # a name that is there after a power cut has its content
            when_whole(unfinished)
            unfinished.replace(path)
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever it stumbles over, odd values in EXIF for instance
        words = f"{path}: cannot be written as {kind.name} ({error or type(error).__name__})"
        raise InputError(words, code="image-not-written") from error
    return notes + lost


@contextmanager
def _unfinished(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open an empty file in the folder of `path`, which is to get its name; it is removed after a failure.

    Its own name is short, however long that of `path` is, and no other process or thread writes to it. What a killed
    process left under such a name is overwritten.
    """
    stem = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    for number in itertools.count():
        unfinished = path.with_name(f".{stem}-{number}{UNFINISHED}")
        file = os.fdopen(os.open(unfinished, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        if _is_ours(file.fileno(), unfinished):
            break
        file.close()
    with file:
        try:
            file.truncate()
            yield file, unfinished
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise


def _is_ours(descriptor: int, path: Path) -> bool:
    """Lock a file that was opened by its path; return whether nobody else had it, and it still has its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: there, two commands at once must not share a folder of results
        return True
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:  # whoever had it has finished in between
        return False


def _fit(photo: Photo, kind: FileFormat, path: Path) -> tuple[Photo, list[str]]:
    """Return what a format can hold of a photograph, and what it could not."""
    if max(photo.pixels.shape[:2]) > kind.longest_side:
        height, width = photo.pixels.shape[:2]
        raise InputError(
            f"{path}: {kind.name} holds sides of at most {kind.longest_side} pixels, not {width}x{height}; "
            "choose --format png",
            code="image-too-large",
        )
    if photo.alpha is not None and not kind.alpha:
        raise InputError(f"{path}: {kind.name} holds no transparency; choose --format png", code="no-transparency")
    if photo.pixels.dtype == np.uint8 or kind.deep:
        return photo, []
    alpha = None if photo.alpha is None else _to_8_bits(photo.alpha)
    return with_pixels(photo, _to_8_bits(photo.pixels), alpha), [f"{kind.name} holds 8 bits a channel: 16 were rounded"]


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _encode(file: BinaryIO, photo: Photo, name: str, options: dict[str, Any]) -> None:
    deep = photo.pixels.dtype == np.uint16
    pixels = _channels(photo) if deep else None
    deep_colours = deep and pixels.shape[2] == 3
    if not deep_colours and name != "TIFF":
        to_image(photo).save(file, name, **options)
        return
    if not deep_colours:
        pixels = np.atleast_3d(np.asarray(to_image(photo)))
    elif photo.alpha is not None:
        pixels = np.dstack([pixels, photo.alpha])
    {"PNG": png16.write_png, "TIFF": write_tiff}[name](file, pixels, options)
