"""Sample images for a page: as they are, enlarged where they differ most, and as maps of their error.

Images are (H, W, 3) uint8 RGB; an error is the mean of the absolute difference over R, G and B, in levels of 0 to 255.
"""

import base64
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.report.grouping import Entry, Group
from jaxdeblur.report.loading import SCORE_AGAIN

# An image whose longer side is greater is shown reduced to it, as JPEG: a whole page of 1280x720 PNGs is too large.
SHOWN_SIDE = 640
JPEG_QUALITY = 90
CROPS = 2
_SCALE_STEP, _LEAST_SCALE = 5, 10  # an error map's scale ends at a multiple of this, and not below that, in levels
_COLORS = (matplotlib.colormaps["inferno"](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image to show: (H, W, 3) uint8, its PSNR (None for the sharp image), and the PNG that it is from, if any."""

    title: str
    pixels: np.ndarray
    psnr: float | None
    file: Path | None = None


@dataclasses.dataclass(frozen=True)
class Column:
    """One image of a strip, with its parts as data URLs; `error` is None for the sharp image, which has none."""

    name: str
    psnr: float | None
    whole: str
    crops: list[str]
    error: str | None


@dataclasses.dataclass(frozen=True)
class Strip:
    """One sample: input, networks, sharp. `windows` are the crops' (left, top, side) in pixels."""

    sequence: str
    frame: str
    why: str
    size: tuple[int, int]
    reduced: bool
    scale: int
    windows: list[tuple[int, int, int]]
    columns: list[Column]


def common_strips(group: Group) -> list[Strip]:
    """Return the samples that all runs of a group have and that were spread over the split."""
    first, *others = ([_name(s) for s in entry.evaluation.samples if "spread" in s["why"]] for entry in group.entries)
    shared = [name for name in first if all(name in other for other in others)]
    return [_strip(group.entries, name, "one of those spread over the split") for name in shared]


def extreme_strips(entry: Entry) -> list[Strip]:
    """Return a run's best, median and worst images by PSNR gain, as its record names them."""
    found = []
    for kind in ("best", "median", "worst"):
        samples = [sample for sample in entry.evaluation.samples if kind in sample["why"]]
        found += [_strip([entry], _name(sample), kind) for sample in samples]
    return found


def color_bar() -> str:
    """Return the colours of error maps, from 0 to the scale's end, as a CSS gradient."""
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in _COLORS[np.linspace(0, 255, 9).round().astype(int)])
    return f"linear-gradient(to right, {stops})"


def _name(sample: dict[str, Any]) -> tuple[str, str]:
    return sample["sequence"], sample["frame"]


def _strip(entries: Sequence[Entry], name: tuple[str, str], why: str) -> Strip:
    paths = [_paths(entry, name) for entry in entries]
    record = [entry.evaluation.images[name] for entry in entries]
    found = [
        ("blurred input", paths[0]["blur"], record[0]["identity"]["psnr"]),
        *((e.run.name, p["prediction"], r["psnr"]) for e, p, r in zip(entries, paths, record, strict=True)),
        ("sharp", paths[0]["sharp"], None),
    ]
    shown = [Picture(title, _read(path), psnr, path) for title, path, psnr in found]
    if len({picture.pixels.shape for picture in shown}) > 1:
        sizes = ", ".join(f"{picture.pixels.shape[1]}x{picture.pixels.shape[0]}" for picture in shown)
        raise InputError(
            f"{paths[0]['blur'].parent}: the images of {'/'.join(name)} differ in size ({sizes}). {SCORE_AGAIN}"
        )
    return make_strip(name, why, shown)


def make_strip(name: tuple[str, str], why: str, shown: Sequence[Picture]) -> Strip:
    """Return a strip of images of one size: the blurred input, one or more restored images, and the sharp image last.

    Args:
        name: sequence and frame.
        why: this image is shown.
        shown: the images in their order.
    """
    images = [picture.pixels for picture in shown]
    height, width = images[0].shape[:2]
    errors = [_error(image, images[-1]) for image in images[:-1]]
    scale = int(np.ceil(max(np.percentile(error, 99) for error in errors) / _SCALE_STEP)) * _SCALE_STEP
    scale = max(scale, _LEAST_SCALE)
    windows = _windows(images, errors)
    reduced = max(height, width) > SHOWN_SIDE
    columns = []
    for i, picture in enumerate(shown):
        whole = _shown_reduced(picture.pixels) if reduced else _shown_whole(picture)
        crops = [
            _png(Image.fromarray(picture.pixels[top : top + side, left : left + side])) for left, top, side in windows
        ]
        error = _error_map(errors[i], scale) if i < len(errors) else None
        columns.append(Column(picture.title, picture.psnr, whole, crops, error))
    return Strip(*name, why, (width, height), reduced, scale, windows, columns)


def _paths(entry: Entry, name: tuple[str, str]) -> dict[str, Path]:
    sample = next(sample for sample in entry.evaluation.samples if _name(sample) == name)
    return {key: entry.evaluation.path.parent / sample["files"][key] for key in ("blur", "prediction", "sharp")}


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read as an image ({error}). {SCORE_AGAIN}") from error


def _error(image: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """Return (H, W) float32."""
    return np.abs(image.astype(np.int16) - sharp).sum(-1, dtype=np.int16).astype(np.float32) / 3


def _windows(images: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> list[tuple[int, int, int]]:
    """Return squares (left, top, side): where the networks differ most from each other, or from the input if there is
    but one, and where the input differs most from the sharp image; a second one does not overlap the first.
    """
    networks = np.stack(images[1:-1] if len(images) > 3 else images[:2])
    spread = (networks.max(0) - networks.min(0)).sum(-1, dtype=np.float32)
    height, width = spread.shape
    side = max(min(height, width) // 5, min(16, height, width))
    windows: list[tuple[int, int, int]] = []
    for change in (spread, errors[0])[:CROPS]:
        total = np.zeros((height + 1, width + 1))
        total[1:, 1:] = change.cumsum(0, dtype=np.float64).cumsum(1)
        sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
        for left, top, _ in windows:
            sums[max(top - side + 1, 0) : top + side, max(left - side + 1, 0) : left + side] = -1
        top, left = np.unravel_index(sums.argmax(), sums.shape)
        if sums[top, left] >= 0:
            windows.append((int(left), int(top), side))
    return windows


def _error_map(error: np.ndarray, scale: int) -> str:
    levels = np.clip(error * (255 / scale), 0, 255).astype(np.uint8)
    image = Image.fromarray(levels)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BOX)
    image.putpalette(_COLORS.tobytes())
    return _png(image)


def _shown_reduced(image: np.ndarray) -> str:
    picture, buffer = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    picture.save(buffer, "jpeg", quality=JPEG_QUALITY, subsampling=0)
    return _url(buffer.getvalue(), "jpeg")


def _shown_whole(picture: Picture) -> str:
    return _url(picture.file.read_bytes(), "png") if picture.file else _png(Image.fromarray(picture.pixels))


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return _url(buffer.getvalue(), "png")


def _url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
