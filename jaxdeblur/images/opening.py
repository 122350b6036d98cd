"""Opens image files for `photo.py`: the HEIC plug-in, oversized PNG chunks and Pillow's pixel limit."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile

from jaxdeblur.errors import InputError
from jaxdeblur.images.pillow_reading import available_formats
from jaxdeblur.images.png_chunks import without_large_chunks

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "HEIF", "GIF")  # GIF is refused with its own message


class _PixelLimitOff:
    """Context in which Pillow's global pixel limit, too low for photos, is off; re-entrant across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1

    def __exit__(self, *details: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                Image.MAX_IMAGE_PIXELS = self._limit


PIXEL_LIMIT_OFF = _PixelLimitOff()


@contextmanager
def open_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """Open an image file with Pillow, without the PNG chunks for which Pillow would refuse it.

    Raises:
        InputError: a HEIC file, and pillow-heif is not installed (code "missing-extra").
    """
    with path.open("rb") as file:
        if _needs_heic(file):
            _register_heic(path)
        with Image.open(without_large_chunks(file), formats=available_formats(FORMATS)) as image:
            yield image


def count_megapixels(path: Path) -> float:
    """Return the megapixels that a file's header claims; 0 if it cannot be read."""
    try:
        with PIXEL_LIMIT_OFF, open_image(path) as image:
            return image.width * image.height / 1e6
    except Exception:  # reading the photo reports the error
        return 0.0


def check_size(image: Image.Image, max_megapixels: float) -> None:
    """Refuse an image that claims more than `max_megapixels`.

    Raises:
        InputError: without the file's name (code "image-too-large").
    """
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise InputError(
            f"claims {image.width}x{image.height} pixels, {megapixels:.0f} megapixels, more than the limit of "
            f"{max_megapixels:g}. If this is not a decompression bomb, raise --max_megapixels",
            code="image-too-large",
        )


def _needs_heic(file: BinaryIO) -> bool:
    """Return whether a file's brands (ISO/IEC 14496-12) are HEIC's and not AVIF's, which Pillow reads natively."""
    start = file.read(64)
    if start[4:8] != b"ftyp":
        return False
    brands = start[8 : min(int.from_bytes(start[:4], "big"), len(start))]
    return not {b"avif", b"avis"} & {brands[offset : offset + 4] for offset in range(0, len(brands), 4)}


def _register_heic(path: Path) -> None:
    if find_spec("pillow_heif") is None:
        raise InputError(
            f"{path}: HEIC needs pillow-heif. Install it: pip install 'jaxdeblur[heic]'", code="missing-extra"
        )
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
