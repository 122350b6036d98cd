"""Aborts training on non-finite losses or weights."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxdeblur.errors import InputError
from jaxdeblur.runs.train_state import TrainState
from jaxdeblur.training.stages import Stage


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    # One program for all leaves: compiling one per shape would take longer than running it.
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def check_finite(state: TrainState, stage: Stage, step: int) -> None:
    """Refuse weights that are not finite: they must never replace a good checkpoint.

    Raises:
        InputError: names step, stage and learning rate.
    """
    if not _all_finite((state.params, state.ema_params, state.batch_stats)):
        raise not_finite("The weights are no longer finite after", stage, step)


def not_finite(message: str, stage: Stage, step: int) -> InputError:
    """Return the error that aborts a run at a step."""
    rate = stage.learning_rate(step - 1)
    return InputError(
        f"{message} step {step} (stages[{stage.index}], learning rate {rate:g}). Earlier checkpoints are untouched. "
        "Lower the learning rate and start a new run.",
        code="not-finite",
    )


def fetch_losses(losses: list[jax.Array], stage: Stage, last_step: int) -> list[float]:
    """Return the losses of the steps up to `last_step`, waiting for them.

    Raises:
        InputError: one is not finite.
    """
    values = [float(loss) for loss in losses]
    for step, value in enumerate(values, start=last_step - len(values) + 1):
        if not math.isfinite(value):
            raise not_finite(f"The loss is {value} at", stage, step)
    return values
