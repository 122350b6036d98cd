"""Outlines of objects in a photo: SLIC superpixels of similar colour, merged to one compact shape.

The superpixels of a photo are computed once, at a reduced size (`find_outlines`); any number of shapes is drawn from
them, for the photo at any size.
"""

import dataclasses
import math

import cv2
import numpy as np
from scipy import ndimage

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.capture import reduce_image, reduced_size

_LONGER_SIDE = 480  # pixels; size at which superpixels are computed
_SUPERPIXELS = 240
_MAX_TRIES = 20  # shapes tried per object
_CONTRAST = 9.0  # CIELAB difference across a visible outline
_VISIBLE_SHARE = 0.7  # minimum of the outline; a piece of sky next to a roof has less
_MAX_BOX_RATIO = 3.0  # area of the bounding box relative to the shape's
_EDGE = 2.0  # width of the soft edge in pixels of the photo
_MARGIN = 4  # pixels around a mask; enough for the edge and its smoothing


@dataclasses.dataclass(frozen=True)
class Outlines:
    """The superpixels of a photo, at a reduced size.

    Attributes:
        labels: superpixel of each pixel, (h, w).
        colours: mean CIELAB colour of each, (N, 3).
        areas: number of pixels of each, (N,).
        borders: length in pixels of each pair's common border, (N, N).
        centres: mean x and y relative to width and height, (N, 2).
        at_edge: whether each touches the photo's border, (N,).
    """

    labels: np.ndarray
    colours: np.ndarray
    areas: np.ndarray
    borders: np.ndarray
    centres: np.ndarray
    at_edge: np.ndarray


def find_outlines(photo: np.ndarray) -> Outlines:
    """Compute the superpixels of a photo, uint8 (H, W, 3).

    Raises:
        InputError: scikit-image is not installed (code "scikit-image-missing").
    """
    try:
        from skimage.segmentation import slic
    except ModuleNotFoundError as error:
        remedy = "objects with outlines need scikit-image: pip install '.[made-blur]', or omit --objects"
        raise InputError(f"{error}; {remedy}.", code="scikit-image-missing") from error
    size = photo.shape[:2]
    small = reduce_image(photo, reduced_size(size, max(1, max(size) / _LONGER_SIDE)))
    labels = slic(small, _SUPERPIXELS, compactness=12, sigma=1, start_label=0)
    count = labels.max() + 1
    areas = np.bincount(labels.ravel(), minlength=count)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    sums = [np.bincount(labels.ravel(), values.ravel(), count) for values in (*cv2.split(lab), x, y)]
    means = (np.array(sums) / np.maximum(areas, 1)).T
    borders = np.zeros((count, count))
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        np.add.at(borders, (one.ravel(), other.ravel()), 1)
    borders += borders.T
    np.fill_diagonal(borders, 0)
    at_edge = np.zeros(count, bool)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        at_edge[line] = True
    return Outlines(labels, means[:, :3], areas, borders, means[:, 3:] / np.array(labels.shape[::-1]), at_edge)


def sample_shape(rng: np.random.Generator, outlines: Outlines, seeds: np.ndarray, area: float) -> np.ndarray | None:
    """Return a shape of about `area` pixels grown from one of the superpixels `seeds`, bool (h, w).

    None if no try gives a compact shape with a visible outline.
    """
    for seed in rng.permutation(seeds)[:_MAX_TRIES]:
        members = _grow(outlines, seed, area)
        if members is None:
            continue
        shape = ndimage.binary_fill_holes(np.isin(outlines.labels, members))
        rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
        if np.ptp(rows) * np.ptp(columns) <= _MAX_BOX_RATIO * shape.sum():
            return shape
    return None


def _grow(outlines: Outlines, seed: int, area: float) -> list[int] | None:
    """Return superpixels of similar colour around `seed`, of about `area` in total; None without a visible outline."""
    members, covered = [int(seed)], outlines.areas[seed]
    while covered < 1.5 * area:
        colour = np.average(outlines.colours[members], axis=0, weights=outlines.areas[members])
        shared = outlines.borders[members].sum(axis=0)
        shared[members] = 0
        shared[outlines.at_edge] = 0
        neighbours = np.flatnonzero(shared)
        if not len(neighbours):
            break
        difference = np.linalg.norm(outlines.colours[neighbours] - colour, axis=1)
        # A long common border, which makes the shape compact, counts like a more similar colour.
        best = (difference / np.sqrt(shared[neighbours] / np.sqrt(outlines.areas[neighbours]))).argmin()
        if covered > 0.5 * area and difference[best] > _CONTRAST:
            break
        members.append(int(neighbours[best]))
        covered += outlines.areas[neighbours[best]]
    if not 0.5 * area < covered < 2 * area:
        return None
    outside = np.setdiff1d(np.arange(len(outlines.areas)), members)
    lengths = outlines.borders[np.ix_(np.array(members), outside)]
    differences = np.linalg.norm(outlines.colours[members][:, np.newaxis] - outlines.colours[outside], axis=2)
    visible = lengths[differences >= _CONTRAST].sum()
    return members if visible >= _VISIBLE_SHARE * lengths.sum() else None


def soften(shape: np.ndarray, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    """Return the left, top and mask (float32 with a border of 0) of a shape (h, w) in a photo of `size` (H, W).

    The outline is smoothed by about one pixel of the shape; its edge is two pixels of the photo wide.
    """
    scale = max(size) / max(shape.shape)
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    top, bottom = (round(float(edge * size[0] / shape.shape[0])) for edge in (rows[0], rows[-1] + 1))
    left, right = (round(float(edge * size[1] / shape.shape[1])) for edge in (columns[0], columns[-1] + 1))
    part = shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    mask = cv2.resize(part, (max(right - left, 1), max(bottom - top, 1)), interpolation=cv2.INTER_LINEAR)
    margin = _MARGIN + math.ceil(scale)
    mask = cv2.copyMakeBorder(mask, margin, margin, margin, margin, cv2.BORDER_CONSTANT)
    mask = cv2.GaussianBlur(mask, (0, 0), max(scale, 0.7))
    steepness = max(scale, 0.7) * math.sqrt(2 * math.pi) / _EDGE
    step = np.clip((mask - 0.5) * steepness + 0.5, 0, 1)
    left, top = left - margin, top - margin
    step = step[max(-top, 0) : size[0] - top, max(-left, 0) : size[1] - left]
    step[[0, -1]] = step[:, [0, -1]] = 0
    return max(left, 0), max(top, 0), step * step * (3 - 2 * step)
