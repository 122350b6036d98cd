"""The stages of a run: where each starts and ends, and what it trains with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import optax

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.training.learning_rate import create_schedule
from jaxdeblur.training.losses import LOSSES
from jaxdeblur.training.optimizer import Encoder, create_optimizer
from jaxdeblur.training.options import EncoderOptions, StageOptions


@dataclass(frozen=True)
class Stage:
    """A part of training with one loss and one optimizer: steps `first_step` to `end_step` - 1.

    Attributes:
        steps_per_epoch: whole batches in the training images.
        crop: size in pixels of its random crops; 0 for whole frames.
        tx: the optimizer.
        frozen_tx: the optimizer of the steps in which the encoder is frozen; its state has the structure of `tx`'s.
        encoder: how the encoder is trained; None: like the rest, or there is none.
        accumulate: micro-batches per step.
        ema_decay: decay per step of the average of the parameters; 0.0: off.
    """

    index: int
    crop: int
    first_step: int
    end_step: int
    steps_per_epoch: int
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    tx: optax.GradientTransformation
    frozen_tx: optax.GradientTransformation
    schedule: optax.Schedule
    encoder: Encoder | None
    accumulate: int
    ema_decay: float

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return float(self.schedule(step - self.first_step))

    def ends_epoch(self, step: Any) -> Any:
        """Return whether an epoch ends after `step` steps of the run; `step` may be an array."""
        return (step - self.first_step) % self.steps_per_epoch == 0


def plan_stages(
    stages: Sequence[StageOptions], steps_per_epoch: int, *, encoder: str = "", ema_decay: float = 0.0
) -> list[Stage]:
    """Return the stages of a run.

    Args:
        stages: their options.
        steps_per_epoch: whole batches in the training images.
        encoder: name of the network's encoder among its parameters; "" if it has none.
        ema_decay: see `Stage`.

    Raises:
        InputError: lists the schedules that do not fit into their stages (code "schedule-too-long").
    """
    planned, problems, first_step = [], [], 0
    for index, options in enumerate(stages):
        try:
            planned.append(_plan_stage(index, options, first_step, steps_per_epoch, encoder, ema_decay))
        except InputError as error:
            problems.append(f"stages[{index}].{error}")
        first_step += options.epochs * steps_per_epoch
    if problems:
        remedy = f"With these images and this batch size, an epoch is {steps_per_epoch} steps."
        heading = "The schedule does not fit into its stage:"
        raise InputError(list_problems(heading, problems, remedy), code="schedule-too-long")
    return planned


def _plan_stage(
    index: int, options: StageOptions, first_step: int, steps_per_epoch: int, encoder_name: str, ema_decay: float
) -> Stage:
    length = options.epochs * steps_per_epoch
    encoder = None
    if options.encoder != EncoderOptions():
        frozen_steps = options.encoder.frozen_epochs * steps_per_epoch
        encoder = Encoder(encoder_name, frozen_steps, options.encoder.lr_multiplier)
    schedule = create_schedule(options.schedule, length, steps_per_epoch)
    tx, frozen_tx = (
        create_optimizer(options.optimizer, schedule, options.clip_norm, encoder, frozen=frozen)
        for frozen in (False, True)
    )
    return Stage(
        index=index,
        crop=options.crop,
        first_step=first_step,
        end_step=first_step + length,
        steps_per_epoch=steps_per_epoch,
        loss=LOSSES[options.loss],
        tx=tx,
        frozen_tx=frozen_tx,
        schedule=schedule,
        encoder=encoder,
        accumulate=options.accumulate,
        ema_decay=ema_decay,
    )
