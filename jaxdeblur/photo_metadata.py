"""What a photograph holds beside its pixels: EXIF, XMP, colour profile, resolution, text; kept from file to file.

Pixels are turned upright when a photograph is read, so the orientation leaves EXIF and XMP; a preview in EXIF shows the
blurred photograph and is left out. A maker's notes stay as bytes.
"""

import dataclasses
import re
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from jaxdeblur.data.images import PNG_START

# Tags of TIFF that say how its pixels are stored, and what is kept apart (XMP, colour profile): not EXIF's business.
STORAGE_TAGS = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 284, 288, 289, 317, 320, 322, 323),
    *(324, 325, 330, 332, 333, 334, 336, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529),
    *(530, 531, 532, 700, 34377, 33723, 34675),
}
# Chunks of PNG that say what its colours mean, and its text; Pillow writes the others.
PNG_KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tEXt", b"zTXt", b"iTXt")
_ORIENTATION = rb"(tiff:Orientation(?:=[\"']|>))[1-8](?=[\"'<])"


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is kept of a photograph; empty where it has none.

    Attributes:
        exif: as Pillow writes it, without orientation and preview.
        xmp: the XML packet.
        icc: the colour profile.
        dpi: horizontal and vertical resolution in dots per inch.
        comment: of a JPEG.
        chunks: of a PNG, kind and data.
    """

    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    comment: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()


def read_orientation_and_exif(image: Image.Image) -> tuple[int, bytes, list[str]]:
    """Return EXIF's orientation (1 to 8), EXIF without it, and what there is to say; to be called before decoding."""
    try:
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())  # a copy: by its own, Pillow turns a TIFF when it decodes it
        found = exif.pop(ExifTags.Base.Orientation, 1)
        for tag in STORAGE_TAGS & set(exif):
            del exif[tag]
        content = exif.tobytes() if len(exif) else b""
    except Exception:  # Pillow raises whatever it stumbles over in damaged EXIF
        return 1, b"", ["EXIF is damaged and was left out; the orientation it may have named was not applied"]
    return int(found) if found in range(1, 9) else 1, content, []


def read_metadata(image: Image.Image, exif: bytes) -> tuple[Metadata, list[str]]:
    """Return what is kept of a decoded image, and what there is to say."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    dpi = image.info.get("dpi")
    notes = ["IPTC data (Photoshop's) were not kept"] if image.info.get("photoshop") else []
    return Metadata(
        exif,
        re.sub(_ORIENTATION, rb"\g<1>1", xmp),
        image.info.get("icc_profile") or b"",
        (float(dpi[0]), float(dpi[1])) if dpi and all(dpi) else None,
        _as_bytes(image.info.get("comment", b"")),
    ), notes


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def read_png_chunks(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    """Return the chunks of a PNG that are kept as they are; none of another file."""
    chunks = []
    with path.open("rb") as file:
        if file.read(len(PNG_START)) != PNG_START:
            return ()
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind in PNG_KEPT:
                data = file.read(length)
                if not data.startswith((b"Raw profile type", b"XML:com.adobe.xmp")):  # kept as EXIF and XMP
                    chunks.append((kind, data))
                length = 0
            file.seek(length + 4, 1)
    return tuple(chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk as a PNG holds it: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def save_options(metadata: Metadata, file_format: str, size: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """Return what Pillow's `save` takes to write metadata, and what the format cannot hold.

    Args:
        metadata: what is kept.
        file_format: PNG, JPEG, WEBP, TIFF or BMP.
        size: (width, height) of the image to be written.
    """
    holds = {
        "PNG": {"exif", "xmp", "icc", "dpi", "chunks"},
        "JPEG": {"exif", "xmp", "icc", "dpi", "comment"},
        "WEBP": {"exif", "xmp", "icc"},
        "TIFF": {"exif", "xmp", "icc", "dpi"},
        "BMP": {"dpi"},
    }[file_format]
    words = {"exif": "EXIF", "xmp": "XMP", "icc": "the colour profile", "comment": "the comment"}
    lost = [word for field, word in words.items() if getattr(metadata, field) and field not in holds]
    if "chunks" not in holds and any(kind in (b"tEXt", b"zTXt", b"iTXt") for kind, _ in metadata.chunks):
        lost.append("PNG's text")
    options: dict[str, Any] = {}
    if "exif" in holds and metadata.exif:
        options["exif"] = _with_size(metadata.exif, size)
    if "icc" in holds and metadata.icc:
        options["icc_profile"] = metadata.icc
    if "dpi" in holds and metadata.dpi:
        options["dpi"] = metadata.dpi
    if "comment" in holds and metadata.comment:
        options["comment"] = metadata.comment
    if file_format == "PNG":
        options["pnginfo"] = _png_info(metadata)
    elif "xmp" in holds and metadata.xmp:
        options["xmp"] = metadata.xmp
    return options, [f"{file_format} cannot hold {', '.join(lost)}: left out"] if lost else []


def info_of(metadata: Metadata) -> dict[str, Any]:
    """Return metadata as Pillow's images hold it in `info`."""
    found = {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": metadata.icc, "dpi": metadata.dpi}
    return {name: value for name, value in found.items() if value}


def _with_size(content: bytes, size: tuple[int, int]) -> bytes:
    """Return EXIF whose own words on the image's size, if any, are true."""
    exif = Image.Exif()
    exif.load(content)
    details = exif.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in exif else {}
    for tag, side in ((ExifTags.Base.ExifImageWidth, size[0]), (ExifTags.Base.ExifImageHeight, size[1])):
        if tag in details:
            details[tag] = side
    return exif.tobytes()


def _png_info(metadata: Metadata) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for kind, data in metadata.chunks:
        info.add(kind, data)
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return info
