"""Moving objects with outlines taken from the photograph, and what lies behind them.

Behind an object lies what surrounds it, mirrored at its outline, so that it uncovers no second self.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from jaxdeblur.synthesis.camera_shake import Shake, sample_shift
from jaxdeblur.synthesis.moving_patches import ObjectRules, Region
from jaxdeblur.synthesis.object_outlines import Outlines, sample_shape, soften

_REACH = 48  # pixels around an object that what lies behind it is made from; objects seldom uncover more


def sample_objects(
    rng: np.random.Generator,
    rules: ObjectRules,
    shake: Shake,
    outlines: Outlines,
    size: tuple[int, int],
    window: tuple[int, int, int, int],
) -> tuple[list[Region], int]:
    """Draw the objects of one exposure; the first ones drawn lie behind.

    Motion is nearly straight: the camera's, but with at most a fifth of a change of velocity and without jerks.

    Args:
        rng: source of randomness.
        rules: how many, how large and how fast.
        shake: the camera's motion.
        outlines: of the photograph, at any size.
        size: (H, W) of the photograph.
        window: what is seen; objects are in it, in part at least.

    Returns:
        The objects, and how many more were drawn for which no good outline was found.
    """
    straight = dataclasses.replace(shake, jitter=min(shake.jitter, 0.2), pull=min(shake.pull, 0.2), jerks=0.0)
    left, top, width, height = window
    place = outlines.centers * size[::-1]
    inside = ((place >= (left, top)) & (place <= (left + width, top + height))).all(axis=1)
    seeds = np.flatnonzero(inside & ~outlines.at_edge & (outlines.areas > 0))
    count = int(rng.integers(rules.count + 1))
    objects = []
    for _ in range(count):
        share = math.pi * (rng.uniform(*rules.radius) * min(size)) ** 2 / (size[0] * size[1])
        shape = sample_shape(rng, outlines, seeds, share * outlines.labels.size)
        path = sample_shift(rng, straight, rules.travel)
        course = np.linspace(-0.5, 0.5, len(path))
        angles = math.radians(rng.normal(0, rules.turn)) * course
        scales = np.exp(rng.normal(0, rules.growth) * course)
        if shape is not None:
            column, row, mask = soften(shape, size)
            objects.append(Region(column, row, mask, path, turns(mask, column, row, angles, scales), solid=True))
    return objects, count - len(objects)


def turns(mask: np.ndarray, left: int, top: int, angles: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return homographies (T, 3, 3) that turn by angles in radians and scale about the middle of a mask at rest."""
    x, y = left + (mask.shape[1] - 1) / 2, top + (mask.shape[0] - 1) / 2
    cosines, sines = scales * np.cos(angles), scales * np.sin(angles)
    moves = np.tile(np.eye(3), (len(angles), 1, 1))
    moves[:, 0, 0] = moves[:, 1, 1] = cosines
    moves[:, 0, 1], moves[:, 1, 0] = -sines, sines
    moves[:, 0, 2] = x - cosines * x + sines * y
    moves[:, 1, 2] = y - sines * x - cosines * y
    return moves


def fill_behind(photo: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """Return a photograph (H, W, 3) with what surrounds them in place of its solid regions; itself if there are none.

    Surroundings are mirrored at the outline; where the mirrored place is in the region too, the nearest pixel outside
    is repeated.
    """
    solid = [region for region in regions if region.solid]
    if not solid:
        return photo
    filled = photo.copy()
    for region in solid:
        height, width = region.mask.shape
        top, left = max(region.top - _REACH, 0), max(region.left - _REACH, 0)
        part = filled[top : region.top + height + _REACH, left : region.left + width + _REACH]
        hole = np.zeros(part.shape[:2], np.uint8)
        rows = slice(region.top - top, region.top - top + height)
        columns = slice(region.left - left, region.left - left + width)
        hole[rows, columns] = cv2.dilate(np.uint8(region.mask > 0), np.ones((3, 3), np.uint8))
        y, x = np.nonzero(hole)
        nearest = nearest_outside(hole)[:, y, x]
        mirrored = np.clip(2 * nearest - (y, x), 0, np.array(hole.shape)[:, np.newaxis] - 1)
        source = np.where(hole[tuple(mirrored)], nearest, mirrored)
        part[y, x] = part[tuple(source)]
    return filled


def nearest_outside(hole: np.ndarray) -> np.ndarray:
    """Return the row and column of the nearest pixel that is 0, (2, H, W), for each pixel of a hole, uint8 (H, W)."""
    _, labels = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    outside = np.flatnonzero(hole == 0)
    place = np.zeros(labels.max() + 1, int)
    place[labels.ravel()[outside]] = outside
    return np.array(np.unravel_index(place[labels], hole.shape))
