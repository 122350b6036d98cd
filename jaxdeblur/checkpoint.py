"""Checkpoints with orbax: what is saved, which are kept, and how a run finds its place again.

A checkpoint has three items: `weights` (params and batch_stats as they are scored: where an average of the params is
kept, that), `optimizer` (its state, the step and, where `weights` has the average, the params that training goes on
with) and `progress` (JSON). The step is also the data position, so there is no iterator state that could disagree.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from jaxdeblur.errors import InputError
from jaxdeblur.train_state import TrainState


class Checkpoints:
    """The folder of a run's checkpoints: the newest few and the best by validation PSNR are kept."""

    def __init__(self, folder: Path, *, keep_latest: int, read_only: bool = False):
        self.folder = folder
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
        )
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=options, item_names=("weights", "optimizer", "progress")
        )

    @property
    def latest_step(self) -> int | None:
        """The newest checkpoint's step; None when there is none."""
        return self._manager.latest_step()

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
        try:
            self._manager.save(step, args=items, metrics=metrics)
        except Exception as error:
            raise _disk_error(self.folder, error) from error

    def progress(self, step: int) -> dict[str, Any]:
        """Return the `progress` that was saved at a step."""
        return self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())).progress

    def restore(self, step: int, state: TrainState) -> TrainState:
        """Return `state` (arrays or stand-ins, with shardings) filled with what was saved at a step."""
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        items = ocp.args.Composite(
            weights=ocp.args.StandardRestore(like.variables),
            optimizer=ocp.args.StandardRestore(like.training),
        )
        restored = self._manager.restore(step, args=items)
        return state.with_parts(restored.weights, restored.optimizer)

    def restore_weights(self, step: int, variables: Any) -> Any:
        """Return the `params` and `batch_stats` saved at a step, placed like `variables`."""
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
