"""TIFF 6.0 with deflate and all metadata: Pillow writes it compressed, or with EXIF's inner directories, not both.

It writes no RGB of 16 bits either.
"""

import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

ROWS = 64  # of a strip
TAGS = {tag.name: number for number, tag in TiffTags.TAGS_V2.items()}


def write_tiff(file: BinaryIO, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """Write uint8 or uint16 (H, W, C) as TIFF.

    Args:
        file: can be read and written.
        pixels: grey or RGB, and unassociated alpha behind it.
        options: those of Pillow's `save` that hold metadata.
    """
    height, width, channels = pixels.shape
    strips = range(0, height, ROWS)
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    _add_metadata(directory, options)
    fields = {
        "ImageWidth": width,
        "ImageLength": height,
        "BitsPerSample": (8 * pixels.itemsize,) * channels,
        "Compression": 8,
        "PhotometricInterpretation": 1 if channels < 3 else 2,
        "SamplesPerPixel": channels,
        "RowsPerStrip": ROWS,
        "PlanarConfiguration": 1,
        "Predictor": 2,
        **({"ExtraSamples": 2} if channels in (2, 4) else {}),
    }
    for name, value in fields.items():
        directory[TAGS[name]] = value
    offsets, sizes, position = [], [], 0
    # The directory comes first and is written twice: its length does not depend on where strips lie. Pillow counts
    # offsets from its end.
    for _ in range(2):
        for name, values in (("StripOffsets", offsets), ("StripByteCounts", sizes)):
            directory.tagtype[TAGS[name]] = TiffTags.LONG
            directory[TAGS[name]] = tuple(values) or (0,) * len(strips)
        file.seek(0)
        directory.save(file)
        if sizes:
            break
        for top in strips:
            rows = pixels[top : top + ROWS].astype(f"<u{pixels.itemsize}", order="C")
            rows[:, 1:] -= rows[:, :-1].copy()
            data = zlib.compress(rows.tobytes())
            file.write(data)
            offsets.append(position)
            sizes.append(len(data))
            position += len(data)


def _add_metadata(directory: TiffImagePlugin.ImageFileDirectory_v2, options: dict[str, Any]) -> None:
    if "exif" in options:
        exif = Image.Exif()
        exif.load(options["exif"])
        for tag, value in exif.items():
            directory[tag] = exif.get_ifd(tag) if tag in TiffTags.TAGS_V2_GROUPS else value
    if "dpi" in options:
        for tag, value in zip((ExifTags.Base.XResolution, ExifTags.Base.YResolution), options["dpi"], strict=True):
            directory[tag] = value
        directory[ExifTags.Base.ResolutionUnit] = 2
    for name, tag, kind in (("icc_profile", "ICCProfile", TiffTags.UNDEFINED), ("xmp", "XMP", TiffTags.BYTE)):
        if name in options:
            directory.tagtype[TAGS[tag]] = kind
            directory[TAGS[tag]] = options[name]
