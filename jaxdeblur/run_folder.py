"""The run folder: what tells one run from another, and the facts that a report prints.

`config.json` is the config; `run.json` the facts of the first start: data, sizes, versions, devices.
"""

import platform
import re
import sys
from pathlib import Path
from typing import Any

import flax
import jax
import optax
from ml_collections import ConfigDict

from jaxdeblur.config import flatten, to_plain
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import code_version, read_json, write_json

# Fields that may change between two starts of a run: they do not change what is learned. The data's folder may move;
# the training pairs in it may not (`data_sha256` in run.json).
HARMLESS = (
    "compilation_cache",
    "profile_steps",
    "data.skip_bad",
    "data.num_threads",
    "data.keep_gib",
    "evaluation.",
    "checkpoint.",
    "log.",
)
ROOTS = re.compile(r"data\.(mixture\[\d+\]\.)?root")
SCORED = ("validation", "test")


def open_run_folder(folder: Path, config: ConfigDict, facts: dict[str, Any], *, has_checkpoint: bool) -> None:
    """Make the folder of a new run, or refuse to go on with one that means something else.

    A run without a checkpoint has nothing to lose: its config may still change.

    Args:
        folder: new, empty, or holding a run.
        config: the whole config.
        facts: what else is known of this run; `data_sha256` of the training pairs must stay the same.
        has_checkpoint: the run has got somewhere.

    Raises:
        InputError: lists the fields that differ, or says that the folder holds something else or cannot be written.
    """
    tree, kept = to_plain(config), {}
    if has_checkpoint:
        kept = _check_same_run(folder, tree, facts)
    elif folder.exists() and not _is_free(folder):
        raise InputError(f"--workdir: {folder} holds files, but no run (no config.json). Choose a new or empty folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        changing = {key: facts[key] for key in ("data_sha256", "pairs", "pairs_skipped")}
        write_json(folder / "run.json", {**facts, **_environment(), **kept, **changing})
        write_json(folder / "config.json", tree)
    except OSError as error:
        raise InputError(f"--workdir: cannot write to {folder} ({error.strerror}). Choose another folder.") from error


def _is_free(folder: Path) -> bool:
    """Return whether a folder is empty, or holds a run that never came to its first checkpoint."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    return not names or "config.json" in names


def _check_same_run(folder: Path, tree: dict, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the run's start."""
    before, now = flatten(read_json(folder / "config.json")), flatten(tree)
    kept = read_json(folder / "run.json")
    for fields in (before, now):  # the first protocol is that of validation, by which the best checkpoint is chosen
        fields["first of evaluation.protocols"] = next(iter(fields.get("evaluation.protocols", [])), "absent")
    # Validation and test images may change, say when a damaged one was taken out: they are scored anew.
    for fields, digests in ((before, kept["data_sha256"]), (now, facts["data_sha256"])):
        fields |= {_training_pairs(part): digest for part, digest in digests.items() if part not in SCORED}
    problems = [
        f"{key}: {before.get(key, 'absent')!r} before, {now.get(key, 'absent')!r} now"
        for key in sorted({*before, *now})
        if not key.startswith(HARMLESS)
        and not ROOTS.fullmatch(key)
        and before.get(key, "absent") != now.get(key, "absent")
    ]
    if problems:
        remedy = "Choose another --workdir for a new run, or go back to the old values to go on with this one."
        raise InputError(list_problems(f"--workdir: {folder} holds another run:", problems, remedy))
    return kept


def _training_pairs(part: str) -> str:
    return "training pairs" if part == "train" else f"training pairs of {part}"


def _environment() -> dict[str, Any]:
    devices = jax.devices()
    return {
        "code_version": code_version(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
    }
