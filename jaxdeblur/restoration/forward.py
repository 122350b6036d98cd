"""A network applied to images: NHWC RGB, uint8, or float32 in [0, 1].

Predictions are float32, in about [0, 1], unclipped.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxdeblur.images.arrays import to_float
from jaxdeblur.models import needs_position
from jaxdeblur.models.borders import image_within
from jaxdeblur.models.pixels import TilePosition


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return a float image in [0, 1] as uint8: clipped, rounded to the nearest level; NaN is shown black."""
    return np.round(np.clip(np.nan_to_num(image), 0.0, 1.0) * 255.0).astype(np.uint8)


def make_forward(model: nn.Module) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the compiled function from (variables, batch (B, H, W, 3)) to predictions."""

    def forward(variables: Any, images: jax.Array) -> jax.Array:
        return model.apply(variables, to_float(images), train=False)

    return jax.jit(forward)


def make_part_forward(model: nn.Module) -> Callable[[Any, jax.Array, TilePosition], jax.Array]:
    """Return the compiled function from (variables, parts (B, h, w, 3), their positions in the whole) to predictions.

    Where a part reaches beyond the lower or right border of the whole, the network sees what it sees at the borders of
    an image. All sizes and offsets are multiples of 32, except those of the whole: multiples of the network's own.

    """

    takes_position = needs_position(model)

    def forward(variables: Any, parts: jax.Array, position: TilePosition) -> jax.Array:
        options = {"position": position} if takes_position else {}
        with image_within(position.height - position.top, position.width - position.left, parts.shape[1:3]):
            return model.apply(variables, to_float(parts), train=False, **options)

    return jax.jit(forward)
