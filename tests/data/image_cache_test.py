"""Cached images: equal pixels, read once as long as they fit."""

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.image_cache import ImageCache
from jaxdeblur.errors import InputError


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).save(path)
    return paths


def test_images_that_fit_are_read_once(files):
    pixels = [np.asarray(Image.open(path)) for path in files]
    cache = ImageCache(2 * 4 * 5 * 3 + 1)  # bytes: two images and one more
    for _ in range(2):
        for path, expected in zip(files, pixels, strict=True):
            np.testing.assert_array_equal(cache.read(path), expected)
    for path in files:
        path.unlink()
    for path, expected in zip(files[:2], pixels[:2], strict=True):
        np.testing.assert_array_equal(cache.read(path), expected)
    with pytest.raises(InputError, match=r"2\.png"):
        cache.read(files[2])


def test_cached_images_are_read_only(files):
    cache = ImageCache(1000)
    with pytest.raises(ValueError, match="read-only"):
        cache.read(files[0])[:] = 0
