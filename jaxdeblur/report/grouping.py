"""Evaluations to groups of one protocol each, with the statistics that compare the runs inside a group."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from jaxdeblur.errors import InputError
from jaxdeblur.evaluation import confidence
from jaxdeblur.report.loading import PROTOCOL, Evaluation, Run

# PSNR of one blurred image in two runs: more than rounding of float64 means that the images were not the same.
IDENTITY_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Entry:
    """One run's evaluation in a group; `sequences` is its table of `statistics.per_sequence`."""

    run: Run
    evaluation: Evaluation
    sequences: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Pair:
    """PSNR of the run of the higher mean minus the other's on the same images, as `statistics.gain_over_run` has it."""

    run: Run
    other: Run
    gain: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Group:
    """All evaluations of one protocol, whose numbers may stand side by side."""

    protocol: dict[str, Any]
    entries: list[Entry]
    pairs: list[Pair]

    @property
    def name(self) -> str:
        """Return `<split>-<resolution>`; two groups may share it."""
        return self.entries[0].evaluation.name

    @property
    def identity(self) -> dict[str, Any]:
        """Return the blurred input's summary, the same for every run of the group."""
        return self.entries[0].evaluation.summary["identity"]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Return the runs' evaluations by protocol, the test split first.

    Raises:
        InputError: two runs claim the same protocol, but did not score the same images.
    """
    found: dict[tuple, list[Entry]] = {}
    for run in runs:
        for evaluation in run.evaluations:
            sequences = confidence.per_sequence(list(evaluation.images.values()))
            found.setdefault(evaluation.key, []).append(Entry(run, evaluation, sequences))
    groups = []
    for key, entries in found.items():
        pairs = [compare(one, other) for one, other in itertools.combinations(entries, 2)]
        groups.append(Group(dict(zip(PROTOCOL, key, strict=True)), entries, pairs))
    return sorted(groups, key=lambda group: group.protocol["split"])  # "test" before "validation"


def compare(one: Entry, other: Entry) -> Pair:
    """Return two runs' difference in PSNR, the run of the higher mean first.

    Raises:
        InputError: they did not score the same images: names them.
    """
    names = [f"{entry.run.name} ({entry.evaluation.name})" for entry in (one, other)]
    images, others = ([*entry.evaluation.images.values()] for entry in (one, other))
    gain = confidence.gain_over_run(images, others, names=tuple(names))
    for (sequence, frame), image in one.evaluation.images.items():
        blurred = image["identity"]["psnr"], other.evaluation.images[sequence, frame]["identity"]["psnr"]
        if abs(blurred[0] - blurred[1]) > IDENTITY_TOLERANCE:
            found = f"the blurred input has {blurred[0]:.6f} dB in one and {blurred[1]:.6f} dB in the other"
            raise InputError(
                f"{' and '.join(names)} cannot be compared: {sequence}/{frame} is another image in each, for {found}. "
                "Evaluate both on the same data."
            )
    if gain["mean"] < 0:
        return Pair(other.run, one.run, confidence.gain_over_run(others, images))
    return Pair(one.run, other.run, gain)
