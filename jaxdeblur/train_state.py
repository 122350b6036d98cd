"""The training state: parameters, BatchNorm statistics, optimizer and step."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training import train_state


class TrainState(train_state.TrainState):
    """flax's TrainState with BatchNorm statistics.

    `step` counts over all stages; the optimizer state belongs to the stage it was created for.
    """

    batch_stats: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `apply_fn` takes: parameters and statistics."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_variables(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    """Return freshly initialised `params` and `batch_stats`, the latter empty for a network without BatchNorm."""
    # No parameter's shape depends on the image's size.
    variables = model.init(key, jnp.zeros((1, 32, 32, 3)), train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def create_train_state(model: nn.Module, tx: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """Return a freshly initialised state; call it inside jit, so that every leaf is a device array."""
    return TrainState.create(apply_fn=model.apply, tx=tx, **init_variables(model, key))


def enter_stage(state: TrainState, tx: optax.GradientTransformation) -> TrainState:
    """Return the state with the next stage's optimizer, its own state fresh; parameters, statistics and step stay."""
    return state.replace(tx=tx, opt_state=tx.init(state.params))


def count_parameters(params: Any) -> int:
    """Return the number of trainable scalars; BatchNorm's running statistics do not count."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
