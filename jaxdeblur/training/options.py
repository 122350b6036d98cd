"""The options of training stages, as the config has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NamedOptions:
    """The name of an optimizer or schedule, and its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EncoderOptions:
    """How a network's encoder is trained: epochs frozen at the stage's start, and its learning-rate multiplier."""

    frozen_epochs: int = 0
    lr_multiplier: float = 1.0


@dataclass(frozen=True)
class StageOptions:
    """The options of a stage.

    Attributes:
        epochs: its length.
        crop: size in pixels of random crops; 0 for whole frames.
        loss: a key of `LOSSES`.
        accumulate: micro-batches per step.
        clip_norm: largest global norm of the gradients; 0.0: not clipped.
        encoder: how the encoder is trained.
        optimizer: a name in `OPTIMIZERS`, with its options.
        schedule: a name in `SCHEDULES`, with its options.
    """

    epochs: int
    crop: int
    loss: str
    accumulate: int
    clip_norm: float
    encoder: EncoderOptions
    optimizer: NamedOptions
    schedule: NamedOptions
