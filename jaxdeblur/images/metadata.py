"""Metadata of a photograph, kept from file to file: EXIF, XMP, colour profile, resolution, text.

Pixels are turned upright when a photograph is read, so the orientation leaves EXIF and XMP; a preview in EXIF shows the
blurred photograph and is left out. A maker's notes stay as bytes.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from jaxdeblur.images.png_chunks import MOST_UNPACKED, TEXT_CHUNKS, XMP_KEYWORD, large_chunks, list_chunks, unpacked

# Tags of TIFF that say how its pixels are stored, and what is kept apart (XMP, colour profile): not EXIF's business.
STORAGE_TAGS = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 284, 288, 289, 317, 320, 322, 323),
    *(324, 325, 330, 332, 333, 334, 336, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529),
    *(530, 531, 532, 700, 34377, 33723, 34675),
}
# Chunks of PNG that say what its colours mean, and its text; Pillow writes the others.
PNG_KEPT = (b"gAMA", b"cHRM", b"sRGB", b"cICP", *TEXT_CHUNKS)
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


def read_exif(image: Image.Image) -> tuple[bytes, list[str]]:
    """Return EXIF without orientation and preview, and notes on what was lost; of a TIFF, call it before decoding.

    A tag that Pillow cannot write again is left out, and the others are kept.
    """
    try:
        found = image.getexif()
    except Exception:  # Pillow raises whatever it stumbles over in damaged EXIF
        return b"", ["EXIF is damaged and was left out"]
    try:
        content, lost = _exif_bytes(found), []
    except Exception:
        content, lost = _writable_part(found)
    exif = Image.Exif()
    exif.load(content)
    for tag in (STORAGE_TAGS | {ExifTags.Base.Orientation}) & set(exif):
        del exif[tag]
    notes = [f"EXIF: left out what cannot be read: {', '.join(lost)}"] if lost else []
    return exif.tobytes() if len(exif) else b"", notes


def _exif_bytes(exif: Image.Exif) -> bytes:
    """Return EXIF as bytes; also that of a BigTIFF, which Pillow writes as BigTIFF and cannot read again."""
    big, exif.bigtiff = exif.bigtiff, False
    try:
        return exif.tobytes()
    finally:
        exif.bigtiff = big


def _writable_part(exif: Image.Exif) -> tuple[bytes, list[str]]:
    """Return those tags that can be read and written, and the names of the others."""
    directories = {tag: _read_directory(exif, tag) for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if tag in exif}
    main, lost = {}, []
    for tag in exif:
        if tag in directories or tag in STORAGE_TAGS or tag == ExifTags.Base.Orientation:
            continue
        _take(main, tag, lambda tag=tag: exif[tag], lost, None)
    for directory, values in directories.items():
        kept: dict[int, Any] = {}
        for tag, value in values.items():
            _take(kept, tag, lambda value=value: value, lost, directory)
        if kept:
            main[directory] = kept
    return _bytes_of(main), lost


def _read_directory(exif: Image.Exif, tag: int) -> dict[int, Any]:
    try:
        return exif.get_ifd(tag)
    except Exception:
        return {}


def _take(kept: dict[int, Any], tag: int, read: Callable[[], Any], lost: list[str], directory: int | None) -> None:
    """Add a tag to those of a directory that are kept, or its name to those that are lost."""
    try:
        value = read()
        _bytes_of({tag: value} if directory is None else {directory: {tag: value}})
        kept[tag] = value
    except Exception:
        names = ExifTags.GPSTAGS if directory == ExifTags.IFD.GPSInfo else ExifTags.TAGS
        lost.append(names.get(tag, f"tag {tag}"))


def _bytes_of(tags: dict[int, Any]) -> bytes:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    return exif.tobytes()


def read_large_chunks(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the colour profile and XMP of a PNG that are too large for Pillow, by their names in `Image.info`.

    The notes say what is too large to be kept. Texts need no unpacking: `read_png_chunks` keeps them as they are.
    """
    info, notes = {}, []
    with path.open("rb") as file:
        for chunk in large_chunks(file):
            data = chunk.read(file)
            name = "icc_profile" if chunk.kind == b"iCCP" else "xmp" if data.startswith(XMP_KEYWORD) else ""
            content = unpacked(chunk.kind, data, MOST_UNPACKED) if name else None
            if content:
                info[name] = content
            elif name or data.startswith(b"Raw profile type"):
                words = {"icc_profile": "the colour profile", "xmp": "XMP"}.get(name, "EXIF or IPTC as text")
                notes.append(f"PNG: {words} is larger than {MOST_UNPACKED >> 20} MB or damaged and was left out")
    return info, notes


def read_metadata(image: Image.Image, exif: bytes) -> tuple[Metadata, list[str]]:
    """Return what is kept of a decoded image, and what there is to say."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    notes = ["IPTC data (Photoshop's) were not kept"] if image.info.get("photoshop") else []
    return Metadata(
        exif,
        re.sub(_ORIENTATION, rb"\g<1>1", xmp),
        image.info.get("icc_profile") or b"",
        _resolution(image.info.get("dpi")),
        _as_bytes(image.info.get("comment", b"")),
    ), notes


def _resolution(dpi: Any) -> tuple[float, float] | None:
    """Return Pillow's resolution as numbers; None where it is not known, or is no number in the file."""
    try:
        across, down = map(float, dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < math.inf and 0 < down < math.inf else None


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def profile_colours(icc: bytes) -> str:
    """Return which colours a profile is for, as "RGB" or "GRAY" (ICC.1:2022, 7.2.6); "" without a profile."""
    return icc[16:20].decode("latin-1").strip() if icc[36:40] == b"acsp" else ""


def read_png_chunks(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    """Return the chunks of a PNG that are kept as they are; none of another file."""
    chunks = []
    with path.open("rb") as file:
        for chunk in list_chunks(file):
            if chunk.kind in PNG_KEPT:
                data = chunk.read(file)
                if not data.startswith((b"Raw profile type", XMP_KEYWORD)):  # kept as EXIF and XMP
                    chunks.append((chunk.kind, data))
    return tuple(chunks)


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
    if "chunks" not in holds and any(kind in TEXT_CHUNKS for kind, _ in metadata.chunks):
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
        info.add_itxt(XMP_KEYWORD.decode(), metadata.xmp.decode("utf-8", "replace"))
    return info
