"""Writes TIFF 6.0 with deflate, 8 or 16 bits and all metadata.

Neither library at hand does: Pillow writes TIFF either compressed or with EXIF's nested directories, and no 16-bit RGB;
tifffile refuses the EXIF, GPS and interoperability directories (34665, 34853, 40965 are in its TAG_FILTERED) and is
not otherwise a dependency. Pillow's directory writer serialises the tags here.
"""

import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from jaxdeblur.images.pillow_reading import TIFF_TAGS

ROWS_PER_STRIP = 64


def write_tiff(file: BinaryIO, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write uint8 or uint16 (H, W, C) as TIFF.

    Args:
        file: open for reading and writing.
        pixels: grey or RGB, optionally followed by unassociated alpha.
        options: metadata, as arguments of Pillow's `save`.
    """
    tops = range(0, len(pixels), ROWS_PER_STRIP)
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    _add_metadata(directory, options)
    _add_storage_tags(directory, pixels)
    # The directory comes first in the file: reserve its length, which does not depend on the offsets, then rewrite it.
    # Pillow counts offsets from its end.
    _save_directory(file, directory, (0,) * len(tops), (0,) * len(tops))
    offsets, sizes, position = [], [], 0
    for top in tops:
        rows = pixels[top : top + ROWS_PER_STRIP].astype(f"<u{pixels.itemsize}", order="C")
        rows[:, 1:] -= rows[:, :-1].copy()
        data = zlib.compress(rows.tobytes())
        file.write(data)
        offsets.append(position)
        sizes.append(len(data))
        position += len(data)
    _save_directory(file, directory, tuple(offsets), tuple(sizes))


def _save_directory(
    file: BinaryIO, directory: TiffImagePlugin.ImageFileDirectory_v2, offsets: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    for name, values in (("StripOffsets", offsets), ("StripByteCounts", sizes)):
        directory.tagtype[TIFF_TAGS[name]] = TiffTags.LONG
        directory[TIFF_TAGS[name]] = values
    file.seek(0)
    directory.save(file)


def _add_storage_tags(directory: TiffImagePlugin.ImageFileDirectory_v2, pixels: np.ndarray) -> None:
    height, width, channels = pixels.shape
    tags = {
        "ImageWidth": width,
        "ImageLength": height,
        "BitsPerSample": (8 * pixels.itemsize,) * channels,
        "Compression": 8,  # deflate
        "PhotometricInterpretation": 1 if channels < 3 else 2,  # black is zero, RGB
        "SamplesPerPixel": channels,
        "RowsPerStrip": ROWS_PER_STRIP,
        "PlanarConfiguration": 1,  # interleaved
        "Predictor": 2,  # horizontal differences
        **({"ExtraSamples": 2} if channels in (2, 4) else {}),  # unassociated alpha
    }
    for name, value in tags.items():
        directory[TIFF_TAGS[name]] = value


def _add_metadata(directory: TiffImagePlugin.ImageFileDirectory_v2, options: dict[str, Any]) -> None:
    if "exif" in options:
        exif = Image.Exif()
        exif.load(options["exif"])
        for tag, value in exif.items():
            directory[tag] = exif.get_ifd(tag) if tag in TiffTags.TAGS_V2_GROUPS else value
    if "dpi" in options:
        for tag, value in zip((ExifTags.Base.XResolution, ExifTags.Base.YResolution), options["dpi"], strict=True):
            directory[tag] = value
        directory[ExifTags.Base.ResolutionUnit] = 2  # inch
    for name, tag_name, kind in (("icc_profile", "ICCProfile", TiffTags.UNDEFINED), ("xmp", "XMP", TiffTags.BYTE)):
        if name in options:
            directory.tagtype[TIFF_TAGS[tag_name]] = kind
            directory[TIFF_TAGS[tag_name]] = options[name]
