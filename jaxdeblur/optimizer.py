"""Learning-rate schedules and optax optimizers by name."""

import optax

from jaxdeblur.errors import InputError


def constant(total_steps: int, *, learning_rate: float) -> optax.Schedule:
    """Return `learning_rate` at every step."""
    del total_steps
    return optax.constant_schedule(learning_rate)


def cosine(total_steps: int, *, learning_rate: float, warmup_steps: int) -> optax.Schedule:
    """Return a linear rise from 0 to `learning_rate` in `warmup_steps`, then half a cosine to 0 at `total_steps`.

    Raises:
        InputError: the rise takes the whole stage or more.
    """
    if warmup_steps >= total_steps:
        found = f"schedule.warmup_steps: {warmup_steps}"
        raise InputError(f"{found}, but its stage has only {total_steps} steps. Lower it.")
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, total_steps)


def adam(schedule: optax.Schedule, *, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return Adam (Kingma and Ba 2014, arXiv 1412.6980)."""
    return optax.adam(schedule, b1=b1, b2=b2, eps=eps)


def sgd(schedule: optax.Schedule, *, momentum: float) -> optax.GradientTransformation:
    """Return stochastic gradient descent; momentum 0 keeps no buffer."""
    return optax.sgd(schedule, momentum=momentum or None)


SCHEDULES = {"constant": constant, "cosine": cosine}
OPTIMIZERS = {"adam": adam, "sgd": sgd}


def create_optimizer(
    optimizer: dict, schedule: dict, total_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Return the optimizer of a stage and its schedule, which counts steps from the stage's start.

    Args:
        optimizer: `name` and that optimizer's options.
        schedule: `name` and that schedule's options; learning rates per step.
        total_steps: length of the stage.
    """
    options = {key: value for key, value in schedule.items() if key != "name"}
    learning_rate = SCHEDULES[schedule["name"]](total_steps, **options)
    options = {key: value for key, value in optimizer.items() if key != "name"}
    return OPTIMIZERS[optimizer["name"]](learning_rate, **options), learning_rate
