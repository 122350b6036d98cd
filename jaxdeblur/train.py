"""Training: the device mesh, the training step and the loop over stages, epochs and steps.

Batches are uint8 NHWC; the network sees float32 in [0, 1]. PSNR is in dB.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdeblur import evaluate
from jaxdeblur.checkpoint import Checkpoints
from jaxdeblur.console import ProgressBar, SpeedMeter, StopRequest, say
from jaxdeblur.data.folders import FolderSource
from jaxdeblur.data.pipeline import InputOptions, make_eval_pairs, make_train_batches
from jaxdeblur.errors import InputError
from jaxdeblur.initial_weights import InitialWeights, fill
from jaxdeblur.losses import LOSSES
from jaxdeblur.metric_log import MetricLog
from jaxdeblur.optimizer import create_optimizer
from jaxdeblur.train_state import TrainState, create_train_state, enter_stage, init_variables

TrainStep = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of training with one loss and one optimizer: steps `first_step` to `end_step` - 1."""

    index: int
    first_step: int
    end_step: int
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    tx: optax.GradientTransformation
    schedule: optax.Schedule

    def learning_rate(self, step: int) -> float:
        """Return the learning rate that step `step` is taken with."""
        return float(self.schedule(step - self.first_step))


@dataclasses.dataclass
class Run:
    """All that training and scoring need, checked and made once."""

    model: nn.Module
    stages: list[Stage]
    sources: dict[str, FolderSource]  # train, validation, test
    data_set: str
    blur: str
    options: InputOptions
    seed: int
    batch_size: int
    steps_per_epoch: int
    num_threads: int
    eval_batch_size: int
    sample_count: int
    log_every_steps: int
    mesh: jax.sharding.Mesh
    predict: evaluate.Predict
    initial: InitialWeights | None  # None: the run goes on from a checkpoint
    checkpoints: Checkpoints
    initial_words: str = ""  # what the run started from, as its checkpoints say
    log: MetricLog | None = None

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return self.stages[-1].end_step

    def abstract_variables(self) -> Any:
        """Return stand-ins for the network's variables, with their place on the devices."""
        return abstract(lambda: init_variables(self.model, jax.random.key(0)), self.mesh)


def create_mesh() -> jax.sharding.Mesh:
    """Return a mesh of all devices with the one axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Return the sharding of the state: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def abstract(create: Callable[[], Any], mesh: jax.sharding.Mesh) -> Any:
    """Return stand-ins, replicated over the mesh, for what `create` would return."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh)), jax.eval_shape(create)
    )


def plan_stages(stages: list[dict], steps_per_epoch: int) -> list[Stage]:
    """Return the stages of a config with their places in the run."""
    planned, first_step = [], 0
    for index, stage in enumerate(stages):
        length = stage["epochs"] * steps_per_epoch
        tx, schedule = create_optimizer(stage["optimizer"], stage["schedule"], length)
        planned.append(Stage(index, first_step, first_step + length, LOSSES[stage["loss"]], tx, schedule))
        first_step += length
    return planned


def make_train_step(stage: Stage, mesh: jax.sharding.Mesh) -> TrainStep:
    """Return the compiled training step of a stage; it takes over (donates) the state it is given.

    With the batch sharded and the state replicated, the compiler sees one global batch: BatchNorm's statistics and
    the gradient are those of the whole batch on any number of devices.
    """

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, jax.Array]:
        blur, sharp = evaluate.to_float(batch["blur"]), evaluate.to_float(batch["sharp"])

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            prediction, updates = state.apply_fn(variables, blur, train=True, mutable=["batch_stats"])
            return stage.loss(prediction, sharp), updates.get("batch_stats", {})

        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads, batch_stats=batch_stats), loss

    return jax.jit(train_step, donate_argnums=0, out_shardings=replicated(mesh))


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
    tx = run.stages[progress["stage"]].tx
    create = jax.jit(lambda key: create_train_state(run.model, tx, key), out_shardings=replicated(run.mesh))
    key = jax.random.key(run.seed)
    if step is None:
        state = create(key)
        # Copied inside jit: the training step gives its input's memory away, and NumPy's must not be that.
        copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=replicated(run.mesh))
        variables = copy(fill(state.variables, run.initial))
        return state.replace(**variables), progress
    return run.checkpoints.restore(step, abstract(lambda: create(key), run.mesh)), progress


def train(run: Run, state: TrainState, progress: dict[str, Any], stop: StopRequest) -> bool:
    """Train to the end of the last stage; return False if a stop was asked for before.

    Either way, the last state is saved and on the disk when this returns.

    Raises:
        InputError: an image cannot be read or the disk is full, with the state saved as far as possible; or the loss
            is no longer finite.
    """
    step = int(state.step)
    bar = ProgressBar(run.total_steps * run.batch_size, step * run.batch_size)
    batches = make_train_batches(
        run.sources["train"],
        run.options,
        batch_size=run.batch_size,
        seed=run.seed,
        first_step=step,
        num_threads=run.num_threads,
    )
    losses = progress["losses"]
    try:
        for stage in run.stages[progress["stage"] :]:
            if stage.index > progress["stage"]:
                state = jax.jit(partial(enter_stage, tx=stage.tx), out_shardings=replicated(run.mesh))(state)
            state, losses = train_stage(run, stage, state, losses, batches, bar, stop)
            if int(state.step) < stage.end_step:
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
    batches: Any,
    bar: ProgressBar,
    stop: StopRequest,
) -> tuple[TrainState, list[float]]:
    """Take the remaining steps of one stage; return the state and the losses since the last line of the log."""
    train_step, sharding = make_train_step(stage, run.mesh), batch_sharding(run.mesh)
    meter = SpeedMeter(run.batch_size)
    pending: list[jax.Array] = []  # at most one step in flight, so that fetching its loss never stalls the device
    for step in range(int(state.step) + 1, stage.end_step + 1):
        try:
            batch = next(batches)
        except InputError:
            save(run, stage, state, losses + fetch_losses(pending, stage, step - 1), None)
            raise
        state, loss = train_step(state, jax.device_put(batch, sharding))
        pending.append(loss)
        losses += fetch_losses(pending[:-1], stage, step - 1)
        pending = pending[-1:]
        meter.count()
        bar.advance(run.batch_size)
        epoch_ends, stopping = (step - stage.first_step) % run.steps_per_epoch == 0, bool(stop)
        if step % run.log_every_steps == 0 or epoch_ends or stopping:
            losses += fetch_losses(pending, stage, step)
            pending = []
        if step % run.log_every_steps == 0:
            log_training(run, stage, step, losses, meter, bar)
            losses = []
        if epoch_ends:
            save(run, stage, state, losses, validate(run, stage, state, step))
            meter.restart()
        elif stopping:
            save(run, stage, state, losses, None)
        if stopping:
            break
    return state, losses


def fetch_losses(losses: list[jax.Array], stage: Stage, last_step: int) -> list[float]:
    """Return the losses of the steps up to `last_step`, waiting for them.

    Raises:
        InputError: one is not finite.
    """
    values = [float(loss) for loss in losses]
    for step, value in enumerate(values, start=last_step - len(values) + 1):
        if not math.isfinite(value):
            rate = stage.learning_rate(step - 1)
            raise InputError(
                f"The loss is {value} at step {step} (stages[{stage.index}], learning rate {rate:g}). Earlier "
                "checkpoints are untouched. Lower the learning rate and start a new run."
            )
    return values


def log_training(run: Run, stage: Stage, step: int, losses: list[float], meter: SpeedMeter, bar: ProgressBar) -> None:
    """Write the mean loss of the steps since the last line, the learning rate and the speed."""
    speed = meter.images_per_second
    values = {
        "train/loss": float(np.mean(losses)),
        "train/learning_rate": stage.learning_rate(step - 1),
        "train/images_per_s": speed,
    }
    run.log.scalars(step, stage.index, step / run.steps_per_epoch, values)
    left = (run.total_steps - step) * run.batch_size / speed
    bar.show(f"step {step}/{run.total_steps}, loss {values['train/loss']:.5f}, {speed:.1f} images/s", left)
    meter.restart()


def validate(run: Run, stage: Stage, state: TrainState, step: int) -> float:
    """Score the validation split, log it with sample images, and return its mean PSNR per image."""
    result = evaluate.evaluate(
        run.predict,
        state.variables,
        make_eval_pairs(run.sources["validation"], run.options, num_threads=run.num_threads),
        num_pairs=len(run.sources["validation"]),
        batch_size=run.eval_batch_size,
        sample_count=run.sample_count,
    )
    summary = result.summary
    values = {f"validation/{name}": summary[name] for name in ("psnr", "psnr_batch16", "mse")}
    values["validation/identity_psnr"] = summary["identity"]["psnr"]
    epoch = step / run.steps_per_epoch
    run.log.scalars(step, stage.index, epoch, values)
    run.log.images(step, "blur_prediction_sharp", [evaluate.strip(sample) for sample in result.samples])
    gain = summary["psnr"] - summary["identity"]["psnr"]
    say(f"epoch {epoch:g}: validation PSNR {summary['psnr']:.2f} dB, {gain:+.2f} dB against the blurred input")
    return summary["psnr"]


def save(run: Run, stage: Stage, state: TrainState, losses: list[float], validation_psnr: float | None) -> None:
    """Save a checkpoint from which this very step goes on."""
    progress = {"stage": stage.index, "losses": losses, "initial_weights": run.initial_words}
    run.checkpoints.save(state, progress, validation_psnr)
