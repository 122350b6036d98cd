"""Orientation of video frames: players rotate and mirror them by the display matrix."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError

# Entries of a display matrix below this fraction of the largest are rounding errors, not a rotation.
_NEGLIGIBLE = 1e-3


@dataclasses.dataclass(frozen=True)
class Orientation:
    """How a player orients stored frames: transpose first, then flip."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return a frame, (H, W, 3), upright."""
        image = image.swapaxes(0, 1) if self.transpose else image
        image = image[::-1] if self.flip_rows else image
        return image[:, ::-1] if self.flip_columns else image


def orientation_of(frame: Any, path: Path) -> Orientation:
    """Return the orientation that a frame's display matrix specifies.

    The matrix (a b u; c d v; x y w) maps a stored position (x, y) to (a x + c y, b x + d y), up to a translation.

    Raises:
        InputError: the matrix is not a combination of flips and quarter turns ("video-orientation").
    """
    from av.sidedata.sidedata import Type

    if Type.DISPLAYMATRIX not in [data.type for data in frame.side_data]:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(frame.side_data[Type.DISPLAYMATRIX]), np.int32)[:5].tolist()
    tolerance = max(abs(a), abs(b), abs(c), abs(d)) * _NEGLIGIBLE
    if a and d and max(abs(b), abs(c)) <= tolerance:
        return Orientation(flip_rows=d < 0, flip_columns=a < 0)
    if b and c and max(abs(a), abs(d)) <= tolerance:
        return Orientation(transpose=True, flip_rows=b < 0, flip_columns=c < 0)
    raise InputError(
        f"{path}: its rotation is not a multiple of 90 degrees, which is not supported. Re-encode it upright first.",
        code="video-orientation",
    )
