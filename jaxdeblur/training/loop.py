"""The training loop: where a run resumes, and its stages, epochs and steps.

Batches are uint8 NHWC; the network sees float32 in [0, 1]. PSNR is in dB.
"""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdeblur.console import ProgressBar, StopRequest
from jaxdeblur.errors import InputError
from jaxdeblur.models import prefers_ynnpack_matmul
from jaxdeblur.runs.checkpoints import SavedProgress
from jaxdeblur.runs.train_state import TrainState, create_train_state, enter_stage
from jaxdeblur.runtime import processes
from jaxdeblur.runtime.compilation import Program, compile_program
from jaxdeblur.runtime.sharding import abstract, batch_sharding, replicated, to_devices
from jaxdeblur.training.nan_checks import check_finite, fetch_losses
from jaxdeblur.training.prefetcher import Prefetcher
from jaxdeblur.training.profiling import SpeedMeter, StepTrace, speeds
from jaxdeblur.training.progress_log import log_histograms, log_training, log_validation
from jaxdeblur.training.run import Run
from jaxdeblur.training.stages import Stage
from jaxdeblur.training.step import make_train_step
from jaxdeblur.training.tensor_histograms import Counts
from jaxdeblur.weights.initial import fill


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has got.

    Attributes:
        step: steps taken.
        stage: index of the stage that the optimizer state belongs to.
        losses: of the steps since the last line of the log.
        initial_weights: what the run started from, as a description.
    """

    step: int
    stage: int
    losses: list[float]
    initial_weights: str


@dataclasses.dataclass(frozen=True)
class Monitor:
    """What watches a training: the progress bar, the profiler's trace and the user's request to stop."""

    bar: ProgressBar
    trace: StepTrace
    stop: StopRequest


def restore_or_create(run: Run) -> tuple[TrainState, Progress]:
    """Return the state of the newest checkpoint, or a new one, and its progress."""
    step = run.checkpoints.latest_step
    if step is None:
        progress = Progress(0, 0, [], run.initial.description if run.initial else "")
    else:
        progress = Progress(step=step, **run.checkpoints.progress(step))
    run.initial_description = progress.initial_weights
    stage = run.stages[progress.stage]
    on_all_devices, key = replicated(run.mesh), jax.random.key(run.seed)

    def create(key: jax.Array) -> TrainState:
        return create_train_state(run.model, stage.tx, key, ema=stage.ema_decay > 0)

    def start(state: TrainState, variables: dict[str, Any]) -> TrainState:
        # Copied inside jit: the training step donates its input, and NumPy's memory must not be donated.
        return state.starting_from(jax.tree.map(jnp.copy, variables))

    if step is not None:
        return run.checkpoints.restore(step, abstract(lambda: create(key), run.mesh)), progress
    state = jax.jit(create, out_shardings=on_all_devices)(key)
    if run.initial:
        state = jax.jit(start, out_shardings=on_all_devices)(state, fill(state.variables, run.initial))
    return state, progress


def train(run: Run, state: TrainState, progress: Progress, stop: StopRequest) -> bool:
    """Train to the end of the last stage; return False if a stop was requested earlier.

    In both cases the last state is saved and on disk when this returns. A stop that is requested during the last
    validation is left to the caller.

    Raises:
        InputError: an image cannot be read (the state is saved first), the disk is full, or the loss or the weights
            are no longer finite.
    """
    bar = ProgressBar(run.total_steps * run.batch_size, progress.step * run.batch_size)
    trace = StepTrace(run.log.tensorboard_folder if run.log else None, run.profile_steps)
    monitor = Monitor(bar, trace, stop)
    losses, step, stopped = progress.losses, progress.step, False
    try:
        if needs_validation(run, progress):
            validate(run, run.stages[progress.stage], state)
        for stage in run.stages[progress.stage :]:
            if stage.index > progress.stage:
                state = jax.jit(partial(enter_stage, tx=stage.tx), out_shardings=replicated(run.mesh))(state)
            loop = StageLoop(run, stage, state, step, losses, monitor)
            stopped = loop.run_steps()
            state, losses, step = loop.state, loop.losses, stage.end_step
            if stopped:
                break
    finally:
        bar.close()
        trace.close()
        run.checkpoints.wait()
    return int(state.step) == run.total_steps and not stopped


def compile_step(
    model: nn.Module, stage: Stage, mesh: jax.sharding.Mesh, state: TrainState, batch: dict[str, jax.Array]
) -> Program:
    """Compile the training step, with a FLOP count that includes all micro-batches."""
    step = make_train_step(stage, mesh)
    unrolled = make_train_step(dataclasses.replace(stage, accumulate=1), mesh) if stage.accumulate > 1 else None
    return compile_program(step, state, batch, use_ynnpack_matmul=prefers_ynnpack_matmul(model), without_loop=unrolled)


class StageLoop:
    """Takes the steps of one stage.

    Attributes:
        state: after the last step.
        losses: of the steps since the last line of the log.
    """

    def __init__(
        self, run: Run, stage: Stage, state: TrainState, first_step: int, losses: list[float], monitor: Monitor
    ):
        """Prepare to continue after step `first_step` of the run, with `losses` since the last line of the log."""
        self.run, self.stage, self.state, self.losses = run, stage, state, losses
        self._first_step, self._monitor = first_step, monitor
        self._meter = SpeedMeter(run.batch_size)
        self._prefetcher = Prefetcher(run.train_batches(stage, first_step=first_step))
        # At most one step is in flight, so that fetching its loss never stalls the device.
        self._in_flight: list[jax.Array] = []
        self._program: Program | None = None
        self._failed = False

    def run_steps(self) -> bool:
        """Take the remaining steps of the stage; return True if a stop was requested before its end."""
        _, self._failed = processes.sync_stop_flags(False, self._prefetcher.error is not None)()
        for step in range(self._first_step + 1, self.stage.end_step + 1):
            if self._failed:
                self._save_and_fail(step - 1)
            histograms, stopping = self._take_step(step)
            ends_epoch = self.stage.ends_epoch(step)
            self._log(step, fetch=ends_epoch or stopping)
            if ends_epoch:
                log_histograms(self.run, step, self.state.params, histograms)
            if ends_epoch or stopping:
                self._save()
            if stopping:
                return True  # an epoch that has just ended is validated at the next start
            if ends_epoch:
                self.run.checkpoints.wait()  # validation may end this process, for one by running out of memory
                validate(self.run, self.stage, self.state)
                self._meter.restart()
        return False

    def _take_step(self, step: int) -> tuple[Counts, bool]:
        """Take one step; return the histograms of an epoch's last step, and whether a stop was requested."""
        batch = to_devices(self._prefetcher.take(), batch_sharding(self.run.mesh))
        if step < self.stage.end_step:
            with self._meter.waiting():
                self._prefetcher.advance()
        flags = processes.sync_stop_flags(self._monitor.stop, self._prefetcher.error is not None)
        if self._program is None:
            self._program = compile_step(self.run.model, self.stage, self.run.mesh, self.state, batch)
            self._meter.restart()
        with self._monitor.trace.step(step):
            self.state, loss, histograms = self._program.call(self.state, batch)
            self.losses += fetch_losses(self._in_flight, self.stage, step - 1)
            self._in_flight = [loss]
        self._meter.count()
        self._monitor.bar.advance(self.run.batch_size)
        stopping, self._failed = flags()
        return histograms, stopping

    def _log(self, step: int, *, fetch: bool) -> None:
        """Write a line of the log if one is due; `fetch` waits for the loss of the last step in any case."""
        line_due = step % self.run.log_every_steps == 0 or step == self.stage.end_step
        if line_due or fetch:
            self.losses += fetch_losses(self._in_flight, self.stage, step)
            self._in_flight = []
        if line_due:
            values = speeds(self._program, self._meter, self.run.dtype) if self._program else {}
            log_training(self.run, self.stage, step, self.losses, values, self._meter, self._monitor.bar)
            self.losses = []

    def _save(self) -> None:
        save(self.run, self.stage, self.state, self.losses)

    def _save_and_fail(self, step: int) -> None:
        self.losses += fetch_losses(self._in_flight, self.stage, step)
        self._save()
        raise self._prefetcher.error or InputError(
            "Another process failed (see its log). All completed steps were saved.", code="other-process-failed"
        )


def validate(run: Run, stage: Stage, state: TrainState) -> None:
    """Score the validation split with a state that is already saved, and add the score to its checkpoint."""
    step = int(state.step)
    psnr = log_validation(run, stage, step, run.validate(state.variables))
    run.checkpoints.record_validation(step, psnr)


def needs_validation(run: Run, progress: Progress) -> bool:
    """Return whether the checkpoint to resume from ends an epoch and was not validated because the run ended then."""
    stage, step = run.stages[progress.stage], progress.step
    return step > stage.first_step and stage.ends_epoch(step) and run.checkpoints.validation_psnr(step) is None


def save(run: Run, stage: Stage, state: TrainState, losses: list[float]) -> None:
    """Save a checkpoint from which exactly this step resumes.

    Raises:
        InputError: the weights are not finite, or the disk is full.
    """
    check_finite(state, stage, int(state.step))
    progress = SavedProgress(stage=stage.index, losses=losses, initial_weights=run.initial_description)
    run.checkpoints.save(state, progress)
