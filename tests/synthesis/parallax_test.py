"""Parallax: depth, positions and images against an independent resampling."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import exposure as synthetic
from jaxdeblur.synthesis import parallax as depth
from jaxdeblur.synthesis import warping
from jaxdeblur.synthesis.camera_shake import Shake, project, sample_trajectory
from jaxdeblur.synthesis.exposure import Exposure, Sensor
from jaxdeblur.synthesis.moving_patches import Region, RegionRules
from jaxdeblur.synthesis.parallax import Depth, DepthRules

SIZE = (120, 160)
PHOTO = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
FOCAL = 100.0
WINDOW = (30, 25, 93, 71)


def slide(*shifts):
    """Return a path along x and y that shifts the plane at distance 1 by pixels."""
    path = np.zeros((len(shifts), 6))
    path[:, 3:5] = np.array(shifts) / FOCAL
    return path


def scene(path, relief=0.5, slope=(0.0, 0.0), seed=None):
    """Return a scene of a given relief: a slope, or random with a seed."""
    if seed is not None:
        return depth.sample_depth(np.random.default_rng(seed), DepthRules((relief, relief)), path, FOCAL, SIZE)
    far, near = (project(path, FOCAL, SIZE, nearness) for nearness in (1 - relief, 1 + relief))
    return Depth(relief, far, near, np.array(slope), np.zeros((0, 2)), np.zeros(0), np.zeros(0), SIZE)


def test_near_parts_shift_more():
    """A shift of 8 pixels and a relief of 0.5: 12 at the nearest, 4 at the farthest, 8 in the middle."""
    steep = scene(slide((0, 0), (8, 0)), slope=(0.0, 50.0))
    points = np.array([[79.5, 119.0], [79.5, 0.0], [79.5, 59.5]])
    np.testing.assert_allclose(steep.move(points)[1] - points, [[12, 0], [4, 0], [8, 0]], atol=1e-9)


def test_rotation_causes_no_parallax():
    path = np.zeros((3, 6))
    path[:, :3] = [[0.01, -0.02, 0.03], [0, 0, 0], [-0.02, 0.01, 0]]
    turned = scene(path, seed=0)
    np.testing.assert_allclose(turned.far, turned.near, atol=1e-9)


def test_middle_of_a_slope_is_its_plane():
    path = slide((-5, 2), (0, 0), (4, 3))
    even = warping.integrate(PHOTO, WINDOW, project(path, FOCAL, SIZE), (), np.float32, scene(path))
    flat = warping.integrate(PHOTO, WINDOW, project(path, FOCAL, SIZE), (), np.float32)
    np.testing.assert_allclose(even, flat, atol=0.02)


def test_images_match_scipy():
    """Each pixel of each instant is resampled separately, at the position for its distance."""
    path = sample_trajectory(np.random.default_rng(1), Shake(5, (12, 12), roll=2.0, zoom=0.02), FOCAL)
    uneven = scene(path, 0.8, seed=2)
    left, top, width, height = WINDOW
    y, x = np.mgrid[top : top + height, left : left + width]
    positions = uneven.move(np.column_stack([x.ravel(), y.ravel()]))
    seen = [
        [ndimage.map_coordinates(PHOTO[..., c].astype(float), (p[:, 1], p[:, 0]), order=1) for c in range(3)]
        for p in positions
    ]
    expected = np.mean(seen, axis=0).T.reshape(height, width, 3)
    image = warping.integrate(PHOTO, WINDOW, project(path, FOCAL, SIZE), (), np.float32, uneven)
    plane = warping.integrate(PHOTO, WINDOW, project(path, FOCAL, SIZE), (), np.float32)
    # Positions between the nodes of the coarse grid are interpolated, and neighbours in this noise differ by 85 levels.
    assert np.abs(image - expected).mean() < 0.5
    assert np.abs(plane - expected).mean() > 5


def test_tiles_make_up_the_image():
    path = sample_trajectory(np.random.default_rng(0), Shake(5, (6, 6)), FOCAL)
    cameras, uneven = project(path, FOCAL, SIZE), scene(path, seed=3)
    whole = warping.integrate(PHOTO, (20, 20, 100, 60), cameras, (), np.float32, uneven)
    tiles = [
        [warping.integrate(PHOTO, (x, y, 50, 30), cameras, (), np.float32, uneven) for x in (20, 70)] for y in (20, 50)
    ]
    joined = np.concatenate([np.concatenate(row, axis=1) for row in tiles])
    assert np.abs(joined - whole).max() < 1.5


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (17, 23), (64, 40)])
def test_positions_between_nodes_are_interpolated(size):
    """Positions on a shifted plane are linear, so interpolation is exact."""
    shifted = scene(slide((0, 0), (3, -2)))
    coarse = shifted.positions(30, 20, *size)
    fine = depth.refine(coarse[1], size)
    y, x = np.mgrid[20 : 20 + size[1], 30 : 30 + size[0]]
    np.testing.assert_allclose(fine, np.stack([x + 3, y - 2], axis=-1), atol=1e-3)


def test_scenes_are_nearer_at_the_bottom():
    path = slide((0, 0), (1, 0))
    scenes = [scene(path, seed=seed) for seed in range(200)]
    y, x = np.mgrid[0:120:10, 0:160:10]
    points = np.column_stack([x.ravel(), y.ravel()])
    nearness = np.array([one.nearness(points).reshape(y.shape) for one in scenes])
    assert 0 <= nearness.min() < 0.1
    assert 0.9 < nearness.max() <= 1
    assert nearness[:, -1].mean() - nearness[:, 0].mean() > 0.3
    assert np.ptp(nearness, axis=(1, 2)).mean() > 0.4


def test_scenes_have_no_folds():
    """Neighbouring pixels keep their order in the photo."""
    shake = Shake(5, (40, 40), jitter=0.1, pull=0.1, jerks=0.0)
    size, focal = (480, 640), 640.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        path = sample_trajectory(rng, shake, focal)
        uneven = depth.sample_depth(rng, DepthRules((1.0, 1.0)), path, focal, size)
        seen = np.stack([depth.refine(one, (640, 480)) for one in uneven.positions(0, 0, 640, 480)])
        assert np.diff(seen[..., 0], axis=2).min() > 0.2
        assert np.diff(seen[..., 1], axis=1).min() > 0.2


def test_windows_see_no_black():
    white = np.full((*SIZE, 3), 255, np.uint8)
    shake = Shake(9, (3.0, 16.0), roll=1.0, zoom=0.01)
    exposure = Exposure(shake, RegionRules(), Sensor(), ("blur",), DepthRules((0.9, 0.9)))
    for seed in range(40):
        motion = synthetic.sample_motion(np.random.default_rng(seed), exposure, SIZE)
        assert synthetic.make_pair(white, motion, exposure)["blur"].min() == 255


def test_depth_does_not_change_the_camera_or_sharp():
    flat = Exposure(Shake(5, (3.0, 9.0)), RegionRules(1), Sensor(), ("blur",))
    deep = dataclasses.replace(flat, depth=DepthRules((0.4, 0.8)))
    reliefs = []
    for seed in range(10):
        one, other = (synthetic.sample_motion(np.random.default_rng(seed), e, SIZE) for e in (flat, deep))
        np.testing.assert_array_equal(one.cameras, other.cameras)
        np.testing.assert_array_equal(one.regions[0].mask, other.regions[0].mask)
        assert one.noise_seed == other.noise_seed
        assert one.depth is None
        np.testing.assert_array_equal(other.regions[0].path[2], 0)
        parallax = other.regions[0].path - one.regions[0].path
        assert np.linalg.norm(np.diff(parallax, axis=0), axis=1).sum() < 9 * other.depth.relief + 0.5
        assert np.abs(parallax).max() > 0
        reliefs.append(other.depth.relief)
        left, top, width, height = other.window
        sharp = synthetic.make_pair(PHOTO, other, deep)["sharp"]
        np.testing.assert_array_equal(sharp, PHOTO[top : top + height, left : left + width])
    assert 0.4 <= min(reliefs) < max(reliefs) <= 0.8


def test_regions_move_with_their_surroundings():
    """A patch without its own motion, entirely at the nearest distance, is invisible."""
    path = slide((-6, 2), (0, 0), (6, -3))
    cameras = project(path, FOCAL, SIZE)
    near = scene(path, slope=(0.0, 1e6))
    near = dataclasses.replace(near, size=(1, 160))  # every row lies below the middle one
    mask = np.zeros((14, 16), np.float32)
    mask[2:-2, 2:-2] = 1
    resting = Region(70, 50, mask, np.zeros((3, 2)))
    moved = synthetic.with_parallax(resting, cameras, near)
    alone = warping.integrate(PHOTO, WINDOW, cameras, (), np.float32, near)
    both = warping.integrate(PHOTO, WINDOW, cameras, [moved], np.float32, near)
    apart = warping.integrate(PHOTO, WINDOW, cameras, [resting], np.float32, near)
    np.testing.assert_allclose(both, alone, atol=0.05)
    assert np.abs(apart - alone).max() > 20


def test_largest_step_is_that_of_the_nearest_plane():
    path = slide((0, 0), (3, 4))
    cameras = project(path, FOCAL, SIZE)
    assert warping.largest_step(cameras, WINDOW, ()) == pytest.approx(5)
    assert warping.largest_step(cameras, WINDOW, (), scene(path, 0.5)) == pytest.approx(7.5)


@pytest.mark.parametrize("relief", [(-0.1, 0.5), (0.5, 1.1), (0.6, 0.5)])
def test_reliefs_out_of_range_are_refused(relief):
    with pytest.raises(InputError, match="depth_relief") as caught:
        DepthRules(relief)
    assert caught.value.code == "range-out-of-range"
