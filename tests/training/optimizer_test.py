"""Optimizers by hand."""

import jax.numpy as jnp
import pytest

from jaxdeblur.training.learning_rate import create_schedule
from jaxdeblur.training.optimizer import Encoder, create_optimizer
from tests.helpers.configs import named

SGD = named(name="sgd", momentum=0.0)
CONSTANT = create_schedule(named(name="constant", learning_rate=0.1), 100, 10)


def updates(tx, gradients):
    state, values = tx.init(jnp.zeros(())), []
    for gradient in gradients:
        update, state = tx.update(jnp.asarray(gradient), state)
        values.append(float(update))
    return values


def test_sgd_without_momentum_is_the_gradient_times_the_rate():
    tx = create_optimizer(SGD, CONSTANT, 0.0, None)
    assert updates(tx, [1.0, -2.0]) == pytest.approx([-0.1, 0.2])
    assert float(CONSTANT(99)) == pytest.approx(0.1)


def test_sgd_with_momentum_as_pytorch_defines_it():
    """v = momentum v + g; update = -rate v."""
    tx = create_optimizer(named(name="sgd", momentum=0.5), CONSTANT, 0.0, None)
    assert updates(tx, [1.0, 1.0]) == pytest.approx([-0.1, -0.15])


def test_adam_by_hand():
    tx = create_optimizer(named(name="adam", b1=0.9, b2=0.99, eps=0.5), CONSTANT, 0.0, None)
    first = -0.1 * 2 / (2 + 0.5)
    mean, square = 0.9 * 0.1 * 2 + 0.1 * 1, 0.99 * 0.01 * 4 + 0.01 * 1
    second = -0.1 * (mean / (1 - 0.81)) / ((square / (1 - 0.9801)) ** 0.5 + 0.5)
    assert updates(tx, [2.0, 1.0]) == pytest.approx([first, second], rel=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    """The norm of (3, 4) is 5: clipped to norm 1, they become (0.6, 0.8). Smaller gradients are unchanged."""
    tx = create_optimizer(SGD, CONSTANT, 1.0, None)
    params = {"a": jnp.zeros(()), "b": jnp.zeros((1,))}
    for gradients, expected in (((3.0, 4.0), (-0.06, -0.08)), ((0.3, 0.4), (-0.03, -0.04))):
        update, _ = tx.update({"a": jnp.asarray(gradients[0]), "b": jnp.asarray([gradients[1]])}, tx.init(params))
        assert (float(update["a"]), float(update["b"][0])) == pytest.approx(expected)


def test_a_frozen_encoder_keeps_its_optimizer_state():
    """Momentum 0.5, rate 0.25, gradients 1: frozen for a step, then its first step while the rest takes its second."""
    sgd = named(name="sgd", momentum=0.5)
    tx, frozen_tx = (create_optimizer(sgd, CONSTANT, 0.0, Encoder("enc", 1, 0.25), frozen=f) for f in (False, True))
    ones = {"enc": {"kernel": jnp.ones(2)}, "dec": {"kernel": jnp.ones(2)}}
    state = tx.init(ones)
    update, state = frozen_tx.update(ones, state)
    assert update["enc"]["kernel"].tolist() == [0.0, 0.0]
    assert update["dec"]["kernel"].tolist() == pytest.approx([-0.1, -0.1])
    update, state = tx.update(ones, state)
    assert update["enc"]["kernel"].tolist() == pytest.approx([-0.025, -0.025])
    assert update["dec"]["kernel"].tolist() == pytest.approx([-0.15, -0.15])
