"""Checkpoints with orbax: what is saved, which are kept, and how a run finds its place again.

A checkpoint has three items: `weights` (params and batch_stats as they are scored: where an average of the params is
kept, that), `optimizer` (its state, the step and, where `weights` has the average, the params that training goes on
with) and `progress` (JSON). The step is also the data position, so there is no iterator state that could disagree.
Each checkpoint is written together with a manifest, by which damage is found before anything is restored.
"""

import itertools
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jaxdeblur import processes
from jaxdeblur.console import say
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.file_names import require_utf8
from jaxdeblur.manifest import find_damage, write_manifest
from jaxdeblur.train_state import TrainState


class Checkpoints:
    """The folder of a run's checkpoints: the newest few and the best by validation PSNR are kept."""

    def __init__(self, folder: Path, *, keep_latest: int, read_only: bool = False):
        require_utf8(folder, "The folder of checkpoints")
        self.folder = folder
        self._saving: int | None = None  # the step being written
        policy = AnyPreservationPolicy(
            [
                LatestN(keep_latest),
                # orbax's `best_fn` with `max_to_keep` would delete the newest checkpoints, hence a policy.
                BestN(get_metric_fn=_validation_psnr, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            # What a crash or a full disk left unfinished goes; not in a folder that another process may be writing to.
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            best_fn=_validation_psnr,
            best_mode="max",
            preservation_policy=policy,
            # Called in the primary when all is written, and before the checkpoint gets its name.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
        )
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=options, item_names=("weights", "optimizer", "progress")
        )

    @property
    def latest_step(self) -> int | None:
        """The newest checkpoint's step; None when there is none."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """The steps of all checkpoints, in order."""
        return sorted(self._manager.all_steps())

    @property
    def best_step(self) -> int | None:
        """The step with the highest validation PSNR; None before the first validation."""
        scores = {step: self.validation_psnr(step) for step in self._manager.all_steps()}
        steps = [step for step, score in scores.items() if score is not None]
        return max(steps, key=lambda step: (scores[step], step), default=None)

    def validation_psnr(self, step: int) -> float | None:
        """Return the validation PSNR that was saved with a checkpoint, in dB; None if it was not validated."""
        metrics = self._manager.metrics(step)
        return _validation_psnr(metrics) if metrics else None

    def delete(self, step: int) -> None:
        """Remove a checkpoint."""
        self._manager.delete(step)

    def save(self, state: TrainState, progress: dict[str, Any], validation_psnr: float | None) -> None:
        """Save the state under its step, in the background; a step that is saved already is left as it is.

        Raises:
            InputError: the disk is full.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        check_disk_space(self.folder, state)
        items = ocp.args.Composite(
            weights=ocp.args.StandardSave(state.variables),
            optimizer=ocp.args.StandardSave(state.training),
            progress=ocp.args.JsonSave(progress),
        )
        metrics = None if validation_psnr is None else {"validation/psnr": validation_psnr}
        self.wait()  # for the one before: `_saving` is its step until it is written
        self._saving = step
        try:
            self._manager.save(step, args=items, metrics=metrics)
        except Exception as error:
            raise _disk_error(self.folder, error) from error

    def _write_manifest(self) -> None:
        found = [path for path in self.folder.iterdir() if path.name.split(".")[0] == str(self._saving)]
        if len(found) != 1:
            raise RuntimeError(f"{self.folder}: expected one folder of step {self._saving}, found {found}")
        write_manifest(found[0])

    def check(self, step: int) -> None:
        """Compare a checkpoint's files with what was written.

        Raises:
            InputError: names the first damaged file.
        """
        damage = processes.on_primary(lambda: find_damage(self.folder / str(step)))
        if damage:
            raise InputError(
                f"{self.folder / str(step)}: this checkpoint is damaged: {damage}. Restore it from a copy, or move "
                "this folder elsewhere to do without it."
            )

    def progress(self, step: int) -> dict[str, Any]:
        """Return the `progress` that was saved at a step."""
        return self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())).progress

    def restore(self, step: int, state: TrainState) -> TrainState:
        """Return `state` (arrays or stand-ins, with shardings) filled with what was saved at a step.

        The newest checkpoint was checked by `set_damaged_aside` when its run was opened.
        """
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        items = ocp.args.Composite(
            weights=ocp.args.StandardRestore(like.variables),
            optimizer=ocp.args.StandardRestore(like.training),
        )
        restored = self._manager.restore(step, args=items)
        return state.with_parts(restored.weights, restored.optimizer)

    def restore_weights(self, step: int, variables: Any) -> Any:
        """Return the `params` and `batch_stats` saved at a step, placed like `variables`.

        Raises:
            InputError: the checkpoint is damaged.
        """
        self.check(step)
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, variables)
        return self._manager.restore(step, args=ocp.args.Composite(weights=ocp.args.StandardRestore(like))).weights

    def wait(self) -> None:
        """Block until the last save is on the disk.

        Raises:
            InputError: the disk is full.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise _disk_error(self.folder, error) from error

    def close(self) -> None:
        """Wait for the last save and release the folder."""
        self.wait()
        self._manager.close()


def set_damaged_aside(folder: Path) -> None:
    """Move checkpoints that are newer than the newest good one out of a run's folder of checkpoints, and say so.

    Call it in one process, before the folder is opened.

    Raises:
        InputError: there are checkpoints, and all are damaged; they stay where they are.
    """
    damaged: dict[Path, str] = {}
    for path in sorted((path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: -int(path.name)):
        damage = find_damage(path)
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


def check_disk_space(folder: Path, state: TrainState) -> None:
    """Refuse to start a checkpoint that would not fit.

    Raises:
        InputError: says how much is needed and how much is free.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves((state.variables, state.training)))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: a checkpoint takes {needed / 1e6:.0f} MB, but only {free / 1e6:.0f} MB are free on this disk. "
            "Earlier checkpoints are untouched. Free some space and start the same command again to go on."
        )


def _validation_psnr(metrics: dict[str, float]) -> float:
    return metrics["validation/psnr"]


def _disk_error(folder: Path, error: Exception) -> Exception:
    """Return an InputError if the disk is full, else the error itself; tensorstore words it in its own way."""
    if "No space left" not in str(error) and "Error writing" not in str(error):
        return error
    logging.debug("Saving failed.", exc_info=error)
    return InputError(
        f"{folder}: the disk is full, the checkpoint was not saved. Earlier checkpoints are untouched. Free some space "
        "and start the same command again to go on."
    )
