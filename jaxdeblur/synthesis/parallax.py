"""Parallax: when the camera translates, near parts of a scene shift more.

Distance is assumed to vary smoothly about 1, the distance of the plane in `camera_shake.py`. Positions are interpolated
between the views of the nearest and the farthest plane. Distances belong to the pixels of the middle instant, so each
instant is one resampling of the photo, without tears or holes.
"""

import dataclasses
import math

import cv2
import numpy as np

from jaxdeblur.synthesis.camera_shake import move_points, project
from jaxdeblur.synthesis.ranges import Range, check_range

_WAVES = 6
_CYCLES = (0.4, 2.5)  # of a wave over the photo's longer side
_STEP = 8  # pixels between computed positions; the others are interpolated


@dataclasses.dataclass(frozen=True)
class DepthRules:
    """Distribution of the depth of scenes.

    Attributes:
        relief: range of the relief, uniform. With a relief of r, the nearest parts shift 1 + r times as far as the
            plane at distance 1, the farthest 1 - r times; 0: the scene is a plane.

    Raises:
        InputError: it is not within 0 to 1.
    """

    relief: Range = (0.0, 0.0)

    def __post_init__(self):
        check_range("depth_relief", self.relief, 0, 1)


@dataclasses.dataclass(frozen=True)
class Depth:
    """The depth of one scene, and the views of its nearest and farthest planes.

    Attributes:
        relief: see `DepthRules`.
        far: homographies (T, 3, 3) from the camera's pixels to the photo's, for the farthest plane.
        near: likewise for the nearest plane.
        slope: gradient of nearness in x and y, (2,), over the photo's longer side.
        waves: wave vectors in radians over the longer side, (N, 2).
        phases: of the waves, (N,).
        amplitudes: of the waves, (N,).
        size: (H, W) of the photo.
    """

    relief: float
    far: np.ndarray
    near: np.ndarray
    slope: np.ndarray
    waves: np.ndarray
    phases: np.ndarray
    amplitudes: np.ndarray
    size: tuple[int, int]

    @property
    def extremes(self) -> np.ndarray:
        """Homographies of both planes, (2 T, 3, 3); every position lies between those of one of each."""
        return np.concatenate([self.far, self.near])

    def nearness(self, points: np.ndarray) -> np.ndarray:
        """Return the positions of points (N, 2) between the farthest (0) and the nearest plane (1): (N,)."""
        relative = (points - (np.array(self.size[::-1]) - 1) / 2) / max(self.size)
        waves = np.cos(relative @ self.waves.T + self.phases) @ self.amplitudes
        return (1 + np.tanh(relative @ self.slope + waves)) / 2

    def move(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 2) of the camera's image to the photo at each instant, (T, N, 2)."""
        far, near = move_points(self.far, points), move_points(self.near, points)
        return far + self.nearness(points)[:, np.newaxis] * (near - far)

    def positions(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Return coarse positions in the photo of a camera window, float32 (T, rows, columns, 2), for `refine`."""
        x = left + (np.arange(-(-width // _STEP) + 2) - 0.5) * _STEP - 0.5
        y = top + (np.arange(-(-height // _STEP) + 2) - 0.5) * _STEP - 0.5
        points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        return self.move(points).reshape(-1, len(y), len(x), 2).astype(np.float32)


def refine(positions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Interpolate one instant's coarse positions to all pixels of a window of `size` (W, H), float32 (H, W, 2)."""
    rows, columns = positions.shape[:2]
    full = cv2.resize(positions, (columns * _STEP, rows * _STEP), interpolation=cv2.INTER_LINEAR)
    return full[_STEP : _STEP + size[1], _STEP : _STEP + size[0]]


def sample_depth(
    rng: np.random.Generator, rules: DepthRules, path: np.ndarray, focal: float, size: tuple[int, int]
) -> Depth:
    """Draw the depth of a scene: uneven, and on average nearer towards the bottom, like ground.

    Args:
        rng: source of randomness.
        rules: distribution of the depth.
        path: camera's path (T, 6), see `sample_trajectory`.
        focal: focal length in pixels.
        size: (H, W) of the photo.
    """
    relief = rng.uniform(*rules.relief)
    far, near = (project(path, focal, size, nearness) for nearness in (1 - relief, 1 + relief))
    slope = np.array([rng.normal(0, 1), rng.normal(1.5, 1)])
    lowest, highest = np.log(_CYCLES)
    cycles = np.exp(rng.uniform(lowest, highest, _WAVES))
    directions = rng.uniform(0, 2 * math.pi, _WAVES)
    waves = 2 * math.pi * cycles[:, np.newaxis] * np.column_stack([np.cos(directions), np.sin(directions)])
    phases = rng.uniform(0, 2 * math.pi, _WAVES)
    amplitudes = rng.uniform(0, 1, _WAVES) / np.maximum(cycles, 1)
    return Depth(relief, far, near, slope, waves, phases, amplitudes, size)
