"""MSResNet, the network of DeepDeblur: coarse to fine over three scales (Nah et al. 2017, arXiv 1612.02177).

NHWC float32 in [0, 1] in; the output is unclipped, and there is no skip connection from the input to it. Each scale has
a residual network without normalisation, which sees the blurred image at its scale and the upsampled output of the next
coarser one. All layers see values of 0 to 255 minus 127.5, as published. Layers have the numbers of the authors' files.

The receptive field of a pixel reaches 584 pixels in each direction at the published size, so large images are restored
in tiles, which equal the whole image's restoration only with an overlap of 1568 (docs/parity.md).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeblur.models import layers
from jaxdeblur.models.cpu.conv import use_fast_convolutions
from jaxdeblur.models.network import COARSE_OUTPUTS, Network
from jaxdeblur.models.pixels import at_multiple_of, pixel_shuffle
from jaxdeblur.models.pyramid import gaussian_pyramid

conv = partial(layers.conv, kernel=5, use_bias=True)
# With gradient checkpointing, only the input of every fourth residual block is stored.
BLOCKS_PER_CHECKPOINT = 4


class ResidualBlock(nn.Module):
    """Two 5x5 convolutions added to the input; no ReLU after the addition."""

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(conv(self.features, dtype=self.dtype, name="conv1")(x))
        return x + conv(self.features, dtype=self.dtype, name="conv2")(y)


class ScaleNet(nn.Module):
    """The network of one scale: (B, h, w, 3 or 6) to (B, h, w, 3)."""

    width: int
    num_blocks: int
    dtype: DTypeLike | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        run = nn.remat(_run_blocks, static_argnums=(2, 3)) if self.remat else _run_blocks
        x = conv(self.width, dtype=self.dtype, name="conv0")(x)  # (B, h, w, 64)
        for first in range(1, self.num_blocks + 1, BLOCKS_PER_CHECKPOINT):
            x = run(self, x, first, min(first + BLOCKS_PER_CHECKPOINT - 1, self.num_blocks))
        return conv(3, dtype=self.dtype, name=f"conv{self.num_blocks + 1}")(x)


def _run_blocks(net: ScaleNet, x: jax.Array, first: int, last: int) -> jax.Array:
    for i in range(first, last + 1):
        x = ResidualBlock(net.width, net.dtype, name=f"block{i}")(x)
    return x


class MSResNet(Network):
    """Multi-scale residual network; 11,721,321 parameters as published.

    In training, the outputs of the coarser scales are stored as `COARSE_OUTPUTS`, and the loss is the mean over scales.

    Attributes:
        width: channels at every scale.
        num_blocks: residual blocks per scale.
        num_scales: resolutions, from the image's down by factors of 2.
        dtype: compute type; None: the images'. The output always has the images' type, but with bfloat16 it is rounded
            to about half an 8-bit level.
        remat: gradient checkpointing of every four residual blocks.
        cpu_fast_conv: use faster convolution algorithms on CPUs, equal up to rounding; False: XLA's everywhere.
    """

    width: int = 64
    num_blocks: int = 19
    num_scales: int = 3
    dtype: DTypeLike | None = None
    remat: bool = False
    cpu_fast_conv: bool = True

    @property
    def multiple(self) -> int:
        """Height and width are padded internally to a multiple of this."""
        return 2 ** (self.num_scales - 1)

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return options for a network that tests can run quickly."""
        return {"width": 4, "num_blocks": 1}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for any height and width from `multiple`."""
        with use_fast_convolutions(self.cpu_fast_conv):
            return at_multiple_of(self.multiple, partial(self._forward, train=train), x)

    def _forward(self, image: jax.Array, train: bool) -> jax.Array:
        pyramid = gaussian_pyramid(image, self.num_scales)  # finest first
        output: jax.Array | None = None
        for scale in reversed(range(self.num_scales)):
            x = 255 * pyramid[scale] - 127.5  # (B, H/2^scale, W/2^scale, 3)
            if output is not None:
                upsampled = pixel_shuffle(conv(12, dtype=self.dtype, name=f"up{scale + 1}")(output))
                x = jnp.concatenate([x, upsampled.astype(x.dtype)], axis=-1)
            net = ScaleNet(self.width, self.num_blocks, self.dtype, self.remat, name=f"scale{scale}")
            output = net(x).astype(image.dtype)
            restored = (output + 127.5) / 255
            if train and scale > 0:
                self.sow(COARSE_OUTPUTS, "images", restored)
        return restored
