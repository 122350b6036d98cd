"""TransformNet: the image transform network of Johnson et al. 2016 (arXiv 1603.08155, supplementary material).

NHWC float32 in [0, 1] in and out; with `residual` the output is unclipped. Layers are named as in the PyTorch
original's checkpoints.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from jaxdeblur.models.cpu.conv import use_fast_convolutions
from jaxdeblur.models.heads import Norm, make_norm, output_layer_init, output_layer_name, restored_image
from jaxdeblur.models.init import (
    he_normal,
    he_normal_transposed,
    pytorch_default,
    pytorch_default_transposed,
    zeros,
)
from jaxdeblur.models.layers import ConvTranspose2x, conv, rematerialised
from jaxdeblur.models.network import Network
from jaxdeblur.models.pixels import at_multiple_of


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to the input; no ReLU after the addition."""

    features: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = make_norm(self.norm, train, self.dtype)
        first, last = (pytorch_default, pytorch_default) if self.norm == "batch" else (he_normal, zeros)
        layer = partial(conv, use_bias=self.norm == "none", dtype=self.dtype)
        y = layer(self.features, 3, kernel_init=first, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = layer(self.features, 3, kernel_init=last, name="conv2")(y)
        return x + norm(name="bn2")(y)


class TransformNet(Network):
    """Transform network; 1,677,859 parameters as published.

    Attributes:
        width: channels after the first layer; the bottleneck has four times as many.
        num_blocks: residual blocks at a quarter of the resolution.
        residual: predict a residual, zero-initialised and unclipped; False, as published: a sigmoid output.
        norm: "batch" as published, or "none": no BatchNorm, biases instead.
        dtype: compute type; None: the images'. The output always has the images' type.
        remat: gradient checkpointing of each residual block, of the layers before them and of those after them.
        cpu_fast_conv: use faster convolution algorithms on CPUs, equal up to rounding; False: XLA's everywhere.
    """

    width: int = 32
    num_blocks: int = 5
    residual: bool = False
    norm: Norm = "batch"
    dtype: DTypeLike | None = None
    remat: bool = False
    cpu_fast_conv: bool = True

    @property
    def multiple(self) -> int:
        """Height and width are padded internally to a multiple of this."""
        return 4

    @classmethod
    def tiny(cls) -> dict[str, Any]:
        """Return options for a network that tests can run quickly."""
        return {"width": 4, "num_blocks": 1}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for any height and width from 4.

        With `train`, BatchNorm uses the batch's statistics.
        """
        with use_fast_convolutions(self.cpu_fast_conv):
            return at_multiple_of(self.multiple, partial(self._forward, train=train), x)

    def _forward(self, image: jax.Array, train: bool) -> jax.Array:
        block = rematerialised(ResidualBlock) if self.remat else ResidualBlock
        down, up = (nn.remat(part, static_argnums=2) if self.remat else part for part in (_down, _up))
        x = down(self, image, train)  # (B, H/4, W/4, 128)
        for i in range(self.num_blocks):
            x = block(4 * self.width, self.dtype, self.norm, name=f"res_block{i}")(x, train)
        x = up(self, x, train)  # (B, H, W, 32)
        name, init = output_layer_name(self.residual, "conv6"), output_layer_init(self.residual)
        x = conv(3, 9, use_bias=True, dtype=self.dtype, name=name, kernel_init=init)(x)
        return restored_image(image, x, self.residual)


def _down(net: TransformNet, x: jax.Array, train: bool) -> jax.Array:
    norm = make_norm(net.norm, train, net.dtype)
    init = pytorch_default if net.norm == "batch" else he_normal
    layer = partial(conv, use_bias=True, kernel_init=init, dtype=net.dtype)
    x = layer(net.width, 9, name="conv1")(x)
    x = nn.relu(norm(name="bn1")(x))
    x = layer(2 * net.width, 3, 2, name="conv2")(x)  # (B, H/2, W/2, 64)
    x = nn.relu(norm(name="bn2")(x))
    x = layer(4 * net.width, 3, 2, name="conv3")(x)  # (B, H/4, W/4, 128)
    return nn.relu(norm(name="bn3")(x))


def _up(net: TransformNet, x: jax.Array, train: bool) -> jax.Array:
    norm = make_norm(net.norm, train, net.dtype)
    init = pytorch_default_transposed if net.norm == "batch" else he_normal_transposed
    layer = partial(ConvTranspose2x, kernel_size=3, use_bias=net.norm == "none", kernel_init=init, dtype=net.dtype)
    x = layer(2 * net.width, name="conv4")(x)  # (B, H/2, W/2, 64)
    x = nn.relu(norm(name="bn4")(x))
    x = layer(net.width, name="conv5")(x)  # (B, H, W, 32)
    return nn.relu(norm(name="bn5")(x))
