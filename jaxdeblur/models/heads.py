"""Deviations of TransformNet and ResnetEncDec from their originals: a residual output, and training without BatchNorm.

Without BatchNorm all convolutions have biases and are initialised as `init` describes.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
from flax.linen.initializers import Initializer
from jax.typing import DTypeLike

from jaxdeblur.models.init import pytorch_default, zeros
from jaxdeblur.models.layers import BatchNorm

Norm = Literal["batch", "none"]
# Name of the last layer of a network that predicts a residual; files of weights are recognised by it.
CORRECTION = "correction"


def make_norm(norm: Norm, train: bool, dtype: DTypeLike | None) -> Callable[..., Callable[[jax.Array], jax.Array]]:
    """Return a function from a layer's `name` to BatchNorm, or to the identity.

    Raises:
        ValueError: `norm` is neither "batch" nor "none".
    """
    if norm == "batch":
        return partial(BatchNorm, use_running_average=not train, dtype=dtype)
    if norm == "none":
        return lambda name: lambda x: x
    raise ValueError(f"norm is {norm!r}, expected 'batch' or 'none'")


def output_layer_name(residual: bool, original: str) -> str:
    """Return the name of a network's last layer, whose name in the original is `original`."""
    return CORRECTION if residual else original


def output_layer_init(residual: bool) -> Initializer:
    """Return the initialiser of a network's last layer: zero for a residual."""
    return zeros if residual else pytorch_default


def restored_image(image: jax.Array, x: jax.Array, residual: bool) -> jax.Array:
    """Return the output for the last layer's `x`: `image` plus a residual, unclipped, or a sigmoid."""
    x = x.astype(image.dtype)
    return image + x if residual else nn.sigmoid(x)
