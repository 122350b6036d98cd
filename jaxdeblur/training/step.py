"""The compiled training step. Batches are uint8 NHWC; the network sees float32 in [0, 1]."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from jaxdeblur.images.arrays import to_float
from jaxdeblur.models.network import COARSE_OUTPUTS
from jaxdeblur.runs.train_state import TrainState, average
from jaxdeblur.runtime.sharding import replicated
from jaxdeblur.training.losses import mean_over_scales
from jaxdeblur.training.stages import Stage
from jaxdeblur.training.tensor_histograms import Counts, count_values

Batch = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, jax.Array, Counts]]
# From BatchNorm statistics and a batch to the loss, the new statistics and the gradients.
Gradients = Callable[[Any, Batch], tuple[jax.Array, Any, Any]]


def make_train_step(stage: Stage, mesh: jax.sharding.Mesh) -> TrainStep:
    """Return the compiled training step of a stage; it donates the state it is given.

    The batch is sharded and the state replicated, so the compiler sees one global batch: BatchNorm statistics and the
    gradient are those of the whole batch on any number of devices. With gradient accumulation, every micro-batch is
    shared by all devices, and BatchNorm normalizes by the statistics of each micro-batch.

    Besides the state and the loss, the step returns histograms of the new `weights` and of the unclipped `gradients`
    in the last step of every epoch; in other steps they are zero and cost nothing.

    No gradient is computed for a frozen encoder: it is not updated, its optimizer state is unchanged, and it does not
    count in the global norm. Its BatchNorm layers behave as in training.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array, Counts]:
        if stage.encoder is None or stage.encoder.frozen_steps == 0:
            state, loss, grads = _update(stage, mesh, state, batch, frozen=False)
        else:
            is_frozen = state.step < stage.first_step + stage.encoder.frozen_steps
            branches = [partial(_update, stage, mesh, frozen=frozen) for frozen in (True, False)]
            state, loss, grads = jax.lax.cond(is_frozen, *branches, state, batch)
        return state, loss, _count_if(stage.ends_epoch(state.step), {"weights": state.params, "gradients": grads})

    return jax.jit(train_step, donate_argnums=0, out_shardings=replicated(mesh))


def _update(
    stage: Stage, mesh: jax.sharding.Mesh, state: TrainState, batch: Batch, *, frozen: bool
) -> tuple[TrainState, jax.Array, Any]:
    """Return the state after a step, the loss and the gradients; those of a frozen encoder are zero."""
    frozen_name = stage.encoder.name if frozen and stage.encoder else None
    frozen_params = {name: tree for name, tree in state.params.items() if name == frozen_name}
    trained = {name: tree for name, tree in state.params.items() if name not in frozen_params}
    gradients = _make_gradients(stage, state, trained, frozen_params)
    if stage.accumulate == 1:
        loss, batch_stats, grads = gradients(state.batch_stats, batch)
    else:
        loss, batch_stats, grads = _accumulate(gradients, state.batch_stats, trained, batch, stage.accumulate, mesh)
    grads = {**grads, **jax.tree.map(jnp.zeros_like, frozen_params)}
    tx = stage.frozen_tx if frozen else stage.tx
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = {**optax.apply_updates(state.params, updates), **frozen_params}
    ema_params = average(state.ema_params, params, stage.ema_decay) if stage.ema_decay else None
    state = state.replace(
        step=state.step + 1, params=params, opt_state=opt_state, batch_stats=batch_stats, ema_params=ema_params
    )
    return state, loss, grads


def _make_gradients(stage: Stage, state: TrainState, trained: Any, frozen_params: Any) -> Gradients:
    """Return the function that computes loss and gradients for `trained`; `frozen_params` are constants."""

    def gradients(batch_stats: Any, batch: Batch) -> tuple[jax.Array, Any, Any]:
        blur, sharp = to_float(batch["blur"]), to_float(batch["sharp"])

        def loss_fn(trained: Any) -> tuple[jax.Array, Any]:
            variables = {"params": {**trained, **frozen_params}, "batch_stats": batch_stats}
            mutable = ["batch_stats", COARSE_OUTPUTS]
            prediction, updates = state.apply_fn(variables, blur, train=True, mutable=mutable)
            coarse = updates.get(COARSE_OUTPUTS, {}).get("images", ())
            loss = mean_over_scales(stage.loss, prediction, coarse, sharp)
            return loss, updates.get("batch_stats", {})

        (loss, new_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(trained)
        return loss, new_stats, grads

    return gradients


def _count_if(wanted: jax.Array, tree: Any) -> Counts:
    """Return the histograms of a tree, or zeros."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(count_values, tree))
    return jax.lax.cond(wanted, count_values, lambda _: zeros, tree)


def _accumulate(
    gradients: Gradients, batch_stats: Any, params: Any, batch: Batch, count: int, mesh: jax.sharding.Mesh
) -> tuple[jax.Array, Any, Any]:
    """Return the mean loss and gradients over `count` micro-batches, and the statistics after the last of them.

    Micro-batch i holds images i, i + count, i + 2 count, ..., so that every device works on images it already holds.
    """

    def split(images: jax.Array) -> jax.Array:
        parts = images.reshape(-1, count, *images.shape[1:]).swapaxes(0, 1)  # (count, B/count, H, W, 3)
        return jax.lax.with_sharding_constraint(parts, NamedSharding(mesh, PartitionSpec(None, "data")))

    def add(carry: tuple, part: Batch) -> tuple[tuple, None]:
        total_loss, batch_stats, total = carry
        loss, batch_stats, grads = gradients(batch_stats, part)
        return (total_loss + loss, batch_stats, jax.tree.map(jnp.add, total, grads)), None

    start = (jnp.zeros(()), batch_stats, jax.tree.map(jnp.zeros_like, params))
    (loss, batch_stats, grads), _ = jax.lax.scan(add, start, jax.tree.map(split, batch))
    return loss / count, batch_stats, jax.tree.map(lambda leaf: leaf / count, grads)
