"""Independently moving regions of a photo: random shapes with soft edges, cut out and shifted.

A region is a patch of the photo that moves like an object; behind it is the photo itself. Masks are float32 in [0, 1];
coordinates are pixels of the photo.
"""

import dataclasses
import math

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis.camera_shake import Shake, check_travel, sample_shift
from jaxdeblur.synthesis.ranges import Range, check_range

_HARMONICS = np.arange(2, 6)  # 2 elongates the disc, the others make its outline uneven
_MIN_SIDE = 16  # pixels; smaller photos have no room for a region


@dataclasses.dataclass(frozen=True)
class RegionRules:
    """Number, shape and motion of the regions of an exposure.

    Attributes:
        count: number of regions.
        radius: range of the mean radius relative to the photo's shorter side; at most 0.25.
        edge: width of the soft edge in pixels.
        travel: range of the path length in pixels, relative to the camera's motion.

    Raises:
        InputError: a value is out of range.
    """

    count: int = 0
    radius: tuple[float, float] = (0.08, 0.2)
    edge: float = 4.0
    travel: tuple[float, float] = (5.0, 25.0)

    def __post_init__(self):
        if self.count < 0:
            raise InputError(f"regions: {self.count}, expected 0 or more.", code="regions-negative")
        if not 0 < self.radius[0] <= self.radius[1] <= 0.25:
            raise InputError(
                f"region_radius: {self.radius[0]:g} {self.radius[1]:g}, expected the smallest and the largest, above 0 "
                "and at most 0.25.",
                code="range-out-of-range",
            )
        if not 1 <= self.edge < math.inf:
            raise InputError(f"region_edge: {self.edge:g}, expected at least 1 pixel.", code="range-out-of-range")
        check_travel("region_travel", self.travel)


@dataclasses.dataclass(frozen=True)
class ObjectRules:
    """Number, size and motion of the objects of an exposure.

    Attributes:
        count: maximum number of objects; each exposure draws a number from 0.
        radius: range of the radius of a disc of an object's area, relative to the photo's shorter side; at most 0.4.
        travel: range of the path length in pixels, relative to the camera's motion.
        turn: standard deviation of an object's rotation in the image plane in degrees.
        growth: standard deviation of the relative change of an object's size.

    Raises:
        InputError: a value is out of range.
    """

    count: int = 0
    radius: Range = (0.06, 0.2)
    travel: Range = (3.0, 25.0)
    turn: float = 1.5
    growth: float = 0.01

    def __post_init__(self):
        if self.count < 0:
            raise InputError(f"objects: {self.count}, expected 0 or more.", code="objects-negative")
        check_range("object_radius", self.radius, 0.01, 0.4)
        check_travel("object_travel", self.travel)
        for name in ("turn", "growth"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"object_{name}: {getattr(self, name)}, expected 0 or more.", code="range-out-of-range"
                )


@dataclasses.dataclass(frozen=True)
class Region:
    """A moving patch.

    Attributes:
        left: first column of the mask in the photo.
        top: first row of the mask in the photo.
        mask: coverage of each pixel, (h, w); 0 along the border.
        path: shifts in x and y relative to the photo, (T, 2); 0 at the middle sample.
        transforms: homographies of the photo (T, 3, 3) applied before the shift, such as a rotation about the patch's
            centre; None: identity.
        solid: the patch is an object, which uncovers its surroundings instead of a copy of itself.
    """

    left: int
    top: int
    mask: np.ndarray
    path: np.ndarray
    transforms: np.ndarray | None = None
    solid: bool = False

    @property
    def corners(self) -> np.ndarray:
        """Corners of the mask, x and y, (4, 2)."""
        height, width = self.mask.shape
        return rectangle(self.left, self.top, width, height)


def rectangle(left: float, top: float, width: float, height: float) -> np.ndarray:
    """Return the centres of a rectangle's corner pixels, x and y, (4, 2)."""
    right, bottom = left + width - 1, top + height - 1
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def sample_regions(
    rng: np.random.Generator, rules: RegionRules, shake: Shake, size: tuple[int, int]
) -> tuple[Region, ...]:
    """Return random regions inside a photo of `size` (H, W).

    Paths are walks like the camera's (jitter, pull and jerks), with independent lengths.

    Raises:
        InputError: the photo is too small for a region (code "photograph-too-small").
    """
    if rules.count and min(size) < max(_MIN_SIDE, 5 * rules.edge):
        least = math.ceil(max(_MIN_SIDE, 5 * rules.edge))
        raise InputError(
            f"{size[1]}x{size[0]} pixels, too small for moving regions; expected at least {least}.",
            code="photograph-too-small",
        )
    return tuple(_sample_region(rng, rules, shake, size) for _ in range(rules.count))


def _sample_region(rng: np.random.Generator, rules: RegionRules, shake: Shake, size: tuple[int, int]) -> Region:
    height, width = size
    amplitudes = rng.normal(0, 0.35 / _HARMONICS)
    phases = rng.uniform(0, 2 * math.pi, len(_HARMONICS))
    radius = rng.uniform(*rules.radius) * min(size)
    reach = math.ceil(1.6 * radius + rules.edge / 2) + 1
    reach = min(reach, (min(size) - 1) // 2)
    centre_x = int(rng.integers(reach, width - reach))
    centre_y = int(rng.integers(reach, height - reach))
    mask = draw_blob(radius, amplitudes, phases, rules.edge, reach)
    return Region(centre_x - reach, centre_y - reach, mask, sample_shift(rng, shake, rules.travel))


def draw_blob(radius: float, amplitudes: np.ndarray, phases: np.ndarray, edge: float, reach: int) -> np.ndarray:
    """Return the mask of a star-shaped blob, (2 reach + 1, 2 reach + 1), with a smooth edge.

    The outline at angle a is radius * (1 + sum_k amplitudes[k] * cos(k a + phases[k])), k = 2 to 5, clipped to 0.3 to
    1.6 radii and to the mask. The edge is the smooth step 3 s^2 - 2 s^3 over `edge` pixels.
    """
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    angle = np.arctan2(y, x)
    outline = np.ones_like(angle)
    for harmonic, amplitude, phase in zip(_HARMONICS, amplitudes, phases, strict=True):
        outline += np.float32(amplitude) * np.cos(np.float32(harmonic) * angle + np.float32(phase))
    outline = np.minimum(radius * np.clip(outline, 0.3, 1.6), reach - edge / 2)
    step = np.clip((outline - np.hypot(x, y)) / edge + 0.5, 0, 1)
    return (step * step * (3 - 2 * step)).astype(np.float32)
