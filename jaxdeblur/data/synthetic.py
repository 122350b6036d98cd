"""Motion blur made from sharp photographs, by the recipe of GOPRO_Large: a simulated high-speed camera, averaged.

Images are uint8 RGB, (H, W, 3). Everything is a pure function of its arguments; randomness comes from the generator
passed in.
"""

import dataclasses
import math

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Shake:
    """How the simulated camera moves during one exposure.

    Attributes:
        time_samples: frames of the simulated high-speed camera per exposure; odd, so that one is in the middle.
        travel: least and greatest path length of the image's centre in pixels.
        turn: standard deviation of the rotation over the exposure in degrees.
        jitter: standard deviation of the change of velocity over the exposure, relative to the velocity; 0 is a
            straight path.
    """

    time_samples: int = 25
    travel: tuple[float, float] = (3.0, 20.0)
    turn: float = 1.0
    jitter: float = 1.0


def sample_trajectory(rng: np.random.Generator, shake: Shake) -> np.ndarray:
    """Return a camera path (time_samples, 3): shift in x and y in pixels, rotation in radians.

    A point with inertia under random forces, as in Boracchi and Foi 2012 ("Modeling the performance of image
    restoration from motion blur", section III), without their sudden shakes. The path is zero at the middle sample,
    whose frame is the sharp image.
    """
    steps, middle = shake.time_samples, shake.time_samples // 2
    angle = rng.uniform(0, 2 * math.pi)
    forces = rng.normal(0, shake.jitter / math.sqrt(steps), (steps, 2))
    velocity = np.array([math.cos(angle), math.sin(angle)]) + np.cumsum(forces, axis=0)
    length = np.linalg.norm(velocity[1:], axis=1).sum()
    shift = np.cumsum(velocity * (rng.uniform(*shake.travel) / length), axis=0)
    rotation = np.linspace(0, 1, steps) * math.radians(rng.normal(0, shake.turn))
    path = np.column_stack([shift, rotation])
    return path - path[middle]


def simulate_frames(photo: Image.Image, box: tuple[int, int, int], path: np.ndarray) -> np.ndarray:
    """Return what a moving camera sees through the square window `box` = (left, top, side) of an RGB photograph.

    The camera shifts by path[:, :2] pixels and rotates by path[:, 2] about the photograph's middle, so that blur
    differs from place to place. Beyond the photograph's edge it sees black: keep the window away from edges by the
    path's reach. Returns uint8 (time_samples, side, side, 3), sampled bilinearly; a frame with zero path is the
    photograph's own pixels.
    """
    left, top, side = box
    center_x, center_y = photo.width / 2, photo.height / 2
    frames = []
    for shift_x, shift_y, rotation in path:
        cos, sin = math.cos(rotation), math.sin(rotation)
        offset_x, offset_y = left - center_x, top - center_y
        affine = (
            *(cos, -sin, center_x + shift_x + cos * offset_x - sin * offset_y),
            *(sin, cos, center_y + shift_y + sin * offset_x + cos * offset_y),
        )
        frames.append(photo.transform((side, side), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR))
    return np.stack([np.asarray(frame) for frame in frames])


def average_frames(frames: np.ndarray) -> np.ndarray:
    """Return GOPRO_Large's `blur` of (T, H, W, 3) uint8 frames: the rounded plain mean of their stored values."""
    return np.round(frames.mean(axis=0, dtype=np.float32)).astype(np.uint8)


def reach(path: np.ndarray, photo: Image.Image) -> int:
    """Return how far, in pixels, a path can carry any point of the photograph from its place."""
    radius = math.hypot(photo.width, photo.height) / 2
    return math.ceil((np.linalg.norm(path[:, :2], axis=1) + np.abs(path[:, 2]) * radius).max()) + 1


def make_pair(photo: Image.Image, side: int, shake: Shake, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return one (blur, sharp) pair, both (side, side, 3), of a random window of an RGB photograph.

    Raises:
        ValueError: the photograph is too small for the window and the camera's motion.
    """
    path = sample_trajectory(rng, shake)
    margin = reach(path, photo)
    if min(photo.size) < side + 2 * margin:
        size = f"{photo.width}x{photo.height}"
        raise ValueError(f"photograph of {size} is too small for a window of {side} and a motion of {margin} pixels")
    left = int(rng.integers(margin, photo.width - side - margin + 1))
    top = int(rng.integers(margin, photo.height - side - margin + 1))
    frames = simulate_frames(photo, (left, top, side), path)
    return average_frames(frames), frames[shake.time_samples // 2]
