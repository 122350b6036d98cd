"""Photographs: a file, or Pillow's image, to pixels for a network and the metadata that is kept.

PNG, JPEG, WebP, TIFF, BMP, AVIF, and HEIC where pillow-heif is installed; a file's content decides, not its suffix.

- Pixels are RGB (H, W, 3), uint8, or uint16 where the file has 16 bits a channel, upright (EXIF's orientation).
- Grey has three equal channels, palettes are looked up, transparency is apart and never changed.
- Values are taken as stored; the colour profile goes with them, so that they mean the same colours afterwards. Only
  CMYK, which no network knows, is converted: to sRGB by its own profile.

Refused: cameras' raw files, animations, files of several pages, CMYK without a profile, Lab, floating point, 32-bit and
signed integers, and the rare kinds that Pillow reads wrongly (`data/images.py`).
"""

import dataclasses
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, TiffTags, UnidentifiedImageError

from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import GREY_16_BIT, known_formats, load_image, refused_kind, turn_upright
from jaxdeblur.images.metadata import (
    Metadata,
    profile_colours,
    read_exif,
    read_large_chunks,
    read_metadata,
    read_png_chunks,
)
from jaxdeblur.images.pixels import deepened, to_arrays
from jaxdeblur.images.png16 import has_low_bytes, stored_bits
from jaxdeblur.images.png_chunks import readable
from jaxdeblur.images.raw import raw_kind

HEIC_SUFFIXES = (".heic", ".heif", ".hif")
# In lower case.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".avif"),
    *HEIC_SUFFIXES,
)
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF", "HEIF", "GIF")  # GIF is opened to say what it is
MAX_MEGAPIXELS = 200.0
TAGS = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}


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
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty (0 bytes)", code="image-damaged")
        with path.open("rb") as file:
            kind = raw_kind(file)
        if kind:
            raise InputError(
                f"{path}: is a camera's raw file ({kind}), of which only a preview can be read. Develop it to TIFF or "
                "PNG first, and restore that",
                code="raw-file",
            )
        info, notes = read_large_chunks(path)
        with _NO_LIMIT, _opened(path) as image:
            image.info |= info
            _check_size(image, max_megapixels)
            photo = photo_from_image(image, reopen=path)
        metadata = dataclasses.replace(photo.metadata, chunks=read_png_chunks(path))
        return dataclasses.replace(photo, metadata=metadata, notes=(*photo.notes, *notes))
    except InputError as error:
        named = str(error).startswith(str(path))
        raise error if named else InputError(f"{path}: {error}", code=error.code) from error
    except UnidentifiedImageError as error:
        kinds = "PNG, JPEG, WebP, TIFF, BMP, AVIF or HEIC"
        words = f"{path}: is no image, or damaged at its start; expected {kinds}"
        raise InputError(words, code="image-damaged") from error
    except MemoryError as error:
        raise InputError(f"{path}: there is not enough memory to decode it", code="out-of-memory") from error
    except OSError as error:
        words = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({words})", code="image-unreadable") from error
    except Exception as error:  # on damaged files Pillow's decoders raise whatever they stumble over
        words = f"{path}: cannot be read as an image ({error or type(error).__name__})"
        raise InputError(words, code="image-damaged") from error


def _needs_heic(file: BinaryIO) -> bool:
    """Return whether a file's brands (ISO/IEC 14496-12) are HEIC's, and not AVIF's, which Pillow reads by itself."""
    start = file.read(64)
    if start[4:8] != b"ftyp":
        return False
    brands = start[8 : min(int.from_bytes(start[:4], "big"), len(start))]
    return not {b"avif", b"avis"} & {brands[place : place + 4] for place in range(0, len(brands), 4)}


def _open_heic(path: Path) -> None:
    """Teach Pillow HEIC."""
    if find_spec("pillow_heif") is None:
        words = f"{path}: HEIC needs pillow-heif. Install it: pip install 'jaxdeblur[heic]'"
        raise InputError(words, code="missing-extra")
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


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image, without what would make Pillow refuse a good PNG."""
    with path.open("rb") as file:
        if _needs_heic(file):
            _open_heic(path)
        with Image.open(readable(file), formats=known_formats(FORMATS)) as image:
            yield image


def count_megapixels(path: Path) -> float:
    """Return how many megapixels a file says it has; 0 if it cannot be read."""
    try:
        with _NO_LIMIT, _opened(path) as image:
            return image.width * image.height / 1e6
    except Exception:  # `read_photo` says what is wrong
        return 0.0


def _check_size(image: Image.Image, max_megapixels: float) -> None:
    megapixels = image.width * image.height / 1e6
    if megapixels > max_megapixels:
        raise InputError(
            f"claims {image.width}x{image.height} pixels, {megapixels:.0f} megapixels, more than the limit of "
            f"{max_megapixels:g}. If that is true and not a decompression bomb, raise --max_megapixels",
            code="image-too-large",
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
    bits_in_file = image.info.get("bit_depth", _avif_bits(image) or (16 if deep else 8))  # HEIC says its own
    notes = _left_out(image)
    if file_format != "TIFF":  # see `load_image`; of a TIFF, EXIF is read before it is decoded
        image.load()
    exif, more = read_exif(image)
    notes += more
    _, orientation = load_image(image, owned=reopen is not None)
    metadata, more = read_metadata(image, exif)
    notes += more
    if image.mode == "CMYK":
        image, metadata = _from_cmyk(image), dataclasses.replace(metadata, icc=b"")
        notes.append("CMYK was converted to sRGB by its colour profile")
    pixels, alpha, grey = to_arrays(image)
    metadata, more = _with_fitting_profile(metadata, grey)
    notes += more
    if low_bytes:
        with _opened(reopen) as again:
            pixels, alpha = deepened(pixels, alpha, again)
    elif bits_in_file > 8 and pixels.dtype == np.uint8:
        notes.append(f"{file_format} of {bits_in_file} bits a channel was read at 8 bits")
    pixels, alpha = (part if part is None else turn_upright(part, orientation) for part in (pixels, alpha))
    return Photo(pixels, alpha, grey, metadata, file_format, tuple(notes))


def _left_out(image: Image.Image) -> list[str]:
    """Return notes on what a file holds besides the picture; to be called before decoding."""
    notes = []
    if image.format in ("MPO", "HEIF") and getattr(image, "n_frames", 1) > 1:
        notes.append("of several pictures in one file the main one was restored")
    if image.format == "TIFF":
        extra = image.tag_v2.get(TAGS["SamplesPerPixel"], 1) - len(image.getbands())
        if extra > 0:
            notes.append(f"TIFF: {extra} extra channel(s), neither colour nor transparency, were left out")
    return notes


def _avif_bits(image: Image.Image) -> int:
    """Return how many bits a channel an AVIF has, from its AV1 configuration (av1C); 0 of other files."""
    if image.format != "AVIF" or not image.fp or image.fp.closed:
        return 0
    position = image.fp.tell()
    image.fp.seek(0)
    start = image.fp.read(2**16)
    image.fp.seek(position)
    place = start.find(b"av1C")
    if place < 0 or place + 6 >= len(start):
        return 0
    flags = start[place + 6]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _with_fitting_profile(metadata: Metadata, grey: bool) -> tuple[Metadata, list[str]]:
    """Return metadata without a colour profile that is for other colours, and what there is to say.

    Grey with a profile for RGB keeps it, and is written as RGB (`photo_files.py`): so its values mean the same colours.
    """
    colours = profile_colours(metadata.icc)
    if grey and colours == "RGB":
        return metadata, ["grey with an RGB colour profile is written as RGB"]
    if colours in ("", "GRAY" if grey else "RGB"):
        return metadata, []
    words = f"the colour profile is for {colours} and was left out: the pixels are {'grey' if grey else 'RGB'}"
    return dataclasses.replace(metadata, icc=b""), [words]


def _refuse_several(image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if image.format == "GIF":
        raise InputError(
            f"is a GIF{' animation' if frames > 1 else ''}; expected a photograph. Save it as PNG first",
            code="image-kind",
        )
    if frames > 1 and image.format not in ("MPO", "HEIF"):
        kind = "file of several pages" if image.format == "TIFF" else "animation"
        raise InputError(
            f"is a {image.format} {kind} ({frames} images); save them as single photographs first", code="image-kind"
        )


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
        raise InputError(
            f"is CMYK, and its colour profile cannot be used ({error}); convert it to RGB", code="cmyk-profile"
        ) from error
