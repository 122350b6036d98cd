"""Writes photos atomically: PNG, TIFF, WebP and BMP without loss, JPEG on request."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.files import atomic_write
from jaxdeblur.images.arrays import round_to_uint8
from jaxdeblur.images.metadata import profile_colours, save_options
from jaxdeblur.images.photo import Photo
from jaxdeblur.images.rgb16 import write_png16
from jaxdeblur.images.tiff import write_tiff


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """Capabilities of a file format.

    Attributes:
        name: Pillow's.
        suffixes: in lower case; the first is used for new files.
        options: arguments of Pillow's `save`.
        deep: supports 16 bits per channel.
        alpha: supports transparency.
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
    # exact: keep colours under full transparency
    "webp": FileFormat("WEBP", (".webp",), {"lossless": True, "exact": True, "quality": 50}, longest_side=16383),
    "bmp": FileFormat("BMP", (".bmp",), {}, alpha=False),
    "jpeg": FileFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), {"subsampling": 0}, alpha=False, longest_side=65500),
}


def format_of_suffix(suffix: str) -> str | None:
    """Return the key in FILE_FORMATS of a suffix in any case; None if there is none."""
    return next((key for key, kind in FILE_FORMATS.items() if suffix.lower() in kind.suffixes), None)


def replace_pixels(photo: Photo, pixels: np.ndarray, alpha: np.ndarray | None) -> Photo:
    """Return the photo with other pixels and alpha."""
    return dataclasses.replace(photo, pixels=pixels, alpha=alpha)


def to_pillow(photo: Photo) -> Image.Image:
    """Convert a photo to a Pillow image: L, LA, RGB or RGBA, or I;16 for 16-bit grey.

    Grey with an RGB colour profile becomes RGB.
    """
    channels = _channels(photo)
    image = Image.fromarray(np.ascontiguousarray(channels if channels.shape[2] == 3 else channels[..., 0]))
    if photo.alpha is not None:
        image.putalpha(Image.fromarray(np.ascontiguousarray(photo.alpha)))
    return image


def _channels(photo: Photo) -> np.ndarray:
    """Return the colours to write: (H, W, 3), or (H, W, 1) for grey, the rounded mean of the three channels."""
    if not photo.grey:
        return photo.pixels
    red, green, blue = (photo.pixels[..., channel].astype(np.uint32) for channel in range(3))
    grey = ((red + green + blue + 1) // 3).astype(photo.pixels.dtype)[..., None]
    return np.repeat(grey, 3, axis=-1) if profile_colours(photo.metadata.icc) == "RGB" else grey


def write_photo(
    photo: Photo,
    path: Path,
    file_format: str,
    *,
    quality: int,
    before_rename: Callable[[Path], None] = lambda complete: None,
) -> list[str]:
    """Write a photo atomically, replacing any existing file, and return notes on what the format could not hold.

    Args:
        photo: what to write.
        path: of the file.
        file_format: a key of FILE_FORMATS.
        quality: of a JPEG, 1 to 100; chroma is not subsampled (4:4:4).
        before_rename: called with the path of the complete temporary file.

    Raises:
        InputError: the format cannot hold the photo (code "image-too-large", "no-transparency") or its metadata
            ("image-not-written").
        OSError: the disk is full, or the folder is not writable.
    """
    kind = FILE_FORMATS[file_format]
    photo, notes = _fit_to_format(photo, kind, path)
    height, width = photo.pixels.shape[:2]
    options, metadata_notes = save_options(photo.metadata, kind.name, (width, height))
    options |= kind.options | ({"quality": quality} if kind.name == "JPEG" else {})
    try:
        with atomic_write(path) as temporary:
            with temporary.open("r+b") as file:
                _encode(file, photo, kind.name, options)
            before_rename(temporary)
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # Pillow raises all kinds of exceptions, for odd EXIF values for instance
        raise InputError(
            f"{path}: cannot be written as {kind.name} ({error or type(error).__name__})", code="image-not-written"
        ) from error
    return notes + metadata_notes


def _fit_to_format(photo: Photo, kind: FileFormat, path: Path) -> tuple[Photo, list[str]]:
    """Return the photo as the format can hold it, and notes on what was lost."""
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
    alpha = None if photo.alpha is None else round_to_uint8(photo.alpha)
    note = f"{kind.name} holds 8 bits a channel: 16 were rounded"
    return replace_pixels(photo, round_to_uint8(photo.pixels), alpha), [note]


def _encode(file: BinaryIO, photo: Photo, name: str, options: dict[str, Any]) -> None:
    """Write a photo in Pillow's format `name`; with our own encoders where Pillow loses depth or metadata."""
    if photo.pixels.dtype == np.uint16:
        channels = _channels(photo)
        if channels.shape[2] == 3:
            if photo.alpha is not None:
                channels = np.dstack([channels, photo.alpha])
            {"PNG": write_png16, "TIFF": write_tiff}[name](file, channels, options)
            return
    if name == "TIFF":
        write_tiff(file, np.atleast_3d(np.asarray(to_pillow(photo))), options)
    else:
        to_pillow(photo).save(file, name, **options)
