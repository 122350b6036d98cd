"""The files of checkpoints: damaged ones are set aside, scores are added, and failed writes are explained."""

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
from jaxdeblur.runs.checksums import add_to_manifest, find_damage

# The file of a checkpoint that holds its validation PSNR: the place and form that orbax uses for metrics.
SCORE_FILE = "metrics/metrics"


def set_damaged_aside(folder: Path) -> None:
    """Move checkpoints that are newer than the newest good one out of a run's folder of checkpoints, and say so.

    Call it in one process, before the folder is opened.

    Raises:
        InputError: there are checkpoints, and all are damaged; they stay where they are.
    """
    damaged: dict[Path, str] = {}
    for path in sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: -int(path.name)):
        damage = find_damage(path, optional=SCORE_FILE)
        if not damage:
            break
        damaged[path] = f"{path}: {damage}"
    else:
        if damaged:
            remedy = "Restore one from a copy, or start again in another --workdir."
            raise InputError(list_problems("All checkpoints of this run are damaged:", [*damaged.values()], remedy))
    aside = folder.with_name("damaged_checkpoints")
    for path, words in damaged.items():
        target = next(
            to for i in itertools.count() if not (to := aside / f"{path.name}{f'.{i}' if i else ''}").exists()
        )
        aside.mkdir(exist_ok=True)
        path.rename(target)
        say(f"{words}. This checkpoint is damaged; it was moved to {target}, and an older one is used.")


def check_disk_space(folder: Path, *trees: Any) -> None:
    """Refuse to start a checkpoint of these trees of arrays that would not fit.

    Raises:
        InputError: says how much is needed and how much is free.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(trees))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: a checkpoint takes {needed / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are free on this disk. "
            "Earlier checkpoints are untouched. Free some space and start the same command again to go on.",
            code="disk-full",
        )


def read_score(folder: Path) -> float | None:
    """Return a checkpoint's validation PSNR in dB; None if it has none, or if another process has just removed it.

    Raises:
        InputError: the file that holds it is damaged.
    """
    path = folder / SCORE_FILE
    try:
        return float(read_json(path)["validation/psnr"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        if not path.exists():
            return None
        words = f"{SCORE_FILE} holds no validation PSNR. Restore it from a copy, or move this folder elsewhere to do"
        message = f"{folder}: this checkpoint is damaged: {words} without it."
        raise InputError(message, code="checkpoint-damaged") from error


def write_score(folder: Path, psnr: float) -> None:
    """Add its validation PSNR, in dB, to a complete checkpoint; killed at any moment, the checkpoint is still good.

    Raises:
        InputError: it cannot be written.
    """
    try:
        (folder / SCORE_FILE).parent.mkdir(exist_ok=True)
        write_json(folder / SCORE_FILE, {"validation/psnr": psnr})
        add_to_manifest(folder, SCORE_FILE)
    except OSError as error:
        raise explain_failed_write(folder, error) from error


def inspect(folder: Path, *, may_vanish: bool) -> tuple[str, bool]:
    """Return what is damaged in a checkpoint, and whether it is gone: one that is being removed looks damaged."""
    damage = find_damage(folder, optional=SCORE_FILE)
    for _ in range(20 if damage and may_vanish else 0):
        if not folder.is_dir():
            break
        time.sleep(0.05)
    return damage, not folder.is_dir()


def explain_failed_write(folder: Path, error: Exception) -> Exception:
    """Return an InputError where the operating system says why a write failed, else the error itself."""
    number = _os_error_number(error)
    if number is None:
        return error
    logging.debug("Saving failed.", exc_info=error)
    untouched = "the checkpoint was not saved. Earlier checkpoints are untouched."
    again = "and start the same command again to go on."
    if number == errno.ENOSPC:
        return InputError(f"{folder}: the disk is full, {untouched} Free some space {again}", code="disk-full")
    if number == errno.EDQUOT:
        words = f"{folder}: your disk quota is used up, {untouched} Remove some files {again}"
        return InputError(words, code="quota-exceeded")
    words = f"{folder}: cannot be written ({os.strerror(number)}), {untouched} Set this right {again}"
    return InputError(words, code="checkpoint-write")


def _os_error_number(error: BaseException | None) -> int | None:
    """Return the errno behind an error: of an OSError that caused it, or stated by tensorstore, which raises none."""
    seen: list[BaseException] = []  # orbax chains errors in a circle
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        if stated := re.search(r"os_error_code='(\d+)'|\[OS error (\d+)", str(error)):
            return int(stated[1] or stated[2])
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None
