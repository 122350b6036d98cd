"""Measure the coverage of 95% intervals over sequences: the table in `jaxdeblur/evaluation/confidence.py`.

    python tools/interval_coverage.py --repeats 2000

Each repeat draws sequences of 20 to 150 images: an effect per sequence, plus noise per image with a standard deviation
of 0.7. The true mean is 0.
"""

import argparse

import numpy as np
import scipy.stats

from jaxdeblur.evaluation.confidence import interval

EFFECTS = {
    "normal": lambda rng, count: rng.normal(0, 1, count),
    "exponential": lambda rng, count: rng.exponential(1, count) - 1,
    "lognormal": lambda rng, count: rng.lognormal(0, 1, count) - np.exp(0.5),
}
METHODS = ("percentile", "student_t", "interval")


def main() -> None:
    """Print one row per number of sequences and distribution of effects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    arguments = parser.parse_args()
    print(f"{'effects':>12} {'sequences':>10} " + " ".join(f"{method:>10}" for method in METHODS))
    for effects in EFFECTS:
        for count in (2, 3, 4, 5, 8, 11, 22):
            rates = coverage(effects, count, arguments.repeats)
            print(
                f"{effects:>12} {count:>10} " + " ".join(f"{100 * rates[method]:>10.1f}" for method in METHODS),
                flush=True,
            )


def coverage(effects: str, count: int, repeats: int) -> dict[str, float]:
    """Return the fraction of the repeats in which each of `METHODS` contains the true mean."""
    rng = np.random.default_rng(count)
    hits = dict.fromkeys(METHODS, 0)
    for _ in range(repeats):
        sequences = np.repeat(np.arange(count), rng.integers(20, 151, count))
        values = EFFECTS[effects](rng, count)[sequences] + rng.normal(0, 0.7, sequences.size)
        lengths, totals = np.bincount(sequences), np.bincount(sequences, values)
        result = interval(values, sequences.tolist())
        intervals = (percentile(totals, lengths, rng), student_t(totals, lengths), (result.low, result.high))
        for method, (low, high) in zip(METHODS, intervals, strict=True):
            hits[method] += low <= 0 <= high
    return {method: number / repeats for method, number in hits.items()}


def percentile(totals: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile bootstrap interval: the middle 95% of the means of 999 resamples of sequences."""
    drawn = rng.integers(0, totals.size, (999, totals.size))
    low, high = np.quantile(totals[drawn].sum(1) / lengths[drawn].sum(1), [0.025, 0.975])
    return low, high


def student_t(totals: np.ndarray, lengths: np.ndarray) -> tuple[float, float]:
    """Return Student's t interval from the linearised standard error of a ratio of totals."""
    mean = totals.sum() / lengths.sum()
    spread = np.std(totals - mean * lengths, ddof=1) * np.sqrt(totals.size) / lengths.sum()
    low, high = scipy.stats.t.interval(0.95, totals.size - 1, loc=mean, scale=spread)
    return low, high


if __name__ == "__main__":
    main()
