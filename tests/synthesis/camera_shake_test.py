"""Camera paths and their homographies, against hand-computed views."""

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import camera_shake
from jaxdeblur.synthesis.camera_shake import Shake

SIZE = (61, 81)  # the middle pixel is x 40, y 30
CENTER = np.array([[40.0, 30.0]])


def view(*motion, points=CENTER, focal=100.0):
    """Map points of one camera's image to the photo."""
    return camera_shake.move_points(camera_shake.project(np.array([motion]), focal, SIZE), np.array(points, float))[0]


def test_translation_shifts_all_points_equally():
    points = [[0, 0], [40, 30], [80, 60]]
    np.testing.assert_allclose(view(0, 0, 0, 0.03, -0.02, 0, points=points), np.add(points, [3, -2]), atol=1e-9)


def test_near_planes_shift_and_grow_more():
    """At half the distance (nearness 2), shifts double, and 0.1 closer is a fifth of the distance."""
    path = np.array([[0, 0, 0, 0.03, -0.02, 0], [0, 0, 0, 0, 0, 0.1]])
    views = camera_shake.project(path, 100.0, SIZE, nearness=2.0)
    np.testing.assert_allclose(camera_shake.move_points(views, CENTER)[0], [[46, 26]], atol=1e-9)
    np.testing.assert_allclose(camera_shake.move_points(views, np.array([[80.0, 30.0]]))[1], [[72, 30]], atol=1e-9)


def test_approaching_camera_sees_less():
    """At 0.9 of the distance, 40 pixels off the axis become 36."""
    np.testing.assert_allclose(view(0, 0, 0, 0, 0, 0.1, points=[[80, 30], [40, 0]]), [[76, 30], [40, 3]], atol=1e-9)


def test_quarter_turn_about_the_axis():
    """The point right of the centre moves to the one below it."""
    np.testing.assert_allclose(view(0, 0, np.pi / 2, 0, 0, 0, points=[[50, 30]]), [[40, 40]], atol=1e-9)


@pytest.mark.parametrize(("pitch", "yaw", "moved"), [(0, 0.1, [1, 0]), (-0.1, 0, [0, 1])])
def test_tilt_shifts_the_centre_by_the_tangent(pitch, yaw, moved):
    np.testing.assert_allclose(view(pitch, yaw, 0, 0, 0, 0), CENTER + 100 * np.tan(0.1) * np.array(moved), atol=1e-9)


def test_tilt_shifts_edges_more_than_the_centre():
    """40 pixels off the axis, at an angle of atan(0.4), move to focal * tan(atan(0.4) + 0.1)."""
    expected = 40 + 100 * np.tan(np.arctan(0.4) + 0.1)
    np.testing.assert_allclose(view(0, 0.1, 0, 0, 0, 0, points=[[80, 30]])[0, 0], expected, atol=1e-9)


def test_paths_are_0_at_the_middle_and_have_the_given_length():
    shake = Shake(time_samples=31, travel=(5.0, 9.0), roll=0.0, zoom=0.0)
    lengths = []
    for seed in range(100):
        path = camera_shake.sample_trajectory(np.random.default_rng(seed), shake, 1000.0)
        assert path.shape == (31, 6)
        np.testing.assert_array_equal(path[15], 0)
        track = camera_shake.move_points(camera_shake.project(path, 1000.0, SIZE), CENTER)[:, 0]
        lengths.append(np.linalg.norm(np.diff(track, axis=0), axis=1).sum())
    assert min(lengths) == pytest.approx(5, abs=0.5)
    assert max(lengths) == pytest.approx(9, abs=0.5)
    assert min(lengths) > 4.99
    assert max(lengths) < 9.01


def test_all_six_degrees_of_freedom_are_used():
    path = camera_shake.sample_trajectory(np.random.default_rng(0), Shake(), 1000.0)
    assert (np.ptp(path, axis=0) > 1e-5).all()


def test_roll_and_zoom_have_the_given_deviation():
    shake = Shake(time_samples=15, roll=2.0, zoom=0.01)
    paths = [camera_shake.sample_trajectory(np.random.default_rng(seed), shake, 1000.0) for seed in range(300)]
    extents = np.ptp(np.array(paths), axis=1)
    assert np.degrees(np.sqrt((extents[:, 2] ** 2).mean())) == pytest.approx(2.0, rel=0.15)
    assert np.sqrt((extents[:, 5] ** 2).mean()) == pytest.approx(0.01, rel=0.15)


def test_path_without_forces_is_straight_and_uniform():
    shake = Shake(time_samples=11, jitter=0.0, pull=0.0, jerks=0.0)
    steps = np.diff(camera_shake.sample_shift(np.random.default_rng(0), shake, (10.0, 10.0)), axis=0)
    np.testing.assert_allclose(steps, np.tile(steps[:1], (10, 1)), atol=1e-9)
    assert np.linalg.norm(steps[0]) == pytest.approx(1.0)


def test_log_uniform_lengths():
    """Half of the lengths from 1 to 100 pixels are below 10, for cameras and shifts."""
    shake = Shake(time_samples=5, travel=(1.0, 100.0), roll=0.0, zoom=0.0, log_travel=True)
    lengths = []
    for seed in range(400):
        shift = camera_shake.sample_shift(np.random.default_rng(seed), shake, shake.travel)
        path = camera_shake.sample_trajectory(np.random.default_rng(seed), shake, 1e4)
        track = camera_shake.move_points(camera_shake.project(path, 1e4, SIZE), CENTER)[:, 0]
        lengths.append([np.linalg.norm(np.diff(points, axis=0), axis=1).sum() for points in (shift, track)])
    assert np.min(lengths) > 0.99
    assert np.max(lengths) < 101
    np.testing.assert_allclose((np.array(lengths) < 10).mean(axis=0), 0.5, atol=0.08)


def test_log_uniform_lengths_must_be_above_0():
    with pytest.raises(InputError, match="travel: 0 9") as caught:
        Shake(travel=(0.0, 9.0), log_travel=True)
    assert caught.value.code == "range-out-of-range"


def test_jerks_reverse_the_motion_at_the_given_rate():
    """Without other forces, the direction changes by more than 90 degrees at jerks only."""
    shake = Shake(time_samples=41, jitter=0.0, pull=0.0, jerks=2.0)
    reversals, together = 0, True
    for seed in range(200):
        steps = np.diff(camera_shake.inertial_walks(np.random.default_rng(seed), shake, 3), axis=0)
        jerked = (steps[1:] * steps[:-1].conj()).real < 0
        reversals += jerked[:, 0].sum()
        together &= (jerked == jerked[:, :1]).all()
    assert reversals / 200 == pytest.approx(2.0 * 39 / 40, rel=0.15)
    assert together


def test_jitter_bends_and_pull_returns():
    straight = Shake(time_samples=31, jitter=0.0, pull=0.0, jerks=0.0)
    bent = Shake(time_samples=31, jitter=1.0, pull=0.0, jerks=0.0)
    back = Shake(time_samples=31, jitter=0.0, pull=9.0, jerks=0.0)  # a swing of period 2 pi / 3: back at pi / 3 = 1.05
    ends = [np.abs(camera_shake.inertial_walks(np.random.default_rng(1), s, 200)[-1]) for s in (straight, bent, back)]
    np.testing.assert_allclose(ends[0], 1)
    assert ends[1].std() > 0.2
    assert ends[2].max() < 0.1


def test_paths_depend_on_the_seed_only():
    first, again, other = (
        camera_shake.sample_trajectory(np.random.default_rng(seed), Shake(), 500.0) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("time_samples", 30, "odd number"),
        ("time_samples", 1, "odd number"),
        ("travel", (9.0, 5.0), "travel: 9 5"),
        ("travel", (-1.0, 5.0), "travel: -1 5"),
        ("jerks", -1.0, "jerks: -1.0, expected 0 or more"),
        ("roll", float("nan"), "roll: nan"),
        ("focal", 0.0, "focal: 0.0, expected more than 0"),
    ],
)
def test_values_out_of_range_are_refused(field, value, words):
    with pytest.raises(InputError, match=words):
        Shake(**{field: value})
