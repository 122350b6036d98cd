"""Resizes images to squares with Pillow's filters, which are antialiased when shrinking."""

import numpy as np
from PIL import Image

RESIZE_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resize_image(image: np.ndarray, side: int, resize_filter: str) -> np.ndarray:
    """Resize a uint8 image (H, W, 3) to (side, side, 3); returned unchanged if it has that size."""
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), RESIZE_FILTERS[resize_filter]))


def resize_bicubic(values: np.ndarray, side: int) -> np.ndarray:
    """Resize uint8 or uint16 (H, W, C) to (side, side, C) bicubically; 8-bit RGB as by `resize_image`."""
    if values.dtype == np.uint8 and values.shape[2] == 3:
        return resize_image(np.ascontiguousarray(values), side, "bicubic")
    channels = [
        Image.fromarray(channel.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
        for channel in np.moveaxis(values, -1, 0)
    ]
    limit = np.iinfo(values.dtype).max
    return np.stack([np.rint(np.clip(np.asarray(c), 0, limit)) for c in channels], axis=-1).astype(values.dtype)
