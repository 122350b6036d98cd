"""Learning-rate schedules by name. Learning rates are per step; schedules count steps from the start of their stage."""

from collections.abc import Callable
from typing import Literal

import optax

from jaxdeblur.errors import InputError
from jaxdeblur.training.options import NamedOptions

Unit = Literal["steps", "epochs"]


def _to_steps(length: int, unit: Unit, steps_per_epoch: int) -> int:
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
    warmup_steps = _to_steps(warmup, unit, steps_per_epoch)
    if warmup_steps >= total_steps:
        description = f"schedule.warmup: {warmup} {unit}" + (f" are {warmup_steps} steps" if unit == "epochs" else "")
        raise InputError(f"{description}, but its stage has only {total_steps} steps. Lower it.")
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, total_steps)


def step(
    total_steps: int, steps_per_epoch: int, *, learning_rate: float, factor: float, every: int, unit: Unit
) -> optax.Schedule:
    """Return `learning_rate`, multiplied by `factor` after every `every` steps or epochs."""
    del total_steps
    return optax.exponential_decay(learning_rate, _to_steps(every, unit, steps_per_epoch), factor, staircase=True)


def milestones(
    total_steps: int, steps_per_epoch: int, *, learning_rate: float, factor: float, at: tuple[int, ...], unit: Unit
) -> optax.Schedule:
    """Return `learning_rate`, multiplied by `factor` after each of the steps or epochs `at`."""
    del total_steps
    factors = {_to_steps(length, unit, steps_per_epoch): factor for length in at}
    return optax.piecewise_constant_schedule(learning_rate, factors)


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
    "milestones": milestones,
}


def create_schedule(schedule: NamedOptions, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Return the learning rate of a stage of `total_steps`, by step.

    Raises:
        InputError: the schedule does not fit into the stage.
    """
    return SCHEDULES[schedule.name](total_steps, steps_per_epoch, **schedule.options)
