"""The stages of a run, planned from its config."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.training.losses import LOSSES
from jaxdeblur.training.optimizer import Encoder, create_optimizer, create_schedule


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of training with one loss and one optimizer: steps `first_step` to `end_step` - 1.

    Attributes:
        steps_per_epoch: whole batches in the training images.
        crop: side in pixels of its random crops; 0 for whole frames.
        tx: the optimizer.
        frozen_tx: the optimizer of the steps in which the encoder is frozen; its state is that of `tx`.
        encoder: how the encoder is trained; None: like the rest, or there is none.
        accumulate: micro-batches that a step's batch is worked through in.
        ema_decay: of the average of the parameters; 0.0: none is kept.
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
        """Return the learning rate that step `step` is taken with."""
        return float(self.schedule(step - self.first_step))

    def ends_epoch(self, step: Any) -> Any:
        """Return whether an epoch has ended when `step` steps of the run are done; `step` may be an array."""
        return (step - self.first_step) % self.steps_per_epoch == 0


def plan_stages(stages: list[dict], steps_per_epoch: int, *, encoder: str = "", ema_decay: float = 0.0) -> list[Stage]:
    """Return the stages of a config with their places in the run.

    Args:
        stages: the config's.
        steps_per_epoch: whole batches in the training images.
        encoder: name of the network's encoder among its parameters; "" if it has none.
        ema_decay: the config's.

    Raises:
        InputError: lists the schedules that do not fit into their stages.
    """
    planned, problems, first_step = [], [], 0
    for index, stage in enumerate(stages):
        try:
            planned.append(_plan_stage(index, stage, first_step, steps_per_epoch, encoder, ema_decay))
        except InputError as error:
            problems.append(f"stages[{index}].{error}")
        first_step += stage["epochs"] * steps_per_epoch
    if problems:
        remedy = f"An epoch of these images and this batch size is {steps_per_epoch} steps."
        raise InputError(list_problems("The schedule does not fit into its stage:", problems, remedy))
    return planned


def _plan_stage(
    index: int, stage: dict, first_step: int, steps_per_epoch: int, encoder: str, ema_decay: float
) -> Stage:
    length = stage["epochs"] * steps_per_epoch
    apart = None
    if stage["encoder"] != {"frozen_epochs": 0, "rate": 1.0}:
        frozen_steps = stage["encoder"]["frozen_epochs"] * steps_per_epoch
        apart = Encoder(encoder, frozen_steps, stage["encoder"]["rate"])
    schedule = create_schedule(stage["schedule"], length, steps_per_epoch)
    tx, frozen_tx = (
        create_optimizer(stage["optimizer"], schedule, stage["clip_norm"], apart, frozen=frozen)
        for frozen in (False, True)
    )
    return Stage(
        index=index,
        crop=stage["crop"],
        first_step=first_step,
        end_step=first_step + length,
        steps_per_epoch=steps_per_epoch,
        loss=LOSSES[stage["loss"]],
        tx=tx,
        frozen_tx=frozen_tx,
        schedule=schedule,
        encoder=apart,
        accumulate=stage["accumulate"],
        ema_decay=ema_decay,
    )
