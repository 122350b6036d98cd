"""Training: where a run goes on, and the loop over stages, epochs and steps.

Batches are uint8 NHWC; the network sees float32 in [0, 1]. PSNR is in dB.
"""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur.console import ProgressBar, StopRequest
from jaxdeblur.errors import InputError
from jaxdeblur.models import trains_by_products
from jaxdeblur.runs.train_state import TrainState, create_train_state, enter_stage
from jaxdeblur.runtime import processes
from jaxdeblur.runtime.compilation import Program, compile_program
from jaxdeblur.runtime.sharding import abstract, batch_sharding, replicated, to_devices
from jaxdeblur.training.nan_checks import check_finite, fetch_losses
from jaxdeblur.training.profiling import SpeedMeter, StepTrace, speeds
from jaxdeblur.training.progress_log import log_histograms, log_training, log_validation
from jaxdeblur.training.run import Run
from jaxdeblur.training.stages import Stage
from jaxdeblur.training.step import TrainStep, make_train_step
from jaxdeblur.weights.initial import fill


def restore_or_create(run: Run) -> tuple[TrainState, dict[str, Any]]:
    """Return the state to go on from, the newest checkpoint's or a fresh one, and its progress.

    Progress holds `step`, the steps taken, `stage`, the index of the stage that the optimizer state belongs to,
    `losses`, those of the steps since the last line of the log, and `initial_weights`, in words.
    """
    step = run.checkpoints.latest_step
    if step is None:
        progress = {"step": 0, "stage": 0, "losses": [], "initial_weights": run.initial.description}
    else:
        progress = {"step": step, **run.checkpoints.progress(step)}
    run.initial_words = progress["initial_weights"]
    stage = run.stages[progress["stage"]]
    on_all_devices, key = replicated(run.mesh), jax.random.key(run.seed)

    def create(key: jax.Array) -> TrainState:
        return create_train_state(run.model, stage.tx, key, ema=stage.ema_decay > 0)

    def start(state: TrainState, variables: dict[str, Any]) -> TrainState:
        # Copied inside jit: the training step gives its input's memory away, and NumPy's must not be that.
        return state.starting_from(jax.tree.map(jnp.copy, variables))

    if step is not None:
        return run.checkpoints.restore(step, abstract(lambda: create(key), run.mesh)), progress
    state = jax.jit(create, out_shardings=on_all_devices)(key)
    return jax.jit(start, out_shardings=on_all_devices)(state, fill(state.variables, run.initial)), progress


def train(run: Run, state: TrainState, progress: dict[str, Any], stop: StopRequest) -> bool:
    """Train to the end of the last stage; return False if a stop was asked for before.

    Either way, the last state is saved and on the disk when this returns. A stop that is asked for while the last epoch
    is being validated is left to the caller.

    Raises:
        InputError: an image cannot be read, with the state saved; the disk is full; or the loss or the weights are no
            longer finite.
    """
    bar = ProgressBar(run.total_steps * run.batch_size, progress["step"] * run.batch_size)
    trace = StepTrace(run.log.tensorboard_folder if run.log else None, run.profile_steps)
    losses, step, stopped = progress["losses"], progress["step"], False
    try:
        if needs_validation(run, progress):
            validate(run, run.stages[progress["stage"]], state)
        for stage in run.stages[progress["stage"] :]:
            if stage.index > progress["stage"]:
                state = jax.jit(partial(enter_stage, tx=stage.tx), out_shardings=replicated(run.mesh))(state)
            state, losses, stopped = train_stage(run, stage, state, step, losses, bar, trace, stop)
            step = stage.end_step
            if stopped:
                break
    finally:
        bar.close()
        trace.close()
        run.checkpoints.wait()
    return int(state.step) == run.total_steps and not stopped


def train_stage(
    run: Run,
    stage: Stage,
    state: TrainState,
    first_step: int,
    losses: list[float],
    bar: ProgressBar,
    trace: StepTrace,
    stop: StopRequest,
) -> tuple[TrainState, list[float], bool]:
    """Take the steps of one stage from `first_step` on, or fewer if a stop is asked for.

    Returns:
        The state, the losses since the last line of the log, and whether a stop was asked for.
    """
    train_step, sharding = make_train_step(stage, run.mesh), batch_sharding(run.mesh)
    batches = run.train_batches(stage, first_step=first_step)
    meter, program = SpeedMeter(run.batch_size), None
    pending: list[jax.Array] = []  # at most one step in flight, so that fetching its loss never stalls the device
    batch, error = next_batch(batches)
    _, failed = processes.sync_stop_flags(False, error is not None)()
    for step in range(first_step + 1, stage.end_step + 1):
        if failed:
            save(run, stage, state, losses + fetch_losses(pending, stage, step - 1))
            raise error or InputError("Another process cannot go on; its own message says why. All steps are saved.")
        placed = to_devices(batch, sharding)
        if step < stage.end_step:
            with meter.waiting():
                batch, error = next_batch(batches)
        verdict = processes.sync_stop_flags(stop, error is not None)
        if program is None:
            program = compile_step(run, stage, train_step, state, placed)
            meter.restart()
        with trace.step(step):
            state, loss, histograms = program.call(state, placed)
            pending.append(loss)
            losses += fetch_losses(pending[:-1], stage, step - 1)
            pending = pending[-1:]
        meter.count()
        bar.advance(run.batch_size)
        stopping, failed = verdict()
        line_due = step % run.log_every_steps == 0 or step == stage.end_step
        if line_due or stage.ends_epoch(step) or stopping:
            losses += fetch_losses(pending, stage, step)
            pending = []
        if line_due:
            log_training(run, stage, step, losses, speeds(program, meter, run.dtype), meter, bar)
            losses = []
        if stage.ends_epoch(step):
            log_histograms(run, step, state.params, histograms)
        if stage.ends_epoch(step) or stopping:
            save(run, stage, state, losses)
        if stopping:
            return state, losses, True  # an epoch that has just ended is validated at the next start
        if stage.ends_epoch(step):
            run.checkpoints.wait()  # validation may end this process, as by running out of memory
            validate(run, stage, state)
            meter.restart()
    return state, losses, False


def compile_step(run: Run, stage: Stage, train_step: TrainStep, state: TrainState, batch: dict[str, Any]) -> Program:
    """Compile the training step; the FLOPs of all its micro-batches are counted."""
    at_once = make_train_step(dataclasses.replace(stage, accumulate=1), run.mesh) if stage.accumulate > 1 else None
    return compile_program(
        train_step, state, batch, use_ynnpack_matmul=trains_by_products(run.model), without_loop=at_once
    )


def next_batch(batches: Iterator[dict[str, np.ndarray]]) -> tuple[dict[str, np.ndarray] | None, InputError | None]:
    """Return the next batch, or the error that an image cannot be read: other processes must hear of it first."""
    try:
        return next(batches), None
    except InputError as error:
        return None, error


def validate(run: Run, stage: Stage, state: TrainState) -> None:
    """Score the validation split with a state that is saved already, and record the score with its checkpoint."""
    step = int(state.step)
    psnr = log_validation(run, stage, step, run.validate(state.variables))
    run.checkpoints.record_validation(step, psnr)


def needs_validation(run: Run, progress: dict[str, Any]) -> bool:
    """Return whether the checkpoint to go on from ends an epoch and was not validated: the run ended before that."""
    stage, step = run.stages[progress["stage"]], progress["step"]
    return step > stage.first_step and stage.ends_epoch(step) and run.checkpoints.validation_psnr(step) is None


def save(run: Run, stage: Stage, state: TrainState, losses: list[float]) -> None:
    """Save a checkpoint from which this very step goes on.

    Raises:
        InputError: the weights are not finite, or the disk is full.
    """
    check_finite(state, stage, int(state.step))
    progress = {"stage": stage.index, "losses": losses, "initial_weights": run.initial_words}
    run.checkpoints.save(state, progress)
