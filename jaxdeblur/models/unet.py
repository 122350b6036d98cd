"""UNet: a small residual network that starts as the identity. NHWC float32 in [0, 1] in; the output is unclipped.

There is neither normalisation nor a sigmoid: the network predicts a zero-initialised residual, so training starts at
the blurred input's score rather than having to learn the identity first. Resampling is by pixel shuffling (Shi et al.
2016, arXiv 1609.05158), which loses no information, and all blocks work at half resolution or below.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from jaxdeblur.models import layers
from jaxdeblur.models.cpu.conv import use_fast_convolutions
from jaxdeblur.models.init import he_normal, zeros
from jaxdeblur.models.layers import rematerialised
from jaxdeblur.models.network import Network
from jaxdeblur.models.pixels import at_multiple_of, depth_to_space, space_to_depth

conv = partial(layers.conv, use_bias=True, kernel_init=he_normal)
zero_conv = partial(layers.conv, use_bias=True, kernel_init=zeros)


class PlainBlock(nn.Module):
    """Residual block without normalisation; its second convolution starts at zero (as in Fixup, arXiv 1901.09321)."""

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.gelu(conv(self.features, 3, dtype=self.dtype, name="conv1")(x))
        return x + zero_conv(self.features, 3, dtype=self.dtype, name="conv2")(y)


class UNet(Network):
    """Residual U-Net on pixel-unshuffled images.

    Attributes:
        width: channels at half resolution; doubled at each level below.
        num_levels: number of resolutions, from 1/2 of the input's down by factors of 2.
        num_blocks: residual blocks per level in the encoder, and in the decoder.
        dtype: compute type; None: the images'. The output always has the images' type.
        remat: gradient checkpointing of each residual block.
        cpu_fast_conv: use faster convolution algorithms on CPUs, equal up to rounding; False: XLA's everywhere.
    """

    width: int = 32
    num_levels: int = 3
    num_blocks: int = 2
    dtype: DTypeLike | None = None
    remat: bool = False
    cpu_fast_conv: bool = True

    @property
    def multiple(self) -> int:
        """Height and width are padded internally to a multiple of this."""
        return 2**self.num_levels

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return options for a network that tests can run quickly."""
        return {"width": 4, "num_levels": 2, "num_blocks": 1}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for any height and width from `multiple`; `train` has no effect."""
        del train
        with use_fast_convolutions(self.cpu_fast_conv):
            return at_multiple_of(self.multiple, self._forward, x)

    def _forward(self, image: jax.Array) -> jax.Array:
        x, skips, layer = image, [], partial(conv, dtype=self.dtype)
        for level in range(self.num_levels):
            features = self.width * 2**level
            x = layer(features, 3 if level == 0 else 1, name=f"down{level}")(space_to_depth(x))
            x = self._blocks(x, features, f"encoder{level}")  # (B, H/2^(level+1), W/2^(level+1), features)
            skips.append(x)
        x = skips.pop()
        for level in reversed(range(self.num_levels - 1)):
            features = self.width * 2**level
            x = layer(4 * features, 1, name=f"up{level}")(x)
            x = self._blocks(skips.pop() + depth_to_space(x), features, f"decoder{level}")
        x = zero_conv(12, 3, dtype=self.dtype, name="output")(x)  # (B, H/2, W/2, 12)
        return image + depth_to_space(x).astype(image.dtype)  # (B, H, W, 3)

    def _blocks(self, x: jax.Array, features: int, name: str) -> jax.Array:
        block = rematerialised(PlainBlock) if self.remat else PlainBlock
        for i in range(self.num_blocks):
            x = block(features, self.dtype, name=f"{name}_{i}")(x)
        return x
