"""Reads photos: pixels for a network, and the metadata to write back.

PNG, JPEG, WebP, TIFF, BMP, AVIF, and HEIC with pillow-heif; a file's content decides, not its suffix. The common rules
are those of `pillow_reading.py`. Photos are to be written back without loss, so in contrast to training images:

- Pixels are RGB (H, W, 3), uint8, or uint16 where the file has 16 bits per channel.
- Alpha is separate and never changed.
- The colour profile is kept, so values mean the same colours afterwards. Only CMYK, which no network knows, is
  converted: to sRGB by its own profile.

Refused: camera raw files, animations, multi-page files, CMYK without a profile, and the other kinds named in
`pillow_reading.unsupported_kind`.
"""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from jaxdeblur.errors import InputError
from jaxdeblur.images.exif import read_exif
from jaxdeblur.images.metadata import Metadata, profile_colours, read_large_chunks, read_metadata, read_png_chunks
from jaxdeblur.images.opening import PIXEL_LIMIT_OFF, check_size, open_image
from jaxdeblur.images.pillow_reading import (
    GREY_16_BIT,
    TIFF_TAGS,
    add_low_bytes,
    load_image,
    to_arrays,
    turn_upright,
    unsupported_kind,
)
from jaxdeblur.images.raw import raw_kind
from jaxdeblur.images.rgb16 import has_low_bytes, stored_bits

HEIC_SUFFIXES = (".heic", ".heif", ".hif")
SUFFIXES = (  # compared in lower case
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".bmp", ".avif"),
    *HEIC_SUFFIXES,
)
MAX_MEGAPIXELS = 200.0


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo in memory.

    Attributes:
        pixels: RGB (H, W, 3), uint8 or uint16; may be a read-only view.
        alpha: (H, W) of the same dtype; None if opaque.
        grey: the file is grey; all channels are equal.
        metadata: what is written back.
        format: of the file, as Pillow names it.
        notes: what the user should know about how the file was read.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    grey: bool
    metadata: Metadata
    format: str
    notes: tuple[str, ...] = ()


def read_photo(path: Path, *, max_megapixels: float = MAX_MEGAPIXELS) -> Photo:
    """Read a photo.

    Raises:
        InputError: it is missing, not an image, corrupt (code "image-corrupt"), unreadable ("image-unreadable"), larger
            than `max_megapixels` ("image-too-large"), or of a refused kind ("image-kind", "raw-file").
    """
    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty (0 bytes)", code="image-corrupt")
        with path.open("rb") as file:
            kind = raw_kind(file)
        if kind:
            raise InputError(
                f"{path}: is a camera raw file ({kind}), of which only a preview can be read. Develop it to TIFF or "
                "PNG first, and restore that",
                code="raw-file",
            )
        info, notes = read_large_chunks(path)
        with PIXEL_LIMIT_OFF, open_image(path) as image:
            image.info.update(info)
            check_size(image, max_megapixels)
            photo = photo_from_image(image, reopen=path)
        metadata = dataclasses.replace(photo.metadata, chunks=read_png_chunks(path))
        return dataclasses.replace(photo, metadata=metadata, notes=(*photo.notes, *notes))
    except InputError as error:
        named = str(error).startswith(str(path))
        raise error if named else InputError(f"{path}: {error}", code=error.code) from error
    except UnidentifiedImageError as error:
        formats = "PNG, JPEG, WebP, TIFF, BMP, AVIF or HEIC"
        raise InputError(
            f"{path}: is not an image, or corrupt at its start; expected {formats}", code="image-corrupt"
        ) from error
    except MemoryError as error:
        raise InputError(f"{path}: not enough memory to decode it", code="out-of-memory") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({reason})", code="image-unreadable") from error
    except Exception as error:  # Pillow's decoders raise all kinds of exceptions on corrupt files
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: cannot be read as an image ({reason})", code="image-corrupt") from error


def photo_from_image(image: Image.Image, reopen: Path | None = None) -> Photo:
    """Convert a Pillow image to a photo.

    Args:
        image: opened or created with Pillow; decoded here if it is not yet.
        reopen: its file, to read 16-bit RGB at full depth; None if the image belongs to the caller.

    Raises:
        InputError: it is of a refused kind; without the file's name.
    """
    file_format = image.format or ""
    _refuse_multiple_images(image)
    if image.mode != "CMYK" and (kind := unsupported_kind(image)):
        raise InputError(f"{kind}; convert it to grey or RGB of 8 or 16 bits", code="image-kind")
    is_rgb16 = stored_bits(image) == 16 and image.mode not in GREY_16_BIT
    read_low_bytes = is_rgb16 and reopen is not None and isinstance(image, ImageFile.ImageFile) and has_low_bytes(image)
    # pillow-heif reports "bit_depth".
    bits_in_file = image.info.get("bit_depth", _avif_bits(image) or (16 if is_rgb16 else 8))
    notes = _omitted_content(image)
    if file_format != "TIFF":  # see `load_image`; of a TIFF, EXIF is read before decoding
        image.load()
    exif, exif_notes = read_exif(image)
    _, orientation = load_image(image, owned=reopen is not None)
    metadata, metadata_notes = read_metadata(image, exif)
    notes += exif_notes + metadata_notes
    if image.mode == "CMYK":
        image, metadata = _cmyk_to_srgb(image), dataclasses.replace(metadata, icc=b"")
        notes.append("CMYK was converted to sRGB by its colour profile")
    pixels, alpha, grey = to_arrays(image)
    metadata, profile_notes = _drop_mismatched_profile(metadata, grey)
    notes += profile_notes
    if read_low_bytes:
        assert reopen is not None
        with open_image(reopen) as undecoded:
            pixels, alpha = add_low_bytes(pixels, alpha, undecoded)
    elif bits_in_file > 8 and pixels.dtype == np.uint8:
        notes.append(f"{file_format} of {bits_in_file} bits a channel was read at 8 bits")
    return Photo(
        turn_upright(pixels, orientation),
        None if alpha is None else turn_upright(alpha, orientation),
        grey,
        metadata,
        file_format,
        tuple(notes),
    )


def _omitted_content(image: Image.Image) -> list[str]:
    """Return notes on what a file holds besides the picture; call before decoding."""
    notes = []
    if image.format in ("MPO", "HEIF") and getattr(image, "n_frames", 1) > 1:
        notes.append("the file holds several pictures; the main one was restored")
    if isinstance(image, TiffImageFile):
        extra = image.tag_v2.get(TIFF_TAGS["SamplesPerPixel"], 1) - len(image.getbands())
        if extra > 0:
            notes.append(f"TIFF: {extra} extra channel(s), neither colour nor transparency, were left out")
    return notes


def _avif_bits(image: Image.Image) -> int:
    """Return the bits per channel of an AVIF, from its AV1 configuration (av1C); 0 for other files."""
    if not isinstance(image, ImageFile.ImageFile) or image.format != "AVIF" or not image.fp or image.fp.closed:
        return 0
    position = image.fp.tell()
    image.fp.seek(0)
    start = image.fp.read(2**16)
    image.fp.seek(position)
    offset = start.find(b"av1C")
    if offset < 0 or offset + 6 >= len(start):
        return 0
    flags = start[offset + 6]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _drop_mismatched_profile(metadata: Metadata, grey: bool) -> tuple[Metadata, list[str]]:
    """Drop a colour profile that does not fit the pixels; return notes too.

    Grey with an RGB profile keeps it and is written as RGB (`save.py`), so its values mean the same colours.
    """
    colours = profile_colours(metadata.icc)
    if grey and colours == "RGB":
        return metadata, ["grey with an RGB colour profile is written as RGB"]
    if colours in ("", "GRAY" if grey else "RGB"):
        return metadata, []
    note = f"the colour profile is for {colours} and was left out: the pixels are {'grey' if grey else 'RGB'}"
    return dataclasses.replace(metadata, icc=b""), [note]


def _refuse_multiple_images(image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if image.format == "GIF":
        raise InputError(
            f"is a GIF{' animation' if frames > 1 else ''}; expected a photo. Save it as PNG first",
            code="image-kind",
        )
    if frames > 1 and image.format not in ("MPO", "HEIF"):
        kind = "with several pages" if image.format == "TIFF" else "animation"
        raise InputError(
            f"is a {image.format} {kind} ({frames} images); save them as separate photos first", code="image-kind"
        )


def _cmyk_to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        raise InputError(
            "is CMYK without a colour profile, so its colours are unknown; convert it to RGB",
            code="cmyk-without-profile",
        )
    try:
        converted = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except ImageCms.PyCMSError as error:
        raise InputError(
            f"is CMYK, and its colour profile cannot be used ({error}); convert it to RGB", code="cmyk-profile"
        ) from error
    assert converted is not None  # None is returned for in-place conversion only
    return converted
