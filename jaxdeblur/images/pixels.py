"""Pillow's decoded images as arrays: RGB (H, W, 3), alpha (H, W), in 8 or 16 bits."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from jaxdeblur.images.decode import GREY_16_BIT, load_image
from jaxdeblur.images.png16 import decode_low_bytes

_PIXELS = 2**22  # converted at once, so that no second copy of a large image is made


def to_arrays(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Return pixels (H, W, 3), alpha (H, W) or None, and whether the image is grey."""
    if image.mode in GREY_16_BIT:
        return _as_three(_rows_of(image, image.mode).astype(np.uint16)), None, True
    transparent = image.has_transparency_data
    if image.mode in ("1", "L", "LA") and not (transparent and image.mode != "LA"):
        values = _rows_of(image, "LA" if transparent else "L")
        return (_as_three(values[..., 0]), values[..., 1], True) if transparent else (_as_three(values), None, True)
    values = _rows_of(image, "RGBA" if transparent else "RGB")
    return values[..., :3], values[..., 3] if transparent else None, image.mode in ("1", "L")


def _as_three(grey: np.ndarray) -> np.ndarray:
    return np.broadcast_to(grey[..., None], (*grey.shape, 3))


def _rows_of(image: Image.Image, mode: str) -> np.ndarray:
    """Return an image as an array, converted to a mode some rows at a time."""
    result = None
    for top, values in _strips(image, mode):
        if result is None:
            result = np.empty((image.height, *values.shape[1:]), values.dtype)
        result[top : top + len(values)] = values
    return result


def _strips(image: Image.Image, mode: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, some rows) of an image, converted to a mode."""
    step = max(_PIXELS // image.width, 1)
    for top in range(0, image.height, step):
        rows = image.crop((0, top, image.width, min(top + step, image.height)))
        rows.info = image.info  # a transparent colour stands there
        yield top, np.asarray(rows if rows.mode == mode else rows.convert(mode))


def deepened(pixels: np.ndarray, alpha: np.ndarray | None, image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Return uint16 from the upper bytes and the image, opened anew, whose file holds the lower ones."""
    deep, deep_alpha = (part if part is None else part.astype(np.uint16) for part in (pixels, alpha))
    for part in (deep, deep_alpha):
        if part is not None:
            part <<= 8  # in place: there may be hundreds of megabytes
    decode_low_bytes(image)
    load_image(image)
    for top, low in _strips(image, image.mode):
        deep[top : top + len(low)] |= low[..., :3]
        if deep_alpha is not None:
            deep_alpha[top : top + len(low)] |= low[..., 3]
    return deep, deep_alpha
