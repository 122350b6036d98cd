"""Reads EXIF for writing back: without orientation, previews and storage tags, and without tags Pillow cannot write.

Pixels are turned upright when a photo is read, so the orientation is dropped; an EXIF preview would show the blurred
photo. Maker notes stay as bytes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import ExifTags, Image

# TIFF tags that describe how pixels are stored, and those kept elsewhere (XMP, IPTC, colour profile).
STORAGE_TAGS = {
    *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 284, 288, 289, 317, 320, 322, 323),
    *(324, 325, 330, 332, 333, 334, 336, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529),
    *(530, 531, 532, 700, 34377, 33723, 34675),
}


def read_exif(image: Image.Image) -> tuple[bytes, list[str]]:
    """Return an image's EXIF and notes on lost tags; of a TIFF, call before decoding.

    Where Pillow cannot write EXIF as a whole, the tags it cannot write are left out one by one.
    """
    try:
        source = image.getexif()
    except Exception:  # Pillow raises all kinds of exceptions on corrupt EXIF
        return b"", ["EXIF is corrupt and was left out"]
    lost: list[str] = []
    try:
        content = _serialize(source)
    except Exception:
        content, lost = _writable_part(source)
    exif = Image.Exif()
    exif.load(content)
    for tag in (STORAGE_TAGS | {ExifTags.Base.Orientation}) & set(exif):
        del exif[tag]
    notes = [f"EXIF: left out what cannot be read: {', '.join(lost)}"] if lost else []
    return exif.tobytes() if len(exif) else b"", notes


def with_image_size(content: bytes, size: tuple[int, int]) -> bytes:
    """Return EXIF with its recorded image size, if any, set to `size` (width, height)."""
    exif = Image.Exif()
    exif.load(content)
    details = exif.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in exif else {}
    for tag, side in ((ExifTags.Base.ExifImageWidth, size[0]), (ExifTags.Base.ExifImageHeight, size[1])):
        if tag in details:
            details[tag] = side
    return exif.tobytes()


def _serialize(exif: Image.Exif) -> bytes:
    """Return EXIF as bytes; from a BigTIFF too, which Pillow would write as BigTIFF and not read back."""
    big, exif.bigtiff = exif.bigtiff, False
    try:
        return exif.tobytes()
    finally:
        exif.bigtiff = big


def _writable_part(exif: Image.Exif) -> tuple[bytes, list[str]]:
    """Return the tags that can be read and written, as bytes, and the names of the others."""
    directories = {tag: _read_directory(exif, tag) for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if tag in exif}
    main: dict[int, Any] = {}
    lost: list[str] = []
    for tag in exif:
        if tag in directories or tag in STORAGE_TAGS or tag == ExifTags.Base.Orientation:
            continue
        _copy_tag(main, tag, partial(exif.__getitem__, tag), lost, None)
    for directory, values in directories.items():
        writable: dict[int, Any] = {}
        for tag in values:
            _copy_tag(writable, tag, partial(values.__getitem__, tag), lost, directory)
        if writable:
            main[directory] = writable
    return _to_bytes(main), lost


def _read_directory(exif: Image.Exif, tag: int) -> dict[int, Any]:
    try:
        return exif.get_ifd(tag)
    except Exception:
        return {}


def _copy_tag(
    writable: dict[int, Any], tag: int, read: Callable[[], Any], lost: list[str], directory: int | None
) -> None:
    """Add a tag to `writable`, or its name to `lost` if it cannot be read and written."""
    try:
        value = read()
        _to_bytes({tag: value} if directory is None else {directory: {tag: value}})
        writable[tag] = value
    except Exception:
        names = ExifTags.GPSTAGS if directory == ExifTags.IFD.GPSInfo else ExifTags.TAGS
        lost.append(names.get(tag, f"tag {tag}"))


def _to_bytes(tags: dict[int, Any]) -> bytes:
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    return exif.tobytes()
