"""The run folder: what tells one run from another, and the facts that a report prints.

`config.json` is the config; `run.json` the facts of the first start (data, sizes, versions, devices) and, as `starts`,
what each start ran on. `.lock` says which process owns the run (see `run_lock.py`).
"""

import datetime
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdeblur.config.fields import to_plain
from jaxdeblur.console import say
from jaxdeblur.errors import InputError
from jaxdeblur.experiment.config_changes import check_changes, describe_extension
from jaxdeblur.files import read_json, write_json
from jaxdeblur.runs.environment import describe_environment, environment_changes
from jaxdeblur.runs.folder import SCORED, _newest_step, is_under_way
from jaxdeblur.runs.lock import NAME as LOCK_NAME
from jaxdeblur.runs.lock import RunLock


def claim_run_folder(folder: Path, config: ConfigDict, facts: dict[str, Any], *, has_checkpoint: bool) -> RunLock:
    """Make or open a run's folder, as `open_run_folder` does, and return its lock.

    Raises:
        InputError: another process owns the run, or one of `open_run_folder`'s.
    """
    _check_folder(folder, has_checkpoint=has_checkpoint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    lock = RunLock(folder)
    try:
        if is_under_way(folder) != has_checkpoint:
            words = f"--workdir: another process has just trained in {folder}. Start the same command again."
            raise InputError(words, code="run-changed")
        open_run_folder(folder, config, facts, has_checkpoint=has_checkpoint)
    except BaseException:
        lock.release()
        raise
    return lock


def open_run_folder(folder: Path, config: ConfigDict, facts: dict[str, Any], *, has_checkpoint: bool) -> None:
    """Write the config and the facts of a start, or refuse to go on with a run that means something else.

    A run without a checkpoint has nothing to lose: its config may still change.

    Args:
        folder: new, empty, or holding a run.
        config: the whole config.
        facts: what else is known of this run; `data_sha256` of the training pairs must stay the same.
        has_checkpoint: the run has got somewhere.

    Raises:
        InputError: lists the fields that differ, or says that the folder holds something else or cannot be written.
    """
    tree, kept, environment = to_plain(config), {}, describe_environment()
    _check_folder(folder, has_checkpoint=has_checkpoint)
    start = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "step": 0, **environment}
    starts = [start]
    if has_checkpoint:
        kept = read_json(folder / "run.json")
        start |= {"step": _newest_step(folder), "changes": _check_same_run(folder, tree, facts, kept, environment)}
        starts = [*kept.get("starts", []), start]
    versions = {name: environment["versions"][name] for name in ("python", "jax", "flax", "optax")}
    first = {**{key: environment[key] for key in ("code_version", "command", "devices")}, **versions}
    changing = {key: facts[key] for key in ("data_sha256", "pairs", "pairs_skipped")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # First what makes the folder a run: killed in between, the next start makes the rest.
        write_json(folder / "config.json", tree)
        write_json(folder / "run.json", {**facts, **first, **kept, **changing, "starts": starts})
    except OSError as error:
        raise _not_writable(folder, error) from error


def _check_folder(folder: Path, *, has_checkpoint: bool) -> None:
    if not has_checkpoint and folder.exists() and not _is_free(folder):
        raise InputError(
            f"--workdir: {folder} holds files, but no run (no config.json). Choose a new or empty folder.",
            code="workdir-not-a-run",
        )


def _is_free(folder: Path) -> bool:
    """Return whether a folder is empty, or holds a run that never came to its first checkpoint."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp" and path.name != LOCK_NAME}
    return not names or "config.json" in names


def _not_writable(folder: Path, error: OSError) -> InputError:
    words = f"--workdir: cannot write to {folder} ({error.strerror}). Choose another folder."
    return InputError(words, code="workdir-not-writable")


def _check_same_run(
    folder: Path, tree: dict[str, Any], facts: dict[str, Any], kept: dict[str, Any], environment: dict[str, Any]
) -> list[str]:
    """Return what changed since the last start, in words, and say it.

    Raises:
        InputError: the config or the training pairs mean another run.
    """
    before = read_json(folder / "config.json")
    others = []
    first = [next(iter(fields.get("evaluation", {}).get("protocols", [])), "absent") for fields in (before, tree)]
    if first[0] != first[1]:  # the protocol of validation, by which the best checkpoint is chosen
        others.append(f"first of evaluation.protocols: {first[0]!r} before, {first[1]!r} now")
    # Validation and test images may change, say when a damaged one was taken out: they are scored anew.
    digests = [
        {part: sha256 for part, sha256 in known["data_sha256"].items() if part not in SCORED} for known in (kept, facts)
    ]
    for part in sorted({*digests[0], *digests[1]}):
        old, new = (known.get(part, "absent") for known in digests)
        if old != new:
            others.append(f"{_training_pairs(part)}: {old!r} before, {new!r} now")
    changes = check_changes(folder, before, tree, others=others, has_batch_norm=facts.get("batch_norm", True))
    if changes:
        say("\n".join(["Changed since the last start:", *(f"  - {change}" for change in changes)]))
    if any(change.startswith("stages[") for change in changes):
        counts = {"steps_per_epoch": facts["steps_per_epoch"], "step": _newest_step(folder)}
        if words := describe_extension(before, tree, **counts):
            say(words)
    last = (kept.get("starts") or [_first_start(kept)])[-1]
    if found := environment_changes(last, environment):
        say(
            f"warning: since the last start of this run these changed: {'; '.join(found)}. It goes on, but its results "
            "may differ from those of a run that was never stopped."
        )
    return changes + found


def _first_start(kept: dict[str, Any]) -> dict[str, Any]:
    """Return what a run.json without `starts`, as earlier versions wrote it, says of the first start."""
    versions = {name: kept[name] for name in ("python", "jax", "flax", "optax") if name in kept}
    return {**{key: kept[key] for key in ("code_version", "devices") if key in kept}, "versions": versions}


def _training_pairs(part: str) -> str:
    return "training pairs" if part == "train" else f"training pairs of {part}"
