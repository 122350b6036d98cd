"""Training: what a run needs, where it goes on, and the loop over stages, epochs and steps.

Batches are uint8 NHWC; the network sees float32 in [0, 1]. PSNR is in dB.
"""

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdeblur import evaluate, processes
from jaxdeblur.checkpoint import Checkpoints
from jaxdeblur.console import ProgressBar, SpeedMeter, StopRequest, say
from jaxdeblur.data.pipeline import InputOptions, make_eval_pairs, make_train_batches
from jaxdeblur.data.sources import PairSource
from jaxdeblur.errors import InputError
from jaxdeblur.finite import check_finite, fetch_losses, not_finite
from jaxdeblur.initial_weights import InitialWeights, fill
from jaxdeblur.metric_log import MetricLog
from jaxdeblur.programs import compile_program, speeds
from jaxdeblur.train_state import TrainState, create_train_state, enter_stage, init_variables
from jaxdeblur.train_step import Stage, abstract, batch_sharding, make_train_step, replicated, to_devices


@dataclasses.dataclass
class Run:
    """All that training and scoring need, checked and made once."""

    model: nn.Module
    stages: list[Stage]
    sources: dict[str, PairSource]  # train, validation, test
    data_set: str
    splits: str
    blur: str
    dtype: str  # that the network computes in
    options: InputOptions
    seed: int
    batch_size: int
    steps_per_epoch: int
    num_threads: int
    eval_batch_size: int
    sample_count: int
    log_every_steps: int
    mesh: jax.sharding.Mesh
    local_mesh: jax.sharding.Mesh  # this process's own devices
    predict: evaluate.Predict
    initial: InitialWeights | None  # None: the run goes on from a checkpoint
    checkpoints: Checkpoints
    initial_words: str = ""  # what the run started from, as its checkpoints say
    log: MetricLog | None = None  # the primary's alone

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return self.stages[-1].end_step

    def abstract_variables(self) -> Any:
        """Return stand-ins for the network's variables, with their place on the devices."""
        return abstract(lambda: init_variables(self.model, jax.random.key(0)), self.mesh)

    def train_batches(self, stage: Stage, *, first_step: int) -> Iterator[dict[str, np.ndarray]]:
        """Return this process's part of the batches of a stage, from the one of `first_step` on."""
        return make_train_batches(
            self.sources["train"],
            self.options,
            crop=stage.crop,
            batch_size=self.batch_size,
            seed=self.seed,
            first_step=first_step,
            num_threads=self.num_threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def score(self, split: str, variables: Any) -> evaluate.Evaluation:
        """Score a split with the given weights: every process its share, on its own devices."""
        source = self.sources[split]
        first, end = processes.share(len(source))
        own = processes.local_copy(variables, replicated(self.local_mesh))
        parts = processes.exchange(
            lambda: evaluate.evaluate(
                self.predict,
                own,
                make_eval_pairs(source, self.options, num_threads=self.num_threads, first=first, end=end),
                num_pairs=len(source),
                batch_size=self.eval_batch_size // jax.process_count(),
                sample_count=self.sample_count,
                first=first,
            )
        )
        return evaluate.join_parts(parts)


def restore_or_create(run: Run) -> tuple[TrainState, dict[str, Any]]:
    """Return the state to go on from, the newest checkpoint's or a fresh one, and its progress.

    Progress holds `stage`, the index of the stage that the optimizer state belongs to, `losses`, those of the steps
    since the last line of the log, and `initial_weights`, in words.
    """
    step = run.checkpoints.latest_step
    if step is None:
        progress = {"stage": 0, "losses": [], "initial_weights": run.initial.description}
    else:
        progress = run.checkpoints.progress(step)
    run.initial_words = progress["initial_weights"]
    stage = run.stages[progress["stage"]]
    create = jax.jit(
        lambda key: create_train_state(run.model, stage.tx, key, ema=stage.ema_decay > 0),
        out_shardings=replicated(run.mesh),
    )
    key = jax.random.key(run.seed)
    if step is None:
        state = create(key)
        # Copied inside jit: the training step gives its input's memory away, and NumPy's must not be that.
        start = jax.jit(
            lambda state, variables: state.starting_from(jax.tree.map(jnp.copy, variables)),
            out_shardings=replicated(run.mesh),
        )
        return start(state, fill(state.variables, run.initial)), progress
    return run.checkpoints.restore(step, abstract(lambda: create(key), run.mesh)), progress


def train(run: Run, state: TrainState, progress: dict[str, Any], stop: StopRequest) -> bool:
    """Train to the end of the last stage; return False if a stop was asked for before.

    Either way, the last state is saved and on the disk when this returns.

    Raises:
        InputError: an image cannot be read, with the state saved; the disk is full; or the loss or the weights are no
            longer finite.
    """
    step = int(state.step)
    bar = ProgressBar(run.total_steps * run.batch_size, step * run.batch_size)
    losses = progress["losses"]
    try:
        validate_unvalidated(run, state, progress)
        for stage in run.stages[progress["stage"] :]:
            if stage.index > progress["stage"]:
                state = jax.jit(partial(enter_stage, tx=stage.tx), out_shardings=replicated(run.mesh))(state)
            state, losses, stopped = train_stage(run, stage, state, losses, bar, stop)
            if stopped:
                break
    finally:
        bar.close()
        run.checkpoints.wait()
    return int(state.step) == run.total_steps


def train_stage(
    run: Run,
    stage: Stage,
    state: TrainState,
    losses: list[float],
    bar: ProgressBar,
    stop: StopRequest,
) -> tuple[TrainState, list[float], bool]:
    """Take the remaining steps of one stage, or fewer if a stop is asked for.

    Returns:
        The state, the losses since the last line of the log, and whether a stop was asked for.
    """
    train_step, sharding = make_train_step(stage, run.mesh), batch_sharding(run.mesh)
    batches = run.train_batches(stage, first_step=int(state.step))
    meter, program = SpeedMeter(run.batch_size), None
    pending: list[jax.Array] = []  # at most one step in flight, so that fetching its loss never stalls the device
    batch, error = next_batch(batches)
    _, failed = processes.vote(False, error is not None)()
    for step in range(int(state.step) + 1, stage.end_step + 1):
        if failed:
            save(run, stage, state, losses + fetch_losses(pending, stage, step - 1), None)
            raise error or InputError("Another process cannot go on; its own message says why. All steps are saved.")
        placed = to_devices(batch, sharding)
        if step < stage.end_step:
            with meter.waiting():
                batch, error = next_batch(batches)
        verdict = processes.vote(stop, error is not None)
        program = program or compile_program(train_step, state, placed)
        state, loss = program.call(state, placed)
        pending.append(loss)
        losses += fetch_losses(pending[:-1], stage, step - 1)
        pending = pending[-1:]
        meter.count()
        bar.advance(run.batch_size)
        epoch_ends = (step - stage.first_step) % run.steps_per_epoch == 0
        stopping, failed = verdict()
        line_due = step % run.log_every_steps == 0 or step == stage.end_step
        if line_due or epoch_ends or stopping:
            losses += fetch_losses(pending, stage, step)
            pending = []
        if line_due:
            log_training(run, stage, step, losses, speeds(program, meter, run.dtype), meter, bar)
            losses = []
        if epoch_ends:
            finish_epoch(run, stage, state, losses)
            meter.restart()
        elif stopping:
            save(run, stage, state, losses, None)
        if stopping:
            return state, losses, True
    return state, losses, False


def next_batch(batches: Iterator[dict[str, np.ndarray]]) -> tuple[dict[str, np.ndarray] | None, InputError | None]:
    """Return the next batch, or the error that an image cannot be read: other processes must hear of it first."""
    try:
        return next(batches), None
    except InputError as error:
        return None, error


def finish_epoch(run: Run, stage: Stage, state: TrainState, losses: list[float]) -> None:
    """Validate and save; when an image cannot be read, save all the same, before the error goes on."""
    try:
        result = run.score("validation", state.variables)
    except InputError:
        save(run, stage, state, losses, None)
        raise
    save(run, stage, state, losses, log_validation(run, stage, int(state.step), result))


def validate_unvalidated(run: Run, state: TrainState, progress: dict[str, Any]) -> None:
    """Catch up on the validation of an epoch at whose end an image could not be read."""
    stage, step = run.stages[progress["stage"]], int(state.step)
    epoch_ended = step > stage.first_step and (step - stage.first_step) % run.steps_per_epoch == 0
    if epoch_ended and run.checkpoints.validation_psnr(step) is None:
        psnr = log_validation(run, stage, step, run.score("validation", state.variables))
        run.checkpoints.delete(step)
        save(run, stage, state, progress["losses"], psnr)


def log_training(
    run: Run,
    stage: Stage,
    step: int,
    losses: list[float],
    speed_values: dict[str, float],
    meter: SpeedMeter,
    bar: ProgressBar,
) -> None:
    """Write the mean loss of the steps since the last line, the learning rate and the speed."""
    speed = meter.images_per_second
    left = (run.total_steps - step) * run.batch_size / speed
    values = {
        "train/loss": float(np.mean(losses)),
        "train/learning_rate": stage.learning_rate(step - 1),
        "train/images_per_s": speed,
        **speed_values,
    }
    if run.log:
        run.log.scalars(step, stage.index, step / run.steps_per_epoch, values)
    bar.show(f"step {step}/{run.total_steps}, loss {values['train/loss']:.5f}, {speed:.1f} images/s", left)
    meter.restart()


def log_validation(run: Run, stage: Stage, step: int, result: evaluate.Evaluation) -> float:
    """Log the scores of the validation split, with sample images, and return the mean PSNR per image.

    Raises:
        InputError: the scores are not finite.
    """
    summary = result.summary
    if not math.isfinite(summary["psnr"]):
        raise not_finite("The network's output is no longer finite after", stage, step)
    values = {f"validation/{name}": summary[name] for name in ("psnr", "psnr_batch16", "mse")}
    values["validation/identity_psnr"] = summary["identity"]["psnr"]
    epoch = step / run.steps_per_epoch
    if run.log:
        run.log.scalars(step, stage.index, epoch, values)
        run.log.images(step, "blur_prediction_sharp", [evaluate.strip(sample) for sample in result.samples])
    gain = summary["psnr"] - summary["identity"]["psnr"]
    say(f"epoch {epoch:g}: validation PSNR {summary['psnr']:.2f} dB, {gain:+.2f} dB against the blurred input")
    return summary["psnr"]


def save(run: Run, stage: Stage, state: TrainState, losses: list[float], validation_psnr: float | None) -> None:
    """Save a checkpoint from which this very step goes on.

    Raises:
        InputError: the weights are not finite, or the disk is full.
    """
    check_finite(state, stage, int(state.step))
    progress = {"stage": stage.index, "losses": losses, "initial_weights": run.initial_words}
    run.checkpoints.save(state, progress, validation_psnr)
