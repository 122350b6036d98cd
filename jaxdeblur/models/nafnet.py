"""NAFNet: gated blocks without activation functions (Chen et al. 2022, arXiv 2204.04676). NHWC float32 in [0, 1] in.

The network starts as the identity: it predicts a zero-initialised residual, and the output is unclipped. Without
BatchNorm, inference computes the same function as training. Three deviations from the paper by default: the network
works at half the image's resolution, images are padded by reflection, and the channel attention, whose receptive field
is the whole image and which therefore precludes tiling, is off. The published networks are converted to
`half_resolution=False, padding="zeros", attention="local"` (`weights/nafnet_from_torch.py`).
"""

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from jaxdeblur.models import layers
from jaxdeblur.models.borders import local_mean_of_image, mean_of_image
from jaxdeblur.models.cpu.conv import use_fast_convolutions
from jaxdeblur.models.init import zeros
from jaxdeblur.models.layers import rematerialised
from jaxdeblur.models.nafnet_layers import DepthwiseConv, PointwiseConv, normalise_channels, simple_gate
from jaxdeblur.models.network import Network
from jaxdeblur.models.pixels import Padding, at_multiple_of, depth_to_space, space_to_depth

Attention = Literal["none", "global", "local"]


class GatedBlock(nn.Module):
    """The paper's NAFBlock: two gated residual branches, each with a zero-initialised scale per channel."""

    attention: Attention
    attention_box: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        pointwise = partial(PointwiseConv, dtype=self.dtype)
        y = pointwise(2 * features, name="expand1")(normalise_channels(x))
        y = simple_gate(DepthwiseConv(self.dtype, name="depthwise")(y))
        if self.attention != "none":
            is_global = self.attention == "global"
            mean = mean_of_image(y) if is_global else local_mean_of_image(y, self.attention_box)
            # (B, 1, 1, features), or (B, H, W, features) for local means
            y = y * pointwise(features, name="attention")(mean.astype(y.dtype))
        x = x + pointwise(features, scaled=True, name="project1")(y)
        y = simple_gate(pointwise(2 * features, name="expand2")(normalise_channels(x)))
        return x + pointwise(features, scaled=True, name="project2")(y)


class NAFNet(Network):
    """U-shaped network of gated blocks.

    Attributes:
        width: channels at the first level; doubled at each level below.
        encoder_blocks: blocks at each encoder level, highest resolution first.
        middle_blocks: blocks at the lowest resolution.
        decoder_blocks: blocks at each decoder level, highest resolution first; as many levels as the encoder has.
        half_resolution: the first level is at half the image's resolution, for a quarter of the work; False, as in the
            paper: at full resolution.
        attention: "global", as in the paper: scale channels by a function of their means over the image; "local": of
            their means over a box around each pixel (TLC, arXiv 2112.04491), as the published networks are tested,
            equal to "global" if the box covers the image; or "none".
        attention_box: side of that box in pixels of the image, divided by 2 per level; 384, as published, is 1.5 times
            the side of the training crops.
        padding: how images are extended at the bottom and right to a multiple of `multiple`: "reflect", or "zeros" as
            in the published network.
        dtype: compute type; None: the images'. The output always has the images' type.
        remat: gradient checkpointing of each block.
        cpu_fast_conv: use faster convolution algorithms on CPUs, equal up to rounding; False: XLA's everywhere.
    """

    width: int = 32
    encoder_blocks: tuple[int, ...] = (1, 1, 1)
    middle_blocks: int = 1
    decoder_blocks: tuple[int, ...] = (1, 1, 1)
    half_resolution: bool = True
    attention: Attention = "none"
    attention_box: int = 384
    padding: Padding = "reflect"
    dtype: DTypeLike | None = None
    remat: bool = False
    cpu_fast_conv: bool = True

    @property
    def multiple(self) -> int:
        """Height and width are padded internally to a multiple of this."""
        return 2 ** (len(self.encoder_blocks) + self.half_resolution)

    @property
    def sees_whole_image(self) -> bool:
        """Whether the receptive field is the whole image, which rules out restoring it in tiles."""
        return self.attention == "global"

    @property
    def pads_with_zeros(self) -> bool:
        """Whether images are padded to a multiple of `multiple` with zeros instead of by reflection."""
        return self.padding == "zeros"

    @property
    def min_tile_overlap(self) -> int:
        """Smallest overlap of tiles, in pixels: the side of the local means' boxes."""
        return self.attention_box if self.attention == "local" else 0

    def box_at(self, level: int) -> int:
        """Return the side of the local means' boxes in pixels of the feature maps at a level, 0 for the highest."""
        return max(self.attention_box >> (level + self.half_resolution), 1)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return options for a network that tests can run quickly."""
        return {"width": 4, "encoder_blocks": (1,), "middle_blocks": 1, "decoder_blocks": (1,)}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for any height and width from `multiple`; `train` has no effect."""
        del train
        with use_fast_convolutions(self.cpu_fast_conv):
            return at_multiple_of(self.multiple, self._forward, x, self.padding)

    def _forward(self, image: jax.Array) -> jax.Array:
        conv = partial(layers.conv, kernel=3, use_bias=True, dtype=self.dtype)
        pointwise = partial(PointwiseConv, dtype=self.dtype)
        x = space_to_depth(image) if self.half_resolution else image
        image_channels, skips = x.shape[-1], []
        x = conv(self.width, kernel_init=nn.initializers.lecun_normal(), name="input")(x)
        for level, num_blocks in enumerate(self.encoder_blocks):
            # (B, H/2^level, W/2^level, width 2^level), or half of that height and width.
            x = self._blocks(x, num_blocks, level, f"encoder{level}")
            skips.append(x)
            x = pointwise(2 * x.shape[-1], name=f"down{level}")(space_to_depth(x))
        x = self._blocks(x, self.middle_blocks, len(self.encoder_blocks), "middle")
        for level, num_blocks in reversed(list(enumerate(self.decoder_blocks))):
            x = depth_to_space(pointwise(2 * x.shape[-1], use_bias=False, name=f"up{level}")(x))
            x = self._blocks(skips.pop() + x, num_blocks, level, f"decoder{level}")
        x = conv(image_channels, kernel_init=zeros, name="output")(x)
        x = depth_to_space(x) if self.half_resolution else x
        return image + x.astype(image.dtype)

    def _blocks(self, x: jax.Array, count: int, level: int, name: str) -> jax.Array:
        box = self.box_at(level)
        block = rematerialised(GatedBlock) if self.remat else GatedBlock
        for i in range(count):
            x = block(self.attention, box, self.dtype, name=f"{name}_{i}")(x)
        return x
