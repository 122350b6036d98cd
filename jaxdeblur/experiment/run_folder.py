"""Claims a run's folder: creates it, or checks that it holds the run that the config describes.

`config.json` is the config; `run.json` has the facts of the first start (data, sizes, versions, devices) and, as
`starts`, the environment of each start. `.lock` says which process owns the run (see `runs/lock.py`).
"""

import datetime
from pathlib import Path
from typing import Any

from jaxdeblur.config.saved_run import read_config
from jaxdeblur.config.tree import Tree
from jaxdeblur.console import say
from jaxdeblur.errors import InputError
from jaxdeblur.experiment.config_changes import check_changes, describe_extension
from jaxdeblur.files import read_json, write_json
from jaxdeblur.runs.environment import Environment, describe_environment, environment_changes
from jaxdeblur.runs.folder import SCORED_SPLITS, is_available, is_under_way, newest_step
from jaxdeblur.runs.lock import RunLock


def claim_run_folder(folder: Path, tree: Tree, facts: dict[str, Any], *, has_checkpoint: bool) -> RunLock:
    """Create or open a run's folder as `open_run_folder` does, and return its lock.

    Raises:
        InputError: another process owns the run, or one of `open_run_folder`'s.
    """
    _require_available(folder, has_checkpoint=has_checkpoint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    lock = RunLock(folder)
    try:
        if is_under_way(folder) != has_checkpoint:
            message = f"--workdir: another process has just trained in {folder}. Start the same command again."
            raise InputError(message, code="run-changed")
        open_run_folder(folder, tree, facts, has_checkpoint=has_checkpoint)
    except BaseException:
        lock.release()
        raise
    return lock


def open_run_folder(folder: Path, tree: Tree, facts: dict[str, Any], *, has_checkpoint: bool) -> None:
    """Write the config and the facts of a start, or refuse to resume a run that differs.

    A run without a checkpoint has nothing to lose: its config may still change.

    Args:
        folder: new, empty, or holding a run.
        tree: the whole config, complete.
        facts: of this start; `data_sha256` of the training pairs must stay the same.
        has_checkpoint: the run has at least one checkpoint.

    Raises:
        InputError: lists the fields that differ, or says that the folder holds something else or cannot be written.
    """
    environment = describe_environment()
    _require_available(folder, has_checkpoint=has_checkpoint)
    start = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "step": 0, **environment}
    starts, known = [start], {}
    if has_checkpoint:
        known = read_json(folder / "run.json")
        start |= {"step": newest_step(folder), "changes": _report_changes(folder, tree, facts, known, environment)}
        starts = [*known.get("starts", []), start]
    versions = {name: environment["versions"][name] for name in ("python", "jax", "flax", "optax")}
    first = {**{key: environment[key] for key in ("code_version", "command", "devices")}, **versions}
    current = {key: facts[key] for key in ("data_sha256", "pairs", "pairs_skipped")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # config.json first, which makes the folder a run: after a kill in between, the next start writes the rest.
        write_json(folder / "config.json", tree)
        write_json(folder / "run.json", {**facts, **first, **known, **current, "starts": starts})
    except OSError as error:
        raise _not_writable(folder, error) from error


def _require_available(folder: Path, *, has_checkpoint: bool) -> None:
    if not has_checkpoint and not is_available(folder):
        raise InputError(
            f"--workdir: {folder} holds files, but not a run (no config.json). Choose a new or empty folder.",
            code="workdir-not-a-run",
        )


def _not_writable(folder: Path, error: OSError) -> InputError:
    message = f"--workdir: cannot write to {folder} ({error.strerror}). Choose another folder."
    return InputError(message, code="workdir-not-writable")


def _report_changes(
    folder: Path, tree: Tree, facts: dict[str, Any], known: dict[str, Any], environment: Environment
) -> list[str]:
    """Log and return what changed since the last start.

    Raises:
        InputError: the config or the training pairs are those of another run.
    """
    before = read_config(folder)
    differences = _changed_protocol(before, tree) + _changed_pairs(known["data_sha256"], facts["data_sha256"])
    has_batch_norm = facts.get("batch_norm", True)
    changes = check_changes(folder, before, tree, other_differences=differences, has_batch_norm=has_batch_norm)
    if changes:
        say("\n".join(["Changed since the last start:", *(f"  - {change}" for change in changes)]))
    if any(change.startswith("stages[") for change in changes):
        counts = {"steps_per_epoch": facts["steps_per_epoch"], "step": newest_step(folder)}
        if message := describe_extension(before, tree, **counts):
            say(message)
    last = (known.get("starts") or [_first_start(known)])[-1]
    if updates := environment_changes(last, environment):
        say(
            f"warning: changed since the last start of this run: {'; '.join(updates)}. It is resumed, but its results "
            "may differ from those of an uninterrupted run."
        )
    return changes + updates


def _changed_protocol(before: Tree, now: Tree) -> list[str]:
    """Return whether the first protocol changed: validation by it chooses the best checkpoint."""
    first = [next(iter(tree["evaluation"]["protocols"]), "absent") for tree in (before, now)]
    return [] if first[0] == first[1] else [f"first of evaluation.protocols: {first[0]!r} before, {first[1]!r} now"]


def _changed_pairs(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the sources of training pairs that changed. Scored pairs may change, as when a corrupt one was removed."""
    changes = []
    for part in sorted({*before, *now} - {*SCORED_SPLITS}):
        old, new = before.get(part, "absent"), now.get(part, "absent")
        if old != new:
            name = "training pairs" if part == "train" else f"training pairs of {part}"
            changes.append(f"{name}: {old!r} before, {new!r} now")
    return changes


def _first_start(known: dict[str, Any]) -> dict[str, Any]:
    """Return the first start of a run.json without `starts`, as earlier versions wrote it."""
    versions = {name: known[name] for name in ("python", "jax", "flax", "optax") if name in known}
    return {**{key: known[key] for key in ("code_version", "devices") if key in known}, "versions": versions}
