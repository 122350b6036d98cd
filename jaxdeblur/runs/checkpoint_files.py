"""Checkpoints as files: quarantine of corrupt ones, the validation score, disk space and failed writes."""

import errno
import itertools
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import jax

from jaxdeblur.console import say
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import read_json, write_json
from jaxdeblur.runs.checksums import add_checksum, find_corruption

# A checkpoint's validation PSNR, where orbax keeps metrics.
SCORE_FILE = "metrics/metrics"


def quarantine_corrupt(folder: Path) -> None:
    """Move corrupt checkpoints newer than the newest intact one from `checkpoints/` to `damaged_checkpoints/`.

    Call it in one process, before orbax opens the folder.

    Args:
        folder: the run's folder of checkpoints.

    Raises:
        InputError: all checkpoints are corrupt; nothing is moved (code "all-checkpoints-corrupt").
    """
    corrupt: dict[Path, str] = {}
    for path in sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: -int(path.name)):
        corruption = find_corruption(path, optional=SCORE_FILE)
        if not corruption:
            break
        corrupt[path] = f"{path}: {corruption}"
    else:
        if corrupt:
            message = list_problems(
                "All checkpoints of this run are corrupt:",
                [*corrupt.values()],
                "Restore one from a backup, or start over in another --workdir.",
            )
            raise InputError(message, code="all-checkpoints-corrupt")
    quarantine = folder.with_name("damaged_checkpoints")
    for path, description in corrupt.items():
        names = (f"{path.name}.{i}" if i else path.name for i in itertools.count())
        target = next(quarantine / name for name in names if not (quarantine / name).exists())
        quarantine.mkdir(exist_ok=True)
        path.rename(target)
        say(f"warning: {description}. This checkpoint is corrupt and was moved to {target}; using an older one.")


def check_disk_space(folder: Path, *trees: Any) -> None:
    """Check that a checkpoint of these trees of arrays fits on the disk.

    Raises:
        InputError: states the required and the free space (code "disk-full").
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(trees))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: a checkpoint takes {needed / 1e6:.0f} MB, but the disk has only {free / 1e6:.0f} MB free. "
            "Earlier checkpoints are intact. Free some space, then rerun the same command to resume.",
            code="disk-full",
        )


def read_score(folder: Path) -> float | None:
    """Return a checkpoint's validation PSNR in dB; None if it has none or another process has just removed it.

    Raises:
        InputError: the score file is corrupt (code "checkpoint-corrupt").
    """
    path = folder / SCORE_FILE
    try:
        return float(read_json(path)["validation/psnr"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        if not path.exists():
            return None
        raise InputError(
            f"{folder}: this checkpoint is corrupt: {SCORE_FILE} has no validation PSNR. Restore the file from a "
            "backup, or move this checkpoint elsewhere to continue without it.",
            code="checkpoint-corrupt",
        ) from error


def write_score(folder: Path, psnr: float) -> None:
    """Add the validation PSNR, in dB, to a complete checkpoint, which stays intact whenever the process is killed.

    Raises:
        InputError: the write failed; see `explain_failed_write`.
    """
    try:
        (folder / SCORE_FILE).parent.mkdir(exist_ok=True)
        write_json(folder / SCORE_FILE, {"validation/psnr": psnr})
        add_checksum(folder, SCORE_FILE)
    except OSError as error:
        raise explain_failed_write(folder, error) from error


def inspect_checkpoint(folder: Path, *, may_vanish: bool) -> tuple[str, bool]:
    """Return a description of a checkpoint's corruption ("" if intact) and whether the checkpoint has been removed.

    With `may_vanish`, a training process may be removing the checkpoint, which looks like corruption until the folder
    is gone: wait up to a second for that.
    """
    corruption = find_corruption(folder, optional=SCORE_FILE)
    for _ in range(20 if corruption and may_vanish else 0):
        if not folder.is_dir():
            break
        time.sleep(0.05)
    return corruption, not folder.is_dir()


def explain_failed_write(folder: Path, error: Exception) -> Exception:
    """Return an InputError if the operating system refused a write, otherwise the error itself.

    Codes: "disk-full", "quota-exceeded", "checkpoint-write".
    """
    number = _os_error_number(error)
    if number is None:
        return error
    logging.debug("Saving a checkpoint failed.", exc_info=error)
    if number == errno.ENOSPC:
        cause, remedy, code = "the disk is full", "Free some space", "disk-full"
    elif number == errno.EDQUOT:
        cause, remedy, code = "your disk quota is exceeded", "Remove some files", "quota-exceeded"
    else:
        cause, remedy, code = f"cannot be written ({os.strerror(number)})", "Fix this", "checkpoint-write"
    return InputError(
        f"{folder}: {cause}; the checkpoint was not saved. Earlier checkpoints are intact. {remedy}, then rerun the "
        "same command to resume.",
        code=code,
    )


def _os_error_number(error: BaseException | None) -> int | None:
    """Return the errno of the OSError that caused an error.

    tensorstore raises ValueError instead of OSError and states the errno only in its message.
    """
    visited: list[BaseException] = []  # orbax chains exceptions in a cycle
    while error is not None and error not in visited:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if stated := re.search(r"os_error_code='(\d+)'|\[OS error (\d+)", str(error)):
            return int(stated[1] or stated[2])
        visited.append(error)
        error = error.__cause__ or error.__context__
    return None
