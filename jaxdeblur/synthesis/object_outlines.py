"""Outlines of things in a photograph: superpixels of like colour (SLIC), grown into one compact shape.

The superpixels of a photograph are found once, at a reduced size (`find_outlines`); shapes are drawn from them as often
as needed, for the photograph at any size.
"""

import dataclasses
import math

import cv2
import numpy as np
from scipy import ndimage

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.capture import reduce_image, reduced_size

_LONGER_SIDE = 480  # pixels outlines are found at
_SUPERPIXELS = 240
_TRIES = 20  # shapes tried before an object is given up
_CONTRAST = 9.0  # difference in CIELAB across an outline that is seen
_SEEN_SHARE = 0.7  # of an outline: a piece of sky in front of a roof has less
_MOST_STRETCH = 3.0  # area of the bounding box relative to the shape's
_EDGE = 2.0  # pixels of the photograph that an outline's soft step takes
_MARGIN = 4  # pixels around a mask; the outline's step and its smoothing need less


@dataclasses.dataclass(frozen=True)
class Outlines:
    """The superpixels of a photograph, at a reduced size.

    Attributes:
        labels: superpixel of each pixel, (h, w).
        colors: mean colour of each in CIELAB, (N, 3).
        areas: pixels of each, (N,).
        borders: pixels of outline that two have in common, (N, N).
        centers: mean x and y relative to width and height, (N, 2).
        at_edge: which of them touch the photograph's edge, (N,).
    """

    labels: np.ndarray
    colors: np.ndarray
    areas: np.ndarray
    borders: np.ndarray
    centers: np.ndarray
    at_edge: np.ndarray


def find_outlines(photo: np.ndarray) -> Outlines:
    """Return the superpixels of a photograph (H, W, 3), uint8.

    Raises:
        InputError: scikit-image is not installed.
    """
    try:
        from skimage.segmentation import slic
    except ModuleNotFoundError as error:
        remedy = "objects with outlines need scikit-image: pip install '.[made-blur]', or leave --objects out"
        raise InputError(f"{error}; {remedy}.", code="scikit-image-missing") from error
    size = photo.shape[:2]
    small = reduce_image(photo, reduced_size(size, max(1, max(size) / _LONGER_SIDE)))
    labels = slic(small, _SUPERPIXELS, compactness=12, sigma=1, start_label=0)
    count = labels.max() + 1
    areas = np.bincount(labels.ravel(), minlength=count)
    lab = cv2.cvtColor(np.float32(small) / 255, cv2.COLOR_RGB2LAB)
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
    """Return a shape of about `area` pixels that begins at one of the superpixels `seeds`, bool (h, w).

    None: none of a few tries gave a compact shape whose outline is seen in the photograph.
    """
    for seed in rng.permutation(seeds)[:_TRIES]:
        members = _grow(outlines, seed, area)
        if members is None:
            continue
        shape = ndimage.binary_fill_holes(np.isin(outlines.labels, members))
        rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
        if np.ptp(rows) * np.ptp(columns) <= _MOST_STRETCH * shape.sum():
            return shape
    return None


def _grow(outlines: Outlines, seed: int, area: float) -> list[int] | None:
    """Return superpixels around one, of like colour, of about `area` together; None: they do not differ from others."""
    members, covered = [int(seed)], outlines.areas[seed]
    while covered < 1.5 * area:
        color = np.average(outlines.colors[members], axis=0, weights=outlines.areas[members])
        shared = outlines.borders[members].sum(axis=0)
        shared[members] = 0
        shared[outlines.at_edge] = 0
        around = np.flatnonzero(shared)
        if not len(around):
            break
        difference = np.linalg.norm(outlines.colors[around] - color, axis=1)
        # A long common border makes a compact shape: it counts like a more similar colour.
        chosen = (difference / np.sqrt(shared[around] / np.sqrt(outlines.areas[around]))).argmin()
        if covered > 0.5 * area and difference[chosen] > _CONTRAST:
            break
        members.append(int(around[chosen]))
        covered += outlines.areas[around[chosen]]
    if not 0.5 * area < covered < 2 * area:
        return None
    outside = np.setdiff1d(np.arange(len(outlines.areas)), members)
    lengths = outlines.borders[np.ix_(members, outside)]
    differences = np.linalg.norm(outlines.colors[members][:, np.newaxis] - outlines.colors[outside], axis=2)
    seen = lengths[differences >= _CONTRAST].sum()
    return members if seen >= _SEEN_SHARE * lengths.sum() else None


def soften(shape: np.ndarray, size: tuple[int, int]) -> tuple[int, int, np.ndarray]:
    """Return the left, the top and the mask, float32 with a border of 0, of a shape (h, w) in a photograph (H, W).

    The outline is smoothed by about a pixel of the shape's, and its step is two pixels of the photograph wide.
    """
    scale = max(size) / max(shape.shape)
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    top, bottom = (round(float(edge * size[0] / shape.shape[0])) for edge in (rows[0], rows[-1] + 1))
    left, right = (round(float(edge * size[1] / shape.shape[1])) for edge in (columns[0], columns[-1] + 1))
    part = np.float32(shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
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
