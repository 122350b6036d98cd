"""Tiles cover every image, blend seamlessly and have few shapes."""

import itertools

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.restoration import tiling

RNG = np.random.default_rng(0)


def axes(grid):
    """Return (tile starts, tile side, padded side) of each axis."""
    return zip((grid.tops, grid.lefts), grid.shape, grid.padded, strict=True)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(1024, 1024, 160), (1056, 256, 64), (4000, 1024, 160), (320, 288, 8)]
)
def test_blending_weights_sum_to_one_without_jumps(length, tile, overlap):
    starts = tiling._starts(length, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert all(start % tiling.MULTIPLE == 0 for start in starts)
    total = np.zeros(length)
    for start, weight in zip(starts, tiling.blending_weights(length, tile, starts, overlap), strict=True):
        total[start : start + tile] += weight
        assert np.abs(np.diff(weight)).max() < 4 / max(overlap // 4, 2)
        if start > 0:
            assert (weight[: 3 * overlap // 8] == 0).all()
        if start < length - tile:
            assert (weight[tile - 3 * overlap // 8 :] == 0).all()
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_many_image_sizes_share_few_tile_shapes():
    """The most common sizes are padded only a little."""
    sizes = RNG.integers(1, 3000, (2000, 2))
    shapes = {tiling.plan_tiles(*size, tile=None, overlap=tiling.OVERLAP).shape for size in sizes.tolist()}
    assert len(shapes) <= 48
    for height, width in ((720, 1280), (480, 640), (768, 1024), (256, 256), (800, 600)):
        shape = tiling.plan_tiles(height, width, tile=None, overlap=tiling.OVERLAP).shape
        assert height * width <= np.prod(shape) <= 1.7 * height * width


def test_default_tiles_cover_every_pixel():
    for height, width in ((1, 1), (1, 5000), (2000, 40), (1030, 1030), (5000, 3333)):
        grid = tiling.plan_tiles(height, width, tile=None, overlap=tiling.OVERLAP)
        for (starts, side, padded), length in zip(axes(grid), (height, width), strict=True):
            assert length <= padded == starts[-1] + side
            assert all(after - before <= side - grid.overlap for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize("seed", range(20))
def test_blending_weights_of_any_valid_tiles_sum_to_one(seed):
    rng = np.random.default_rng(seed)
    tile = 32 * int(rng.integers(1, 40))
    overlap = int(rng.choice([0, 32, 64, 128, tile - 32, rng.integers(0, tile - 31)]))
    overlap = min(overlap, tile - 32)
    for height, width in (rng.integers(1, 3000, 2).tolist(), (40, 2000), (2000, 100)):
        for starts, side, padded in axes(tiling.plan_tiles(height, width, tile=tile, overlap=overlap)):
            total = np.zeros(padded)
            weights = tiling.blending_weights(padded, side, starts, overlap)
            for start, weight in zip(starts, weights, strict=True):
                total[start : start + side] += weight
            np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("tile", "overlap"), [(128, 160), (160, 160), (100, 32), (-32, 0), (64, -1), (None, 1000), (256.0, 32), (64, 33)]
)
def test_invalid_tiles_are_refused(tile, overlap):
    for size in ((40, 56), (1400, 1400)):
        with pytest.raises(InputError) as error:
            tiling.plan_tiles(*size, tile=tile, overlap=overlap)
        assert error.value.code == "tiles"
