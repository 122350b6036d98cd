"""Learning-rate schedules and optimizers by name, gradient clipping and the encoder's learning rate.

Learning rates are per step; schedules count steps from the start of their stage.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from jaxdeblur.errors import InputError

Unit = Literal["steps", "epochs"]


@dataclasses.dataclass(frozen=True)
class NamedOptions:
    """The name of an optimizer or schedule, and its options."""

    name: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """How the encoder of a network is trained in a stage.

    Attributes:
        name: its key among the parameters.
        frozen_steps: steps from the start of the stage in which it is not updated.
        lr_multiplier: its learning rate relative to the schedule's.
    """

    name: str
    frozen_steps: int
    lr_multiplier: float

    def labels(self, params: dict[str, Any]) -> dict[str, str]:
        """Return `encoder` or `rest` for each top-level key of the parameters."""
        return {name: "encoder" if name == self.name else "rest" for name in params}


def _steps(length: int, unit: Unit, steps_per_epoch: int) -> int:
    return length * steps_per_epoch if unit == "epochs" else length


def constant(total_steps: int, steps_per_epoch: int, *, learning_rate: float) -> optax.Schedule:
    """Return `learning_rate` at every step."""
    del total_steps, steps_per_epoch
    return optax.constant_schedule(learning_rate)


def cosine(total_steps: int, steps_per_epoch: int, *, learning_rate: float, warmup: int, unit: Unit) -> optax.Schedule:
    """Return a linear warmup from 0 to `learning_rate`, then a cosine decay to 0 at `total_steps`.

    Raises:
        InputError: the warmup takes the whole stage or more.
    """
    warmup_steps = _steps(warmup, unit, steps_per_epoch)
    if warmup_steps >= total_steps:
        words = f"schedule.warmup: {warmup} {unit}" + (f" are {warmup_steps} steps" if unit == "epochs" else "")
        raise InputError(f"{words}, but its stage has only {total_steps} steps. Lower it.")
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, total_steps)


def step(
    total_steps: int, steps_per_epoch: int, *, learning_rate: float, factor: float, every: int, unit: Unit
) -> optax.Schedule:
    """Return `learning_rate`, multiplied by `factor` after every `every` steps or epochs."""
    del total_steps
    return optax.exponential_decay(learning_rate, _steps(every, unit, steps_per_epoch), factor, staircase=True)


def adam(*, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return Adam's update without the learning rate (Kingma and Ba 2014, arXiv 1412.6980)."""
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def sgd(*, momentum: float) -> optax.GradientTransformation:
    """Return the update of stochastic gradient descent without the learning rate; momentum 0 keeps no buffer."""
    return optax.trace(momentum) if momentum else optax.identity()


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {"constant": constant, "cosine": cosine, "step": step}
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adam": adam, "sgd": sgd}


def create_schedule(schedule: NamedOptions, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate of a stage of `total_steps`, by step.

    Raises:
        InputError: the schedule does not fit into the stage.
    """
    return SCHEDULES[schedule.name](total_steps, steps_per_epoch, **schedule.options)


def create_optimizer(
    optimizer: NamedOptions,
    schedule: optax.Schedule,
    clip_norm: float,
    encoder: Encoder | None,
    *,
    frozen: bool = False,
) -> optax.GradientTransformation:
    """Return the optimizer of a stage.

    Args:
        optimizer: its name and options.
        schedule: learning rate by step.
        clip_norm: largest global norm of the gradients of all parameters that are trained together; larger gradients
            are scaled down before the optimizer sees them (Pascanu et al. 2012, arXiv 1211.5063). 0: not clipped.
        encoder: how the encoder is trained; None: like the rest.
        frozen: the optimizer of the steps in which the encoder is frozen. Its state has the same structure, and the
            encoder's part of it (moments and step count) is left unchanged.
    """
    update = OPTIMIZERS[optimizer.name](**optimizer.options)
    if encoder:
        scaled = optax.chain(update, optax.scale(encoder.lr_multiplier))
        parts = {"encoder": _hold(scaled) if frozen else scaled, "rest": update}
        update = optax.partition(parts, encoder.labels)
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    return optax.chain(*clip, update, optax.scale_by_learning_rate(schedule))


def _hold(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return a transformation with the same state, which it leaves unchanged, and zero updates."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformation(transformation.init, update)
