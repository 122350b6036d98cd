"""Decodes training images: PNG, JPEG, WebP, TIFF and AVIF to uint8 RGB (H, W, 3). Content decides, not the suffix.

The common rules, and the kinds refused, are those of `pillow_reading.py`. Training images are further reduced to 8-bit
RGB:

- Transparency is blended over black, round(v * alpha / 255); opaque images are unchanged.
- Of 16-bit values the upper byte is kept, v // 256: the exact inverse of v * 257, the usual way from 8 bits to 16.
- Colour profiles are dropped, and so are PNG profiles or texts larger than Pillow accepts (1 MiB unpacked).

CMYK is refused even with a profile, which `photo.py` converts: pairs must not depend on a colour conversion.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxdeblur.errors import InputError
from jaxdeblur.images.arrays import upper_byte
from jaxdeblur.images.pillow_reading import available_formats, load_image, to_arrays, turn_upright, unsupported_kind
from jaxdeblur.images.png_chunks import PNG_SIGNATURE, without_large_chunks
from jaxdeblur.images.raw import raw_kind

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".avif")  # compared in lower case
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")
PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"  # length, type and checksum of the last, empty chunk


def read_image(path: Path) -> np.ndarray:
    """Decode an image file to uint8 RGB (H, W, 3).

    Raises:
        InputError: the file is missing, not an image, truncated, corrupt or of a refused kind.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Restore the file or make it readable.",
            code="image-unreadable",
        ) from error
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode an image file's content to uint8 RGB (H, W, 3).

    Args:
        content: all bytes of the file.
        name: of the image, for error messages.

    Raises:
        InputError: not an image, truncated, corrupt (code "image-corrupt") or of a refused kind ("image-kind",
            "raw-file").
    """
    try:
        return _decode(content)[0]
    except InputError as error:
        raise InputError(
            f"{name}: {error}. Replace it with a good copy, such as 8-bit RGB.", code=error.code
        ) from error


def verify_image(content: bytes) -> tuple[np.ndarray, int]:
    """Decode an image and return (pixels, EXIF orientation 1 to 8); also checks a PNG's checksums and end.

    Raises:
        InputError: as `decode_image`, without the file's name.
    """
    pixels, orientation = _decode(content)
    if content.startswith(PNG_SIGNATURE):  # decoding reads all of the other formats
        if PNG_END not in content:
            raise InputError("cannot be read as an image (truncated: the PNG has no end chunk)", code="image-corrupt")
        try:
            with Image.open(without_large_chunks(io.BytesIO(content))) as image:
                image.verify()
        except Exception as error:
            raise InputError(f"cannot be read as an image ({error})", code="image-corrupt") from error
    return pixels, orientation


def _decode(content: bytes) -> tuple[np.ndarray, int]:
    """Return (pixels (H, W, 3), orientation); errors leave out the file's name."""
    if not content:
        raise InputError("cannot be read as an image (0 bytes)", code="image-corrupt")
    try:
        if kind := raw_kind(io.BytesIO(content)):
            raise InputError(f"is a camera raw file ({kind}): develop it first", code="raw-file")
        file = without_large_chunks(io.BytesIO(content))
        with Image.open(file, formats=available_formats(FORMATS)) as image:
            if kind := unsupported_kind(image):
                raise InputError(
                    f"{kind}; expected grey, palette or RGB of 8 or 16 bits: convert it", code="image-kind"
                )
            orientation, remaining = load_image(image)
            return np.ascontiguousarray(turn_upright(_to_rgb(image), remaining)), orientation
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        formats = "PNG, JPEG, WebP, TIFF or AVIF"
        raise InputError(f"cannot be read as an image (not a {formats}, or truncated)", code="image-corrupt") from error
    except Exception as error:  # Pillow's decoders raise all kinds of exceptions on corrupt files
        reason = error or type(error).__name__
        raise InputError(f"cannot be read as an image ({reason})", code="image-corrupt") from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Convert a decoded image to uint8 (H, W, 3), blended over black."""
    pixels, alpha, _ = to_arrays(image)
    if pixels.dtype == np.uint16:
        return upper_byte(pixels)
    if alpha is None:
        return pixels
    return ((pixels.astype(np.uint16) * alpha[..., None] + 127) // 255).astype(np.uint8)
