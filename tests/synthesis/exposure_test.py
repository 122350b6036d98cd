"""Rendering of exposures: light, highlights, noise and complete pairs."""

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import exposure as synthetic
from jaxdeblur.synthesis.camera_shake import Shake
from jaxdeblur.synthesis.exposure import Exposure, Motion, Sensor
from jaxdeblur.synthesis.moving_patches import RegionRules

PHOTO = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
STILL = Shake(time_samples=5, travel=(0.0, 0.0), roll=0.0, zoom=0.0)
BOTH = ("blur", "blur_gamma")


def make(photo, exposure, seed=0, side=0):
    motion = synthetic.sample_motion(np.random.default_rng(seed), exposure, photo.shape[:2], side)
    return synthetic.make_pair(photo, motion, exposure)


def slide(count):
    """A horizontal motion of one pixel per instant, in a window 10 pixels inside a photo of 80 x 60."""
    cameras = np.tile(np.eye(3), (count, 1, 1))
    cameras[:, 0, 2] = np.arange(count) - count // 2
    return Motion(cameras, (), (10, 10, 60, 40), noise_seed=0)


def test_still_camera_reproduces_the_photo():
    """Both sharp and blur, with resting regions and brightened highlights."""
    exposure = Exposure(STILL, RegionRules(count=2, travel=(0.0, 0.0)), Sensor(3.0, highlight_threshold=254), BOTH)
    pair = make(PHOTO, exposure)
    for name in ("sharp", *BOTH):
        np.testing.assert_array_equal(pair[name], PHOTO)


@pytest.mark.parametrize("size", [(20, 1500), (150, 20)])
def test_photos_larger_than_a_tile(size):
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(make(photo, Exposure(STILL, RegionRules(), Sensor(), ("blur",)))["blur"], photo)


def test_averaging_light_and_averaging_stored_values():
    """Twice 0 and once 255: 85 for stored values; 255 * (1/3)^(1/2.2) = 154.8 for light."""
    stripes = np.zeros((60, 80, 3), np.uint8)
    stripes[:, ::3] = 255
    pair = synthetic.make_pair(stripes, slide(3), Exposure(STILL, RegionRules(), Sensor(), BOTH))
    np.testing.assert_array_equal(pair["blur"], 85)
    np.testing.assert_array_equal(pair["blur_gamma"], 155)
    np.testing.assert_array_equal(pair["sharp"], stripes[10:50, 10:70])


def test_highlights_leave_brighter_streaks():
    """A white line over 5 instants has a fifth of its light: 51 for stored values, 255 * 0.2^(1/2.2) = 122.7 for light.

    With 3 times the light: 255 * 0.6^(1/2.2) = 202.2 in light, 51 * 3^(1/2.2) = 84.03 as stored values.
    """
    photo = np.zeros((60, 80, 3), np.uint8)
    photo[:, 40] = 255
    for gain, blur, blur_gamma in ((1.0, 51, 123), (3.0, 84, 202)):
        pair = synthetic.make_pair(photo, slide(5), Exposure(STILL, RegionRules(), Sensor(gain), BOTH))
        np.testing.assert_array_equal(pair["blur"][:, 28:33], blur)
        np.testing.assert_array_equal(pair["blur_gamma"][:, 28:33], blur_gamma)
        assert pair["blur"][:, :28].max() == pair["blur"][:, 33:].max() == 0
        np.testing.assert_array_equal(pair["sharp"], photo[10:50, 10:70])


def test_streaks_saturate():
    """Four white columns of 4 times the light, 5 instants: 0.8 (stored as 230.4) at the ends, 1.6 or more inside."""
    photo = np.zeros((60, 80, 3), np.uint8)
    photo[:, 40:44] = 255
    pair = synthetic.make_pair(photo, slide(5), Exposure(STILL, RegionRules(), Sensor(4.0), ("blur_gamma",)))
    np.testing.assert_array_equal(pair["blur_gamma"][0, 28:36, 0], [230, 255, 255, 255, 255, 255, 255, 230])


def test_highlight_gain_is_linear_from_the_threshold():
    photo = np.array([[[250, 250, 250], [255, 255, 255], [252, 255, 253], [200, 220, 255]]], np.uint8)
    light = synthetic.to_light(photo, Sensor(highlight_gain=6.0, highlight_threshold=250), 2.2)
    plain = (photo / 255) ** 2.2
    np.testing.assert_allclose(light / plain, np.array([1, 6, 3, 1]).reshape(1, 4, 1) * np.ones(3), rtol=1e-5)


def test_noise_has_the_given_deviations():
    """At half the light, sqrt(0.03^2 / 2 + 0.01^2) = 0.02345; without light, 0.01, half of it clipped at 0."""
    rng = np.random.default_rng(0)
    sensor = Sensor(shot_noise=0.03, read_noise=0.01)
    grey = synthetic.develop(np.full((300, 300, 3), 0.5, np.float32), sensor, 1.0, rng) / 255
    assert grey.mean() == pytest.approx(0.5, abs=5e-4)
    assert grey.std() == pytest.approx(0.02345, rel=0.02)
    black = synthetic.develop(np.zeros((300, 300, 3), np.float32), sensor, 1.0, rng) / 255
    assert (black == 0).mean() == pytest.approx(0.58, abs=0.01)  # up to half a level: P(z < 0.196)
    assert np.sqrt((black**2).mean() * 2) == pytest.approx(0.01, rel=0.03)


def test_noise_is_added_to_light_before_encoding():
    """In light, the deviation is 0.02 at 0.5; the curve's slope there, 0.5^(1/2.2 - 1) / 2.2 = 0.663, scales it."""
    light = np.full((300, 300, 3), 0.5, np.float32)
    stored = synthetic.develop(light, Sensor(read_noise=0.02), 2.2, np.random.default_rng(0)) / 255
    assert stored.mean() == pytest.approx(0.5 ** (1 / 2.2), abs=1e-3)
    assert stored.std() == pytest.approx(0.02 * 0.663, rel=0.03)


def test_linear_noise_on_averages_of_stored_values():
    """As for `blur_gamma`: light 0.5^2.2 = 0.2176 has deviation 0.02; the curve's slope there scales it."""
    stored = np.full((300, 300, 3), 0.5, np.float32)
    noisy = synthetic.develop(stored, Sensor(read_noise=0.02, linear_noise=True), 1.0, np.random.default_rng(0)) / 255
    light = 0.5**2.2
    assert noisy.mean() == pytest.approx(0.5, abs=2e-3)
    assert noisy.std() == pytest.approx(0.02 * light ** (1 / 2.2 - 1) / 2.2, rel=0.03)
    same = synthetic.develop(np.float32(stored**2.2), Sensor(read_noise=0.02), 2.2, np.random.default_rng(0)) / 255
    np.testing.assert_allclose(noisy, same, atol=1.1 / 255)


def test_smoothed_noise_keeps_its_deviation_and_correlates():
    """White noise smoothed by a Gaussian of deviation s correlates by exp(-d^2 / (4 s^2)) at distance d."""
    sensor = Sensor(read_noise=0.05, noise_blur=1.2)
    noise = synthetic.develop(np.full((300, 300, 3), 0.5, np.float32), sensor, 1.0, np.random.default_rng(0)) / 255.0
    noise -= noise.mean()
    assert noise.std() == pytest.approx(0.05, rel=0.03)
    for distance in (1, 2):
        expected = np.exp(-(distance**2) / (4 * 1.2**2))
        for first, second in ((noise[distance:], noise[:-distance]), (noise[:, distance:], noise[:, :-distance])):
            assert (first * second).mean() / noise.var() == pytest.approx(expected, abs=0.05)
    assert abs((noise[..., 0] * noise[..., 1]).mean() / noise.var()) < 0.05


def test_noise_differs_between_tiles_and_sharp_has_none():
    photo = np.full((200, 200, 3), 128, np.uint8)
    exposure = Exposure(STILL, RegionRules(), Sensor(shot_noise=0.05), BOTH)
    pair = make(photo, exposure)
    np.testing.assert_array_equal(pair["sharp"], 128)
    first, second = pair["blur"][:64].astype(float) - 128, pair["blur"][64:128].astype(float) - 128
    assert abs((first * second).mean() / (first.std() * second.std())) < 0.05
    gamma = pair["blur_gamma"].astype(float) - 128
    assert np.corrcoef(gamma.ravel(), (pair["blur"].astype(float) - 128).ravel())[0, 1] > 0.95


def test_blur_varies_over_the_frame():
    """With roll only, the centre stays and corners are blurred."""
    shake = Shake(time_samples=15, travel=(0.0, 0.0), roll=4.0, zoom=0.0)
    pair = make(
        np.random.default_rng(1).integers(0, 256, (150, 150, 3), np.uint8),
        Exposure(shake, RegionRules(), Sensor(), ("blur",)),
        seed=2,
    )
    change = np.abs(pair["blur"].astype(float) - pair["sharp"]).mean(axis=2)
    middle = change.shape[0] // 2
    assert change[:12, :12].mean() > 3 * change[middle - 2 : middle + 3, middle - 2 : middle + 3].mean()


def test_sharp_is_a_window_of_the_photo():
    shake = Shake(time_samples=9, travel=(4.0, 4.0), roll=0.5)
    pair = make(PHOTO, Exposure(shake, RegionRules(1), Sensor(), BOTH), seed=3, side=32)
    windows = np.lib.stride_tricks.sliding_window_view(PHOTO, (32, 32, 3))
    assert (windows == pair["sharp"]).all(axis=(-3, -2, -1)).any()
    for name in BOTH:
        assert pair[name].shape == (32, 32, 3)
        assert pair[name].dtype == np.uint8
        assert np.abs(pair[name].astype(int) - pair["sharp"]).mean() > 10


def test_windows_cover_the_photo():
    exposure = Exposure(STILL, RegionRules(), Sensor(), ("blur",))
    motions = [synthetic.sample_motion(np.random.default_rng(seed), exposure, (40, 50), 38) for seed in range(200)]
    assert {motion.window[0] for motion in motions} == set(range(13))
    assert {motion.window[1] for motion in motions} == set(range(3))


def test_pairs_depend_on_the_seed_only():
    exposure = Exposure(Shake(time_samples=5), RegionRules(1), Sensor(shot_noise=0.1), BOTH)
    photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    first, again, other = (make(photo, exposure, seed, side=40) for seed in (1, 1, 2))
    for name in ("sharp", *BOTH):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).any()


def test_only_requested_variants_are_rendered():
    assert make(PHOTO, Exposure(STILL, RegionRules(), Sensor(), ("blur_gamma",))).keys() == {"sharp", "blur_gamma"}


def test_too_small_photos_are_refused():
    exposure = Exposure(Shake(), RegionRules(), Sensor(), BOTH)
    with pytest.raises(InputError, match=r"80x60 pixels, of which .* leaves .*: too small for a window of 60x60"):
        make(PHOTO, exposure, side=60)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("highlight_gain", 0.5, "highlight_gain: 0.5, expected 1 or more"),
        ("highlight_threshold", 255, "highlight_threshold: 255"),
        ("shot_noise", -0.1, "shot_noise: -0.1"),
        ("read_noise", float("nan"), "read_noise: nan"),
        ("noise_blur", -1.0, "noise_blur: -1"),
    ],
)
def test_sensors_out_of_range_are_refused(field, value, words):
    with pytest.raises(InputError, match=words):
        Sensor(**{field: value})


def test_log_uniform_lengths_of_regions_must_be_above_0():
    shake = Shake(travel=(1.0, 9.0), log_travel=True)
    with pytest.raises(InputError, match="region_travel") as caught:
        Exposure(shake, RegionRules(1, travel=(0.0, 9.0)), Sensor(), BOTH)
    assert caught.value.code == "range-out-of-range"
    Exposure(shake, RegionRules(0, travel=(0.0, 9.0)), Sensor(), BOTH)
