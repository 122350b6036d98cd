"""Decoded images kept in memory, so that small folders are decoded once and not in every epoch. uint8 RGB (H, W, 3)."""

import threading
from pathlib import Path

import numpy as np

from jaxdeblur.images.decode import read_image


class ImageCache:
    """Reads image files and keeps the first of them, as many as fit.

    None makes room for another: training reads all images equally often, so any that are kept spare as much.
    """

    def __init__(self, limit: int):
        """Keep at most `limit` bytes of pixels."""
        self._left = limit
        self._images: dict[Path, np.ndarray] = {}
        self._lock = threading.Lock()

    def read(self, path: Path) -> np.ndarray:
        """Return what `read_image` does, write-protected where it is kept."""
        if (image := self._images.get(path)) is not None:
            return image
        image = read_image(path)
        with self._lock:
            if image.nbytes <= self._left and path not in self._images:
                image.flags.writeable = False
                self._images[path] = image
                self._left -= image.nbytes
        return image
