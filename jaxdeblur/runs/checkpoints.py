"""Checkpoints with orbax: what is saved, which are kept, and how a run finds its place again.

A checkpoint has three items: `weights` (params and batch_stats as they are scored: where an average of the params is
kept, that), `optimizer` (its state, the step and, where `weights` has the average, the params that training goes on
with) and `progress` (JSON). The step is also the data position, so there is no iterator state that could disagree.
Each checkpoint is written together with a manifest, by which damage is found before anything is restored. A checkpoint
is saved before it is validated; its validation PSNR is added to it afterwards.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from jaxdeblur.errors import InputError
from jaxdeblur.files import require_utf8
from jaxdeblur.runs.checkpoint_files import check_disk_space, explain_failed_write, inspect, read_score, write_score
from jaxdeblur.runs.checksums import write_manifest
from jaxdeblur.runs.train_state import TrainState
from jaxdeblur.runtime import processes


class Checkpoints:
    """The folder of a run's checkpoints: the newest few and the best by validation PSNR are kept."""

    def __init__(self, folder: Path, *, keep_latest: int, read_only: bool = False):
        """Open a folder.

        Args:
            folder: of the checkpoints; made if it is not there, unless `read_only`.
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
            cleanup_tmp_directories=not read_only,  # what a crash or a full disk left unfinished
            read_only=read_only,
            preservation_policy=self,
            # Called in the primary when all is written, and before the checkpoint gets its name.
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
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
        """Look again at what is there, after another process may have saved or removed checkpoints."""
        self._manager.reload()
        self._read_scores()

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
        return _best_step(self._manager.all_steps(), self._scores)

    def validation_psnr(self, step: int) -> float | None:
        """Return the validation PSNR of a checkpoint, in dB; None if it was not validated."""
        return self._scores.get(step)

    def record_validation(self, step: int, psnr: float) -> None:
        """Add its validation PSNR, in dB, to a saved checkpoint, and remove checkpoints that need not be kept any more.

        Raises:
            InputError: the checkpoint cannot be written.
        """
        self.wait()
        processes.on_primary(lambda: write_score(self.folder / str(step), psnr))
        self._scores[step] = psnr
        steps = self._manager.all_steps()
        for surplus in sorted({*steps} - self._kept(steps)):
            self._manager.delete(surplus)

    def _kept(self, steps: Sequence[int]) -> set[int]:
        return {*sorted(steps)[-self._keep_latest :], _best_step(steps, self._scores)}

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Return which checkpoints to keep: orbax's `PreservationPolicy`, asked at each save."""
        del context
        kept = self._kept([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in kept for checkpoint in checkpoints]

    def save(self, state: TrainState, progress: dict[str, Any]) -> None:
        """Save the state under its step, in the background; a step that is saved already is left as it is.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
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
        self.wait()  # for the one before: `_saving` is its step until it is written
        self._saving = step
        try:
            self._manager.save(step, args=items)
        except Exception as error:
            raise explain_failed_write(self.folder, error) from error

    def _write_manifest(self) -> None:
        found = [path for path in self.folder.iterdir() if path.name.split(".")[0] == str(self._saving)]
        if len(found) != 1:
            raise RuntimeError(f"{self.folder}: expected one folder of step {self._saving}, found {found}")
        write_manifest(found[0])

    def check(self, step: int) -> None:
        """Compare a checkpoint's files with what was written.

        Raises:
            InputError: names the first damaged file (code "checkpoint-damaged"), or says that another process removed
                the checkpoint ("checkpoint-removed").
        """
        folder = self.folder / str(step)
        damage, removed = processes.on_primary(lambda: inspect(folder, may_vanish=self._read_only))
        if removed:
            raise InputError(
                f"{folder}: this checkpoint was removed meanwhile; a run keeps only the newest and the best. Start the "
                "same command again.",
                code="checkpoint-removed",
            )
        if damage:
            raise InputError(
                f"{folder}: this checkpoint is damaged: {damage}. Restore it from a copy, or move this folder "
                "elsewhere to do without it.",
                code="checkpoint-damaged",
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
            InputError: the checkpoint is damaged, or another process removed it.
        """
        self.check(step)
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, variables)
        try:
            return self._manager.restore(step, args=ocp.args.Composite(weights=ocp.args.StandardRestore(like))).weights
        except Exception:
            self.check(step)  # training next to this process may have removed it while it was read
            raise

    def restore_best(self, variables: Any) -> tuple[int, Any] | None:
        """Return the step with the highest validation PSNR and its weights, placed like `variables`; None if none has.

        Looks again where training next to this process has just found a better one and removed this.

        Raises:
            InputError: the checkpoint is damaged.
        """
        attempts_left = 5
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
        """Block until the last save is on the disk.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise explain_failed_write(self.folder, error) from error

    def close(self) -> None:
        """Wait for the last save and release the folder."""
        self.wait()
        self._manager.close()


def _best_step(steps: Sequence[int], scores: dict[int, float]) -> int | None:
    return max((step for step in steps if step in scores), key=lambda step: (scores[step], step), default=None)
