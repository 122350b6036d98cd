"""A run's checkpoints, stored with orbax: what is saved, which are kept, and how they are restored.

A checkpoint has three items: `weights` (the params and batch_stats that are evaluated; with EMA, the averaged params),
`optimizer` (optimizer state, step and, with EMA, the raw params that training resumes from) and `progress` (JSON). The
step also determines the data position, so there is no iterator state that could disagree with it. Each checkpoint is
written with the checksums of its files, which are verified before anything is restored. A checkpoint is saved before
it is validated; its validation PSNR is added afterwards.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import jax
import orbax.checkpoint as ocp

from jaxdeblur.errors import InputError
from jaxdeblur.files import require_utf8
from jaxdeblur.runs.checkpoint_files import (
    check_disk_space,
    explain_failed_write,
    inspect_checkpoint,
    read_score,
    write_score,
)
from jaxdeblur.runs.checksums import write_checksums
from jaxdeblur.runs.train_state import TrainState
from jaxdeblur.runtime import processes

_RESTORE_ATTEMPTS = 5  # of the best checkpoint, while a training process replaces it


class SavedProgress(TypedDict):
    """The item `progress` of a checkpoint.

    Keys:
        stage: index of the stage that the optimizer state belongs to.
        losses: of the steps since the last line of the log.
        initial_weights: description of what the run started from.
    """

    stage: int
    losses: list[float]
    initial_weights: str


class Checkpoints:
    """A run's folder of checkpoints; keeps the newest few and the one with the best validation PSNR."""

    def __init__(self, folder: Path, *, keep_latest: int, read_only: bool = False):
        """Open a folder.

        Args:
            folder: of the checkpoints; created if missing, unless `read_only`.
            keep_latest: how many of the newest to keep, besides the best.
            read_only: change nothing. Another process may be training in this folder, and what looks like an
                unfinished checkpoint may be the one that it is writing.
        """
        require_utf8(folder, "The folder of checkpoints")
        self.folder = folder
        self._keep_latest = keep_latest
        self._read_only = read_only
        self._saving: int | None = None  # the step being written
        options = ocp.CheckpointManagerOptions(
            create=not read_only,
            cleanup_tmp_directories=not read_only,  # left unfinished by a crash or a full disk
            read_only=read_only,
            preservation_policy=self,
            # Called in the primary process when all files are written, before the checkpoint gets its final name.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_checksums),
        )
        self._scores: dict[int, float] = {}  # validation PSNR by step, equal in all processes
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=options, item_names=("weights", "optimizer", "progress")
        )
        self._read_scores()

    def _read_scores(self) -> None:
        scores = {step: read_score(self.folder / str(step)) for step in self._manager.all_steps()}
        self._scores = {step: score for step, score in scores.items() if score is not None}

    def reload(self) -> None:
        """Reload the list of checkpoints, which another process may have changed."""
        self._manager.reload()
        self._read_scores()

    @property
    def latest_step(self) -> int | None:
        """The newest checkpoint's step; None if there is none."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """The steps of all checkpoints, in order."""
        return sorted(self._manager.all_steps())

    @property
    def best_step(self) -> int | None:
        """The step with the highest validation PSNR; None before the first validation."""
        return _best_step(self._manager.all_steps(), self._scores)

    def validation_psnr(self, step: int) -> float | None:
        """Return the validation PSNR of a checkpoint, in dB; None if it was not validated."""
        return self._scores.get(step)

    def record_validation(self, step: int, psnr: float) -> None:
        """Add the validation PSNR, in dB, to a saved checkpoint, and delete checkpoints that are no longer kept.

        Raises:
            InputError: the write failed; see `explain_failed_write`.
        """
        self.wait()
        processes.on_primary(lambda: write_score(self.folder / str(step), psnr))
        self._scores[step] = psnr
        steps = self._manager.all_steps()
        for obsolete in sorted({*steps} - self._steps_to_keep(steps)):
            self._manager.delete(obsolete)

    def _steps_to_keep(self, steps: Sequence[int]) -> set[int | None]:
        return {*sorted(steps)[-self._keep_latest :], _best_step(steps, self._scores)}

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Return which checkpoints to keep: orbax's `PreservationPolicy` protocol, called at each save."""
        del context
        keep = self._steps_to_keep([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in keep for checkpoint in checkpoints]

    def save(self, state: TrainState, progress: SavedProgress) -> None:
        """Save the state under its step, in the background. A step that is already saved is not overwritten.

        Raises:
            InputError: this write or the one before failed; see `explain_failed_write`.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        check_disk_space(self.folder, state.variables, state.training)
        items = ocp.args.Composite(
            weights=ocp.args.StandardSave(state.variables),
            optimizer=ocp.args.StandardSave(state.training),
            progress=ocp.args.JsonSave(progress),
        )
        self.wait()  # `_saving` must stay the previous step until that one is written
        self._saving = step
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            raise explain_failed_write(self.folder, error) from error

    def _write_checksums(self) -> None:
        folders = [path for path in self.folder.iterdir() if path.name.split(".")[0] == str(self._saving)]
        if len(folders) != 1:
            raise RuntimeError(f"{self.folder}: expected one folder of step {self._saving}, found {folders}")
        write_checksums(folders[0])

    def check(self, step: int) -> None:
        """Verify the checksums of a checkpoint.

        Raises:
            InputError: names the first corrupt file (code "checkpoint-corrupt"), or another process removed the
                checkpoint (code "checkpoint-removed").
        """
        folder = self.folder / str(step)
        corruption, removed = processes.on_primary(lambda: inspect_checkpoint(folder, may_vanish=self._read_only))
        if removed:
            raise InputError(
                f"{folder}: this checkpoint was removed by another process, since a run keeps only the newest and the "
                "best. Rerun the same command.",
                code="checkpoint-removed",
            )
        if corruption:
            raise InputError(
                f"{folder}: this checkpoint is corrupt: {corruption}. Restore it from a backup, or move this folder "
                "elsewhere to continue without it.",
                code="checkpoint-corrupt",
            )

    def progress(self, step: int) -> SavedProgress:
        """Return the `progress` that was saved at a step."""
        return self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore())).progress

    def restore(self, step: int, state: TrainState) -> TrainState:
        """Return `state` (arrays or `jax.ShapeDtypeStruct`s, with shardings) with the values saved at a step.

        Checksums are not verified: `quarantine_corrupt` has done so when the run was opened.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        items = ocp.args.Composite(
            weights=ocp.args.StandardRestore(target.variables),
            optimizer=ocp.args.StandardRestore(target.training),
        )
        restored = self._manager.restore(step, args=items)
        return state.with_parts(restored.weights, restored.optimizer)

    def restore_weights(self, step: int, variables: Any) -> Any:
        """Return the `params` and `batch_stats` saved at a step, with the shardings of `variables`.

        Raises:
            InputError: the checkpoint is corrupt ("checkpoint-corrupt") or was removed ("checkpoint-removed").
        """
        self.check(step)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, variables)
        items = ocp.args.Composite(weights=ocp.args.StandardRestore(target))
        try:
            return self._manager.restore(step, args=items).weights
        except Exception:
            self.check(step)  # a training process may have removed it during the read
            raise

    def restore_best(self, variables: Any) -> tuple[int, Any] | None:
        """Return the step with the highest validation PSNR and its weights, with the shardings of `variables`.

        Retries if a training process replaces the best checkpoint in the meantime.

        Returns:
            None if no checkpoint was validated.

        Raises:
            InputError: the checkpoint is corrupt ("checkpoint-corrupt"), or was replaced several times in a row.
        """
        attempts_left = _RESTORE_ATTEMPTS
        while (step := self.best_step) is not None:
            attempts_left -= 1
            try:
                return step, self.restore_weights(step, variables)
            except InputError as error:
                if error.code != "checkpoint-removed" or not attempts_left:
                    raise
                self.reload()
        return None

    def wait(self) -> None:
        """Block until the last save is on disk.

        Raises:
            InputError: the write failed; see `explain_failed_write`.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise explain_failed_write(self.folder, error) from error

    def close(self) -> None:
        """Wait for the last save and close the folder."""
        self.wait()
        self._manager.close()


def _best_step(steps: Sequence[int], scores: dict[int, float]) -> int | None:
    return max((step for step in steps if step in scores), key=lambda step: (scores[step], step), default=None)
