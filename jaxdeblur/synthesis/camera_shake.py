"""How a hand-held camera moves during an exposure, and what that does to the image of a plane.

Coordinates: x right, y down, z into the scene. Pixels are counted from the centre of the first one. Angles are in
radians, translations in distances of the scene (the photograph is taken for a plane at distance 1, parallel to the
sensor). Paths are float64 with one row per time sample and rest at the middle sample, whose image is the sharp one.
"""

import dataclasses
import math

import numpy as np
from scipy.spatial.transform import Rotation

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.ranges import check_log_range, log_uniform


@dataclasses.dataclass(frozen=True)
class Shake:
    """How the camera may move during one exposure.

    Attributes:
        time_samples: instants the exposure is integrated over; odd, so that one is in the middle.
        travel: least and greatest path length of the image's centre in pixels.
        roll: standard deviation of the angle about the optical axis covered during the exposure, in degrees.
        zoom: standard deviation of the change of the scene's distance during the exposure, relative to the distance.
        focal: focal length relative to the photograph's longer side (a 36 mm wide sensor behind 36 mm: 1).
        jitter: standard deviation of the random change of velocity over the exposure, relative to the velocity.
        pull: acceleration back towards the start, in path lengths per squared exposure.
        jerks: mean number of impulsive jerks per exposure, each of which about reverses the motion.
        log_travel: whether path lengths, regions' as well, are drawn log-uniformly, so that short ones are as frequent
            as long ones; otherwise they are drawn evenly.

    Raises:
        InputError: a value is out of its range.
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
            raise InputError(f"time_samples: {self.time_samples}, expected an odd number of at least 3.")
        check_travel("travel", self.travel)
        if self.log_travel:
            check_log_range("travel", self.travel)
        for name in ("roll", "zoom", "jitter", "pull", "jerks"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}: {getattr(self, name)}, expected 0 or more.")
        if not 0 < self.focal < math.inf:
            raise InputError(f"focal: {self.focal}, expected more than 0.")


def check_travel(name: str, travel: tuple[float, float]) -> None:
    """Raise InputError unless `travel` is a least and a greatest path length in pixels."""
    if not 0 <= travel[0] <= travel[1] < math.inf:
        raise InputError(f"{name}: {travel[0]:g} {travel[1]:g}, expected the least length and the greatest, in pixels.")


def inertial_walks(rng: np.random.Generator, shake: Shake, count: int) -> np.ndarray:
    """Return walks in the complex plane, complex (time_samples, count), that begin at 0 and are about 1 long.

    A point with inertia is under random forces, drawn back to its start, and jerked back now and then, as in Boracchi
    and Foi 2012 ("Modeling the Performance of Image Restoration From Motion Blur", IEEE TIP 21(8), section III). Other
    than theirs, the speed is not held constant, and all walks are jerked at the same instants: they are one camera's.
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
    """Return one walk of a length drawn from `travel`: shifts in x and y in pixels, (time_samples, 2)."""
    walk = inertial_walks(rng, shake, 1)[:, 0]
    return _in_pixels(walk, _draw_length(rng, shake, travel))


def sample_trajectory(rng: np.random.Generator, shake: Shake, focal: float) -> np.ndarray:
    """Return a camera's path in six degrees of freedom, (time_samples, 6): rotations about x, y, z, translations.

    Rotations about x and y and translations along x and y both shift the image (the former tilt it as well); how much
    of the shift is whose is drawn anew each time.

    Args:
        rng: source of randomness.
        shake: how the camera may move.
        focal: focal length in pixels.
    """
    turning, sliding, rolling, zooming = inertial_walks(rng, shake, 4).T
    share = rng.random()
    length = _draw_length(rng, shake, shake.travel)
    scale = length / _length(share * turning + (1 - share) * sliding)
    by_turning = _in_pixels(turning, _length(turning) * scale * share) / focal
    by_sliding = _in_pixels(sliding, _length(sliding) * scale * (1 - share)) / focal
    roll = _over_range(rolling.real, math.radians(rng.normal(0, shake.roll)))
    zoom = _over_range(zooming.real, rng.normal(0, shake.zoom))
    return np.column_stack([-np.arctan(by_turning[:, 1]), np.arctan(by_turning[:, 0]), roll, by_sliding, zoom])


def project(path: np.ndarray, focal: float, size: tuple[int, int], nearness: float = 1.0) -> np.ndarray:
    """Return the homographies (T, 3, 3) from pixels of the moving camera to pixels of the photograph.

    The homography of a plane with normal n at distance 1, seen by pinhole cameras (Hartley and Zisserman, "Multiple
    View Geometry", equation 13.2; used for shake by Whyte et al., CVPR 2010): K (I + t n' / (1 - t_z)) R / K, where R
    is the camera's rotation and t its translation. The optical axis goes through the middle of the photograph.

    Args:
        path: camera's path (T, 6), as `sample_trajectory` gives it.
        focal: focal length in pixels.
        size: (H, W) of the photograph.
        nearness: 1 / distance of the plane; with n the normal over the distance, the formula stays the same.
    """
    height, width = size
    intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    rotations = Rotation.from_euler("YXZ", path[:, [1, 0, 2]]).as_matrix()
    planes = np.tile(np.eye(3), (len(path), 1, 1))
    planes[:, :, 2] += nearness * path[:, 3:] / (1 - nearness * path[:, 5:])
    return intrinsics @ planes @ rotations @ np.linalg.inv(intrinsics)


def move_points(homographies: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where homographies (T, 3, 3) take points (N, 2): (T, N, 2), x and y in pixels."""
    moved = np.column_stack([points, np.ones(len(points))]) @ np.swapaxes(homographies, -1, -2)
    return moved[..., :2] / moved[..., 2:]


def _draw_length(rng: np.random.Generator, shake: Shake, travel: tuple[float, float]) -> float:
    return log_uniform(travel, rng.random()) if shake.log_travel else rng.uniform(*travel)


def _length(walk: np.ndarray) -> float:
    return float(np.abs(np.diff(walk)).sum())


def _in_pixels(walk: np.ndarray, length: float) -> np.ndarray:
    """Return a complex walk as (T, 2), scaled to a length and at rest at the middle sample."""
    walk = (walk - walk[len(walk) // 2]) * (length / _length(walk))
    return np.column_stack([walk.real, walk.imag])


def _over_range(walk: np.ndarray, extent: float) -> np.ndarray:
    """Return a real walk (T,) that covers `extent` (its sign turns the walk round), at rest at the middle sample."""
    return (walk - walk[len(walk) // 2]) * (extent / np.ptp(walk))
