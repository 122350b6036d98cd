"""UNet: a small residual network that starts as the identity. NHWC float32 in; out is unclipped.

No normalisation and no sigmoid: the network adds a correction to its input, and the correction starts at zero, so
training begins at the blurred input's own score instead of having to learn to copy it first. Down- and up-sampling
rearrange pixels (Shi et al. 2016, arXiv 1609.05158), so nothing is lost and most work is at half the resolution.
"""

from functools import partial

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from jaxdeblur.models import layers
from jaxdeblur.models.cpu import conv as convolutions
from jaxdeblur.models.cpu.polyphase import depth_to_space, space_to_depth
from jaxdeblur.models.layers import at_multiple_of, rematerialised

conv = partial(layers.conv, use_bias=True, kernel_init=nn.initializers.he_normal())
zero_conv = partial(layers.conv, use_bias=True, kernel_init=nn.initializers.zeros)


class PlainBlock(nn.Module):
    """Residual block without normalisation; its second convolution starts at zero (as in Fixup, arXiv 1901.09321)."""

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.gelu(conv(self.features, 3, dtype=self.dtype, name="conv1")(x))
        return x + zero_conv(self.features, 3, dtype=self.dtype, name="conv2")(y)


class UNet(nn.Module):
    """Residual U-Net on pixel-unshuffled images.

    Attributes:
        width: channels at half the resolution; doubled at each level below.
        num_levels: resolutions it works at: 1/2, 1/4, ... of the input's.
        num_blocks: residual blocks per level on the way down, and again on the way up.
        dtype: what it computes in; None: the images' type, which its output always has.
        remat: compute the activations inside residual blocks anew in the backward pass.
        cpu_fast_conv: on CPUs, use faster convolution algorithms, equal to rounding; False: plain ones everywhere.
    """

    width: int = 32
    num_levels: int = 3
    num_blocks: int = 2
    dtype: DTypeLike | None = None
    remat: bool = False
    cpu_fast_conv: bool = True

    @property
    def multiple(self) -> int:
        """What sides are padded to a multiple of."""
        return 2**self.num_levels

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for every side from `multiple` up; `train` changes nothing."""
        del train
        with convolutions.use_fast_convolutions(self.cpu_fast_conv):
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
        x = zero_conv(12, 3, dtype=self.dtype, name="output")(x)
        return image + depth_to_space(x).astype(image.dtype)  # (B, H, W, 3)

    def _blocks(self, x: jax.Array, features: int, name: str) -> jax.Array:
        block = rematerialised(PlainBlock) if self.remat else PlainBlock
        for i in range(self.num_blocks):
            x = block(features, self.dtype, name=f"{name}_{i}")(x)
        return x
