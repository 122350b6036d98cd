"""ResnetEncDec: a ResNet-50 encoder and a decoder with skip connections. NHWC float32 in [0, 1] in and out.

With `residual` the output is unclipped. As in the PyTorch original, images are not normalised by ImageNet's mean and
standard deviation.
"""

from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeblur.models.cpu.conv import use_fast_convolutions
from jaxdeblur.models.heads import Norm, make_norm, output_layer_init, output_layer_name, restored_image
from jaxdeblur.models.init import he_normal, lecun_normal_transposed, pytorch_default, pytorch_default_transposed
from jaxdeblur.models.layers import ConvTranspose2x, conv, rematerialised
from jaxdeblur.models.network import Network
from jaxdeblur.models.pixels import (
    TilePosition,
    at_multiple_of,
    fit_to,
    shift_tile_like_fit_to,
    upsample_bilinear_2x,
)
from jaxdeblur.models.resnet import ResNet


class DoubleConv(nn.Module):
    """Twice: 3x3 convolution, BatchNorm, ReLU."""

    features: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = make_norm(self.norm, train, self.dtype)
        init = pytorch_default if self.norm == "batch" else he_normal
        for i in (1, 2):
            x = conv(self.features, 3, use_bias=True, kernel_init=init, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(norm(name=f"bn{i}")(x))
        return x


class UpWithSkip(nn.Module):
    """Upsample by 2 with half the channels, fit to the skip connection's size, concatenate [skip, up], DoubleConv.

    Attributes:
        features: output channels.
        factor: the skip connection is at 1/factor of the image's resolution, rounded up.
        dtype: compute type; None: the input's.
        norm: see `ResnetEncDec`.
    """

    features: int
    factor: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array, position: TilePosition | None, train: bool) -> jax.Array:
        init = pytorch_default_transposed if self.norm == "batch" else lecun_normal_transposed
        x = ConvTranspose2x(x.shape[-1] // 2, 2, use_bias=True, dtype=self.dtype, kernel_init=init, name="up")(x)
        x = fit_to(x, *skip.shape[1:3])
        x = x if position is None else shift_tile_like_fit_to(x, position, self.factor)
        x = jnp.concatenate([skip, x], axis=-1)
        return DoubleConv(self.features, self.dtype, self.norm, name="conv")(x, train)


class UpBilinear(nn.Module):
    """Bilinear upsampling by 2, DoubleConv."""

    features: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, position: TilePosition | None, train: bool) -> jax.Array:
        return DoubleConv(self.features, self.dtype, self.norm, name="conv")(upsample_bilinear_2x(x, position), train)


class ResnetEncDec(Network):
    """Encoder and decoder; 72,243,843 parameters as published.

    Attributes:
        width: channels of the encoder's stem.
        stage_sizes: bottlenecks in the encoder's four stages.
        residual: predict a residual, zero-initialised and unclipped; False, as published: a sigmoid output.
        norm: "batch" as published, or "none": no BatchNorm, biases instead; ImageNet's encoder then does not fit.
        dtype: compute type; None: the images'. The output always has the images' type.
        remat: gradient checkpointing of bottlenecks and decoder stages.
        cpu_fast_conv: use faster convolution algorithms on CPUs, equal up to rounding; False: XLA's everywhere.
    """

    encoder: ClassVar[str] = "backbone"
    needs_position: ClassVar[bool] = True  # align_corners upsampling depends on the whole image's size
    prefers_ynnpack_matmul: ClassVar[bool] = True  # a ResNet-50 has two 1x1 convolutions for each 3x3 one

    width: int = 64
    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
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
        return {"width": 4, "stage_sizes": (1, 1, 1, 1)}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, position: TilePosition | None = None) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for any height and width from 4.

        With `train`, BatchNorm uses the batch's statistics. A tile whose `position` is given is restored as it is in
        the whole image, except near the tile's borders. Its offsets and its own size are multiples of 32, the image's
        size multiples of 4.
        """
        with use_fast_convolutions(self.cpu_fast_conv):
            return at_multiple_of(self.multiple, partial(self._forward, train=train, position=position), x)

    def _forward(self, image: jax.Array, train: bool, position: TilePosition | None) -> jax.Array:
        with_skip, bilinear = (
            partial(rematerialised(block) if self.remat else block, dtype=self.dtype, norm=self.norm)
            for block in (UpWithSkip, UpBilinear)
        )
        encoder = ResNet(self.width, self.stage_sizes, self.dtype, self.remat, self.norm, name=self.encoder)
        c2, c3, c4, c5 = encoder(image, train)
        x = with_skip(16 * self.width, 16, name="up1")(c5, c4, position, train)  # (B, H/16, W/16, 1024)
        x = with_skip(8 * self.width, 8, name="up2")(x, c3, position, train)  # (B, H/8, W/8, 512)
        x = with_skip(4 * self.width, 4, name="up3")(x, c2, position, train)  # (B, H/4, W/4, 256)
        x = bilinear(2 * self.width, name="up4")(x, position and position.downscaled(4), train)  # (B, H/2, W/2, 128)
        x = bilinear(self.width, name="up5")(x, position and position.downscaled(2), train)  # (B, H, W, 64)
        name, init = output_layer_name(self.residual, "outc"), output_layer_init(self.residual)
        x = conv(3, 1, use_bias=True, dtype=self.dtype, name=name, kernel_init=init)(x)
        return restored_image(image, x, self.residual)
