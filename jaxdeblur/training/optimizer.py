"""Optimizers by name, gradient clipping, and the encoder's learning-rate multiplier and freezing."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdeblur.training.options import NamedOptions


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


def adam(*, b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return Adam's update without the learning rate (Kingma and Ba 2014, arXiv 1412.6980)."""
    return optax.scale_by_adam(b1=b1, b2=b2, eps=eps)


def sgd(*, momentum: float) -> optax.GradientTransformation:
    """Return the update of stochastic gradient descent without the learning rate; momentum 0 keeps no buffer."""
    return optax.trace(momentum) if momentum else optax.identity()


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"adam": adam, "sgd": sgd}


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
        parts = {"encoder": _frozen(scaled) if frozen else scaled, "rest": update}
        update = optax.partition(parts, encoder.labels)
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    return optax.chain(*clip, update, optax.scale_by_learning_rate(schedule))


def _frozen(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return a transformation with the same state, which it leaves unchanged, and zero updates."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformation(transformation.init, update)
