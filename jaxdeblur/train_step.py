"""The device mesh, the stages of a run and the compiled training step.

Batches are uint8 NHWC; the network sees float32 in [0, 1].
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdeblur.evaluate import to_float
from jaxdeblur.losses import LOSSES
from jaxdeblur.optimizer import create_optimizer
from jaxdeblur.train_state import TrainState

TrainStep = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of training with one loss and one optimizer: steps `first_step` to `end_step` - 1.

    `crop` is the side in pixels of its random crops; 0 for whole frames.
    """

    index: int
    crop: int
    first_step: int
    end_step: int
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    tx: optax.GradientTransformation
    schedule: optax.Schedule

    def learning_rate(self, step: int) -> float:
        """Return the learning rate that step `step` is taken with."""
        return float(self.schedule(step - self.first_step))


def create_mesh() -> jax.sharding.Mesh:
    """Return a mesh of all devices with the one axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def create_local_mesh() -> jax.sharding.Mesh:
    """Return a mesh of this process's own devices; with one process the same as `create_mesh`."""
    devices = jax.local_devices()
    return jax.make_mesh((len(devices),), ("data",), devices=devices, axis_types=(AxisType.Auto,))


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


def to_devices(batch: dict[str, np.ndarray], sharding: NamedSharding) -> dict[str, jax.Array]:
    """Return the global batch on the devices, of which each process brings its part."""
    return {key: jax.make_array_from_process_local_data(sharding, part) for key, part in batch.items()}


def plan_stages(stages: list[dict], steps_per_epoch: int) -> list[Stage]:
    """Return the stages of a config with their places in the run."""
    planned, first_step = [], 0
    for index, stage in enumerate(stages):
        length = stage["epochs"] * steps_per_epoch
        tx, schedule = create_optimizer(stage["optimizer"], stage["schedule"], length)
        planned.append(
            Stage(index, stage["crop"], first_step, first_step + length, LOSSES[stage["loss"]], tx, schedule)
        )
        first_step += length
    return planned


def make_train_step(stage: Stage, mesh: jax.sharding.Mesh) -> TrainStep:
    """Return the compiled training step of a stage; it takes over (donates) the state it is given.

    With the batch sharded and the state replicated, the compiler sees one global batch: BatchNorm's statistics and
    the gradient are those of the whole batch on any number of devices.
    """

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, jax.Array]:
        blur, sharp = to_float(batch["blur"]), to_float(batch["sharp"])

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            prediction, updates = state.apply_fn(variables, blur, train=True, mutable=["batch_stats"])
            return stage.loss(prediction, sharp), updates.get("batch_stats", {})

        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        return state.apply_gradients(grads=grads, batch_stats=batch_stats), loss

    return jax.jit(train_step, donate_argnums=0, out_shardings=replicated(mesh))
