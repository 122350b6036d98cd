"""Photo metadata carried from input to output: EXIF, XMP, colour profile, resolution, comments and PNG text.

Pixels are turned upright when a photo is read, so the orientation in EXIF (`exif.py`) and XMP is reset.
"""

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from jaxdeblur.images.exif import with_image_size
from jaxdeblur.images.png_chunks import MAX_UNPACKED, TEXT_CHUNKS, XMP_KEYWORD, large_chunks, list_chunks, unpack_chunk

# PNG chunks kept verbatim: the meaning of colours, and text. Pillow writes the others.
KEPT_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", *TEXT_CHUNKS)
_XMP_ORIENTATION = rb"(tiff:Orientation(?:=[\"']|>))[1-8](?=[\"'<])"

# Fields of Metadata that each format can hold.
_CAPABILITIES = {
    "PNG": {"exif", "xmp", "icc", "dpi", "chunks"},
    "JPEG": {"exif", "xmp", "icc", "dpi", "comment"},
    "WEBP": {"exif", "xmp", "icc"},
    "TIFF": {"exif", "xmp", "icc", "dpi"},
    "BMP": {"dpi"},
}


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Metadata of a photo; fields are empty where it has none.

    Attributes:
        exif: as written by Pillow, without orientation and preview.
        xmp: XML packet.
        icc: colour profile.
        dpi: horizontal and vertical resolution in dots per inch.
        comment: of a JPEG.
        chunks: of a PNG, (type, data).
    """

    exif: bytes = b""
    xmp: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    comment: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()


def read_large_chunks(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return a PNG's colour profile and XMP too large for Pillow, by their keys in `Image.info`, and notes.

    The notes name what is too large to keep. Large texts stay packed: see `read_png_chunks`.
    """
    info, notes = {}, []
    with path.open("rb") as file:
        for chunk in large_chunks(file):
            data = chunk.read(file)
            key = "icc_profile" if chunk.kind == b"iCCP" else "xmp" if data.startswith(XMP_KEYWORD) else ""
            content = unpack_chunk(chunk.kind, data, MAX_UNPACKED) if key else None
            if content:
                info[key] = content
            elif key or data.startswith(b"Raw profile type"):
                name = {"icc_profile": "the colour profile", "xmp": "XMP"}.get(key, "EXIF or IPTC as text")
                notes.append(f"PNG: {name} is larger than {MAX_UNPACKED >> 20} MiB or corrupt and was left out")
    return info, notes


def read_png_chunks(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    """Return the KEPT_CHUNKS of a PNG as (type, data); () for another format."""
    chunks = []
    with path.open("rb") as file:
        for chunk in list_chunks(file):
            if chunk.kind in KEPT_CHUNKS:
                data = chunk.read(file)
                if not data.startswith((b"Raw profile type", XMP_KEYWORD)):  # kept as EXIF and XMP
                    chunks.append((chunk.kind, data))
    return tuple(chunks)


def read_metadata(image: Image.Image, exif: bytes) -> tuple[Metadata, list[str]]:
    """Return the metadata of a decoded image, with the given EXIF and without PNG chunks, and notes."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    notes = ["IPTC data (Photoshop's) were left out"] if image.info.get("photoshop") else []
    metadata = Metadata(
        exif,
        re.sub(_XMP_ORIENTATION, rb"\g<1>1", _as_bytes(xmp)),
        image.info.get("icc_profile") or b"",
        _resolution(image.info.get("dpi")),
        _as_bytes(image.info.get("comment", b"")),
    )
    return metadata, notes


def _resolution(dpi: Any) -> tuple[float, float] | None:
    """Return Pillow's resolution as floats; None where it is missing or not a number."""
    try:
        horizontal, vertical = map(float, dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (horizontal, vertical) if 0 < horizontal < math.inf and 0 < vertical < math.inf else None


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def profile_colours(icc: bytes) -> str:
    """Return a profile's colour space, such as "RGB" or "GRAY" (ICC.1:2022, 7.2.6); "" without a profile."""
    return icc[16:20].decode("latin-1").strip() if icc[36:40] == b"acsp" else ""


def save_options(metadata: Metadata, file_format: str, size: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """Return arguments for Pillow's `save` that write the metadata, and notes on what the format cannot hold.

    Args:
        metadata: what to write.
        file_format: PNG, JPEG, WEBP, TIFF or BMP.
        size: (width, height) of the image to be written.
    """
    supported = _CAPABILITIES[file_format]
    names = {"exif": "EXIF", "xmp": "XMP", "icc": "the colour profile", "comment": "the comment"}
    lost = [name for field, name in names.items() if getattr(metadata, field) and field not in supported]
    if "chunks" not in supported and any(kind in TEXT_CHUNKS for kind, _ in metadata.chunks):
        lost.append("PNG's text")
    options: dict[str, Any] = {}
    if "exif" in supported and metadata.exif:
        options["exif"] = with_image_size(metadata.exif, size)
    if "icc" in supported and metadata.icc:
        options["icc_profile"] = metadata.icc
    if "dpi" in supported and metadata.dpi:
        options["dpi"] = metadata.dpi
    if "comment" in supported and metadata.comment:
        options["comment"] = metadata.comment
    if file_format == "PNG":
        options["pnginfo"] = _png_info(metadata)
    elif "xmp" in supported and metadata.xmp:
        options["xmp"] = metadata.xmp
    return options, [f"{file_format} cannot hold {', '.join(lost)}: left out"] if lost else []


def pillow_info(metadata: Metadata) -> dict[str, Any]:
    """Return metadata as the `info` of a Pillow image."""
    info = {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": metadata.icc, "dpi": metadata.dpi}
    return {key: value for key, value in info.items() if value}


def _png_info(metadata: Metadata) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for kind, data in metadata.chunks:
        info.add(kind, data)
    if metadata.xmp:
        info.add_itxt(XMP_KEYWORD.decode(), metadata.xmp.decode("utf-8", "replace"))
    return info
