"""Intervals against SciPy, by hand and by their coverage; pairing, rows per sequence and sentences."""

import dataclasses
import itertools
import random

import interval_coverage
import numpy as np
import pytest
import scipy.stats

from jaxdeblur.errors import InputError
from jaxdeblur.evaluation import confidence
from jaxdeblur.evaluation.metrics import IMAGE_METRICS
from jaxdeblur.runs.records import Gain, ImageMetrics, ImageRecord


def make_images(scores, *, identity=20.0, frames=2):
    """Return records of `frames` images per sequence, from (sequence, PSNR); the errors fall as PSNR rises."""
    return [
        ImageRecord(sequence=name, frame=str(i), **metrics_of(psnr), identity=ImageMetrics(**metrics_of(identity)))
        for name, psnr in scores
        for i in range(frames)
    ]


def metrics_of(psnr):
    return {name: 100 - psnr if name in confidence.LOWER_IS_BETTER else psnr for name in IMAGE_METRICS}


def test_correlated_frames_widen_the_interval():
    """The same gains as 30 sequences, or as three sequences of equal frames."""
    gains = [0.1] * 10 + [0.4] * 10 + [0.7] * 10
    separate = confidence.interval(gains, [str(i) for i in range(30)])
    together = confidence.interval(gains, ["a"] * 10 + ["b"] * 10 + ["c"] * 10)
    assert separate.mean == together.mean == pytest.approx(0.4)
    # By hand: three means 0.1, 0.4, 0.7 have standard error 0.3 / sqrt(3), and t for 2 degrees of freedom is 4.3027.
    assert together.high - 0.4 == pytest.approx(4.3027 * 0.3 / 3**0.5, rel=1e-4)
    assert 0.4 - together.low == pytest.approx(together.high - 0.4)
    assert 0.25 < separate.low < 0.4 < separate.high < 0.55
    assert (together.images, together.sequences, together.method) == (30, 3, "student_t")
    assert (separate.sequences, separate.method, separate.resamples) == (30, "bootstrap_t", 9999)


def test_few_sequences_of_one_image_give_students_interval():
    """The textbook interval of a mean."""
    gains = [0.3, 0.1, 0.5, -0.2]
    low, high = scipy.stats.t.interval(0.95, 3, loc=np.mean(gains), scale=scipy.stats.sem(gains))
    interval = confidence.interval(gains, list("abcd"))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.resamples == 0


def test_one_sequence_gives_no_interval():
    interval = confidence.interval([0.1, -0.2], ["a", "a"])
    assert (interval.low, interval.high, interval.method, interval.resamples) == (None, None, None, 0)
    assert interval.mean == pytest.approx(-0.05)


def test_bootstrap_t_agrees_with_all_possible_resamples():
    """Five sequences have 5^5 resamples, which are enumerated here."""
    values = {"a": [0.1, 0.2, 0.3], "b": [0.9], "c": [0.4, 0.5], "d": [-0.1, 0.1, 0.1, 0.2], "e": [0.6, 0.8]}
    pooled = [value for group in values.values() for value in group]
    interval = confidence.interval(pooled, [name for name, group in values.items() for _ in group])

    def mean_and_error(groups):
        images = sum(len(group) for group in groups)
        mean = sum(map(sum, groups)) / images
        squares = sum((sum(group) - mean * len(group)) ** 2 for group in groups)
        return mean, (5 / 4 * squares) ** 0.5 / images

    mean, error = mean_and_error(values.values())
    scores = []
    for groups in itertools.product(values.values(), repeat=5):
        resampled_mean, spread = mean_and_error(groups)
        scores.append((resampled_mean - mean) / spread if spread > 1e-12 else np.sign(resampled_mean - mean) * np.inf)
    low, high = np.quantile(scores, [0.025, 0.975], method="nearest")
    assert interval.mean == pytest.approx(mean)
    assert interval.low == pytest.approx(mean - high * error, abs=0.1 * error * high)
    assert interval.high == pytest.approx(mean - low * error, abs=0.1 * error * -low)
    assert high > 1.2 * -low  # the lengths and values are skewed: swapped ends would be noticed


def test_the_interval_is_deterministic_and_shifts_with_the_values():
    rng = np.random.default_rng(3)
    values, names = rng.normal(0, 1, 60), [str(i % 8) for i in range(60)]
    interval = confidence.interval(values, names)
    assert interval == confidence.interval(values, names)
    moved = confidence.interval(3 * values + 10, names)
    for key in ("mean", "low", "high"):
        assert getattr(moved, key) == pytest.approx(3 * getattr(interval, key) + 10)


def test_equal_sequences_fall_back_to_students_interval():
    """Seven of eight sequences are equal: a third of the resamples has no spread, so they cannot be studentised."""
    interval = confidence.interval([0.1] * 21 + [0.5] * 3, [name for name in "abcdefgh" for _ in range(3)])
    assert (interval.method, interval.resamples) == ("student_t", 0)
    low, high = scipy.stats.t.interval(0.95, 7, loc=0.15, scale=scipy.stats.sem([0.1] * 7 + [0.5]))
    assert (interval.low, interval.high) == pytest.approx((low, high))
    # Sequences of unequal lengths: rounding errors of the sums of 0.1 make the spread slightly larger than zero.
    lengths = {"a": 3, "b": 7, "c": 2, "d": 5, "e": 11, "f": 3, "g": 6, "h": 4}
    names = [name for name, length in lengths.items() for _ in range(length)]
    assert confidence.interval([0.1] * 37 + [0.5] * 4, names).method == "student_t"
    same = confidence.interval([0.25] * 16, [name for name in "abcdefgh" for _ in range(2)])
    assert (same.low, same.mean, same.high) == (0.25, 0.25, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("effects", "count", "least"), [("normal", 3, 0.93), ("normal", 11, 0.93), ("exponential", 11, 0.9)]
)
def test_coverage_of_intervals(effects, count, least):
    """Of 1000 repeats, so with a standard error of 0.8%; the percentile bootstrap covers too few, in contrast."""
    coverage = interval_coverage.coverage(effects, count, 1000)
    assert least <= coverage["interval"] <= 0.98
    assert coverage["percentile"] < least
    if effects == "exponential":
        assert coverage["interval"] > coverage["student_t"]


def test_gain_over_the_blurry_input():
    images = make_images([("a", 21.0), ("b", 19.5), ("c", 22.0)])
    gain = confidence.gain_over_identity(images)
    assert gain.mean == pytest.approx(2.5 / 3)
    assert (gain.images_better, gain.images, gain.sequences) == (4, 6, 3)
    for metric in ("ssim", "mae", "mse"):  # lower is better for the last two, but a positive gain is better for all
        other = dataclasses.asdict(confidence.gain_over_identity(images, metric))
        assert other == pytest.approx(dataclasses.asdict(gain))


def test_runs_are_compared_image_by_image():
    """Sequences differ by 10 dB, the runs by 0.1 or 0.2: paired, in any order, the difference is plain."""
    rng = np.random.default_rng(0)
    ours = make_images([(name, 20 + 10 * rng.random()) for name in "abcdef"])
    theirs = [dataclasses.replace(image, psnr=image.psnr - 0.1 - 0.1 * (image.frame == "1")) for image in ours]
    theirs[0] = dataclasses.replace(ours[0], psnr=ours[0].psnr + 0.05)
    random.Random(0).shuffle(theirs)
    gain = confidence.gain_over_run(ours, theirs)
    assert gain.mean == pytest.approx((5 * 0.1 + 6 * 0.2 - 0.05) / 12)
    assert 0 < gain.low < gain.high < 0.2
    assert gain.images_better == 11
    back = confidence.gain_over_run(theirs, ours)
    assert (back.mean, back.images_better) == (pytest.approx(-gain.mean), 1)


def test_runs_of_different_images_are_not_compared():
    ours, theirs = make_images([("a", 21.0), ("b", 22.0)]), make_images([("b", 22.0), ("c", 23.0)])
    with pytest.raises(InputError) as error:
        confidence.gain_over_run(ours, theirs, names=("runs/x", "runs/y"))
    for line in (
        "a/0: missing in runs/y",
        "a/1: missing in runs/y",
        "c/0: missing in runs/x",
        "c/1: missing in runs/x",
    ):
        assert line in str(error.value)
    assert "b/" not in str(error.value)
    with pytest.raises(InputError, match=r"2 duplicate image\(s\) in runs/y"):
        confidence.gain_over_run(ours, [*ours, *ours[:2]], names=("runs/x", "runs/y"))


def test_a_metric_that_an_image_lacks_is_named():
    images = make_images([("a", 21.0), ("b", 22.0)])
    images[2] = dataclasses.replace(images[2], ssim=None)
    with pytest.raises(InputError, match=r"1 image\(s\) without ssim:\n  - b/0\n") as error:
        confidence.gain_over_identity(images, "ssim")
    assert error.value.code == "metric-missing"
    assert confidence.per_sequence(images)[1].means["ssim"] is None


def test_rows_per_sequence():
    images = make_images([("b", 21.0), ("a", 19.0)]) + make_images([("b", 24.0)], frames=1)
    rows = confidence.per_sequence(images)
    assert [row.sequence for row in rows] == ["b", "a"]
    assert [row.images for row in rows] == [3, 2]
    assert [row.gain_psnr for row in rows] == pytest.approx([2.0, -1.0])
    assert [row.images_better for row in rows] == [3, 0]
    row = rows[0].to_json()
    assert row["psnr"] == pytest.approx(22)
    assert row["mae"] == pytest.approx(78)
    assert row["identity"] == metrics_of(20.0)
    assert row.keys() >= {"sequence", "images", "gain_psnr", "images_better", *IMAGE_METRICS}


@pytest.mark.parametrize(
    ("low", "high", "sentence", "significant"),
    [
        (
            0.1,
            0.3,
            "Ours beats the input: +0.20 dB, 95% interval +0.10 to +0.30 over 3 sequences; better on 6 of",
            True,
        ),
        (0.0, 0.4, "No significant gain of ours over the input", False),
        (-0.1, 0.5, "No significant gain of ours over the input", False),
        (-0.4, 0.0, "No significant gain of ours over the input", False),
        (-0.3, -0.1, "Ours is worse than the input", False),
        (
            None,
            None,
            "+0.20 dB; no interval, since there is only one sequence; better on 6 of 9",
            False,
        ),
    ],
)
def test_a_gain_is_significant_if_its_interval_excludes_zero(low, high, sentence, significant):
    gain = Gain(0.2, low, high, images=9, sequences=3, method=None, resamples=0, images_better=6)
    assert sentence in confidence.describe_gain(gain, subject="Ours", rival="the input")
    assert confidence.is_gain(gain) is significant
