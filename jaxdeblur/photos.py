"""Photographs: a file, or Pillow's image, to pixels for a network and all that is kept beside them.

PNG, JPEG, WebP, TIFF, BMP, and HEIC where pillow-heif is installed; what a file is, its content says.

- Pixels are RGB (H, W, 3), uint8, or uint16 where the file has 16 bits a channel, upright (EXIF's orientation).
- Grey has three equal channels, palettes are looked up, transparency is apart and never changed.
- Values are taken as stored; the colour profile goes with them, so that they mean the same colours afterwards. Only
  CMYK, which no network knows, is converted: to sRGB by its own profile.

Refused: animations, files of several pages, CMYK without a profile, Lab, floating point, 32-bit and signed integers,
and the rare kinds that Pillow reads wrongly (`data/images.py`).
"""

import dataclasses
import io
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from jaxdeblur.data.images import GREY_16_BIT, refused_kind
from jaxdeblur.deep_pixels import decode_low_bytes, has_low_bytes, stored_bits
from jaxdeblur.errors import InputError
from jaxdeblur.photo_metadata import Metadata, read_metadata, read_orientation_and_exif, read_png_chunks

HEIC_SUFFIXES = (".heic", ".heif")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", *HEIC_SUFFIXES)  # in lower case
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "HEIF", "GIF")  # GIF is opened to say what it is
MAX_MEGAPIXELS = 200.0
_PIXELS = 2**22  # converted at once, so that no second copy of a large image is made


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photograph in memory.

    Attributes:
        pixels: RGB (H, W, 3), uint8 or uint16; may be a view that cannot be written to.
        alpha: (H, W) of the same type, or None: opaque.
        grey: the file is grey, all channels are equal.
        metadata: what else is kept.
        format: of the file, as Pillow calls it.
        notes: what its owner should know of how it was read.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    metadata: Metadata
    format: str
    notes: tuple[str, ...] = ()


def read_photo(path: Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> Photo:
    """Return the photograph in a file.

    Raises:
        InputError: it is missing, no image, damaged, larger than `max_megapixels`, or of a kind that is refused.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(12)
        if not size:
            raise InputError(f"{path}: is empty (0 bytes)")
        if start[4:8] == b"ftyp":
            _open_heic(path)
        with _NO_LIMIT, _opened(path) as image:
            _check_size(image, max_megapixels)
            photo = photo_from_image(image, reopen=path)
        return dataclasses.replace(photo, metadata=dataclasses.replace(photo.metadata, chunks=read_png_chunks(path)))
    except InputError as error:
        named = str(error).startswith(str(path))
        raise error if named else InputError(f"{path}: {error}", code=error.code) from error
    except UnidentifiedImageError as error:
        kinds = "PNG, JPEG, WebP, TIFF, BMP or HEIC"
        raise InputError(f"{path}: is no image, or damaged at its start; expected {kinds}") from error
    except MemoryError as error:
        raise InputError(f"{path}: there is not enough memory to decode it") from error
    except OSError as error:
        words = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({words})") from error
    except Exception as error:  # on damaged files Pillow's decoders raise whatever they stumble over
        raise InputError(f"{path}: cannot be read as an image ({error or type(error).__name__})") from error


def _open_heic(path: Path) -> None:
    """Teach Pillow HEIC."""
    if find_spec("pillow_heif") is None:
        raise InputError(f"{path}: HEIC needs pillow-heif. Install it: pip install 'jaxdeblur[heic]'")
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)


class _NoLimit:
    """While it is entered, Pillow's own limit of pixels, one for all threads, is off: it is too low for photographs."""

    def __init__(self) -> None:
        self._lock, self._users, self._limit = threading.Lock(), 0, None

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


_NO_LIMIT = _NoLimit()


def _opened(path: Path) -> Image.Image:
    return Image.open(path, formats=[name for name in FORMATS if name != "HEIF" or name in Image.OPEN])


def count_megapixels(path: Path) -> float:
    """Return how many megapixels a file says it has; 0 if it cannot be read."""
    try:
        with path.open("rb") as file:
            if file.read(12)[4:8] == b"ftyp":
                _open_heic(path)
        with _NO_LIMIT, _opened(path) as image:
            return image.width * image.height / 1e6
    except Exception:  # `read_photo` says what is wrong
        return 0.0


def _check_size(image: Image.Image, max_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise InputError(
            f"claims {image.width}x{image.height} pixels, {megapixels:.0f} megapixels, more than the limit of "
            f"{max_megapixels:g}. If that is true and not a decompression bomb, raise --max_megapixels"
        )


def photo_from_image(image: Image.Image, reopen: Path | None = None) -> Photo:
    """Return what Pillow has opened, or made, as a photograph.

    Args:
        image: is decoded if it is not yet.
        reopen: its file, from which RGB of 16 bits is read at its full depth.

    Raises:
        InputError: it is of a kind that is refused; says so without a file's name.
    """
    file_format = image.format or ""
    _refuse_several(image)
    if image.mode != "CMYK" and (kind := refused_kind(image)):
        raise InputError(f"{kind}; convert it to grey or RGB of 8 or 16 bits", code="image-kind")
    deep = stored_bits(image) == 16 and image.mode not in GREY_16_BIT
    low_bytes = deep and reopen is not None and has_low_bytes(image)
    bits_in_file = image.info.get("bit_depth", 16 if deep else 8)  # HEIC says its own
    orientation, exif, notes = read_orientation_and_exif(image)
    image.load()
    if file_format == "TIFF":  # Pillow has turned it
        orientation = 1
    metadata, more = read_metadata(image, exif)
    notes += more
    if file_format in ("MPO", "HEIF") and getattr(image, "n_frames", 1) > 1:
        notes.append("of several pictures in one file the main one was restored")
    if image.mode == "CMYK":
        image, metadata = _from_cmyk(image), dataclasses.replace(metadata, icc=b"")
        notes.append("CMYK was converted to sRGB by its colour profile")
    pixels, alpha, grey = _to_arrays(image)
    if low_bytes:
        pixels, alpha = _deepened(pixels, alpha, reopen)
    elif bits_in_file > 8 and pixels.dtype == np.uint8:
        notes.append(f"{file_format} of {bits_in_file} bits a channel was read at 8 bits")
    pixels, alpha = (part if part is None else _upright(part, orientation) for part in (pixels, alpha))
    return Photo(pixels, alpha, grey, metadata, file_format, tuple(notes))


def _refuse_several(image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if image.format == "GIF":
        raise InputError(f"is a GIF{' animation' if frames > 1 else ''}; expected a photograph. Save it as PNG first")
    if frames > 1 and image.format not in ("MPO", "HEIF"):
        kind = "file of several pages" if image.format == "TIFF" else "animation"
        raise InputError(f"is a {image.format} {kind} ({frames} images); save them as single photographs first")


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        raise InputError(
            "is CMYK without a colour profile, so its colours are not known; convert it to RGB",
            code="cmyk-without-profile",
        )
    try:
        return ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except ImageCms.PyCMSError as error:
        raise InputError(f"is CMYK, and its colour profile cannot be used ({error}); convert it to RGB") from error


def _to_arrays(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return pixels (H, W, 3), alpha (H, W) or None, and whether the image is grey."""
    if image.mode in GREY_16_BIT:
        return _as_three(_rows_of(image, image.mode).astype(np.uint16)), None, True
    transparent = image.has_transparency_data
    if image.mode in ("1", "L", "LA") and not (transparent and image.mode != "LA"):
        values = _rows_of(image, "LA" if transparent else "L")
        return (_as_three(values[..., 0]), values[..., 1], True) if transparent else (_as_three(values), None, True)
    values = _rows_of(image, "RGBA" if transparent else "RGB")
    return values[..., :3], values[..., 3] if transparent else None, image.mode in ("1", "L")


def _as_three(grey: np.ndarray) -> np.ndarray:
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))


def _rows_of(image: Image.Image, mode: str) -> np.ndarray:
    """Return an image as an array, converted to a mode some rows at a time."""
    result = None
    for top, values in _strips(image, mode):
        if result is None:
            result = np.empty((image.height, *values.shape[1:]), values.dtype)
        result[top : top + len(values)] = values
    return result


def _strips(image: Image.Image, mode: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, some rows) of an image, converted to a mode."""
    step = max(_PIXELS // image.width, 1)
    for top in range(0, image.height, step):
        rows = image.crop((0, top, image.width, min(top + step, image.height)))
        rows.info = image.info  # a transparent colour stands there
        yield top, np.asarray(rows if rows.mode == mode else rows.convert(mode))


def _deepened(pixels: np.ndarray, alpha: np.ndarray | None, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return uint16 from the upper bytes and the file, which holds the lower ones."""
    deep, deep_alpha = (part if part is None else part.astype(np.uint16) for part in (pixels, alpha))
    for part in (deep, deep_alpha):
        if part is not None:
            part <<= 8  # in place: there may be hundreds of megabytes
    with _opened(path) as image:
        decode_low_bytes(image)
        image.load()
        for top, low in _strips(image, image.mode):
            deep[top : top + len(low)] |= low[..., :3]
            if deep_alpha is not None:
                deep_alpha[top : top + len(low)] |= low[..., 3]
    return deep, deep_alpha


def _upright(part: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view (H, W, ...) that stands as EXIF's orientation says."""
    swapped = np.swapaxes(part, 0, 1) if orientation >= 5 else part
    mirrored, upside_down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return swapped[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
