"""What a report says in sentences: what was measured, how good it is, and what to beware of."""

from collections.abc import Mapping
from typing import Any

from jaxdeblur.evaluation import confidence
from jaxdeblur.report.grouping import Group, Pair
from jaxdeblur.report.loading import PROTOCOL, Evaluation, Run

METHODS = {
    "bootstrap_t": "bootstrap-t over sequences",
    "student_t": "Student's t over sequences",
    None: "none: one sequence gives no interval",
}


def say_resolution(protocol: Mapping[str, Any]) -> str:
    """Say at what size images were scored."""
    resolution = protocol["resolution"]
    return (
        "at full resolution" if resolution == "full" else f"at {resolution}x{resolution} ({protocol['resize_filter']})"
    )


def say_protocol(protocol: Mapping[str, Any]) -> str:
    """Say what a group's numbers were measured on: all of `PROTOCOL`."""
    return (
        f"{protocol['number_of_images']:,} {protocol['split']} images of {protocol['data_set']} "
        f"{say_resolution(protocol)}, blur variant '{protocol['blur_variant']}', split rule '{protocol['split_rule']}'"
    )


def say_title(protocol: Mapping[str, Any]) -> str:
    """Name a group in a heading."""
    return f"{protocol['split'].capitalize()} images {say_resolution(protocol)}"


def say_verdict(run: Run, evaluation: Evaluation) -> str:
    """Say whether a run's network beats its own input on one split. What may be chance is not called a gain."""
    sentence = confidence.describe_gain(evaluation.summary["gain_psnr"])
    where = f"On the {say_protocol(evaluation.protocol)}. "
    if evaluation.protocol["split"] != "test":
        where += "These images chose the checkpoint, which flatters it. " if run.trained else ""
    return where + sentence


def verdicts(run: Run) -> list[str]:
    """Return the run's verdicts on the test split, or on validation where it was never scored on test."""
    tested = [evaluation for evaluation in run.evaluations if evaluation.protocol["split"] == "test"]
    sentences = [say_verdict(run, evaluation) for evaluation in tested or run.evaluations]
    return sentences if tested else ["It was not scored on the test split.", *sentences]


def say_pair(pair: Pair) -> str:
    """Say which of two runs is better, by how much, and whether that is more than chance."""
    return confidence.describe_gain(pair.gain, subject=f"Run {pair.run.name}", rival=f"run {pair.other.name}")


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the fields of two protocols that differ, with both values; what one does not state is no difference."""
    return [
        f"{field.replace('_', ' ')} {one[field]} / {other[field]}"
        for field in PROTOCOL
        if field in one and field in other and one[field] != other[field]
    ]


def say_groups(groups: list[Group]) -> str:
    """Say which numbers may be compared."""
    if len(groups) == 1:
        return "All numbers measured here are of one protocol, so they can be compared."
    return (
        f"The numbers measured here are of {len(groups)} protocols. Each has its own tables: numbers of different "
        "protocols cannot be compared."
    )


def say_test_history(run: Run) -> str:
    """Say how often the test split was scored, and warn if it may have been used to choose between checkpoints."""
    if not run.test_history:
        return "The test split was not scored."
    times = {}
    for scoring in run.test_history:
        words = (
            f"step {scoring['checkpoint_step']}" if scoring["checkpoint_step"] is not None else "weights from a file"
        )
        key = f"{words} (weights {scoring['weights_sha256'][:12]})"
        times.setdefault(key, []).append(scoring["resolution"])
    listed = "; ".join(f"{key} at resolution {', '.join(found)}" for key, found in times.items())
    count = len(run.test_history)
    return f"The test split was scored {'once' if count == 1 else f'{count} times'}: {listed}."


def test_warning(run: Run) -> str:
    """Return a warning if more than one checkpoint was scored on the test split, else ''."""
    scored = {scoring["weights_sha256"] for scoring in run.test_history}
    if len(scored) < 2:
        return ""
    return (
        f"Warning: {len(scored)} checkpoints of run {run.name} were scored on the test split. Where one is chosen by "
        "these scores, its own score is too good to be believed of new images."
    )


def say_losses(runs: list[Run]) -> str:
    """Warn if training losses on common axes are of different kinds, else return ''."""
    kinds = {run.name: ", ".join(dict.fromkeys(stage["loss"] for stage in run.config["stages"])) for run in runs}
    if len(set(kinds.values())) < 2:
        return ""
    listed = "; ".join(f"{name}: {kind}" for name, kind in kinds.items())
    return f"The runs were trained with different losses, whose values cannot be compared ({listed})."
