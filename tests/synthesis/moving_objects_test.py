"""Moving objects: outlines of known shapes, filled background and transforms."""

import dataclasses
import sys

import cv2
import numpy as np
import pytest
import skimage.data
from scipy import ndimage

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import exposure, exposure_sampling, moving_objects, object_outlines, warping
from jaxdeblur.synthesis.camera_shake import Shake
from jaxdeblur.synthesis.capture import CaptureRules
from jaxdeblur.synthesis.exposure import Exposure, Sensor
from jaxdeblur.synthesis.moving_patches import ObjectRules, Region, RegionRules

SIZE = (240, 320)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]
DISC = np.hypot(X - 200, Y - 110) < 42
SHAKE = Shake(9, (0.0, 0.0), roll=0.0, zoom=0.0)


def disc_photo(size=SIZE):
    """Return a red disc on green and blue texture."""
    rng = np.random.default_rng(0)
    photo = rng.integers(90, 130, (*SIZE, 3), np.uint8)
    photo[..., 0] //= 3
    photo[DISC] = rng.integers((190, 20, 20), (230, 50, 50), (DISC.sum(), 3), np.uint8)
    return cv2.resize(photo, size[::-1], interpolation=cv2.INTER_LINEAR)


PHOTO = disc_photo()
OUTLINES = object_outlines.find_outlines(PHOTO)


def draw_disc(seed=0):
    """Return a shape of the disc's area grown from within the disc, or None."""
    inside = ((OUTLINES.centres * SIZE[::-1] - (200, 110)) ** 2).sum(axis=1) < 35**2
    return object_outlines.sample_shape(np.random.default_rng(seed), OUTLINES, np.flatnonzero(inside), DISC.sum())


def test_superpixels_cover_the_photo():
    assert OUTLINES.labels.shape == SIZE
    assert OUTLINES.areas.sum() == OUTLINES.labels.size
    np.testing.assert_array_equal(OUTLINES.borders, OUTLINES.borders.T)
    edges = np.concatenate([OUTLINES.labels[0], OUTLINES.labels[-1], OUTLINES.labels[:, 0], OUTLINES.labels[:, -1]])
    np.testing.assert_array_equal(np.flatnonzero(OUTLINES.at_edge), np.unique(edges))
    label = OUTLINES.labels[110, 200]
    assert OUTLINES.colours[label] == pytest.approx(
        cv2.cvtColor(np.float32([[[0.82, 0.135, 0.135]]]), cv2.COLOR_RGB2LAB)[0, 0], abs=4
    )
    y, x = ndimage.center_of_mass(OUTLINES.labels == label)
    assert OUTLINES.centres[label] * SIZE[::-1] == pytest.approx((x, y), abs=0.01)


def test_shapes_follow_outlines():
    for seed in range(3):
        shape = draw_disc(seed)
        assert (shape & DISC).sum() / (shape | DISC).sum() > 0.9


def test_shapes_without_an_outline_are_rejected():
    """A third of the disc's area in the texture around it, and photos of one colour."""
    around = np.flatnonzero(~OUTLINES.at_edge & (OUTLINES.centres[:, 0] < 0.3))
    assert object_outlines.sample_shape(np.random.default_rng(0), OUTLINES, around, DISC.sum() / 3) is None
    plain = object_outlines.find_outlines(np.full((*SIZE, 3), 128, np.uint8))
    assert object_outlines.sample_shape(np.random.default_rng(0), plain, np.arange(len(plain.areas)), 4000) is None


@pytest.mark.parametrize("scale", [0.5, 1, 4])
def test_masks_have_the_photos_scale(scale):
    size = tuple(int(side * scale) for side in SIZE)
    left, top, mask = object_outlines.soften(DISC, size)
    assert mask.dtype == np.float32
    for border in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert border.max() == 0
    assert mask.sum() == pytest.approx(DISC.sum() * scale**2, rel=0.06)
    y, x = ndimage.center_of_mass(mask)
    assert (left + x, top + y) == pytest.approx((200.5 * scale - 0.5, 110.5 * scale - 0.5), abs=1)
    row = mask[len(mask) // 2]
    assert 1 <= ((row > 0.02) & (row < 0.98)).sum() <= 6  # both edges together


def test_masks_are_inside_the_photo():
    shape = np.zeros((40, 50), bool)
    shape[1:39, 1:49] = True
    left, top, mask = object_outlines.soften(shape, (80, 100))
    assert (left, top) == (0, 0)
    assert mask.shape == (80, 100)
    assert mask[0].max() == mask[:, -1].max() == 0
    assert mask[40, 50] == 1


def region(mask, left, top, path=((0, 0),), transforms=None):
    return Region(left, top, mask, np.array(path, float), transforms, solid=True)


def test_background_contains_nothing_of_the_object():
    left, top, mask = object_outlines.soften(draw_disc(), SIZE)
    filled = moving_objects.fill_behind(PHOTO, [region(mask, left, top)])
    assert PHOTO[..., 0].max() > 180
    assert filled[ndimage.binary_erosion(DISC, iterations=2), 0].max() < 90
    outside = np.ones(SIZE, bool)
    outside[top : top + mask.shape[0], left : left + mask.shape[1]] = False
    np.testing.assert_array_equal(filled[outside], PHOTO[outside])
    assert PHOTO[DISC, 0].min() > 180  # the photograph itself is untouched
    patch = dataclasses.replace(region(mask, left, top), solid=False)
    assert moving_objects.fill_behind(PHOTO, [patch]) is PHOTO


def test_surroundings_are_mirrored_at_a_straight_outline():
    """Columns count upwards: a hole that begins at column 20 shows 19, 18, ... down from its left edge."""
    photo = np.tile(np.arange(60, dtype=np.uint8)[np.newaxis, :, np.newaxis], (50, 1, 3))
    mask = np.zeros((30, 32), np.float32)
    mask[1:-1, 1:-1] = 1
    filled = moving_objects.fill_behind(photo, [region(mask, 20, 10)])
    np.testing.assert_array_equal(filled[25, 18:24, 0], [18, 19, 18, 17, 16, 15])


def test_nearest_pixels_match_scipy():
    hole = np.uint8(DISC)
    nearest = moving_objects.nearest_outside(hole)
    assert (hole[tuple(nearest)] == 0).all()
    distance = np.hypot(nearest[0] - Y, nearest[1] - X)
    np.testing.assert_allclose(distance, ndimage.distance_transform_edt(hole), atol=1.0)


def test_transforms_rotate_clockwise_about_the_centre():
    """A quarter turn about (10, 20): right moves to below, as y points down; then scaled by 2."""
    mask = np.zeros((5, 7), np.float32)
    quarter, double = moving_objects.object_transforms(mask, 7, 18, np.array([np.pi / 2, 0]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(quarter @ [10, 20, 1], [10, 20, 1], atol=1e-9)
    np.testing.assert_allclose(quarter @ [13, 20, 1], [10, 23, 1], atol=1e-9)
    np.testing.assert_allclose(double @ [13, 19, 1], [16, 18, 1], atol=1e-9)


def test_objects_rotate_and_shift_over_their_background():
    """One instant: a square object, turned by a quarter and 30 pixels further left, over a grey background."""
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    mask = np.zeros((13, 13), np.float32)
    mask[1:-1, 1:-1] = 1
    turned = moving_objects.object_transforms(mask, 50, 20, np.array([np.pi / 2]), np.array([1.0]))
    moved = region(mask, 50, 20, [(-30, 0)], turned)
    grey = np.full_like(photo, 128)
    camera = np.eye(3)[np.newaxis]
    image = warping.integrate(photo, (0, 0, 80, 60), camera, [moved], np.float32, background=grey)
    expected = grey.astype(float)
    expected[21:32, 21:32] = np.rot90(photo[21:32, 51:62], -1)
    np.testing.assert_allclose(image, expected, atol=0.02)


RULES = ObjectRules(3, radius=(0.1, 0.2), travel=(10.0, 20.0))
EXPOSURE = Exposure(SHAKE, RegionRules(1), Sensor(), ("blur",), objects=RULES)


def test_objects_are_in_the_window_and_at_rest_in_the_middle():
    photo = skimage.data.astronaut()
    outlines = object_outlines.find_outlines(photo)
    counts, replaced = [], 0
    for seed in range(40):
        motion = exposure.sample_motion(np.random.default_rng(seed), EXPOSURE, photo.shape[:2], 200, outlines)
        left, top, width, height = motion.window
        solid = [one for one in motion.regions if one.solid]
        for one in solid:
            assert one.left < left + width
            assert one.top < top + height
            assert one.left + one.mask.shape[1] > left
            assert one.top + one.mask.shape[0] > top
            np.testing.assert_allclose(one.transforms[4], np.eye(3), atol=1e-12)
            np.testing.assert_array_equal(one.path[4], 0)
            steps = np.diff(one.path, axis=0)
            length = np.linalg.norm(steps, axis=1).sum()
            assert 10 <= length <= 20
            assert np.linalg.norm(one.path[-1] - one.path[0]) > 0.9 * length
        assert len(motion.regions) == 1 + len(solid) + motion.objects_replaced
        counts.append(len(solid) + motion.objects_replaced)
        replaced += motion.objects_replaced
    assert set(counts) == {0, 1, 2, 3}
    assert replaced < 0.5 * sum(counts)


def test_objects_do_not_change_other_draws():
    without = dataclasses.replace(EXPOSURE, objects=ObjectRules())
    for seed in range(5):
        one = exposure.sample_motion(np.random.default_rng(seed), EXPOSURE, SIZE, 128, OUTLINES)
        other = exposure.sample_motion(np.random.default_rng(seed), without, SIZE, 128)
        np.testing.assert_array_equal(one.cameras, other.cameras)
        assert (one.window, one.noise_seed) == (other.window, other.noise_seed)
        np.testing.assert_array_equal(one.regions[0].mask, other.regions[0].mask)


def test_objects_do_not_uncover_themselves():
    """The disc moves by 60 pixels: its start is partly uncovered, and the background is not red."""
    left, top, mask = object_outlines.soften(draw_disc(), SIZE)
    path = np.column_stack([np.linspace(-30, 30, 9), np.zeros(9)])
    cameras = np.tile(np.eye(3), (9, 1, 1))
    motion = exposure.Motion(cameras, (region(mask, left, top, path),), (0, 0, *SIZE[::-1]), 0)
    pair = exposure.make_pair(PHOTO, motion, EXPOSURE)
    np.testing.assert_array_equal(pair["sharp"], PHOTO)
    red = pair["blur"][110, :, 0].astype(float)
    assert red[200 - 40] == pytest.approx(40 + 5 / 9 * 170, abs=30)  # covered in five of the nine instants
    assert red[200 - 68] == pytest.approx(40 + 1 / 9 * 170, abs=20)  # in one
    assert red[200 - 90] < 60


def test_still_exposures_have_no_objects():
    rules = CaptureRules(still_share=1.0)
    capture, motion = exposure_sampling.draw_exposure([1], EXPOSURE, rules, SIZE, 128, OUTLINES)
    pair = exposure_sampling.make_exposure(PHOTO, capture, motion, EXPOSURE, 128)
    np.testing.assert_array_equal(pair["blur"], pair["sharp"])
    small = dataclasses.replace(RULES, count=5, radius=(0.05, 0.2))
    many = dataclasses.replace(EXPOSURE, objects=small)
    facts = []
    for seed in range(12):
        capture, motion = exposure_sampling.draw_exposure([seed], many, CaptureRules(), SIZE, 200, OUTLINES)
        facts.append(exposure_sampling.describe_exposure(capture, motion))
    assert sum(one.get("objects", 0) for one in facts) > 0
    assert sum(one.get("objects_replaced", 0) for one in facts) > 0  # the photograph has one outline only


def test_missing_scikit_image_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(InputError, match="made-blur") as caught:
        object_outlines.find_outlines(PHOTO)
    assert caught.value.code == "scikit-image-missing"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("count", -1, "objects-negative"),
        ("radius", (0.0, 0.2), "range-out-of-range"),
        ("radius", (0.1, 0.5), "range-out-of-range"),
        ("turn", -1.0, "range-out-of-range"),
        ("growth", float("nan"), "range-out-of-range"),
    ],
)
def test_values_out_of_range_are_refused(field, value, code):
    with pytest.raises(InputError) as caught:
        ObjectRules(**{field: value})
    assert caught.value.code == code


def test_lengths_are_checked():
    with pytest.raises(InputError, match="object_travel"):
        ObjectRules(travel=(3.0, 1.0))
    with pytest.raises(InputError, match="object_travel"):
        dataclasses.replace(
            EXPOSURE,
            shake=dataclasses.replace(SHAKE, travel=(1.0, 2.0), log_travel=True),
            objects=ObjectRules(1, travel=(0.0, 2.0)),
        )
