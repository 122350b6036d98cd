"""Images as NumPy arrays: which are accepted, and how they become float32 in [0, 1] and come back.

Images are RGB, (H, W, 3) or (N, H, W, 3), of uint8, uint16, or float in [0, 1].
"""

import numpy as np

from jaxdeblur.errors import InputError

# By how much floats may leave [0, 1], as after a conversion to float16 and back.
ROUNDING = 2e-3


def check_image(image: np.ndarray) -> None:
    """Refuse what is no array of one of these shapes and types.

    Raises:
        InputError: says what was found (code "image-type", "image-shape" or "image-range").
    """
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"The image is of type {type(image).__name__}; expected a NumPy array of uint8, uint16 or float in [0, 1], "
            "or Pillow's image. Convert it with numpy.asarray and the type that its values need.",
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
    # Written so that NaN is refused too.
    if not (least >= -ROUNDING and most <= 1 + ROUNDING):
        raise InputError(
            f"The image is of type {image.dtype} with values from {least:g} to {most:g}; expected float values in "
            "[0, 1]. Divide values of 0 to 255 by 255 (or pass them as uint8), and clip what interpolation overshot.",
            code="image-range",
        )


def to_float(image: np.ndarray) -> np.ndarray:
    """Return an image as float32 in [0, 1]."""
    if image.dtype in (np.uint8, np.uint16):
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return image.astype(np.float32)


def from_float(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an image in [0, 1] clipped, and as integers of full range, rounded, if `dtype` is an integer's."""
    image = np.clip(image, 0.0, 1.0)
    if dtype in (np.uint8, np.uint16):
        image = np.rint(image * np.float32(np.iinfo(dtype).max))
    return image.astype(dtype)
