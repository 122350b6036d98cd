"""Moving regions: size, position and soft edges of shapes."""

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import moving_patches
from jaxdeblur.synthesis.camera_shake import Shake
from jaxdeblur.synthesis.moving_patches import RegionRules


def test_blob_without_harmonics_is_a_soft_disc():
    mask = moving_patches.draw_blob(20.0, np.zeros(4), np.zeros(4), 4.0, 30)
    assert mask.shape == (61, 61)
    assert mask.dtype == np.float32
    assert mask.sum() == pytest.approx(np.pi * 20**2, rel=0.01)
    # Along a row through the middle, 18 to 22 pixels out: 3 s^2 - 2 s^3 at s = 1, 3/4, 1/2, 1/4, 0.
    np.testing.assert_allclose(mask[30, 48:53], [1, 0.84375, 0.5, 0.15625, 0], atol=1e-5)


def test_second_harmonic_elongates_the_blob():
    """Radius 20 * (1 + 0.3 cos 2a): 26 to the sides, 14 up and down."""
    mask = moving_patches.draw_blob(20.0, np.array([0.3, 0, 0, 0]), np.zeros(4), 2.0, 40)
    assert abs((mask[:, 40] > 0.5).sum() - 27) <= 2
    assert abs((mask[40] > 0.5).sum() - 51) <= 2


@pytest.mark.parametrize("size", [(16, 16), (24, 300), (200, 120)])
def test_regions_are_inside_the_photo(size):
    rules = RegionRules(count=2, radius=(0.05, 0.25), edge=3.0)
    areas = []
    for seed in range(40):
        found = moving_patches.sample_regions(np.random.default_rng(seed), rules, Shake(time_samples=5), size)
        assert len(found) == 2
        for region in found:
            height, width = region.mask.shape
            assert region.left >= 0
            assert region.top >= 0
            assert region.left + width <= size[1]
            assert region.top + height <= size[0]
            for border in (region.mask[0], region.mask[-1], region.mask[:, 0], region.mask[:, -1]):
                assert border.max() == 0
            areas.append(region.mask.sum())
    assert min(areas) > 0
    assert max(areas) > 2 * min(areas)


def test_region_paths_have_the_given_length_and_are_0_at_the_middle():
    rules = RegionRules(count=3, travel=(7.0, 7.0))
    for region in moving_patches.sample_regions(np.random.default_rng(0), rules, Shake(time_samples=9), (100, 100)):
        np.testing.assert_array_equal(region.path[4], 0)
        assert np.linalg.norm(np.diff(region.path, axis=0), axis=1).sum() == pytest.approx(7.0)


def test_default_has_no_regions():
    assert moving_patches.sample_regions(np.random.default_rng(0), RegionRules(), Shake(), (4, 4)) == ()


def test_photos_too_small_for_regions_are_refused():
    with pytest.raises(InputError, match="30x12 pixels, too small for moving regions; expected at least 20"):
        moving_patches.sample_regions(np.random.default_rng(0), RegionRules(count=1), Shake(), (12, 30))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("count", -1, "regions: -1"),
        ("radius", (0.1, 0.5), "region_radius: 0.1 0.5"),
        ("radius", (0.0, 0.2), "region_radius: 0 0.2"),
        ("edge", 0.0, "region_edge: 0"),
        ("travel", (3.0, 1.0), "region_travel: 3 1"),
    ],
)
def test_values_out_of_range_are_refused(field, value, words):
    with pytest.raises(InputError, match=words):
        RegionRules(**{field: value})
