"""Schedules and optimizers by hand."""

import jax.numpy as jnp
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.optimizer import create_optimizer

CONSTANT = {"name": "constant", "learning_rate": 0.1}


def updates(tx, gradients):
    state, found = tx.init(jnp.zeros(())), []
    for gradient in gradients:
        update, state = tx.update(jnp.asarray(gradient), state)
        found.append(float(update))
    return found


def test_sgd_without_momentum_is_the_gradient_times_the_rate():
    tx, schedule = create_optimizer({"name": "sgd", "momentum": 0.0}, CONSTANT, 100)
    assert updates(tx, [1.0, -2.0]) == pytest.approx([-0.1, 0.2])
    assert float(schedule(99)) == pytest.approx(0.1)


def test_sgd_with_momentum_as_pytorch_defines_it():
    """v = momentum v + g; update = -rate v."""
    tx, _ = create_optimizer({"name": "sgd", "momentum": 0.5}, CONSTANT, 100)
    assert updates(tx, [1.0, 1.0]) == pytest.approx([-0.1, -0.15])


def test_adam_by_hand():
    tx, _ = create_optimizer({"name": "adam", "b1": 0.9, "b2": 0.99, "eps": 0.5}, CONSTANT, 100)
    first = -0.1 * 2 / (2 + 0.5)
    mean, square = 0.9 * 0.1 * 2 + 0.1 * 1, 0.99 * 0.01 * 4 + 0.01 * 1
    second = -0.1 * (mean / (1 - 0.81)) / ((square / (1 - 0.9801)) ** 0.5 + 0.5)
    assert updates(tx, [2.0, 1.0]) == pytest.approx([first, second], rel=1e-5)


def test_cosine_rises_and_falls():
    schedule_options = {"name": "cosine", "learning_rate": 1.0, "warmup_steps": 4}
    _, schedule = create_optimizer({"name": "sgd", "momentum": 0.0}, schedule_options, 12)
    assert [float(schedule(step)) for step in (0, 2, 4, 8, 12)] == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-6)


def test_a_warmup_longer_than_its_stage_is_refused():
    schedule_options = {"name": "cosine", "learning_rate": 1.0, "warmup_steps": 12}
    with pytest.raises(InputError, match="warmup_steps: 12, but its stage has only 12 steps"):
        create_optimizer({"name": "sgd", "momentum": 0.0}, schedule_options, 12)
