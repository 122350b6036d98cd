"""Small networks and variables for tests."""

import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from jaxdeblur.models import MODELS, build_model
from jaxdeblur.models.network import Network
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.weights.tensors import Shapes

TINY: dict[str, dict[str, Any]] = {name: network.tiny() for name, network in MODELS.items()}
# With enough channels for restored images to vary.
SMALL = {**TINY, "nafnet": {**TINY["nafnet"], "width": 8}, "unet": {**TINY["unet"], "width": 8}}


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
    flat = {name: rng.normal(0, scale, shape).astype(np.float32) for name, shape in shapes.items()}
    return traverse_util.unflatten_dict(flat, sep="/")


@functools.cache
def random_network(name: str) -> tuple[nn.Module, Any]:
    """Return a small network and random variables for which its output is neither flat nor saturated."""
    model, rng = build_model(name, **SMALL[name]), np.random.default_rng(1)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        if path[-1].key == "kernel":
            gain = 0.2 if path[-2].key == "output" else 0.7
            return noise * np.float32(gain / np.sqrt(np.prod(leaf.shape[:-1])))
        return 1 + 0.2 * np.abs(noise) if path[-1].key in ("scale", "var") else 0.1 * noise

    # From the shapes alone: compiling the initialisation would take longer than compiling the network.
    shapes = jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))
    return model, jax.tree.map_with_path(draw, shapes)


class Identity(nn.Module):
    """A network that returns its input."""

    multiple = 4

    @nn.compact
    def __call__(self, x, train):
        return x
