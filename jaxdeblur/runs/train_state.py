"""The training state: parameters, their running mean, BatchNorm statistics, optimizer and step."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training import train_state


class TrainState(train_state.TrainState):
    """flax's TrainState with BatchNorm statistics and, where it is kept, the mean of the parameters over the steps.

    `step` counts over all stages; the optimizer state belongs to the stage it was created for.

    Attributes:
        batch_stats: BatchNorm's running statistics, means over the steps by their nature.
        ema_params: exponential moving average of `params`; None where none is kept.
    """

    batch_stats: Any
    ema_params: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The network as it is scored, saved and exported: with the averaged parameters where they are kept."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}

    @property
    def training(self) -> dict[str, Any]:
        """What training goes on with, besides `variables`: step, optimizer state and, if not there, parameters."""
        params = {} if self.ema_params is None else {"params": self.params}
        return {"step": self.step, "state": self.opt_state, **params}

    def with_parts(self, variables: dict[str, Any], training: dict[str, Any]) -> "TrainState":
        """Return the state with other `variables` and `training`, which must have this one's structure."""
        if self.ema_params is None:
            params, ema_params = variables["params"], None
        else:
            params, ema_params = training["params"], variables["params"]
        return self.replace(
            step=training["step"],
            opt_state=training["state"],
            params=params,
            ema_params=ema_params,
            batch_stats=variables["batch_stats"],
        )

    def starting_from(self, variables: dict[str, Any]) -> "TrainState":
        """Return the state with these parameters and statistics; the average starts from them too."""
        ema_params = None if self.ema_params is None else jax.tree.map(jnp.copy, variables["params"])
        return self.replace(**variables, ema_params=ema_params)


def init_variables(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    """Return freshly initialised `params` and `batch_stats`, the latter empty for a network without BatchNorm."""
    variables = _init(model, key)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


@partial(jax.jit, static_argnums=0)
def _init(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    # Traced once by all who only ask for the shapes and by who makes the values. No parameter's shape depends on the
    # image's size.
    return model.init(key, jnp.zeros((1, 32, 32, 3)), train=False)


def create_train_state(
    model: nn.Module, tx: optax.GradientTransformation, key: jax.Array, *, ema: bool = False
) -> TrainState:
    """Return a freshly initialised state; call it inside jit, so that every leaf is a device array.

    `ema` says whether the average of the parameters is kept; it starts at the initial ones.
    """
    variables = init_variables(model, key)
    ema_params = jax.tree.map(jnp.copy, variables["params"]) if ema else None
    return TrainState.create(apply_fn=model.apply, tx=tx, **variables, ema_params=ema_params)


def enter_stage(state: TrainState, tx: optax.GradientTransformation) -> TrainState:
    """Return the state with the next stage's optimizer, its own state fresh; parameters, statistics and step stay."""
    return state.replace(tx=tx, opt_state=tx.init(state.params))


def average(mean: Any, new: Any, decay: float) -> Any:
    """Return decay * mean + (1 - decay) * new, leaf by leaf; exactly `mean` where the two are equal."""
    return jax.tree.map(lambda old, latest: old + (1.0 - decay) * (latest - old), mean, new)


def count_parameters(params: Any) -> int:
    """Return the number of trainable scalars; BatchNorm's running statistics do not count."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
