"""Schedules and optimizers by hand."""

import jax.numpy as jnp
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.training.optimizer import Encoder, create_optimizer, create_schedule
from tests.helpers.configs import named

SGD = named(name="sgd", momentum=0.0)
CONSTANT = create_schedule(named(name="constant", learning_rate=0.1), 100, 10)


def updates(tx, gradients):
    state, found = tx.init(jnp.zeros(())), []
    for gradient in gradients:
        update, state = tx.update(jnp.asarray(gradient), state)
        found.append(float(update))
    return found


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


def rates(schedule, total_steps, steps_per_epoch, steps):
    found = create_schedule(named(learning_rate=1.0, **schedule), total_steps, steps_per_epoch)
    return [float(found(step)) for step in steps]


@pytest.mark.parametrize(("warmup", "unit", "epoch"), [(4, "steps", 100), (2, "epochs", 2)])
def test_cosine_rises_and_falls(warmup, unit, epoch):
    """Four steps up from 0, eight down to 0: half of the way down is half of the rate, a quarter (2 + sqrt(2)) / 4."""
    schedule = {"name": "cosine", "warmup": warmup, "unit": unit}
    expected = [0, 0.5, 0.75, 1, (2 + 2**0.5) / 4, 0.5, 0]
    assert rates(schedule, 12, epoch, (0, 2, 3, 4, 6, 8, 12)) == pytest.approx(expected, abs=1e-6)


def test_cosine_without_a_warmup_starts_at_the_rate():
    schedule = {"name": "cosine", "warmup": 0, "unit": "epochs"}
    assert rates(schedule, 8, 4, (0, 4, 8)) == pytest.approx([1, 0.5, 0], abs=1e-6)


@pytest.mark.parametrize(("every", "unit", "epoch"), [(6, "steps", 100), (2, "epochs", 3)])
def test_steps_decay_at_their_joints(every, unit, epoch):
    schedule = {"name": "step", "factor": 0.1, "every": every, "unit": unit}
    expected = [1, 1, 0.1, 0.1, 0.01, 0.001]
    assert rates(schedule, 20, epoch, (0, 5, 6, 11, 12, 18)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("warmup", "unit", "words"), [(12, "steps", "12 steps"), (3, "epochs", "3 epochs are 12 steps")]
)
def test_a_warmup_longer_than_its_stage_is_refused(warmup, unit, words):
    with pytest.raises(InputError, match=f"schedule.warmup: {words}, but its stage has only 12 steps"):
        rates({"name": "cosine", "warmup": warmup, "unit": unit}, 12, 4, (0,))


def test_the_norm_is_that_of_all_gradients_together():
    """Of (3, 4) it is 5: clipped to 1 they are (0.6, 0.8), whichever tensor they are in; smaller ones stay."""
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
