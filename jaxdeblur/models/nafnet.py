"""NAFNet: gated blocks without activation functions (Chen et al. 2022, arXiv 2204.04676). NHWC float32 in.

It starts as the identity, adds a correction to its input and leaves it unclipped. No BatchNorm: an image is restored as
in training, whatever stands beside it. Other than in the paper, the image may be worked on at half its resolution, and
the channel attention, a mean over the whole image, is off unless asked for: with it a part of an image becomes
something else than it does in the whole.
"""

from functools import partial
from typing import Literal

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from jaxdeblur.models import layers
from jaxdeblur.models.borders import mean_of_image
from jaxdeblur.models.cpu import conv as convolutions
from jaxdeblur.models.cpu.polyphase import depth_to_space, space_to_depth
from jaxdeblur.models.layers import at_multiple_of, rematerialised
from jaxdeblur.models.nafnet_layers import DepthwiseConv, PointwiseConv, gate, normalise_channels

Attention = Literal["none", "global"]


class GatedBlock(nn.Module):
    """The paper's NAFBlock: two gated branches, each scaled by zero at first and added to its input."""

    attention: Attention
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        pointwise = partial(PointwiseConv, dtype=self.dtype)
        y = pointwise(2 * features, name="expand1")(normalise_channels(x))
        y = gate(DepthwiseConv(self.dtype, name="depthwise")(y))
        if self.attention == "global":
            mean = mean_of_image(y).astype(y.dtype)  # (B, 1, 1, features)
            y = y * pointwise(features, name="attention")(mean)
        x = x + pointwise(features, scaled=True, name="project1")(y)
        y = gate(pointwise(2 * features, name="expand2")(normalise_channels(x)))
        return x + pointwise(features, scaled=True, name="project2")(y)


class NAFNet(nn.Module):
    """U-shaped network of gated blocks.

    Attributes:
        width: channels at the first level; doubled at each level below.
        encoder_blocks: blocks at each level on the way down, from the highest resolution on.
        middle_blocks: blocks at the lowest resolution.
        decoder_blocks: blocks at each level on the way up, as many levels, from the highest resolution on.
        half_resolution: the first level is at half the image's resolution, for a quarter of the work; else at the
            image's own, as in the paper.
        attention: "global" weighs channels by their means over the whole image, as in the paper; "none" does not.
        dtype: what it computes in; None: the images' type, which its output always has.
        remat: compute the activations inside blocks anew in the backward pass.
        cpu_fast_conv: on CPUs, use faster convolution algorithms, equal to rounding; False: plain ones everywhere.
    """

    width: int = 32
    encoder_blocks: tuple[int, ...] = (1, 1, 1)
    middle_blocks: int = 1
    decoder_blocks: tuple[int, ...] = (1, 1, 1)
    half_resolution: bool = True
    attention: Attention = "none"
    dtype: DTypeLike | None = None
    remat: bool = False
    cpu_fast_conv: bool = True

    @property
    def multiple(self) -> int:
        """What sides are padded to a multiple of."""
        return 2 ** (len(self.encoder_blocks) + self.half_resolution)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for every side from `multiple` up; `train` changes nothing."""
        del train
        with convolutions.use_fast_convolutions(self.cpu_fast_conv):
            return at_multiple_of(self.multiple, self._forward, x)

    def _forward(self, image: jax.Array) -> jax.Array:
        x = space_to_depth(image) if self.half_resolution else image
        lecun_normal, zeros = nn.initializers.lecun_normal(), nn.initializers.zeros
        conv = partial(layers.conv, kernel=3, use_bias=True, dtype=self.dtype)
        pointwise = partial(PointwiseConv, dtype=self.dtype)
        image_features, skips = x.shape[-1], []
        x = conv(self.width, kernel_init=lecun_normal, name="input")(x)
        for level, blocks in enumerate(self.encoder_blocks):
            x = self._blocks(x, blocks, f"encoder{level}")  # (B, H/2^level, W/2^level, width 2^level), or half of both
            skips.append(x)
            x = pointwise(2 * x.shape[-1], name=f"down{level}")(space_to_depth(x))
        x = self._blocks(x, self.middle_blocks, "middle")
        for level, blocks in reversed(list(enumerate(self.decoder_blocks))):
            x = depth_to_space(pointwise(2 * x.shape[-1], use_bias=False, name=f"up{level}")(x))
            x = self._blocks(skips.pop() + x, blocks, f"decoder{level}")
        x = conv(image_features, kernel_init=zeros, name="output")(x)
        x = depth_to_space(x) if self.half_resolution else x
        return image + x.astype(image.dtype)

    def _blocks(self, x: jax.Array, count: int, name: str) -> jax.Array:
        block = rematerialised(GatedBlock) if self.remat else GatedBlock
        for i in range(count):
            x = block(self.attention, self.dtype, name=f"{name}_{i}")(x)
        return x
