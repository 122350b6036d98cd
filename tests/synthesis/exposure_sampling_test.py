"""Exposures end to end: drawn, fitted to the photo and rendered."""

import dataclasses

import numpy as np
import pytest
import skimage.data
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import exposure_sampling
from jaxdeblur.synthesis.camera_shake import Shake
from jaxdeblur.synthesis.capture import Capture, CaptureRules
from jaxdeblur.synthesis.exposure import Exposure, Sensor, make_pair, sample_motion
from jaxdeblur.synthesis.moving_patches import RegionRules

PHOTO = skimage.data.astronaut()[:200, :240]
SIZE = PHOTO.shape[:2]
NEUTRAL = CaptureRules()
MOVING = Exposure(Shake(5, (4.0, 8.0)), RegionRules(1, travel=(4.0, 8.0)), Sensor(), ("blur",))


def make(rules=NEUTRAL, exposure=MOVING, seed=0, side=64):
    drawn, motion = exposure_sampling.draw_exposure([seed, 7], exposure, rules, SIZE, side)
    return exposure_sampling.make_exposure(PHOTO, drawn, motion, exposure, side)


def error(pair, name="blur"):
    return np.abs(pair[name].astype(float) - pair["sharp"]).mean()


def test_neutral_rules_have_no_effect():
    for seed in range(3):
        motion = sample_motion(np.random.default_rng([seed, 7]), MOVING, SIZE, 64)
        expected, actual = make_pair(PHOTO, motion, MOVING), make(seed=seed)
        assert actual.keys() == expected.keys()
        for name in actual:
            np.testing.assert_array_equal(actual[name], expected[name])


def test_motion_does_not_depend_on_the_capture():
    rules = CaptureRules(shot_noise=(0.001, 0.1), jpeg_share=1.0, noise_blur=(0.5, 1.0))
    for seed in range(5):
        plain, degraded = make(seed=seed), make(rules, seed=seed)
        np.testing.assert_array_equal(plain["sharp"], degraded["sharp"])
        assert (plain["blur"] != degraded["blur"]).any()


def test_still_exposures_are_sharp():
    pair = make(CaptureRules(still_share=1.0))
    np.testing.assert_array_equal(pair["blur"], pair["sharp"])
    assert error(make()) > 3


def test_still_exposures_have_noise_and_compression():
    noise = CaptureRules(still_share=1.0, shot_noise=(0.05, 0.05))
    noisy, compressed = make(noise), make(CaptureRules(still_share=1.0, jpeg_share=1.0, jpeg_quality=(50, 50)))
    assert error(noisy) > 3
    assert error(compressed) > 1
    np.testing.assert_array_equal(noisy["sharp"], compressed["sharp"])


def test_photos_are_blurred_after_downscaling():
    """`sharp` of a still exposure is a window of the photo downscaled by Pillow."""
    pair = make(CaptureRules(still_share=1.0, reduce=(2.0, 2.0)), side=48)
    small = np.asarray(Image.fromarray(PHOTO).resize((120, 100), Image.Resampling.LANCZOS))
    windows = np.lib.stride_tricks.sliding_window_view(small, (48, 48, 3))[:, :, 0].astype(int)
    assert (
        np.abs(windows - pair["sharp"]).mean(axis=(2, 3, 4)).min() < 1.5
    )  # Pillow's quick first step rounds once more


def test_pairs_are_downscaled_after_blurring():
    """Equal to the same motion and window at full size, downscaled by 2."""
    rules = CaptureRules(reduce_after=(2.0, 2.0))
    pair, full = make(rules, side=40), make(side=80)
    for name in ("sharp", "blur"):
        small = Image.fromarray(full[name]).resize((40, 40), Image.Resampling.LANCZOS)
        assert pair[name].shape == (40, 40, 3)
        assert np.abs(pair[name].astype(int) - np.asarray(small)).max() <= 3


def test_noise_is_reduced_by_downscaling():
    """Averaging four pixels halves the deviation of white noise."""
    rules = CaptureRules(still_share=1.0, shot_noise=(0.08, 0.08))
    full, half = make(rules), make(dataclasses.replace(rules, reduce_after=(2.0, 2.0)))
    ratio = (half["blur"].astype(float) - half["sharp"]).std() / (full["blur"].astype(float) - full["sharp"]).std()
    assert 0.35 < ratio < 0.65


def test_whole_photos_are_downscaled():
    drawn, motion = exposure_sampling.draw_exposure([0], MOVING, CaptureRules(reduce_after=(2.0, 2.0)), SIZE, 0)
    pair = exposure_sampling.make_exposure(PHOTO, drawn, motion, MOVING, 0)
    _, _, width, height = motion.window
    assert pair["sharp"].shape == pair["blur"].shape == (round(height / 2), round(width / 2), 3)


def test_downscaling_is_limited_by_the_window():
    for rules in (CaptureRules(reduce=(4.0, 4.0)), CaptureRules(reduce=(4.0, 4.0), reduce_after=(3.0, 3.0))):
        for seed in range(10):
            drawn, motion = exposure_sampling.draw_exposure([seed], MOVING, rules, SIZE, 64)
            assert 1 < drawn.reduce < 200 / 64
            left, top, width, height = motion.window
            assert width == height == round(64 * drawn.reduce_after)
            assert left + width <= round(SIZE[1] / drawn.reduce)
            assert top + height <= round(SIZE[0] / drawn.reduce)
            assert exposure_sampling.make_exposure(PHOTO, drawn, motion, MOVING, 64)["blur"].shape == (64, 64, 3)


def test_windows_that_never_fit_are_refused():
    for rules in (CaptureRules(), CaptureRules(reduce=(1.0, 4.0))):
        with pytest.raises(InputError) as caught:
            exposure_sampling.draw_exposure([0], MOVING, rules, SIZE, 199)
        assert caught.value.code == "photograph-too-small"


def test_domain_mix():
    both = dataclasses.replace(MOVING, variants=("blur", "blur_gamma"))
    for seed in range(4):
        expected, linear = make(exposure=both, seed=seed), make(CaptureRules(domain_mix=1.0), seed=seed)
        assert linear.keys() == {"sharp", "blur"}
        np.testing.assert_array_equal(linear["blur"], expected["blur_gamma"])
        assert (linear["blur"] != expected["blur"]).any()
    drawn = [
        exposure_sampling.draw_exposure([seed], MOVING, CaptureRules(domain_mix=0.5), SIZE, 64)[0] for seed in range(20)
    ]
    assert {one.linear for one in drawn} == {False, True}


def test_only_blur_is_compressed():
    plain, compressed = make(), make(CaptureRules(jpeg_share=1.0, jpeg_quality=(75, 75)))
    np.testing.assert_array_equal(plain["sharp"], compressed["sharp"])
    change = np.abs(plain["blur"].astype(float) - compressed["blur"]).mean()
    assert 0 < change < 5


def test_descriptions_omit_defaults():
    _, motion = exposure_sampling.draw_exposure([0], MOVING, CaptureRules(), SIZE, 64)
    about = exposure_sampling.describe_exposure(Capture(), motion)
    assert about.keys() == {"travel"}
    assert 3 < about["travel"] < 9
    special = Capture(still=True, reduce_after=2.0, jpeg_quality=80)
    described = exposure_sampling.describe_exposure(special, motion.at_rest())
    assert described == {"travel": 0.0, "still": True, "reduce_after": 2.0, "jpeg_quality": 80}
