"""Images as NumPy arrays: validation and conversion between integers and floats.

Images are RGB, (H, W, 3) or (N, H, W, 3): uint8, uint16, or float in [0, 1]. Two conversions from 16 to 8 bits exist:
`upper_byte` truncates, the exact inverse of v * 257 that costs no arithmetic; `round_to_uint8` rounds to nearest.
"""

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from jaxdeblur.errors import InputError

if TYPE_CHECKING:
    import jax

# Tolerated excess over [0, 1], such as from a conversion to float16 and back.
RANGE_TOLERANCE = 2e-3


def check_image(image: np.ndarray) -> None:
    """Validate an image's type, shape, dtype and range.

    Raises:
        InputError: one of them is wrong (code "image-type", "image-shape" or "image-range").
    """
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"The image is of type {type(image).__name__}; expected a NumPy array of uint8, uint16 or float in [0, 1], "
            "or a Pillow image. Convert it with numpy.asarray.",
            code="image-type",
        )
    if image.ndim not in (3, 4) or image.shape[-1] != 3 or 0 in image.shape:
        raise InputError(
            f"The image has shape {image.shape}; expected RGB, (height, width, 3) or (number, height, width, 3).",
            code="image-shape",
        )
    if image.dtype in (np.uint8, np.uint16):
        return
    if not np.issubdtype(image.dtype, np.floating):
        raise InputError(
            f"The image is of type {image.dtype}; expected uint8, uint16 or float in [0, 1].", code="image-type"
        )
    least, most = float(image.min()), float(image.max())
    # Negated, so that NaN fails too.
    if not (least >= -RANGE_TOLERANCE and most <= 1 + RANGE_TOLERANCE):
        raise InputError(
            f"The image is of type {image.dtype} with values from {least:g} to {most:g}; expected float values in "
            "[0, 1]. Divide values of 0 to 255 by 255 (or pass them as uint8), and clip overshoot from interpolation.",
            code="image-range",
        )


@overload
def to_float(image: np.ndarray) -> np.ndarray: ...
@overload
def to_float(image: "jax.Array") -> "jax.Array": ...
def to_float(image: Any) -> Any:
    """Convert an image to float32 in [0, 1]. JAX arrays and tracers work too."""
    if image.dtype in (np.uint8, np.uint16):
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return image.astype(np.float32)


def from_float(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Clip an image in [0, 1] and convert it to `dtype`; integers are rounded and use their full range."""
    image = np.clip(image, 0.0, 1.0)
    if dtype in (np.uint8, np.uint16):
        image = np.rint(image * np.float32(np.iinfo(dtype).max))
    return image.astype(dtype)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Convert a float image in [0, 1] to uint8: clipped and rounded, NaN as 0."""
    return np.round(np.clip(np.nan_to_num(image), 0.0, 1.0) * 255.0).astype(np.uint8)


def upper_byte(values: np.ndarray) -> np.ndarray:
    """Return the upper bytes of uint16 values as uint8: v // 256."""
    return (values >> 8).astype(np.uint8)


def round_to_uint8(values: np.ndarray) -> np.ndarray:
    """Convert uint16 values to the nearest uint8: round(v / 257)."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
