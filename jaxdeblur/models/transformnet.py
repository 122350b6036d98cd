"""TransformNet: the image transform network of Johnson et al. 2016 (arXiv 1603.08155, supplementary material).

NHWC float32 in [0, 1] in; so out, but for `residual`. Layer names are those of the PyTorch original's checkpoints.
"""

from functools import partial

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from jaxdeblur.models.cpu import conv as convolutions
from jaxdeblur.models.heads import (
    Norm,
    he_normal,
    he_normal_transposed,
    make_norm,
    output_options,
    put_out,
    zeros,
)
from jaxdeblur.models.layers import PYTORCH_INIT, ConvTranspose2x, at_multiple_of, conv, rematerialised


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to the input; no ReLU after the addition."""

    features: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = make_norm(self.norm, train, self.dtype)
        first, last = (PYTORCH_INIT, PYTORCH_INIT) if self.norm == "batch" else (he_normal, zeros)
        layer = partial(conv, use_bias=self.norm == "none", dtype=self.dtype)
        y = layer(self.features, 3, kernel_init=first, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = layer(self.features, 3, kernel_init=last, name="conv2")(y)
        return x + norm(name="bn2")(y)


class TransformNet(nn.Module):
    """Transform network; 1,677,859 parameters as published.

    Attributes:
        width: channels after the first layer; the bottleneck has four times as many.
        num_blocks: residual blocks at a quarter of the resolution.
        residual: what it puts out is added to its input, starts at zero and is left unclipped; else, as published, a
            sigmoid makes it the image.
        norm: "batch" as published, or "none": no BatchNorm, biases instead.
        dtype: what it computes in; None: the images' type, which its output always has.
        remat: compute the activations inside residual blocks, and inside the layers before them and after them, anew
            in the backward pass.
        cpu_fast_conv: on CPUs, use faster convolution algorithms, equal to rounding; False: plain ones everywhere.
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
        """What sides are padded to a multiple of."""
        return 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for every side from 4 up; `train` uses the batch's statistics."""
        with convolutions.use_fast_convolutions(self.cpu_fast_conv):
            return at_multiple_of(self.multiple, partial(self._forward, train=train), x)

    def _forward(self, image: jax.Array, train: bool) -> jax.Array:
        block = rematerialised(ResidualBlock) if self.remat else ResidualBlock
        down, up = (nn.remat(part, static_argnums=2) if self.remat else part for part in (_down, _up))
        x = down(self, image, train)  # (B, H/4, W/4, 128)
        for i in range(self.num_blocks):
            x = block(4 * self.width, self.dtype, self.norm, name=f"res_block{i}")(x, train)
        x = up(self, x, train)  # (B, H, W, 32)
        x = conv(3, 9, use_bias=True, dtype=self.dtype, **output_options(self.residual, "conv6"))(x)
        return put_out(image, x, self.residual)


def _down(net: TransformNet, x: jax.Array, train: bool) -> jax.Array:
    norm = make_norm(net.norm, train, net.dtype)
    init = PYTORCH_INIT if net.norm == "batch" else he_normal
    layer = partial(conv, use_bias=True, kernel_init=init, dtype=net.dtype)
    x = layer(net.width, 9, name="conv1")(x)
    x = nn.relu(norm(name="bn1")(x))
    x = layer(2 * net.width, 3, 2, name="conv2")(x)  # (B, H/2, W/2, 64)
    x = nn.relu(norm(name="bn2")(x))
    x = layer(4 * net.width, 3, 2, name="conv3")(x)  # (B, H/4, W/4, 128)
    return nn.relu(norm(name="bn3")(x))


def _up(net: TransformNet, x: jax.Array, train: bool) -> jax.Array:
    norm = make_norm(net.norm, train, net.dtype)
    without_norm = {"use_bias": True, "kernel_init": he_normal_transposed}
    options = {"use_bias": False} if net.norm == "batch" else without_norm
    layer = partial(ConvTranspose2x, kernel_size=3, dtype=net.dtype, **options)
    x = layer(2 * net.width, name="conv4")(x)  # (B, H/2, W/2, 64)
    x = nn.relu(norm(name="bn4")(x))
    x = layer(net.width, name="conv5")(x)  # (B, H, W, 32)
    return nn.relu(norm(name="bn5")(x))
