"""Small networks and variables for tests."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from jaxdeblur.models import MODELS, Network, build_model
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.weights.tensors import Shapes

TINY: dict[str, dict[str, Any]] = {name: network.tiny() for name, network in MODELS.items()}


def build_tiny(name: str, **options: Any) -> Network:
    """Return the smallest network of this name; `options` override its own."""
    return build_model(name, **{**TINY[name], **options})


def abstract_variables(model: nn.Module) -> dict[str, Any]:
    """Return shapes and types of a network's variables."""
    return jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))


def constant_variables(shapes: Shapes, value: float = 0.0) -> dict[str, Any]:
    """Return variables of these names and shapes, all filled with one value."""
    flat = {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def normal_variables(shapes: Shapes, scale: float = 0.1) -> dict[str, Any]:
    """Return normally distributed variables of these names and shapes, the same every time."""
    rng = np.random.default_rng(0)
    flat: Mapping[str, Any] = {name: rng.normal(0, scale, shape).astype(np.float32) for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")
