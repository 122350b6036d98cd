"""Parallax: a scene that is not one plane shifts more where it is near, when the camera's position changes.

The photograph's distance is taken to vary smoothly about 1, the distance of the plane that `trajectories` describes.
What lies nearer or farther is seen between the views of two planes, the nearest and the farthest. The distance belongs
to the pixels of the middle instant, so each instant is one resampling of the photograph, without tears or holes.
"""

import dataclasses
import math

import cv2
import numpy as np

from jaxdeblur.synthesis.camera_shake import move_points, project
from jaxdeblur.synthesis.ranges import Range, check_range

_WAVES = 6
_CYCLES = (0.4, 2.5)  # of a wave over the photograph's longer side
_STEP = 8  # pixels between the positions that are computed; those between them are interpolated


@dataclasses.dataclass(frozen=True)
class DepthRules:
    """How far from a plane scenes are.

    Attributes:
        relief: smallest and largest relief; drawn evenly. With a relief of r, the nearest parts shift 1 + r times as
            far as the plane at distance 1 when the camera moves, the farthest 1 - r times; 0: the scene is a plane.

    Raises:
        InputError: it is not in 0 to 1.
    """

    relief: Range = (0.0, 0.0)

    def __post_init__(self):
        check_range("depth_relief", self.relief, 0, 1)


@dataclasses.dataclass(frozen=True)
class Depth:
    """The distances of one scene, and how its nearest and farthest planes are seen.

    Attributes:
        relief: how far the scene is from a plane; see `DepthRules`.
        far: homographies (T, 3, 3) from the camera's pixels to the photograph's, for the farthest plane.
        near: the same for the nearest.
        slope: growth of nearness to the right and downwards, (2,), over the photograph's longer side.
        waves: wave vectors in radians over the longer side, (N, 2).
        phases: (N,).
        amplitudes: (N,).
        size: (H, W) of the photograph.
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
        """The homographies of both planes, (2 T, 3, 3): every position seen lies between one of each."""
        return np.concatenate([self.far, self.near])

    def nearness(self, points: np.ndarray) -> np.ndarray:
        """Return where points (N, 2) of the photograph lie between the farthest plane, 0, and the nearest, 1: (N,)."""
        place = (points - (np.array(self.size[::-1]) - 1) / 2) / max(self.size)
        waves = np.cos(place @ self.waves.T + self.phases) @ self.amplitudes
        return (1 + np.tanh(place @ self.slope + waves)) / 2

    def move(self, points: np.ndarray) -> np.ndarray:
        """Return where points (N, 2) of the camera's image lie in the photograph at each instant, (T, N, 2)."""
        far, near = move_points(self.far, points), move_points(self.near, points)
        return far + self.nearness(points)[:, np.newaxis] * (near - far)

    def positions(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Return coarse positions for `refine`, float32 (T, rows, columns, 2), of a window of the camera's image."""
        x = left + (np.arange(-(-width // _STEP) + 2) - 0.5) * _STEP - 0.5
        y = top + (np.arange(-(-height // _STEP) + 2) - 0.5) * _STEP - 0.5
        points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        return self.move(points).reshape(-1, len(y), len(x), 2).astype(np.float32)


def refine(positions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the positions of all pixels of a window of `size` (W, H), float32 (H, W, 2), from those of one instant."""
    rows, columns = positions.shape[:2]
    full = cv2.resize(positions, (columns * _STEP, rows * _STEP), interpolation=cv2.INTER_LINEAR)
    return full[_STEP : _STEP + size[1], _STEP : _STEP + size[0]]


def sample_depth(
    rng: np.random.Generator, rules: DepthRules, path: np.ndarray, focal: float, size: tuple[int, int]
) -> Depth:
    """Draw the distances of a scene: nearer towards the bottom, as ground is, and uneven.

    Args:
        rng: source of randomness.
        rules: how far from a plane the scene is.
        path: camera's path (T, 6), as `sample_trajectory` gives it.
        focal: focal length in pixels.
        size: (H, W) of the photograph.
    """
    relief = rng.uniform(*rules.relief)
    far, near = (project(path, focal, size, nearness) for nearness in (1 - relief, 1 + relief))
    slope = np.array([rng.normal(0, 1), rng.normal(1.5, 1)])
    cycles = np.exp(rng.uniform(*np.log(_CYCLES), _WAVES))
    directions = rng.uniform(0, 2 * math.pi, _WAVES)
    waves = 2 * math.pi * cycles[:, np.newaxis] * np.column_stack([np.cos(directions), np.sin(directions)])
    phases = rng.uniform(0, 2 * math.pi, _WAVES)
    amplitudes = rng.uniform(0, 1, _WAVES) / np.maximum(cycles, 1)
    return Depth(relief, far, near, slope, waves, phases, amplitudes, size)
