"""Random trajectories of a hand-held camera, and the homographies of a plane that they cause.

Coordinates: x right, y down, z into the scene; the origin is the centre of the first pixel. Angles are in radians,
translations relative to the distance of the scene: the photo is treated as a plane at distance 1, parallel to the
sensor. Paths are float64, one row per time sample, and are 0 at the middle sample, whose image is the sharp one.
"""

import dataclasses
import math

import numpy as np
from scipy.spatial.transform import Rotation

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.ranges import check_log_range, log_uniform


@dataclasses.dataclass(frozen=True)
class Shake:
    """Distribution of the camera's motion during one exposure.

    Attributes:
        time_samples: instants that the exposure is integrated over; odd, to have a middle one.
        travel: range of the path length of the image centre, in pixels.
        roll: standard deviation of the rotation about the optical axis during the exposure, in degrees.
        zoom: standard deviation of the relative change of the scene's distance during the exposure.
        focal: focal length relative to the photo's longer side (36 mm on a 36 mm wide sensor: 1).
        jitter: standard deviation of the random change of velocity over the exposure, relative to the velocity.
        pull: acceleration back towards the start, in path lengths per squared exposure.
        jerks: mean number of impulsive jerks per exposure, each of which roughly reverses the motion.
        log_travel: draw path lengths, including those of regions, log-uniformly instead of uniformly, so that short
            ones are as frequent as long ones.

    Raises:
        InputError: a value is out of range (code "shake-out-of-range" or "range-out-of-range").
    """

    time_samples: int = 31
    travel: tuple[float, float] = (5.0, 25.0)
    roll: float = 0.3
    zoom: float = 0.003
    focal: float = 1.0
    jitter: float = 1.0
    pull: float = 1.0
    jerks: float = 0.5
    log_travel: bool = False

    def __post_init__(self):
        if self.time_samples < 3 or self.time_samples % 2 == 0:
            raise InputError(
                f"time_samples: {self.time_samples}, expected an odd number of at least 3.", code="shake-out-of-range"
            )
        check_travel("travel", self.travel)
        if self.log_travel:
            check_log_range("travel", self.travel)
        for name in ("roll", "zoom", "jitter", "pull", "jerks"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: {getattr(self, name)}, expected 0 or more.", code="shake-out-of-range")
        if not 0 < self.focal < math.inf:
            raise InputError(f"focal: {self.focal}, expected more than 0.", code="shake-out-of-range")


def check_travel(name: str, travel: tuple[float, float]) -> None:
    """Require a range of path lengths in pixels.

    Raises:
        InputError: it is not (code "range-out-of-range").
    """
    if not 0 <= travel[0] <= travel[1] < math.inf:
        raise InputError(
            f"{name}: {travel[0]:g} {travel[1]:g}, expected the smallest and the largest length, in pixels.",
            code="range-out-of-range",
        )


def inertial_walks(rng: np.random.Generator, shake: Shake, count: int) -> np.ndarray:
    """Return random walks in the complex plane, complex (time_samples, count), from 0 and of length about 1.

    A point with inertia under random forces is pulled back to its start and jerked at times, as in Boracchi and Foi
    2012 ("Modeling the Performance of Image Restoration From Motion Blur", IEEE TIP 21(8), section III). In contrast to
    theirs, speed is not constant, and all walks are jerked at the same instants, since they belong to one camera.
    """
    steps = shake.time_samples - 1
    velocity = np.exp(2j * math.pi * rng.random(count))
    forces = rng.normal(0, shake.jitter / math.sqrt(2 * steps), (steps, count, 2)) @ np.array([1, 1j])
    jerked = rng.random(steps) < shake.jerks / steps
    turns = np.exp(1j * (math.pi + rng.uniform(-0.5, 0.5, (steps, count))))
    walks = np.zeros((steps + 1, count), complex)
    for step in range(steps):
        walks[step + 1] = walks[step] + velocity / steps
        velocity = velocity + forces[step] - shake.pull * walks[step + 1] / steps
        velocity = velocity + jerked[step] * 2 * velocity * turns[step]
    return walks


def sample_shift(rng: np.random.Generator, shake: Shake, travel: tuple[float, float]) -> np.ndarray:
    """Return a random walk with a length drawn from `travel`: shifts in x and y in pixels, (time_samples, 2)."""
    walk = inertial_walks(rng, shake, 1)[:, 0]
    return _in_pixels(walk, _draw_length(rng, shake, travel))


def sample_trajectory(rng: np.random.Generator, shake: Shake, focal: float) -> np.ndarray:
    """Return a random camera path, (time_samples, 6): rotations about x, y, z, then translations.

    Rotations about x and y and translations along x and y both shift the image (the former also tilt it); the share of
    each in the shift is random.

    Args:
        rng: source of randomness.
        shake: distribution of the motion.
        focal: focal length in pixels.
    """
    rotation, translation, rolling, zooming = inertial_walks(rng, shake, 4).T
    share = rng.random()
    length = _draw_length(rng, shake, shake.travel)
    scale = length / _length(share * rotation + (1 - share) * translation)
    rotated = _in_pixels(rotation, _length(rotation) * scale * share) / focal
    translated = _in_pixels(translation, _length(translation) * scale * (1 - share)) / focal
    roll = _over_range(rolling.real, math.radians(rng.normal(0, shake.roll)))
    zoom = _over_range(zooming.real, rng.normal(0, shake.zoom))
    return np.column_stack([-np.arctan(rotated[:, 1]), np.arctan(rotated[:, 0]), roll, translated, zoom])


def project(path: np.ndarray, focal: float, size: tuple[int, int], nearness: float = 1.0) -> np.ndarray:
    """Return the homographies (T, 3, 3) from pixels of the moving camera to pixels of the photo.

    For a plane with normal n at distance 1 and pinhole cameras (Hartley and Zisserman, "Multiple View Geometry",
    equation 13.2; applied to camera shake by Whyte et al., CVPR 2010): K (I + t n' / (1 - t_z)) R / K, where R is the
    camera's rotation and t its translation. The optical axis passes through the centre of the photo.

    Args:
        path: camera's path (T, 6), see `sample_trajectory`.
        focal: focal length in pixels.
        size: (H, W) of the photo.
        nearness: 1 / distance of the plane; the formula holds with n divided by the distance.
    """
    height, width = size
    intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    rotations = Rotation.from_euler("YXZ", path[:, [1, 0, 2]]).as_matrix()
    planes = np.tile(np.eye(3), (len(path), 1, 1))
    planes[:, :, 2] += nearness * path[:, 3:] / (1 - nearness * path[:, 5:])
    return intrinsics @ planes @ rotations @ np.linalg.inv(intrinsics)


def move_points(homographies: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply homographies (T, 3, 3) to points (N, 2), x and y in pixels: (T, N, 2)."""
    moved = np.column_stack([points, np.ones(len(points))]) @ np.swapaxes(homographies, -1, -2)
    return moved[..., :2] / moved[..., 2:]


def _draw_length(rng: np.random.Generator, shake: Shake, travel: tuple[float, float]) -> float:
    return log_uniform(travel, rng.random()) if shake.log_travel else rng.uniform(*travel)


def _length(walk: np.ndarray) -> float:
    return float(np.abs(np.diff(walk)).sum())


def _in_pixels(walk: np.ndarray, length: float) -> np.ndarray:
    """Return a complex walk as (T, 2), scaled to a length, with 0 at the middle sample."""
    walk = (walk - walk[len(walk) // 2]) * (length / _length(walk))
    return np.column_stack([walk.real, walk.imag])


def _over_range(walk: np.ndarray, extent: float) -> np.ndarray:
    """Return a real walk (T,), scaled to a signed `extent`, with 0 at the middle sample."""
    return (walk - walk[len(walk) // 2]) * (extent / np.ptp(walk))
