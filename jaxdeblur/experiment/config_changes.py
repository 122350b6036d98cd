"""Which fields of a config may change between two starts of a run, and what a change means."""

import re
from pathlib import Path
from typing import Any

from jaxdeblur.config.fields import flatten
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.training.optimizer import create_schedule

# They do not change what is learned. The data's folder may move; the training pairs in it may not (`data_sha256` in
# run.json).
_HARMLESS = (
    "compilation_cache",
    "profile_steps",
    "data.skip_bad",
    "data.num_threads",
    "data.keep_gib",
    "evaluation.",
    "checkpoint.",
    "log.",
)
_ROUNDING = ("compute.remat", "compute.cpu_fast_conv")  # they change rounding alone
ROOTS = re.compile(r"data\.(mixture\[\d+\]\.)?root")
_STAGE = re.compile(r"stages\[(\d+)\]\.(.*)")


def check_changes(
    folder: Path, before: dict[str, Any], now: dict[str, Any], *, others: list[str], has_batch_norm: bool
) -> list[str]:
    """Refuse a config that means another run.

    Besides fields that do not change what is learned, a run may change what changes rounding alone, and may become
    longer: more epochs in its last stage, or further stages.

    Args:
        folder: the run's.
        before: the config of the last start, as plain dicts and lists.
        now: this start's.
        others: what else differs, in words.
        has_batch_norm: the network has BatchNorm, so that `accumulate` changes what it computes.

    Returns:
        The changes that are worth a word.

    Raises:
        InputError: lists what differs, with the code "run-differs".
    """
    problems, said = [], []
    for key, (old, new) in _differences(before, now).items():
        words = f"{key}: {old!r} before, {new!r} now"
        if key.startswith(_HARMLESS) or ROOTS.fullmatch(key):
            continue
        if key in _ROUNDING or (key.endswith(".accumulate") and not has_batch_norm):
            said.append(f"{words} (changes rounding only)")
        elif is_extension(before, key, old, new):
            said.append(words)
        else:
            problems.append(words)
    if problems or others:
        remedy = "Choose another --workdir for a new run, or go back to the old values to go on with this one."
        heading = f"--workdir: {folder} holds another run:"
        raise InputError(list_problems(heading, sorted(problems + others), remedy), code="run-differs")
    return said


def check_scoring(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to score a run by a config that describes another network or other data.

    Raises:
        InputError: lists what differs, with the code "run-differs".
    """
    problems = [
        f"{key}: {old!r} in the run, {new!r} given"
        for key, (old, new) in _differences(before, now).items()
        if not key.startswith(_HARMLESS) and key not in _ROUNDING and not ROOTS.fullmatch(key)
    ]
    if problems:
        remedy = (
            "Leave these out: a run is scored as it was trained. Only the data's folder, evaluation.* and the like "
        )
        remedy += "may be chosen."
        raise InputError(list_problems(f"--workdir: {folder} holds another run:", problems, remedy), code="run-differs")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    old, new = flatten(before), flatten(now)
    found = {key: (old.get(key, "absent"), new.get(key, "absent")) for key in sorted({*old, *new})}
    return {key: values for key, values in found.items() if values[0] != values[1]}


def is_extension(before: dict[str, Any], key: str, old: Any, new: Any) -> bool:
    """Return whether a changed field makes a run longer and leaves what it has learned as it is."""
    place = _STAGE.fullmatch(key)
    last = len(before["stages"]) - 1
    if not place or int(place[1]) < last:
        return False
    return int(place[1]) > last or (place[2] == "epochs" and new > old)


def describe_extension(before: dict[str, Any], now: dict[str, Any], *, steps_per_epoch: int, step: int) -> str:
    """Return what it means that a run became longer; "" if it did not.

    Args:
        before: the config of the last start, as plain dicts and lists.
        now: this start's.
        steps_per_epoch: of the run.
        step: the number of steps that were taken.
    """
    lengths = [sum(stage["epochs"] for stage in tree["stages"]) for tree in (before, now)]
    if lengths[0] == lengths[1]:
        return ""
    words = f"The run is extended from {lengths[0]} to {lengths[1]} epochs."
    last = len(before["stages"]) - 1
    stages = [tree["stages"][last] for tree in (before, now)]
    first_step = sum(stage["epochs"] for stage in before["stages"][:last]) * steps_per_epoch
    if stages[0]["epochs"] == stages[1]["epochs"] or step <= first_step:
        return words
    rates = [
        float(create_schedule(stage["schedule"], stage["epochs"] * steps_per_epoch, steps_per_epoch)(step - first_step))
        for stage in stages
    ]
    name = stages[1]["schedule"]["name"]
    if rates[0] == rates[1]:
        return f"{words} The learning rate of stages[{last}] ({name}) goes on at {rates[1]:g}."
    return (
        f"{words} The learning-rate schedule of stages[{last}] ({name}) is re-planned for its new length: after step "
        f"{step} the rate is {rates[1]:g}, by the old plan {rates[0]:g}. The result is not that of a run that was "
        "planned at this length from the start."
    )
