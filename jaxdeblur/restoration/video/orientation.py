"""How players turn and mirror the frames of a video: its display matrix."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError

# Of a display matrix: an entry below this share of the largest is rounding, not a rotation.
_NEGLIGIBLE = 1e-3


@dataclasses.dataclass(frozen=True)
class Orientation:
    """How a player turns stored frames: first exchanges rows and columns, then mirrors."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture, (H, W, 3), as players show it."""
        picture = picture.swapaxes(0, 1) if self.transpose else picture
        picture = picture[::-1] if self.flip_rows else picture
        return picture[:, ::-1] if self.flip_columns else picture


def orientation_of(frame: Any, path: Path) -> Orientation:
    """Return the orientation that a frame's display matrix asks for.

    The matrix (a b u; c d v; x y w) takes a stored place (x, y) to (a x + c y, b x + d y), up to a shift.

    Raises:
        InputError: the matrix is not made of mirroring and quarter turns ("video-orientation").
    """
    from av.sidedata.sidedata import Type

    if Type.DISPLAYMATRIX not in [data.type for data in frame.side_data]:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(frame.side_data[Type.DISPLAYMATRIX]), np.int32)[:5].tolist()
    scale = max(abs(a), abs(b), abs(c), abs(d)) * _NEGLIGIBLE
    if a and d and max(abs(b), abs(c)) <= scale:
        return Orientation(flip_rows=d < 0, flip_columns=a < 0)
    if b and c and max(abs(a), abs(d)) <= scale:
        return Orientation(transpose=True, flip_rows=b < 0, flip_columns=c < 0)
    raise InputError(
        f"{path}: asks players to rotate it by something other than quarter turns, which is not supported. "
        "Re-encode it upright first.",
        code="video-orientation",
    )
