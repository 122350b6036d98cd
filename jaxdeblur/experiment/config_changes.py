"""Which config fields may change between two starts of a run, and what a change means."""

import re
from pathlib import Path
from typing import Any

from jaxdeblur.config.run_config import parse_stage
from jaxdeblur.config.tree import Tree, flatten
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.training.learning_rate import create_schedule

# They do not change what is learned. The data folder may move; its training pairs may not change (`data_sha256` in
# run.json).
_HARMLESS = (
    "compilation_cache",
    "profile_steps",
    "data.skip_invalid",
    "data.num_threads",
    "data.cache_gib",
    "evaluation.",
    "checkpoint.",
    "log.",
)
_ROUNDING_ONLY = ("compute.remat", "compute.cpu_fast_conv")
DATA_ROOT = re.compile(r"data\.(mixture\[\d+\]\.)?root")
_STAGE_FIELD = re.compile(r"stages\[(\d+)\]\.(.*)")


def check_changes(
    folder: Path, before: Tree, now: Tree, *, other_differences: list[str], has_batch_norm: bool
) -> list[str]:
    """Refuse a config that describes another run.

    Besides harmless fields, a run may change fields that affect rounding only, and may be extended: more epochs in its
    last stage, or further stages.

    Args:
        folder: the run's.
        before: the config of the last start, complete.
        now: the config of this start, complete.
        other_differences: descriptions of differences besides the config.
        has_batch_norm: the network has BatchNorm, so that `accumulate` changes its result.

    Returns:
        Descriptions of the changes to report.

    Raises:
        InputError: lists the differences (code "run-differs").
    """
    problems, reported = [], []
    for key, (old, new) in _differences(before, now).items():
        change = f"{key}: {old!r} before, {new!r} now"
        if key.startswith(_HARMLESS) or DATA_ROOT.fullmatch(key):
            continue
        if key in _ROUNDING_ONLY or (key.endswith(".accumulate") and not has_batch_norm):
            reported.append(f"{change} (changes rounding only)")
        elif is_extension(before, key, old, new):
            reported.append(change)
        else:
            problems.append(change)
    if problems or other_differences:
        remedy = "Choose another --workdir for a new run, or restore the old values to resume this one."
        heading = f"--workdir: {folder} holds another run:"
        raise InputError(list_problems(heading, sorted(problems + other_differences), remedy), code="run-differs")
    return reported


def check_scoring(folder: Path, before: Tree, now: Tree) -> None:
    """Refuse to score a run with a config that describes another network or other data.

    Raises:
        InputError: lists the differences (code "run-differs").
    """
    problems = [
        f"{key}: {old!r} in the run, {new!r} given"
        for key, (old, new) in _differences(before, now).items()
        if not key.startswith(_HARMLESS) and key not in _ROUNDING_ONLY and not DATA_ROOT.fullmatch(key)
    ]
    if problems:
        remedy = "Leave these out: a run is scored as it was trained. Only the data folder, evaluation.* and similar "
        remedy += "fields may be set."
        raise InputError(list_problems(f"--workdir: {folder} holds another run:", problems, remedy), code="run-differs")


def _differences(before: Tree, now: Tree) -> dict[str, tuple[Any, Any]]:
    old, new = flatten(before), flatten(now)
    pairs = {key: (old.get(key, "absent"), new.get(key, "absent")) for key in sorted({*old, *new})}
    return {key: values for key, values in pairs.items() if values[0] != values[1]}


def is_extension(before: Tree, key: str, old: Any, new: Any) -> bool:
    """Return whether a changed field makes a run longer without changing what it has already learned."""
    field = _STAGE_FIELD.fullmatch(key)
    last = len(before["stages"]) - 1
    if not field or int(field[1]) < last:
        return False
    return int(field[1]) > last or (field[2] == "epochs" and new > old)


def describe_extension(before: Tree, now: Tree, *, steps_per_epoch: int, step: int) -> str:
    """Return what extending a run means; "" if it was not extended.

    Args:
        before: the config of the last start, complete.
        now: the config of this start, complete.
        steps_per_epoch: of the run.
        step: the number of steps taken.
    """
    lengths = [sum(stage["epochs"] for stage in tree["stages"]) for tree in (before, now)]
    if lengths[0] == lengths[1]:
        return ""
    message = f"The run is extended from {lengths[0]} to {lengths[1]} epochs."
    last = len(before["stages"]) - 1
    stages = [parse_stage(tree["stages"][last]) for tree in (before, now)]
    first_step = sum(stage["epochs"] for stage in before["stages"][:last]) * steps_per_epoch
    if stages[0].epochs == stages[1].epochs or step <= first_step:
        return message
    rates = [
        float(create_schedule(stage.schedule, stage.epochs * steps_per_epoch, steps_per_epoch)(step - first_step))
        for stage in stages
    ]
    name = stages[1].schedule.name
    if rates[0] == rates[1]:
        return f"{message} The learning rate of stages[{last}] ({name}) stays at {rates[1]:g}."
    return (
        f"{message} The learning-rate schedule of stages[{last}] ({name}) is re-planned for the new length: after step "
        f"{step} the rate is {rates[1]:g} instead of {rates[0]:g}. The result is not that of a run planned at this "
        "length from the start."
    )
