"""The training state: parameters, their EMA, BatchNorm statistics, optimizer state and step."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.training import train_state


class TrainState(train_state.TrainState):
    """Flax's TrainState with BatchNorm statistics and, optionally, an EMA of the parameters.

    `step` counts over all stages; the optimizer state belongs to the current stage.

    Attributes:
        batch_stats: BatchNorm's running statistics, which the EMA leaves out.
        ema_params: exponential moving average of `params`; None if disabled.
    """

    batch_stats: Any
    ema_params: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that are evaluated, saved and exported: EMA parameters if enabled, and `batch_stats`."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.batch_stats}

    @property
    def training(self) -> dict[str, Any]:
        """What training needs to resume besides `variables`: step, optimizer state and, with EMA, raw parameters."""
        params = {} if self.ema_params is None else {"params": self.params}
        return {"step": self.step, "state": self.opt_state, **params}

    def with_parts(self, variables: dict[str, Any], training: dict[str, Any]) -> "TrainState":
        """Return the state with other `variables` and `training`, which must have the same structure."""
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
        """Return the state with these parameters and statistics; the EMA starts from them too."""
        ema_params = None if self.ema_params is None else jax.tree.map(jnp.copy, variables["params"])
        return self.replace(**variables, ema_params=ema_params)


def init_variables(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    """Return freshly initialised `params` and `batch_stats`, the latter empty for a network without BatchNorm."""
    variables = _init(model, key)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


@partial(jax.jit, static_argnums=0)
def _init(model: nn.Module, key: jax.Array) -> dict[str, Any]:
    # jit so that callers who only need the shapes (eval_shape) share one trace with the one who needs the values. No
    # parameter's shape depends on the size of the image.
    return dict(model.init(key, jnp.zeros((1, 32, 32, 3)), train=False))


def create_train_state(
    model: nn.Module, tx: optax.GradientTransformation, key: jax.Array, *, ema: bool = False
) -> TrainState:
    """Return a freshly initialised state; call it inside jit, to make every leaf a device array.

    Args:
        model: the network.
        tx: the first stage's optimizer.
        key: for the initial parameters.
        ema: keep an EMA of the parameters, which starts at the initial ones.
    """
    variables = init_variables(model, key)
    ema_params = jax.tree.map(jnp.copy, variables["params"]) if ema else None
    return TrainState.create(apply_fn=model.apply, tx=tx, **variables, ema_params=ema_params)


def enter_stage(state: TrainState, tx: optax.GradientTransformation) -> TrainState:
    """Return the state with the next stage's optimizer in its initial state; all else is unchanged."""
    return state.replace(tx=tx, opt_state=tx.init(state.params))


def average(mean: Any, new: Any, decay: float) -> Any:
    """Return decay * mean + (1 - decay) * new, leaf by leaf, computed such that equal leaves stay exactly equal."""
    return jax.tree.map(lambda old, latest: old + (1.0 - decay) * (latest - old), mean, new)


def count_parameters(params: Any) -> int:
    """Return the number of trainable scalars, without BatchNorm's running statistics."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
