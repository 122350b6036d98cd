"""Warps a photo and its moving regions to each instant of an exposure, and averages the instants.

Photos are uint8 RGB (H, W, 3); windows are (left, top, width, height) in pixels of the photo; cameras are homographies
(T, 3, 3) from the camera's pixels to the photo's (`camera_shake.project`). Light is float32.

OpenCV 5 samples bilinearly without rounding positions (unlike OpenCV 4), about four times as fast as Pillow.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.camera_shake import move_points
from jaxdeblur.synthesis.moving_patches import Region, rectangle
from jaxdeblur.synthesis.parallax import Depth, refine

Window = tuple[int, int, int, int]
ToLight = Callable[[np.ndarray], np.ndarray]

_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def safe_window(size: tuple[int, int], cameras: np.ndarray) -> Window:
    """Return a window of a photo of `size` (H, W), with equal opposite borders, within which all cameras see the photo.

    Homographies preserve straight lines: if a window's corners stay inside, all of it does.

    Raises:
        InputError: there is none (code "photograph-too-small").
    """
    height, width = size
    border_x = border_y = 0
    while min(width - 2 * border_x, height - 2 * border_y) > 0:
        window = (border_x, border_y, width - 2 * border_x, height - 2 * border_y)
        corners = rectangle(*window)
        if (np.column_stack([corners, np.ones(4)]) @ cameras[:, 2].T).min() <= 0:
            break  # a corner is behind the camera
        moved = move_points(cameras, corners)
        over_x = max(-moved[..., 0].min(), moved[..., 0].max() - (width - 1))
        over_y = max(-moved[..., 1].min(), moved[..., 1].max() - (height - 1))
        # A thousandth of a pixel beyond the border is a rounding error, and changes no stored value.
        if max(over_x, over_y) < 1e-3:
            return window
        border_x += max(0, math.ceil(over_x - 1e-3))
        border_y += max(0, math.ceil(over_y - 1e-3))
    raise InputError(f"{width}x{height} pixels, too small for the camera's motion", code="photograph-too-small")


def largest_step(cameras: np.ndarray, window: Window, regions: Sequence[Region], depth: Depth | None = None) -> float:
    """Return the maximum motion in a window between successive instants, in pixels."""
    if len(cameras) < 2:
        return 0.0
    planes = [cameras] if depth is None else [depth.far, depth.near]
    steps = [np.diff(move_points(plane, rectangle(*window)), axis=0) for plane in planes]
    by_camera = np.linalg.norm(steps, axis=-1).max()
    by_regions = [np.linalg.norm(np.diff(region.path, axis=0), axis=-1).max() for region in regions]
    return float(by_camera + max(by_regions, default=0))


def integrate(
    photo: np.ndarray,
    window: Window,
    cameras: np.ndarray,
    regions: Sequence[Region],
    to_light: ToLight,
    depth: Depth | None = None,
    background: np.ndarray | None = None,
) -> np.ndarray:
    """Return the light of a window averaged over all instants, float32 (height, width, 3).

    Outside the photo is black: use windows inside `safe_window`.

    Args:
        photo: (H, W, 3).
        window: part to compute.
        cameras: (T, 3, 3), one per instant.
        regions: moving patches, from back to front.
        to_light: converts stored values to light, float32 of the same shape.
        depth: of the scene, for the same camera path; None: a plane, described by `cameras`.
        background: (H, W, 3), the scene behind the regions; None: the photo.
    """
    width, height = window[2:]
    scene = _Scene(photo if background is None else background, window, cameras, depth, to_light)
    layers = [_Layer(photo, window, cameras, region, to_light) for region in regions]
    instant = np.empty((height, width, 3), np.float32)
    light = np.zeros((height, width, 3), np.float32)
    for index in range(len(cameras)):
        scene.draw(instant, index)
        for layer in layers:
            layer.draw(instant, index)
        cv2.accumulate(instant, light)
    return light / len(cameras)


class _Scene:
    """The scene behind all regions, as the cameras see it in a window."""

    def __init__(self, photo: np.ndarray, window: Window, cameras: np.ndarray, depth: Depth | None, to_light: ToLight):
        left, top, width, height = window
        self.size = (width, height)
        views = (cameras if depth is None else depth.extremes) @ _translation(left, top)
        self.light, (x, y) = _visible_light(photo, views, self.size, to_light)
        self.positions = None if depth is None else depth.positions(*window) - np.array([x, y], np.float32)
        self.views = _translation(-x, -y) @ views

    def draw(self, instant: np.ndarray, index: int) -> None:
        """Draw one instant, in place."""
        if self.positions is None:
            cv2.warpPerspective(self.light, self.views[index], self.size, dst=instant, flags=_FLAGS)
        else:
            positions = refine(self.positions[index], self.size)
            # cv2's stubs lack map2=None.
            cv2.remap(self.light, positions, None, cv2.INTER_LINEAR, dst=instant)  # type: ignore[call-overload]


class _Layer:
    """A region as the cameras see it in a window."""

    def __init__(self, photo: np.ndarray, window: Window, cameras: np.ndarray, region: Region, to_light: ToLight):
        left, top, width, height = window
        views = _translations(-region.path) @ cameras @ _translation(left, top)
        if region.transforms is not None:
            views = np.linalg.inv(region.transforms) @ views
        corners = move_points(np.linalg.inv(views), region.corners)
        x, y = np.maximum(np.floor(corners.min(axis=(0, 1))).astype(int), 0)
        right, bottom = np.minimum(np.ceil(corners.max(axis=(0, 1))).astype(int) + 1, (width, height))
        self.visible = x < right and y < bottom
        if self.visible:
            self.part = (slice(y, bottom), slice(x, right))
            self.size = (int(right - x), int(bottom - y))
            views = views @ _translation(x, y)
            self.mask = region.mask
            self.mask_views = _translation(-region.left, -region.top) @ views
            self.content, (x, y) = _visible_light(photo, views, self.size, to_light)
            self.content_views = _translation(-x, -y) @ views

    def draw(self, instant: np.ndarray, index: int) -> None:
        """Blend the region over one instant, in place."""
        if not self.visible:
            return
        content = cv2.warpPerspective(self.content, self.content_views[index], self.size, flags=_FLAGS)
        mask = cv2.warpPerspective(self.mask, self.mask_views[index], self.size, flags=_FLAGS)
        part = instant[self.part]
        part[...] = cv2.blendLinear(content, part, mask, 1 - mask)


def _visible_light(
    photo: np.ndarray, views: np.ndarray, size: tuple[int, int], to_light: ToLight
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the light of the part of a photo seen in views of `size` (width, height), and its left and top."""
    corners = move_points(views, rectangle(0, 0, *size))
    x, y = np.maximum(np.floor(corners.min(axis=(0, 1))).astype(int), 0)
    right, bottom = np.ceil(corners.max(axis=(0, 1))).astype(int) + 2
    part = np.ascontiguousarray(photo[y : max(bottom, y + 1), x : max(right, x + 1)])
    return to_light(part), (int(x), int(y))


def _translation(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def _translations(shifts: np.ndarray) -> np.ndarray:
    """Return homographies (T, 3, 3) that shift by (T, 2) pixels."""
    matrices = np.tile(np.eye(3), (len(shifts), 1, 1))
    matrices[:, :2, 2] = shifts
    return matrices
