"""Images kept in memory: the same pixels, read once while they fit."""

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


def test_what_fits_is_read_once_and_the_rest_every_time(files):
    pixels = [np.asarray(Image.open(path)) for path in files]
    memory = ImageCache(2 * 4 * 5 * 3 + 1)  # bytes: two images and one more
    for _ in range(2):
        for path, expected in zip(files, pixels, strict=True):
            np.testing.assert_array_equal(memory.read(path), expected)
    for path in files:
        path.unlink()
    for path, expected in zip(files[:2], pixels[:2], strict=True):
        np.testing.assert_array_equal(memory.read(path), expected)
    with pytest.raises(InputError, match=r"2\.png"):
        memory.read(files[2])


def test_what_is_kept_cannot_be_changed_by_its_readers(files):
    memory = ImageCache(1000)
    with pytest.raises(ValueError, match="read-only"):
        memory.read(files[0])[:] = 0
