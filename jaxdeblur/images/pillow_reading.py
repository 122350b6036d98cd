"""How Pillow images are decoded here, for training pairs and photos alike: kinds refused, orientation, pixel arrays.

The one owner of which pixels an image file holds. Values are taken as stored; colour profiles are not applied.

- Grey and 1-bit images get three equal channels, palettes are looked up, and transparency becomes an alpha channel.
- EXIF's orientation is applied, whatever else EXIF holds.
- Of a multi-picture file (MPO), the first picture is read.

What callers do with the result differs for a reason. `decode.py` makes training pairs, which must be 8-bit RGB: it
blends over black and keeps the upper byte of 16 bits. `photo.py` restores photos without loss: it keeps alpha and all
16 bits, and converts CMYK by its profile.
"""

from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffTags
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from jaxdeblur.images.raw import raw_kind
from jaxdeblur.images.rgb16 import decode_low_bytes

GREY_16_BIT = ("I;16", "I;16B")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", *GREY_16_BIT)
TIFF_TAGS = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}

_STRIP_PIXELS = 2**22  # converted at a time, to avoid a second copy of a large image


def available_formats(names: tuple[str, ...]) -> list[str]:
    """Return the formats that Pillow can open: AVIF needs Pillow 11.3, HEIF needs its plug-in."""
    Image.init()
    return [name for name in names if name in Image.OPEN]


def unsupported_kind(image: Image.Image) -> str:
    """Describe why an image is refused; "" if it is supported.

    Refused are kinds without one right conversion to RGB and those that Pillow reads wrongly: CMYK, Lab and YCbCr
    values, floating point, 32-bit and signed integers, animations and multi-page files, 16-bit TIFF stored plane by
    plane, grey TIFF of 9 to 15 bits or of 16 bits with white as zero, a single transparent colour in PNGs of 16 or
    fewer than 8 bits, and camera raw files, of which only a small preview can be read.
    """
    if image.mode not in MODES:
        kinds = {"F": "floating point", "I": "32-bit or signed integers"}
        return f"{image.format or 'image'} of {kinds.get(image.mode, f'{image.mode} values')}"
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        return f"{image.format} of {frames} images"
    # The transparent colour is stored at the file's bit depth, which Pillow does not always take into account.
    has_colour_key = image.mode in ("1", "L", "RGB", *GREY_16_BIT) and "transparency" in image.info
    if isinstance(image, PngImageFile) and has_colour_key:
        depth = image.tile[0].args
        if depth not in ("L", "RGB"):
            return f"PNG with a transparent colour, stored as {depth}"
    return _unsupported_tiff(image) if isinstance(image, TiffImageFile) else ""


def _unsupported_tiff(image: TiffImageFile) -> str:
    if image.fp and not image.fp.closed:  # an image that the caller opened; our own files are checked before opening
        position = image.fp.tell()
        kind = raw_kind(image.fp)
        image.fp.seek(position)
        if kind:
            return f"camera raw file ({kind}), to be developed first"
    bits = image.tag_v2.get(TIFF_TAGS["BitsPerSample"], (1,))
    # Pillow reads uncompressed planes as if they had 8 bits.
    if len(bits) > 1 and max(bits) > 8 and image.tag_v2.get(TIFF_TAGS["PlanarConfiguration"]) == 2:
        return f"{max(bits)}-bit TIFF stored plane by plane"
    if image.mode in GREY_16_BIT and bits != (16,):
        return f"grey TIFF of {bits[0]} bits"
    # Pillow inverts white-is-zero at 8 bits, but not at 16.
    if image.mode in GREY_16_BIT and image.tag_v2.get(TIFF_TAGS["PhotometricInterpretation"]) == 0:
        return "16-bit TIFF with white as zero"
    return ""


def load_image(image: Image.Image, *, owned: bool = True) -> tuple[int, int]:
    """Decode an image; return its orientation and the one still to be applied, both 1 to 8.

    They differ for TIFF: Pillow applies the orientation while decoding if it is stored with the expected type.

    Args:
        image: as opened by Pillow.
        owned: no one else uses the image, so other EXIF tags may be cleared: odd values make Pillow's decoding fail.
    """
    if image.format != "TIFF":
        # Before EXIF: Pillow decodes a PNG to read it, and corrupt pixels must not pass for corrupt EXIF.
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
    """Return EXIF's (or XMP's) orientation, 1 to 8; 1 where there is none. Any stored type is accepted."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        if isinstance(value, tuple | bytes):  # several values, or type BYTE or UNDEFINED
            value = value[0]
        orientation = int(value)
    except Exception:  # Pillow raises all kinds of exceptions on corrupt EXIF
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def turn_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation to an array (H, W, ...); returns a view."""
    swapped = np.swapaxes(array, 0, 1) if orientation >= 5 else array
    mirrored, upside_down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return swapped[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def to_arrays(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Convert a decoded image of one of MODES to (RGB (H, W, 3), alpha (H, W) or None, is grey).

    uint16 for GREY_16_BIT, else uint8. Arrays may be read-only views.
    """
    if image.mode in GREY_16_BIT:
        return _repeat_channels(_convert(image, image.mode).astype(np.uint16)), None, True
    transparent = image.has_transparency_data
    if image.mode == "LA":
        values = _convert(image, "LA")  # (H, W, 2)
        return _repeat_channels(values[..., 0]), values[..., 1], True
    if image.mode in ("1", "L") and not transparent:
        return _repeat_channels(_convert(image, "L")), None, True
    values = _convert(image, "RGBA" if transparent else "RGB")
    return values[..., :3], values[..., 3] if transparent else None, image.mode in ("1", "L")


def add_low_bytes(
    pixels: np.ndarray, alpha: np.ndarray | None, image: ImageFile.ImageFile
) -> tuple[np.ndarray, np.ndarray | None]:
    """Combine upper bytes (uint8 arrays) with the lower bytes in the image's file to uint16.

    Args:
        pixels: upper bytes, (H, W, 3).
        alpha: upper bytes, (H, W), or None.
        image: the same image, freshly opened and not decoded.
    """
    deep, deep_alpha = _shifted(pixels), None if alpha is None else _shifted(alpha)
    decode_low_bytes(image)
    load_image(image)
    for top, low in _strips(image, image.mode):
        deep[top : top + len(low)] |= low[..., :3]
        if deep_alpha is not None:
            deep_alpha[top : top + len(low)] |= low[..., 3]
    return deep, deep_alpha


def _shifted(upper: np.ndarray) -> np.ndarray:
    deep = upper.astype(np.uint16)
    deep <<= 8  # in place: it may be hundreds of megabytes
    return deep


def _repeat_channels(grey: np.ndarray) -> np.ndarray:
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))


def _convert(image: Image.Image, mode: str) -> np.ndarray:
    """Convert an image to a mode and return it as an array; strip by strip where it is large."""
    if image.width * image.height <= _STRIP_PIXELS:
        return np.asarray(image if image.mode == mode else image.convert(mode))
    result: np.ndarray | None = None
    for top, values in _strips(image, mode):
        if result is None:
            result = np.empty((image.height, *values.shape[1:]), values.dtype)
        result[top : top + len(values)] = values
    assert result is not None
    return result


def _strips(image: Image.Image, mode: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows converted to `mode`)."""
    step = max(_STRIP_PIXELS // image.width, 1)
    for top in range(0, image.height, step):
        rows = image.crop((0, top, image.width, min(top + step, image.height)))
        rows.info = image.info  # holds a palette's transparent colour
        yield top, np.asarray(rows if rows.mode == mode else rows.convert(mode))
