"""Image files to uint8 RGB (H, W, 3): PNG, JPEG, WebP, TIFF and AVIF, known by their content, by one rule for all.

- 8-bit RGB is taken as it is. Grey and 1-bit images get three equal channels, palettes are looked up.
- Transparency is laid over black: round(v * alpha / 255). Where a file is opaque that changes nothing.
- 16-bit values keep their upper byte, v // 256: it undoes v * 257, the usual way from 8 bits to 16, exactly.
- EXIF's orientation is applied, whatever else EXIF holds: the image stands as a viewer shows it.
- Colour profiles are not applied; values stay as stored. A profile or text of a PNG that is larger than Pillow accepts
  (1 MB unpacked) is dropped.
- A photograph with previews behind it (multi-picture JPEG, as some cameras write) counts as its first picture.

Refused, because there is no one right way or because Pillow reads them wrongly: CMYK, Lab and YCbCr values, floating
point, 32-bit and signed integers, animations and files of several pages, 16-bit TIFF stored plane by plane, grey TIFF
of 9 to 15 bits or of 16 with white as zero, a single transparent colour in PNGs of 16 or of fewer than 8 bits, and
cameras' raw files, of which only a small preview can be read.
"""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffTags, UnidentifiedImageError

from jaxdeblur.errors import InputError
from jaxdeblur.images.png_chunks import PNG_START, readable
from jaxdeblur.images.raw import raw_kind

# In lower case; upper case is as good.
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".avif")
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")
PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"  # length, name and checksum of the last, empty chunk
GREY_16_BIT = ("I;16", "I;16B")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", *GREY_16_BIT)
RESIZE_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

_TIFF = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}


def read_image(path: Path) -> np.ndarray:
    """Return an image file as uint8 RGB (H, W, 3), converted by this module's rule.

    Raises:
        InputError: the file is missing, no image, cut short, damaged or of a kind that is refused.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Put it back or make it readable.") from error
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Return an image file's content as uint8 RGB (H, W, 3), converted by this module's rule.

    Args:
        content: all bytes of the file.
        name: what an error calls it.

    Raises:
        InputError: it is no image, cut short, damaged or of a kind that is refused.
    """
    try:
        return _decode(content)[0]
    except InputError as error:
        words = f"{name}: {error}. Put a good copy in its place, as 8-bit RGB for instance."
        raise InputError(words, code=error.code) from error


def examine_image(content: bytes) -> tuple[np.ndarray, int]:
    """Return what `decode_image` does, and EXIF's orientation (1 to 8), after a look at a PNG's checksums and end too.

    Raises:
        InputError: says what is wrong, without the file's name.
    """
    pixels, orientation = _decode(content)
    if content.startswith(PNG_START):  # the other formats hold no more than decoding has seen
        if PNG_END not in content:
            raise InputError("cannot be read as an image (cut short: the PNG has no end)", code="image-damaged")
        try:
            with Image.open(readable(io.BytesIO(content))) as image:
                image.verify()
        except Exception as error:
            raise InputError(f"cannot be read as an image ({error})", code="image-damaged") from error
    return pixels, orientation


def resize_image(image: np.ndarray, side: int, resize_filter: str) -> np.ndarray:
    """Return a uint8 image (H, W, 3) resized to (side, side, 3); one that has this size is returned as it is."""
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), RESIZE_FILTERS[resize_filter]))


def _decode(content: bytes) -> tuple[np.ndarray, int]:
    """Return pixels (H, W, 3) and orientation; an InputError says what is wrong, without the file's name."""
    if not content:
        raise InputError("cannot be read as an image (0 bytes)", code="image-damaged")
    try:
        if kind := raw_kind(io.BytesIO(content)):
            raise InputError(f"is a camera's raw file ({kind}): develop it first", code="raw-file")
        with Image.open(readable(io.BytesIO(content)), formats=known_formats(FORMATS)) as image:
            if kind := refused_kind(image):
                raise InputError(
                    f"{kind}; expected grey, palette or RGB of 8 or 16 bits, so convert it", code="image-kind"
                )
            orientation, left = load_image(image)
            return np.ascontiguousarray(turn_upright(_to_rgb(image), left)), orientation
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        kinds = "PNG, JPEG, WebP, TIFF or AVIF"
        raise InputError(f"cannot be read as an image (no {kinds}, or cut short)", code="image-damaged") from error
    except Exception as error:  # on damaged files Pillow's decoders raise whatever they stumble over
        words = error or type(error).__name__
        raise InputError(f"cannot be read as an image ({words})", code="image-damaged") from error


def known_formats(names: tuple[str, ...]) -> list[str]:
    """Return those of Pillow's formats that it can open: AVIF needs Pillow 11.3, HEIF its plug-in."""
    Image.init()
    return [name for name in names if name in Image.OPEN]


def load_image(image: Image.Image, *, owned: bool = True) -> tuple[int, int]:
    """Decode an image; return its orientation, and the one that is left to be applied, both 1 to 8.

    By itself Pillow turns a TIFF when it decodes it, if the orientation is stored as Pillow expects it.

    Args:
        image: as Pillow opened it.
        owned: nobody else uses it, so that what else its EXIF holds may be cleared: Pillow stumbles over odd values.
    """
    if image.format != "TIFF":
        # First of all: Pillow decodes a PNG when it is asked for EXIF, and damage must not pass for damaged EXIF.
        image.load()
        orientation = _orientation(image)
        return orientation, orientation
    orientation = _orientation(image)
    if owned:
        exif = image.getexif()
        for tag in set(exif) - {ExifTags.Base.Orientation}:
            del exif[tag]
    image.load()
    return orientation, _orientation(image)


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8, or XMP's; 1 where there is none.

    Nothing else in EXIF matters, and no more does the type that the number is stored in.
    """
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        if isinstance(found, tuple | bytes):  # of several values, or of the type BYTE or UNDEFINED
            found = found[0]
        found = int(found)
    except Exception:  # Pillow raises whatever it stumbles over in damaged EXIF
        return 1
    return found if 1 <= found <= 8 else 1


def turn_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of (H, W, ...) that stands as EXIF's orientation says."""
    swapped = np.swapaxes(array, 0, 1) if orientation >= 5 else array
    mirrored, upside_down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return swapped[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def refused_kind(image: Image.Image) -> str:
    """Return what kind of image this is if it is one of those that are refused, else nothing."""
    if image.mode not in MODES:
        kinds = {"F": "floating point", "I": "32-bit or signed integers"}
        return f"{image.format or 'image'} of {kinds.get(image.mode, f'{image.mode} values')}"
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        return f"{image.format} of {frames} images"
    # The transparent colour is given in the file's own depth, which Pillow does not always follow.
    if image.format == "PNG" and image.mode in ("1", "L", "RGB", *GREY_16_BIT) and "transparency" in image.info:
        depth = image.tile[0][3]
        if depth not in ("L", "RGB"):
            return f"PNG with a transparent colour, stored as {depth}"
    return _refused_tiff(image) if image.format == "TIFF" else ""


def _refused_tiff(image: Image.Image) -> str:
    if image.fp and not image.fp.closed:  # Pillow's own image, as it was opened: files were looked at before
        position = image.fp.tell()
        kind = raw_kind(image.fp)
        image.fp.seek(position)
        if kind:
            return f"camera's raw file ({kind}), which is to be developed first"
    bits = image.tag_v2.get(_TIFF["BitsPerSample"], (1,))
    # Pillow reads the planes of an uncompressed one as if they were of 8 bits.
    if len(bits) > 1 and max(bits) > 8 and image.tag_v2.get(_TIFF["PlanarConfiguration"]) == 2:
        return f"{max(bits)}-bit TIFF stored plane by plane"
    if image.mode in GREY_16_BIT and bits != (16,):
        return f"grey TIFF of {bits[0]} bits"
    # Pillow turns white-is-zero around in 8 bits, but not in 16.
    if image.mode in GREY_16_BIT and image.tag_v2.get(_TIFF["PhotometricInterpretation"]) == 0:
        return "16-bit TIFF with white as zero"
    return ""


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Return an image of one of MODES as uint8 (H, W, 3)."""
    if image.mode in GREY_16_BIT:
        grey = (np.asarray(image) // 256).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA")).astype(np.uint16)
        return ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
