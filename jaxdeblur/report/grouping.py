"""Groups evaluations by protocol, and compares the runs within a group."""

import dataclasses
import itertools
from collections.abc import Sequence

from jaxdeblur.errors import InputError
from jaxdeblur.evaluation import confidence
from jaxdeblur.evaluation.confidence import SequenceScores
from jaxdeblur.report.loading import Evaluation, Run
from jaxdeblur.runs.records import Gain, MeanMetrics, ProtocolKey

# If the PSNR of a blurry input differs between two runs by more than float64 rounding, they scored different images.
IDENTITY_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Entry:
    """One run's evaluation in a group, and its scores per sequence."""

    run: Run
    evaluation: Evaluation
    sequences: list[SequenceScores]


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two runs on the same images; `gain` is the PSNR of `run`, which has the higher mean, over `other`."""

    run: Run
    other: Run
    gain: Gain


@dataclasses.dataclass(frozen=True)
class Group:
    """All evaluations of one protocol, whose numbers are comparable."""

    protocol: ProtocolKey
    entries: list[Entry]
    pairs: list[Pair]

    @property
    def identity(self) -> MeanMetrics:
        """The scores of the blurry input, which are the same for every run of the group."""
        return self.entries[0].evaluation.summary.identity


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Return the runs' evaluations by protocol, the test split first.

    Raises:
        InputError: two runs state the same protocol but scored different images (code "images-differ").
    """
    groups: dict[ProtocolKey, list[Entry]] = {}
    for run in runs:
        for evaluation in run.evaluations:
            sequences = confidence.per_sequence(list(evaluation.images.values()))
            groups.setdefault(evaluation.key, []).append(Entry(run, evaluation, sequences))
    result = [
        Group(key, entries, [compare(*pair) for pair in itertools.combinations(entries, 2)])
        for key, entries in groups.items()
    ]
    return sorted(result, key=lambda group: group.protocol.split)  # "test" before "validation"


def compare(one: Entry, other: Entry) -> Pair:
    """Return the difference in PSNR of two runs, the one with the higher mean first.

    Raises:
        InputError: they did not score the same images (code "images-differ").
    """
    names = f"{one.run.name} ({one.evaluation.name})", f"{other.run.name} ({other.evaluation.name})"
    images, other_images = [*one.evaluation.images.values()], [*other.evaluation.images.values()]
    gain = confidence.gain_over_run(images, other_images, names=names)
    for name, image in one.evaluation.images.items():
        identity, other_identity = image.identity.psnr, other.evaluation.images[name].identity.psnr
        if abs(identity - other_identity) > IDENTITY_TOLERANCE:
            raise InputError(
                f"{' and '.join(names)} cannot be compared: {'/'.join(name)} is a different image in each, since the "
                f"blurred input has {identity:.6f} dB in one and {other_identity:.6f} dB in the other. Evaluate both "
                "on the same data.",
                code="images-differ",
            )
    if gain.mean < 0:
        return Pair(other.run, one.run, confidence.gain_over_run(other_images, images))
    return Pair(one.run, other.run, gain)
