"""Augmentation against hand-computed windows, factors and colours; both images alike."""

import dataclasses
import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.augment import InputOptions, read_example

PLAIN = InputOptions(resize=0, resize_filter="bicubic", flip_and_rotate=False)


class Noise:
    """One pair of equal noise images; records the windows read."""

    def __init__(self, height, width, low=0, high=256):
        self.image = np.random.default_rng(0).integers(low, high, (height, width, 3), np.uint8)
        self.sizes, self.windows = [(height, width)], []

    def read(self, index, window):
        self.windows.append((*window[0].indices(self.sizes[0][0])[:2], *window[1].indices(self.sizes[0][1])[:2]))
        return {"blur": self.image[window], "sharp": self.image[window], "sequence": "s", "frame": "1"}


def examples(source, options, count, crop=0):
    """Yield examples one by one."""
    for i in range(count):
        yield read_example(source, 0, options, crop, np.random.default_rng([0, i]))


def windows(source, options, count):
    """Return the first and last + 1 row and column that each example reads."""
    for _ in examples(source, options, count):
        pass
    return np.array(source.windows)


def resized_to(image, side):
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def test_disabled_options_draw_nothing():
    """The random stream without them: crop position, rotation, flip."""
    source = Noise(40, 48)
    for resize, crop in ((0, 16), (20, 12), (20, 0)):
        options = dataclasses.replace(PLAIN, resize=resize, flip_and_rotate=True)
        whole = resized_to(source.image, resize) if resize else source.image
        for i, pair in enumerate(examples(source, options, 20, crop)):
            rng = np.random.default_rng([0, i])
            top, left = (int(rng.integers(side - crop + 1)) for side in whole.shape[:2]) if crop else (0, 0)
            turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
            part = whole[top : top + (crop or resize), left : left + (crop or resize)]
            expected = np.rot90(part[:, ::-1] if mirror else part, turns)
            for key in ("blur", "sharp"):
                np.testing.assert_array_equal(pair[key], expected)


@pytest.mark.parametrize(("factor", "rows", "columns"), [(1, 40, 64), (2, 20, 32), (3, 13, 21), (1.25, 32, 51)])
def test_windows_are_resized(factor, rows, columns):
    """Of 40x64 pixels: a third is 13.33 x 21.33; 1 / 1.25 is 32 x 51.2. So little aspect jitter has no effect alone."""
    source = Noise(40, 64)
    options = dataclasses.replace(PLAIN, resize=16, zoom=(factor, factor), aspect_jitter=1.0 + 1e-12)
    for pair in examples(source, options, 20):
        top, bottom, left, right = source.windows[-1]
        assert (bottom - top, right - left) == (rows, columns)
        for key in ("blur", "sharp"):
            np.testing.assert_array_equal(pair[key], resized_to(source.image[top:bottom, left:right], 16))


@pytest.mark.parametrize(("factor", "side"), [(0.5, 24), (2.0, 6), (0.75, 16), (0.35, 34)])
def test_zoomed_crop_reads_only_what_it_needs(factor, side):
    """12 pixels at a factor of 0.35 are 34.3 of the frame."""
    source = Noise(40, 64)
    for pair in examples(source, dataclasses.replace(PLAIN, zoom=(factor, factor)), 20, crop=12):
        top, bottom, left, right = source.windows[-1]
        assert (bottom - top, right - left) == (side, side)
        for key in ("blur", "sharp"):
            np.testing.assert_array_equal(pair[key], resized_to(source.image[top:bottom, left:right], 12))


def test_windows_are_uniform_and_factors_log_uniform():
    source = Noise(128, 256)
    options = dataclasses.replace(PLAIN, resize=16, zoom=(1.0, 4.0))
    drawn = windows(source, options, 2000)
    rows, columns = drawn[:, 1] - drawn[:, 0], drawn[:, 3] - drawn[:, 2]
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 128, 64, 256)
    np.testing.assert_allclose(columns, 2 * rows, atol=1)
    assert np.mean(rows > 64) == pytest.approx(0.5, abs=0.04)  # even draws of the factor would give 0.33, of 1/it 0.67
    slack = np.column_stack([128 - rows, 256 - columns])
    place = drawn[:, [0, 2]][rows < 100] / slack[rows < 100]
    assert place.min() == 0
    assert place.max() == 1
    assert place.mean() == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(place.T)[0, 1]) < 0.1


def test_aspect_jitter_is_symmetric():
    source = Noise(512, 512)
    options = dataclasses.replace(PLAIN, resize=16, zoom=(2.0, 2.0), aspect_jitter=1.5)
    drawn = windows(source, options, 1000)
    rows, columns = drawn[:, 1] - drawn[:, 0], drawn[:, 3] - drawn[:, 2]
    ratio = np.log(rows / columns) / math.log(1.5)
    assert np.abs(ratio).max() == pytest.approx(1, abs=0.02)
    assert ratio.min() < -0.97
    assert ratio.mean() == pytest.approx(0, abs=0.06)
    np.testing.assert_allclose(np.sqrt(rows * columns), 256, rtol=0.01)


def test_jittered_window_never_leaves_the_frame():
    source = Noise(40, 64)
    drawn = windows(source, dataclasses.replace(PLAIN, resize=16, zoom=(1.0, 1.2), aspect_jitter=2.0), 200)
    assert drawn[:, [1, 3]].max(axis=0).tolist() == [40, 64]
    assert drawn.min() == 0
    options = dataclasses.replace(PLAIN, zoom=(0.5, 0.6), aspect_jitter=1.5)
    assert options.frame_side(12) == 30  # 12 / 0.5 x the root of 1.5 is 29.4
    assert dataclasses.replace(PLAIN, zoom=(0.3, 1.0)).frame_side(96) == 320
    assert (PLAIN.frame_side(12), PLAIN.frame_side(0)) == (12, 0)
    source = Noise(30, 30)
    assert {pair["blur"].shape for pair in examples(source, options, 200, crop=12)} == {(12, 12, 3)}
    sides = [bottom - top for top, bottom, _, _ in source.windows]
    assert max(sides) <= 29
    assert max(sides) > 27


def test_only_the_crop_of_a_window_is_read():
    source = Noise(40, 64)
    for pair in examples(source, dataclasses.replace(PLAIN, resize=20, zoom=(2.0, 2.0)), 10, crop=10):
        top, bottom, left, right = source.windows[-1]
        assert (bottom - top, right - left) == (40 // 4, 64 // 4)  # half of the frame's sides, and half of the square
        np.testing.assert_array_equal(pair["sharp"], resized_to(source.image[top:bottom, left:right], 10))


def test_channels_are_permuted_in_all_six_orders():
    source, orders = Noise(8, 8), Counter()
    for pair in examples(source, dataclasses.replace(PLAIN, permute_channels=True), 600):
        np.testing.assert_array_equal(pair["blur"], pair["sharp"])
        order = tuple(
            next(i for i in range(3) if (pair["blur"][..., channel] == source.image[..., i]).all())
            for channel in range(3)
        )
        orders[order] += 1
    assert len(orders) == 6
    assert all(len({*order}) == 3 for order in orders)
    assert min(orders.values()) > 70


def test_gain_is_log_uniform_and_rounded():
    source = Noise(16, 16, high=101)
    source.image[0, 0, 0] = 100
    gains = []
    for pair in examples(source, dataclasses.replace(PLAIN, gain=(0.5, 2.0)), 1000):
        np.testing.assert_array_equal(pair["blur"], pair["sharp"])
        assert pair["blur"].dtype == np.uint8
        gain = np.sum(pair["blur"], dtype=float) / np.sum(source.image, dtype=float)
        np.testing.assert_allclose(pair["blur"], gain * source.image, atol=1)
        gains.append(gain)
    assert 0.495 < min(gains) < 0.52
    assert 1.94 < max(gains) < 2.01
    assert np.mean(np.array(gains) < 1) == pytest.approx(0.5, abs=0.05)


def test_gain_clips_neither_image():
    """The brighter image limits the gain, usually the sharp one."""
    source = Noise(16, 16)
    blur = np.full((16, 16, 3), 100, np.uint8)
    for brightest, greatest in ((200, 127), (255, 100)):
        sharp = np.minimum(source.image, brightest).astype(np.uint8)
        source.read = lambda index, window, sharp=sharp: {"blur": blur, "sharp": sharp}
        for pair in examples(source, dataclasses.replace(PLAIN, gain=(1.2, 4.0)), 20):
            assert pair["blur"].max() <= greatest + 1
            np.testing.assert_allclose(pair["sharp"], pair["blur"][0, 0, 0] / 100 * sharp, atol=2)
    source.image[:] = 0
    source.read = Noise.read.__get__(source)
    assert not next(examples(source, dataclasses.replace(PLAIN, gain=(1.0, 4.0)), 1))["sharp"].any()
