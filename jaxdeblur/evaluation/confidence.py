"""Confidence intervals of means over images, and paired comparisons of two sets of predictions.

Frames of one sequence are correlated, so sequences are the sampling unit: an interval states where the mean would lie
for other sequences of the same kind.

Coverage of nominal 95% intervals, in percent of 2000 draws by `tools/interval_coverage.py`, for sequences of 20 to 150
images whose effects are normal, exponential (skewed) or lognormal (more skewed). Each cell: percentile bootstrap,
Student's t, and `interval`, which is Student's t below five sequences.

    sequences         normal       exponential         lognormal
            2     50  95  95        48  91  91        41  89  89
            3     74  94  94        69  87  87        64  81  81
            4     79  93  93        76  88  88        68  80  80
            5     83  94  95        78  86  92        71  81  90
            8     87  93  93        84  88  93        77  81  88
           11     90  94  95        87  89  94        80  83  91
           22     92  95  94        89  91  94        85  86  91
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.special

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.evaluation.metrics import metric_means
from jaxdeblur.runs.records import Gain, ImageMetrics, ImageRecord, Interval

RESAMPLES = 9999  # 1 less than a round number: the 2.5% quantiles are then the 250th smallest and the 250th largest
# With fewer sequences, too many resamples consist of a single one and have no spread: 11% of those of three.
MIN_BOOTSTRAP_SEQUENCES = 5
LOWER_IS_BETTER = ("mae", "mse", "lpips")


@dataclasses.dataclass(frozen=True)
class SequenceScores:
    """Scores of one sequence: the means of `IMAGE_METRICS` and of the PSNR gain over the input."""

    sequence: str
    images: int
    means: dict[str, float | None]
    identity: dict[str, float | None]
    gain_psnr: float
    images_better: int

    def to_json(self) -> dict[str, object]:
        """Return the scores with the means on the same level as the other fields."""
        fields = {name: getattr(self, name) for name in ("identity", "gain_psnr", "images_better")}
        return {"sequence": self.sequence, "images": self.images, **self.means, **fields}


def interval(values: Sequence[float] | np.ndarray, sequences: Sequence[str]) -> Interval:
    """Return the mean of per-image values with its 95% confidence interval over sequences. Deterministic.

    With five sequences or more this is the bootstrap-t (Efron and Tibshirani 1993, section 12.5): whole sequences are
    drawn with replacement, and each resample's mean is studentised with its own standard error. With fewer, or if most
    sequences have equal values, so that resamples have no spread, it is Student's t over sequences, with n - 1 degrees
    of freedom for n sequences. Both use the linearised standard error of a ratio of sequence totals (Cochran 1977,
    section 6.3), which allows for sequences of unequal length. One sequence gives no interval.

    Args:
        values: one per image.
        sequences: the name of each image's sequence.
    """
    array, names = np.asarray(values, np.float64), np.asarray(sequences)
    groups = [array[names == name] for name in dict.fromkeys(sequences)]
    totals, lengths = np.array([group.sum() for group in groups]), np.array([float(group.size) for group in groups])
    mean, error = _mean_and_error(totals, lengths)
    low, high, method = _ends(totals, lengths, mean, error)
    return Interval(
        mean=float(array.mean()),
        low=low,
        high=high,
        images=array.size,
        sequences=len(groups),
        method=method,
        resamples=RESAMPLES if method == "bootstrap_t" else 0,
    )


def gain_over_identity(images: Sequence[ImageRecord], metric: str = "psnr") -> Gain:
    """Return how much better the predictions are than the blurry inputs by one metric.

    A positive gain is better for every metric: the sign is inverted for those in `LOWER_IS_BETTER`.

    Raises:
        InputError: an image lacks the metric (code "metric-missing").
    """
    return _gain(images, [image.identity for image in images], metric)


def gain_over_run(
    images: Sequence[ImageRecord],
    other_images: Sequence[ImageRecord],
    metric: str = "psnr",
    *,
    names: tuple[str, str] = ("the run", "the other run"),
) -> Gain:
    """Return how much better one run's predictions are than another's, as `gain_over_identity` does.

    Images are paired by sequence and frame, so that differences in difficulty between images cancel.

    Args:
        images: of the first run.
        other_images: of the second run.
        metric: to compare by.
        names: of the two runs, for the error message.

    Raises:
        InputError: the runs did not score the same images, or one of them scored an image twice (code
            "images-differ").
    """
    runs = [{image.name: image for image in run} for run in (images, other_images)]
    problems = []
    for name, records, scored, reference in zip(names, (images, other_images), runs, runs[::-1], strict=True):
        problems += [
            f"{sequence}/{frame}: missing in {name}" for sequence, frame in reference if (sequence, frame) not in scored
        ]
        if len(scored) < len(records):
            problems.append(f"{len(records) - len(scored)} duplicate image(s) in {name}")
    if problems:
        heading = f"{names[0]} and {names[1]} cannot be compared, since they did not score the same images:"
        remedy = "Evaluate both on the same split of the same data."
        raise InputError(list_problems(heading, problems, remedy), code="images-differ")
    return _gain(images, [runs[1][key] for key in runs[0]], metric)


def is_gain(gain: Gain) -> bool:
    """Return whether the whole interval is above zero; False without an interval."""
    return gain.low is not None and gain.low > 0


def describe_gain(
    gain: Gain,
    *,
    subject: str = "The network",
    rival: str = "the blurred input",
    unit: str = "dB",
    decimals: int = 2,
) -> str:
    """Return one sentence on whether `subject` beats `rival`, which it does only if the interval excludes zero."""
    mean, low, high = (
        None if value is None else f"{value:+.{decimals}f}" for value in (gain.mean, gain.low, gain.high)
    )
    unit = f" {unit}" if unit else ""
    better = f"better on {gain.images_better} of {gain.images} images"
    if gain.low is None or gain.high is None:
        return f"{subject} against {rival}: {mean}{unit}; no interval, since there is only one sequence; {better}."
    numbers = f"{mean}{unit}, 95% interval {low} to {high} over {gain.sequences} sequences; {better}"
    if is_gain(gain):
        return f"{subject} beats {rival}: {numbers}."
    if gain.high < 0:
        return f"{subject} is worse than {rival}: {numbers}."
    return f"No significant gain of {subject[:1].lower()}{subject[1:]} over {rival}: {numbers}."


def per_sequence(images: Sequence[ImageRecord]) -> list[SequenceScores]:
    """Return the scores of each sequence, in order of first appearance."""
    rows = []
    for name in dict.fromkeys(image.sequence for image in images):
        members = [image for image in images if image.sequence == name]
        gains = [image.gain_psnr for image in members]
        rows.append(
            SequenceScores(
                sequence=name,
                images=len(members),
                means=metric_means(members),
                identity=metric_means([image.identity for image in members]),
                gain_psnr=float(np.mean(gains)),
                images_better=sum(gain > 0 for gain in gains),
            )
        )
    return rows


def _gain(images: Sequence[ImageRecord], references: Sequence[ImageMetrics], metric: str) -> Gain:
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    values = [
        (getattr(image, metric), getattr(reference, metric))
        for image, reference in zip(images, references, strict=True)
    ]
    missing = [f"{image.sequence}/{image.frame}" for image, pair in zip(images, values, strict=True) if None in pair]
    if missing:
        heading = f"{len(missing)} image(s) without {metric}:"
        remedy = "Compare by another metric, or re-evaluate with this version."
        raise InputError(list_problems(heading, missing, remedy), code="metric-missing")
    gains = [sign * (value - reference) for value, reference in values]
    result = interval(gains, [image.sequence for image in images])
    return Gain(**dataclasses.asdict(result), images_better=sum(gain > 0 for gain in gains))


def _mean_and_error(totals: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over images and its standard error, (...), from sequence sums and lengths, (..., sequences)."""
    count, images = totals.shape[-1], lengths.sum(-1)
    mean = totals.sum(-1) / images
    residuals = totals - mean[..., None] * lengths
    return mean, np.sqrt(count / max(count - 1, 1) * np.square(residuals).sum(-1)) / images


def _ends(
    totals: np.ndarray, lengths: np.ndarray, mean: np.ndarray, error: np.ndarray
) -> tuple[float | None, float | None, str | None]:
    """Return the ends of the interval and the method that gave them."""
    count = totals.size
    if count == 1:
        return None, None, None
    if count >= MIN_BOOTSTRAP_SEQUENCES:
        low, high = _bootstrap_t(totals, lengths, mean, error)
        if np.isfinite([low, high]).all():
            return float(low), float(high), "bootstrap_t"
    margin = scipy.special.stdtrit(count - 1, 0.975) * error
    return float(mean - margin), float(mean + margin), "student_t"


def _bootstrap_t(
    totals: np.ndarray, lengths: np.ndarray, mean: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval; infinite or NaN if too many resamples have no spread."""
    drawn = np.random.default_rng(0).integers(0, totals.size, (RESAMPLES, totals.size))
    means, errors = _mean_and_error(totals[drawn], lengths[drawn])
    # The error of a resample of a single sequence, or of sequences with equal values, is rounding error.
    errors = np.where(errors > 1e-9 * error, errors, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.sort((means - mean) / errors)
    tail = (RESAMPLES + 1) // 40
    # The ends are swapped: the highest scores, where a resample overestimates the mean, give the lower end.
    return mean - scores[-tail] * error, mean - scores[tail - 1] * error
