"""Learning-rate schedules and optimizers by name, and what may stand around an optimizer.

Learning rates are per step; schedules count steps from their stage's start.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxdeblur.errors import InputError

Unit = Literal["steps", "epochs"]


@dataclasses.dataclass(frozen=True)
class Encoder:
    """How the encoder of a network is trained in a stage.

    Attributes:
        name: its key in the tree of parameters; everything below it is the encoder.
        frozen_steps: steps from the stage's start in which it gets no update.
        rate: its learning rate, relative to that of the schedule.
    """

    name: str
    frozen_steps: int
    rate: float

    def labels(self, params: dict[str, Any]) -> dict[str, str]:
        """Return for each top-level key of the parameters whether it is the `encoder` or the `rest`."""
        return {name: "encoder" if name == self.name else "rest" for name in params}


def _steps(length: int, unit: Unit, steps_per_epoch: int) -> int:
    return length * steps_per_epoch if unit == "epochs" else length


def constant(total_steps: int, steps_per_epoch: int, *, learning_rate: float) -> optax.Schedule:
    """Return `learning_rate` at every step."""
    del total_steps, steps_per_epoch
    return optax.constant_schedule(learning_rate)


def cosine(total_steps: int, steps_per_epoch: int, *, learning_rate: float, warmup: int, unit: Unit) -> optax.Schedule:
    """Return a linear rise from 0 to `learning_rate` in `warmup`, then half a cosine to 0 at `total_steps`.

    Raises:
        InputError: the rise takes the whole stage or more.
    """
    warmup_steps = _steps(warmup, unit, steps_per_epoch)
    if warmup_steps >= total_steps:
        words = f"schedule.warmup: {warmup} {unit}" + (f" are {warmup_steps} steps" if unit == "epochs" else "")
        raise InputError(f"{words}, but its stage has only {total_steps} steps. Lower it.")
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, total_steps)


def step(
    total_steps: int, steps_per_epoch: int, *, learning_rate: float, factor: float, every: int, unit: Unit
) -> optax.Schedule:
    """Return `learning_rate`, multiplied by `factor` each time that another `every` have passed."""
    del total_steps
    return optax.exponential_decay(learning_rate, _steps(every, unit, steps_per_epoch), factor, staircase=True)


def adam(*, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return the direction of Adam (Kingma and Ba 2014, arXiv 1412.6980)."""
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def sgd(*, momentum: float) -> optax.GradientTransformation:
    """Return the direction of stochastic gradient descent; momentum 0 keeps no buffer."""
    return optax.trace(momentum) if momentum else optax.identity()


SCHEDULES = {"constant": constant, "cosine": cosine, "step": step}
OPTIMIZERS = {"adam": adam, "sgd": sgd}


def create_schedule(schedule: dict, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate of a stage of `total_steps`; `schedule` holds `name` and that schedule's options.

    Raises:
        InputError: the schedule does not fit into the stage.
    """
    options = {key: value for key, value in schedule.items() if key != "name"}
    return SCHEDULES[schedule["name"]](total_steps, steps_per_epoch, **options)


def create_optimizer(
    optimizer: dict, schedule: optax.Schedule, clip_norm: float, encoder: Encoder | None, *, frozen: bool = False
) -> optax.GradientTransformation:
    """Return the optimizer of a stage.

    Args:
        optimizer: `name` and that optimizer's options.
        schedule: learning rates by step.
        clip_norm: largest global norm of the gradients, of all parameters that are trained together; larger ones are
            scaled down to it before the optimizer sees them (Pascanu et al. 2012, arXiv 1211.5063). 0: not clipped.
        encoder: how the encoder is trained; None where it is trained like the rest.
        frozen: the optimizer of the steps in which the encoder is frozen. It has the same state as the other, and
            leaves the encoder's part of it (moments, and the count that corrects their bias) as it is.
    """
    options = {key: value for key, value in optimizer.items() if key != "name"}
    direction = OPTIMIZERS[optimizer["name"]](**options)
    if encoder:
        scaled = optax.chain(direction, optax.scale(encoder.rate))
        parts = {"encoder": _hold(scaled) if frozen else scaled, "rest": direction}
        direction = optax.partition(parts, encoder.labels)
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    return optax.chain(*clip, direction, optax.scale_by_learning_rate(schedule))


def _hold(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return a transformation with the same state, which it keeps, and updates of zero."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformation(transformation.init, update)
