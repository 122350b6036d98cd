"""Moving objects segmented from the photo, and the background that they uncover.

The background is the object's surroundings mirrored at its outline, so that no second copy of the object appears.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from jaxdeblur.synthesis.camera_shake import Shake, sample_shift
from jaxdeblur.synthesis.moving_patches import ObjectRules, Region
from jaxdeblur.synthesis.object_outlines import Outlines, sample_shape, soften

_REACH = 48  # width in pixels of the surroundings that are mirrored; objects rarely uncover more


def sample_objects(
    rng: np.random.Generator,
    rules: ObjectRules,
    shake: Shake,
    outlines: Outlines,
    size: tuple[int, int],
    window: tuple[int, int, int, int],
) -> tuple[list[Region], int]:
    """Draw the objects of one exposure, from back to front.

    Paths are like the camera's but nearly straight: with at most 0.2 of jitter and pull, and without jerks.

    Args:
        rng: source of randomness.
        rules: number, size and speed of objects.
        shake: distribution of the camera's motion.
        outlines: of the photo, at any size.
        size: (H, W) of the photo.
        window: left, top, width, height of the visible part, in which the centres of objects lie.

    Returns:
        The objects, and the number of further objects without a good outline.
    """
    straight = dataclasses.replace(shake, jitter=min(shake.jitter, 0.2), pull=min(shake.pull, 0.2), jerks=0.0)
    left, top, width, height = window
    centres = outlines.centres * size[::-1]
    inside = ((centres >= (left, top)) & (centres <= (left + width, top + height))).all(axis=1)
    seeds = np.flatnonzero(inside & ~outlines.at_edge & (outlines.areas > 0))
    count = int(rng.integers(rules.count + 1))
    objects = []
    for _ in range(count):
        share = math.pi * (rng.uniform(*rules.radius) * min(size)) ** 2 / (size[0] * size[1])
        shape = sample_shape(rng, outlines, seeds, share * outlines.labels.size)
        path = sample_shift(rng, straight, rules.travel)
        time = np.linspace(-0.5, 0.5, len(path))
        angles = math.radians(rng.normal(0, rules.turn)) * time
        scales = np.exp(rng.normal(0, rules.growth) * time)
        if shape is not None:
            column, row, mask = soften(shape, size)
            transforms = object_transforms(mask, column, row, angles, scales)
            objects.append(Region(column, row, mask, path, transforms, solid=True))
    return objects, count - len(objects)


def object_transforms(mask: np.ndarray, left: int, top: int, angles: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return homographies (T, 3, 3) that rotate by angles in radians and scale about the centre of a mask."""
    x, y = left + (mask.shape[1] - 1) / 2, top + (mask.shape[0] - 1) / 2
    cosines, sines = scales * np.cos(angles), scales * np.sin(angles)
    transforms = np.tile(np.eye(3), (len(angles), 1, 1))
    transforms[:, 0, 0] = transforms[:, 1, 1] = cosines
    transforms[:, 0, 1], transforms[:, 1, 0] = -sines, sines
    transforms[:, 0, 2] = x - cosines * x + sines * y
    transforms[:, 1, 2] = y - sines * x - cosines * y
    return transforms


def fill_behind(photo: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """Return a photo (H, W, 3) with its solid regions filled from their surroundings; the photo itself without any.

    Surroundings are mirrored at the outline; where the mirrored position is inside the region too, the nearest pixel
    outside is repeated.
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
        hole[rows, columns] = cv2.dilate((region.mask > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
        y, x = np.nonzero(hole)
        nearest = nearest_outside(hole)[:, y, x]
        mirrored = np.clip(2 * nearest - (y, x), 0, np.array(hole.shape)[:, np.newaxis] - 1)
        source = np.where(hole[tuple(mirrored)], nearest, mirrored)
        part[y, x] = part[tuple(source)]
    return filled


def nearest_outside(hole: np.ndarray) -> np.ndarray:
    """Return the (row, column) of the nearest zero pixel, (2, H, W), for each pixel of a mask, uint8 (H, W)."""
    _, labels = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    outside = np.flatnonzero(hole == 0)
    positions = np.zeros(labels.max() + 1, int)  # flat position of the pixel of each label
    positions[labels.ravel()[outside]] = outside
    return np.array(np.unravel_index(positions[labels], hole.shape))
