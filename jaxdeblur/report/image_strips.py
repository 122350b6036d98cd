"""Strips of one sample image for a page: input, predictions and target, with enlarged crops and error maps.

Images are (H, W, 3) uint8 RGB. The error of a pixel is the mean absolute difference over R, G and B, in levels of 255.
"""

import base64
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.report.grouping import Entry, Group
from jaxdeblur.report.loading import EVALUATE_AGAIN

# An image with a longer side is shown downscaled to it, as JPEG: a page full of 1280x720 PNGs is too large.
MAX_SHOWN_SIDE = 640
JPEG_QUALITY = 90
# The colour scale of an error map ends at a multiple of the first, and at least at the second, in levels of 255.
_SCALE_STEP, _MIN_SCALE = 5, 10
_COLORS = (matplotlib.colormaps["inferno"](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image to show, its PSNR (None for the sharp image), and the PNG file it was read from, if any."""

    title: str
    pixels: np.ndarray
    psnr: float | None
    file: Path | None = None


@dataclasses.dataclass(frozen=True)
class Column:
    """One image of a strip as data URLs: whole, crops, and the error map (None for the sharp image)."""

    name: str
    psnr: float | None
    whole: str
    crops: list[str]
    error: str | None


@dataclasses.dataclass(frozen=True)
class Strip:
    """One sample image.

    Attributes:
        sequence: of the image.
        frame: of the image.
        why: the image is shown.
        size: (width, height) in pixels.
        reduced: whether whole images are shown downscaled to `MAX_SHOWN_SIDE`.
        scale: end of the error maps' colour scale, in levels of 255.
        windows: (left, top, side) of the crops in pixels.
        columns: blurred input, predictions, sharp image.
    """

    sequence: str
    frame: str
    why: str
    size: tuple[int, int]
    reduced: bool
    scale: int
    windows: list[tuple[int, int, int]]
    columns: list[Column]


def common_strips(group: Group) -> list[Strip]:
    """Return the evenly spaced samples that all runs of a group have."""
    first, *rest = (
        [sample.name for sample in entry.evaluation.samples if "spread" in sample.why] for entry in group.entries
    )
    shared = [name for name in first if all(name in names for names in rest)]
    return [_strip(group.entries, name, "one of the evenly spaced samples of the split") for name in shared]


def extreme_strips(entry: Entry) -> list[Strip]:
    """Return a run's images of best, median and worst PSNR gain, if its record has them."""
    return [
        _strip([entry], sample.name, f"{kind} PSNR gain")
        for kind in ("best", "median", "worst")
        for sample in entry.evaluation.samples
        if kind in sample.why
    ]


def color_bar() -> str:
    """Return the error maps' colour scale as a CSS gradient."""
    stops = ", ".join(f"rgb({r} {g} {b})" for r, g, b in _COLORS[np.linspace(0, 255, 9).round().astype(int)])
    return f"linear-gradient(to right, {stops})"


def _strip(entries: Sequence[Entry], name: tuple[str, str], why: str) -> Strip:
    paths = [_paths(entry, name) for entry in entries]
    scores = [entry.evaluation.images[name] for entry in entries]
    titles = ["blurred input", *(entry.run.name for entry in entries), "sharp"]
    files = [paths[0]["blur"], *(path["prediction"] for path in paths), paths[0]["sharp"]]
    psnr = [scores[0].identity.psnr, *(score.psnr for score in scores), None]
    pictures = [
        Picture(title, _read(file), value, file) for title, file, value in zip(titles, files, psnr, strict=True)
    ]
    if len({picture.pixels.shape for picture in pictures}) > 1:
        sizes = ", ".join(f"{picture.pixels.shape[1]}x{picture.pixels.shape[0]}" for picture in pictures)
        raise InputError(
            f"{files[0].parent}: the images of {'/'.join(name)} differ in size ({sizes}). {EVALUATE_AGAIN}",
            code="sample-sizes-differ",
        )
    return make_strip(name, why, pictures)


def make_strip(name: tuple[str, str], why: str, pictures: Sequence[Picture]) -> Strip:
    """Return a strip of images of one size: the blurred input, one or more restored images, and the sharp image last.

    Args:
        name: sequence and frame.
        why: this image is shown.
        pictures: the images in this order.
    """
    images = [picture.pixels for picture in pictures]
    height, width = images[0].shape[:2]
    errors = [_error(image, images[-1]) for image in images[:-1]]
    scale = int(np.ceil(max(np.percentile(error, 99) for error in errors) / _SCALE_STEP)) * _SCALE_STEP
    scale = max(scale, _MIN_SCALE)
    windows = _windows(images, errors)
    reduced = max(height, width) > MAX_SHOWN_SIDE
    columns = []
    for i, picture in enumerate(pictures):
        whole = _downscaled(picture.pixels) if reduced else _original(picture)
        crops = [
            _png(Image.fromarray(picture.pixels[top : top + side, left : left + side])) for left, top, side in windows
        ]
        error = _error_map(errors[i], scale) if i < len(errors) else None
        columns.append(Column(picture.title, picture.psnr, whole, crops, error))
    return Strip(*name, why, (width, height), reduced, scale, windows, columns)


def _paths(entry: Entry, name: tuple[str, str]) -> dict[str, Path]:
    sample = next(sample for sample in entry.evaluation.samples if sample.name == name)
    files = dataclasses.asdict(sample.files)
    return {kind: entry.evaluation.path.parent / file for kind, file in files.items()}


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        message = f"{path}: cannot be read as an image ({error}). {EVALUATE_AGAIN}"
        raise InputError(message, code="sample-unreadable") from error


def _error(image: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """Return the error of every pixel, (H, W) float32."""
    return np.abs(image.astype(np.int16) - sharp).sum(-1, dtype=np.int16).astype(np.float32) / 3


def _windows(images: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> list[tuple[int, int, int]]:
    """Return up to two square windows (left, top, side) that do not overlap.

    The first is where the networks differ most from each other, or a single network from its input; the second is where
    the input differs most from the sharp image.
    """
    networks = np.stack(images[1:-1] if len(images) > 3 else images[:2])
    spread = (networks.max(0) - networks.min(0)).sum(-1, dtype=np.float32)
    height, width = spread.shape
    side = max(min(height, width) // 5, min(16, height, width))
    windows: list[tuple[int, int, int]] = []
    for change in (spread, errors[0]):
        total = np.zeros((height + 1, width + 1))  # summed-area table: window sums from four corners
        total[1:, 1:] = change.cumsum(0, dtype=np.float64).cumsum(1)
        sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
        for left, top, _ in windows:
            sums[max(top - side + 1, 0) : top + side, max(left - side + 1, 0) : left + side] = -1
        top, left = map(int, np.unravel_index(sums.argmax(), sums.shape))
        if sums[top, left] >= 0:
            windows.append((left, top, side))
    return windows


def _error_map(error: np.ndarray, scale: int) -> str:
    levels = np.clip(error * (255 / scale), 0, 255).astype(np.uint8)
    image = Image.fromarray(levels)
    image.thumbnail((MAX_SHOWN_SIDE, MAX_SHOWN_SIDE), Image.Resampling.BOX)
    image.putpalette(_COLORS.tobytes())
    return _png(image)


def _downscaled(image: np.ndarray) -> str:
    picture, buffer = Image.fromarray(image), io.BytesIO()
    picture.thumbnail((MAX_SHOWN_SIDE, MAX_SHOWN_SIDE), Image.Resampling.LANCZOS)
    picture.save(buffer, "jpeg", quality=JPEG_QUALITY, subsampling=0)
    return _url(buffer.getvalue(), "jpeg")


def _original(picture: Picture) -> str:
    return _url(picture.file.read_bytes(), "png") if picture.file else _png(Image.fromarray(picture.pixels))


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return _url(buffer.getvalue(), "png")


def _url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
