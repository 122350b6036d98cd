"""The sentences of a report: what was measured, how good it is, and what limits its validity."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdeblur.evaluation import confidence
from jaxdeblur.report.grouping import Group, Pair
from jaxdeblur.report.loading import Evaluation, Run
from jaxdeblur.runs.records import ProtocolKey

# How an interval was computed, by `Interval.method`.
METHODS = {
    "bootstrap_t": "bootstrap-t over sequences",
    "student_t": "Student's t over sequences",
    None: "no interval: only one sequence",
}


def describe_resolution(protocol: ProtocolKey) -> str:
    """Return at what size images were scored, as "at 256x256 (bicubic)"."""
    if protocol.resolution == "full":
        return "at full resolution"
    return f"at {protocol.resolution}x{protocol.resolution} ({protocol.resize_filter})"


def describe_protocol(protocol: ProtocolKey) -> str:
    """Return a phrase with all fields of a protocol that decide whether numbers are comparable."""
    return (
        f"{protocol.number_of_images:,} {protocol.split} images of {protocol.data_set} "
        f"{describe_resolution(protocol)}, blur variant '{protocol.blur_variant}', split rule '{protocol.split_rule}'"
    )


def group_title(protocol: ProtocolKey) -> str:
    """Return the heading of a group."""
    return f"{protocol.split.capitalize()} images {describe_resolution(protocol)}"


def verdict(run: Run, evaluation: Evaluation) -> str:
    """Return whether a run's network beats its input on one split; only a significant gain counts."""
    sentences = [f"Scored on {describe_protocol(evaluation.protocol)}."]
    if evaluation.protocol.split != "test" and run.trained:
        sentences.append("The checkpoint was selected on these images, so the score is optimistically biased.")
    return " ".join([*sentences, confidence.describe_gain(evaluation.summary.gain_psnr)])


def verdicts(run: Run) -> list[str]:
    """Return the run's verdicts on the test split, or on validation if it was never scored on the test split."""
    tested = [evaluation for evaluation in run.evaluations if evaluation.protocol.split == "test"]
    sentences = [verdict(run, evaluation) for evaluation in tested or run.evaluations]
    return sentences if tested else ["Not evaluated on the test split.", *sentences]


def describe_pair(pair: Pair) -> str:
    """Return which of two runs is better, by how much, and whether that is significant."""
    return confidence.describe_gain(pair.gain, subject=f"Run {pair.run.name}", rival=f"run {pair.other.name}")


def protocol_differences(one: ProtocolKey, other: ProtocolKey | Mapping[str, Any]) -> list[str]:
    """Return the fields of two protocols that differ, with both values; fields that one lacks are not compared."""
    values = dataclasses.asdict(one)
    other_values = dict(other) if isinstance(other, Mapping) else dataclasses.asdict(other)
    return [
        f"{field.replace('_', ' ')} {value} / {other_values[field]}"
        for field, value in values.items()
        if field in other_values and value != other_values[field]
    ]


def comparability(groups: Sequence[Group]) -> str:
    """Return which numbers of a report may be compared."""
    if len(groups) == 1:
        return "All numbers measured here were obtained with one protocol and can be compared."
    return (
        f"The numbers measured here were obtained with {len(groups)} protocols. Each has its own tables; numbers of "
        "different protocols cannot be compared."
    )


def describe_test_history(run: Run) -> str:
    """Return how often the test split was evaluated, and with which weights."""
    if not run.test_history:
        return "The test split was not evaluated."
    resolutions: dict[str, list[str]] = {}
    for entry in run.test_history:
        origin = "weights from a file" if entry.checkpoint_step is None else f"step {entry.checkpoint_step}"
        resolutions.setdefault(f"{origin} (weights {entry.weights_sha256[:12]})", []).append(entry.resolution)
    details = "; ".join(f"{weights} at resolution {', '.join(names)}" for weights, names in resolutions.items())
    count = len(run.test_history)
    return f"The test split was evaluated {'once' if count == 1 else f'{count} times'}: {details}."


def test_split_warning(run: Run) -> str:
    """Return a warning if more than one checkpoint was evaluated on the test split, else ""."""
    count = len({entry.weights_sha256 for entry in run.test_history})
    if count < 2:
        return ""
    return (
        f"Warning: {count} checkpoints of run {run.name} were evaluated on the test split. If one of them is selected "
        "by these scores, its test score is optimistically biased."
    )


def loss_warning(runs: Sequence[Run]) -> str:
    """Return a warning if the training losses on common axes are of different kinds, else ""."""
    losses = {
        run.name: ", ".join(dict.fromkeys(stage.loss for stage in run.training.stages)) for run in runs if run.training
    }
    if len(set(losses.values())) < 2:
        return ""
    details = "; ".join(f"{name}: {loss}" for name, loss in losses.items())
    return f"The runs were trained with different losses, whose values cannot be compared ({details})."
