"""Learning-rate schedules by hand."""

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.training.learning_rate import create_schedule
from tests.helpers.configs import named


def rates(schedule, total_steps, steps_per_epoch, steps):
    learning_rate = create_schedule(named(learning_rate=1.0, **schedule), total_steps, steps_per_epoch)
    return [float(learning_rate(step)) for step in steps]


@pytest.mark.parametrize(("warmup", "unit", "epoch"), [(4, "steps", 100), (2, "epochs", 2)])
def test_cosine_warms_up_and_decays(warmup, unit, epoch):
    """Four steps up from 0, eight down to 0: half of the way down is half of the rate, a quarter (2 + sqrt(2)) / 4."""
    schedule = {"name": "cosine", "warmup": warmup, "unit": unit}
    expected = [0, 0.5, 0.75, 1, (2 + 2**0.5) / 4, 0.5, 0]
    assert rates(schedule, 12, epoch, (0, 2, 3, 4, 6, 8, 12)) == pytest.approx(expected, abs=1e-6)


def test_cosine_without_a_warmup_starts_at_the_learning_rate():
    schedule = {"name": "cosine", "warmup": 0, "unit": "epochs"}
    assert rates(schedule, 8, 4, (0, 4, 8)) == pytest.approx([1, 0.5, 0], abs=1e-6)


@pytest.mark.parametrize(("every", "unit", "epoch"), [(6, "steps", 100), (2, "epochs", 3)])
def test_step_decays_every_given_number_of_steps_or_epochs(every, unit, epoch):
    schedule = {"name": "step", "factor": 0.1, "every": every, "unit": unit}
    expected = [1, 1, 0.1, 0.1, 0.01, 0.001]
    assert rates(schedule, 20, epoch, (0, 5, 6, 11, 12, 18)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("at", "unit", "epoch"), [((6, 9, 15), "steps", 100), ((2, 3, 5), "epochs", 3)])
def test_milestones_multiply_the_learning_rate(at, unit, epoch):
    """As PyTorch's MultiStepLR does; a milestone beyond the end of the stage is never reached."""
    schedule = {"name": "milestones", "factor": 0.5, "at": at, "unit": unit}
    expected = [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert rates(schedule, 12, epoch, (0, 5, 6, 8, 9, 14, 15, 30)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("warmup", "unit", "description"), [(12, "steps", "12 steps"), (3, "epochs", "3 epochs are 12 steps")]
)
def test_a_warmup_longer_than_its_stage_is_refused(warmup, unit, description):
    with pytest.raises(InputError, match=f"schedule.warmup: {description}, but its stage has only 12 steps"):
        rates({"name": "cosine", "warmup": warmup, "unit": unit}, 12, 4, (0,))
