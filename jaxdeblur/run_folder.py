"""The run folder: what tells one run from another, and the facts that a report prints.

`config.json` is the config; `run.json` the facts of the first start: data, sizes, versions, devices.
"""

import json
import platform
import sys
from pathlib import Path
from typing import Any

import flax
import jax
import optax
from ml_collections import ConfigDict

from jaxdeblur.config import flatten, to_plain
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import code_version, write_json

# Fields that may change between two starts of a run: they do not change what is learned. The data's folder may move;
# what is in it may not change (`data_sha256` in run.json).
HARMLESS = ("data.root", "data.num_threads", "evaluation.", "checkpoint.", "log.")


def open_run_folder(folder: Path, config: ConfigDict, facts: dict[str, Any]) -> None:
    """Make the folder of a new run, or refuse to go on with one that means something else.

    Args:
        folder: new, empty, or holding a run.
        config: the whole config.
        facts: what else is known of this run; `data_sha256` must stay the same.

    Raises:
        InputError: lists the fields that differ, or says that the folder holds something else or cannot be written.
    """
    tree = to_plain(config)
    if (folder / "config.json").exists():
        _check_same_run(folder, tree, facts)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--workdir: {folder} holds files, but no run (no config.json). Choose a new or empty folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "run.json").exists():
            write_json(folder / "run.json", {**facts, **_environment()})
        write_json(folder / "config.json", tree)
    except OSError as error:
        raise InputError(f"--workdir: cannot write to {folder} ({error.strerror}). Choose another folder.") from error


def _check_same_run(folder: Path, tree: dict, facts: dict[str, Any]) -> None:
    before, now = flatten(json.loads((folder / "config.json").read_text())), flatten(tree)
    if (folder / "run.json").exists():
        before["data_sha256"] = json.loads((folder / "run.json").read_text())["data_sha256"]
        now["data_sha256"] = facts["data_sha256"]
    problems = [
        f"{key}: {before.get(key, 'absent')!r} before, {now.get(key, 'absent')!r} now"
        for key in sorted({*before, *now})
        if not key.startswith(HARMLESS) and before.get(key, "absent") != now.get(key, "absent")
    ]
    if problems:
        remedy = "Choose another --workdir for a new run, or go back to the old values to go on with this one."
        raise InputError(list_problems(f"--workdir: {folder} holds another run:", problems, remedy))


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
