"""Compiled forward passes of a network.

Images are RGB, NHWC, uint8 or float32 in [0, 1]. Predictions are float32, approximately in [0, 1], unclipped.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxdeblur.images.arrays import to_float
from jaxdeblur.models import needs_position
from jaxdeblur.models.borders import image_within
from jaxdeblur.models.pixels import TilePosition


def make_forward(model: nn.Module) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the jitted function from (variables, images (B, H, W, 3)) to predictions (B, H, W, 3)."""

    def forward(variables: Any, images: jax.Array) -> jax.Array:
        predictions: Any = model.apply(variables, to_float(images), train=False)
        return predictions

    return jax.jit(forward)


def make_tile_forward(model: nn.Module) -> Callable[[Any, jax.Array, TilePosition], jax.Array]:
    """Return the jitted function from (variables, tiles (B, h, w, 3), their position) to predictions (B, h, w, 3).

    Where a tile extends beyond the bottom or right border of the image, the network treats the border as it treats that
    of its input array. Tile sizes and offsets are multiples of 32; the image's size is a multiple of the network's own
    `multiple`.
    """
    takes_position = needs_position(model)

    def forward(variables: Any, tiles: jax.Array, position: TilePosition) -> jax.Array:
        options: dict[str, Any] = {"position": position} if takes_position else {}
        height, width = tiles.shape[1:3]
        with image_within(position.height - position.top, position.width - position.left, (height, width)):
            predictions: Any = model.apply(variables, to_float(tiles), train=False, **options)
        return predictions

    return jax.jit(forward)
