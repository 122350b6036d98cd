"""How sure a mean over images is, and whether one set of images is better than another.

Frames of one sequence resemble each other and are no independent evidence, so sequences are the sample: an interval
says where the mean would lie with other sequences of the same kind. An image is a record of an evaluation: `sequence`,
`frame`, the metrics of `metrics.py`, and `identity` with the blurred input's.

How often an interval of nominally 95% covers the truth, in percent of 2000 draws by `tools/interval_coverage.py`:
sequences of 20 to 150 images, whose effects are normal, exponential (skewed) or lognormal (more so). Each cell: the
plain percentile bootstrap, Student's t, and `interval`, which is Student's t below five sequences.

    sequences         normal       exponential         lognormal
            2     50  95  95        48  91  91        41  89  89
            3     74  94  94        69  87  87        64  81  81
            4     79  93  93        76  88  88        68  80  80
            5     83  94  95        78  86  92        71  81  90
            8     87  93  93        84  88  93        77  81  88
           11     90  94  95        87  89  94        80  83  91
           22     92  95  94        89  91  94        85  86  91
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.evaluation.metrics import IMAGE_METRICS, mean_or_none

RESAMPLES = 9999  # 1 less than a round number, so that the 2.5% quantiles are the 250th smallest and greatest
# With fewer, too many resamples consist of one sequence alone and have no spread: 11% of those of three.
BOOTSTRAP_SEQUENCES = 5
LOWER_IS_BETTER = ("mae", "mse", "lpips")

Interval = dict[str, Any]


def interval(values: Sequence[float], sequences: Sequence[str]) -> Interval:
    """Return the mean of per-image values with its 95% interval over sequences, the same at every call.

    From five sequences on it is the bootstrap-t (Efron and Tibshirani 1993, section 12.5): whole sequences are drawn
    with replacement, and each resample's mean is measured in its own standard error. With fewer, or where resamples
    have no spread because most sequences agree to the last digit, it is Student's t over sequences, with one degree of
    freedom less than there are sequences. Both use the linearised standard error of a ratio of sequence totals
    (Cochran 1977, section 6.3), so that sequences may be of unequal length. One sequence gives no interval.

    Args:
        values: one per image.
        sequences: the name of each image's sequence.

    Returns:
        mean, low, high: in the unit of `values`; without an interval `low` and `high` are None.
        images, sequences: how many there are.
        method: `bootstrap_t`, `student_t` or, without an interval, None.
        resamples: how many were drawn; 0 unless by `bootstrap_t`.
    """
    array, names = np.asarray(values, np.float64), np.asarray(sequences)
    groups = [array[names == name] for name in dict.fromkeys(sequences)]
    totals, lengths = np.array([group.sum() for group in groups]), np.array([float(group.size) for group in groups])
    mean, error = _mean_and_error(totals, lengths)
    found = {"mean": float(array.mean()), "low": None, "high": None, "images": array.size, "sequences": len(groups)}
    if len(groups) == 1:
        return {**found, "method": None, "resamples": 0}
    low, high, method = -np.inf, np.inf, "bootstrap_t"
    if len(groups) >= BOOTSTRAP_SEQUENCES:
        low, high = _bootstrap_t(totals, lengths, mean, error)
    if not np.isfinite([low, high]).all():
        reach = scipy.special.stdtrit(len(groups) - 1, 0.975) * error
        low, high, method = mean - reach, mean + reach, "student_t"
    found |= {"low": float(low), "high": float(high)}
    return {**found, "method": method, "resamples": RESAMPLES if method == "bootstrap_t" else 0}


def gain_over_identity(images: Sequence[Mapping[str, Any]], metric: str = "psnr") -> Interval:
    """Return how much better the images are than the blurred input by one metric: `interval` and `images_better`.

    A gain above zero is better, also by metrics of which less is better (`LOWER_IS_BETTER`).

    Raises:
        InputError: an image does not have the metric.
    """
    return _gain(images, [image["identity"] for image in images], metric)


def gain_over_run(
    images: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    metric: str = "psnr",
    *,
    names: tuple[str, str] = ("the run", "the other run"),
) -> Interval:
    """Return how much better one run's images are than the same images of another run, as `gain_over_identity` does.

    Images are paired by sequence and frame: what makes one image harder than another drops out of the difference.

    Raises:
        InputError: the runs did not score the same images, or one of them an image twice: lists them by `names`.
    """
    keyed = [{(image["sequence"], image["frame"]): image for image in run} for run in (images, others)]
    problems = []
    for name, run, own, other in zip(names, (images, others), keyed, keyed[::-1], strict=True):
        problems += [
            f"{sequence}/{frame}: missing in {name}" for sequence, frame in other if (sequence, frame) not in own
        ]
        if len(own) < len(run):
            problems.append(f"{len(run) - len(own)} image(s) twice in {name}")
    if problems:
        heading = f"{names[0]} and {names[1]} cannot be compared, since they did not score the same images:"
        raise InputError(list_problems(heading, problems, "Evaluate both on the same split of the same data."))
    return _gain(images, [keyed[1][key] for key in keyed[0]], metric)


def is_gain(gain: Interval) -> bool:
    """Return whether the whole interval lies above zero; without an interval nothing is called a gain."""
    return gain["low"] is not None and gain["low"] > 0


def describe_gain(
    gain: Interval,
    *,
    subject: str = "The network",
    rival: str = "the blurred input",
    unit: str = "dB",
    decimals: int = 2,
) -> str:
    """Say in one sentence whether `subject` beats `rival`. A gain whose interval includes zero is not called a gain."""
    mean, low, high = (None if gain[key] is None else f"{gain[key]:+.{decimals}f}" for key in ("mean", "low", "high"))
    unit = f" {unit}" if unit else ""
    better = f"better on {gain['images_better']} of {gain['images']} images"
    if low is None:
        return f"{subject} against {rival}: {mean}{unit}; one sequence gives no interval; {better}."
    numbers = f"{mean}{unit}, 95% interval {low} to {high} over {gain['sequences']} sequences; {better}"
    if is_gain(gain):
        return f"{subject} beats {rival}: {numbers}."
    if gain["high"] < 0:
        return f"{subject} is worse than {rival}: {numbers}."
    return f"No gain of {subject[:1].lower()}{subject[1:]} over {rival} is shown: {numbers}."


def per_sequence(images: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per sequence, in the order of appearance.

    Returns:
        `sequence`, `images`, the mean of every metric, those of the blurred input in `identity`, and the mean gain over
        it in PSNR, `gain_psnr`, with the number of `images_better`.
    """
    rows = []
    for name in dict.fromkeys(image["sequence"] for image in images):
        own = [image for image in images if image["sequence"] == name]
        identity = [image["identity"] for image in own]
        gains = [image["psnr"] - blurred["psnr"] for image, blurred in zip(own, identity, strict=True)]
        rows.append(
            {
                "sequence": name,
                "images": len(own),
                **_means(own),
                "identity": _means(identity),
                "gain_psnr": float(np.mean(gains)),
                "images_better": sum(gain > 0 for gain in gains),
            }
        )
    return rows


def _means(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {metric: mean_or_none([record[metric] for record in records]) for metric in IMAGE_METRICS}


def _gain(images: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], metric: str) -> Interval:
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    lacking = [
        f"{image['sequence']}/{image['frame']}"
        for image, other in zip(images, others, strict=True)
        if image.get(metric) is None or other.get(metric) is None
    ]
    if lacking:
        remedy = "Compare by another metric, or evaluate again with this version."
        raise InputError(list_problems(f"{len(lacking)} image(s) without {metric}:", lacking, remedy))
    gains = [sign * (image[metric] - other[metric]) for image, other in zip(images, others, strict=True)]
    found = interval(gains, [image["sequence"] for image in images])
    return {**found, "images_better": sum(gain > 0 for gain in gains)}


def _mean_and_error(totals: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over images and its standard error from the sequences' sums and lengths, (..., sequences)."""
    count, images = totals.shape[-1], lengths.sum(-1)
    mean = totals.sum(-1) / images
    residuals = totals - mean[..., None] * lengths
    return mean, np.sqrt(count / max(count - 1, 1) * np.square(residuals).sum(-1)) / images


def _bootstrap_t(totals: np.ndarray, lengths: np.ndarray, mean: float, error: float) -> tuple[float, float]:
    """Return the ends of the interval, infinite or NaN where the resamples do not fix them."""
    drawn = np.random.default_rng(0).integers(0, totals.size, (RESAMPLES, totals.size))
    means, errors = _mean_and_error(totals[drawn], lengths[drawn])
    # Of a resample of one sequence alone, or of sequences that agree, only rounding is left as its error.
    errors = np.where(errors > 1e-9 * error, errors, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.sort((means - mean) / errors)
    tail = (RESAMPLES + 1) // 40
    # The greatest scores bound the mean from below: resamples that lie too high came from a mean that lies lower.
    return mean - scores[-tail] * error, mean - scores[tail - 1] * error
