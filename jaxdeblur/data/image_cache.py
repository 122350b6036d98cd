"""In-memory cache of decoded images, so that small data sets are decoded once instead of every epoch."""

import threading
from pathlib import Path

import numpy as np

from jaxdeblur.images.decode import read_image


class ImageCache:
    """Reads image files and keeps the first ones that fit.

    Nothing is evicted: training reads all images equally often, so any cached image saves as much as any other.
    """

    def __init__(self, limit: int):
        """Cache at most `limit` bytes of pixels."""
        self._free_bytes = limit
        self._images: dict[Path, np.ndarray] = {}
        self._lock = threading.Lock()

    def read(self, path: Path) -> np.ndarray:
        """Return an image, uint8 RGB (H, W, 3), as `read_image` does; read-only if cached."""
        if (image := self._images.get(path)) is not None:
            return image
        image = read_image(path)
        with self._lock:
            if image.nbytes <= self._free_bytes and path not in self._images:
                image.flags.writeable = False
                self._images[path] = image
                self._free_bytes -= image.nbytes
        return image
