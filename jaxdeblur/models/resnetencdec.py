"""ResnetEncDec: a ResNet-50 encoder and a decoder with skips. NHWC float32 in [0, 1] in; so out, but for `residual`.

Images go to the encoder as they are, without ImageNet's mean and standard deviation, as in the PyTorch original.
"""

from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeblur.models.cpu import conv as convolutions
from jaxdeblur.models.heads import Norm, he_normal, lecun_normal_transposed, make_norm, output_options, put_out
from jaxdeblur.models.layers import (
    PYTORCH_INIT,
    ConvTranspose2x,
    TilePosition,
    at_multiple_of,
    conv,
    fit_part,
    fit_to,
    rematerialised,
    upsample_bilinear_2x,
)
from jaxdeblur.models.resnet import ResNet

ENCODER = "backbone"  # its name among the variables; what torchvision's ResNet-50 fills


class DoubleConv(nn.Module):
    """Twice: 3x3 convolution, BatchNorm, ReLU."""

    features: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = make_norm(self.norm, train, self.dtype)
        init = PYTORCH_INIT if self.norm == "batch" else he_normal
        for i in (1, 2):
            x = conv(self.features, 3, use_bias=True, kernel_init=init, dtype=self.dtype, name=f"conv{i}")(x)
            x = nn.relu(norm(name=f"bn{i}")(x))
        return x


class UpWithSkip(nn.Module):
    """Double the sides, halve the channels, fit to the skip's size, concatenate [skip, up], DoubleConv.

    Attributes:
        factor: what the skip's sides are the image's divided by, rounded up.
    """

    features: int
    factor: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array, place: TilePosition | None, train: bool) -> jax.Array:
        init = None if self.norm == "batch" else lecun_normal_transposed
        x = ConvTranspose2x(x.shape[-1] // 2, 2, use_bias=True, dtype=self.dtype, kernel_init=init, name="up")(x)
        x = fit_to(x, *skip.shape[1:3])
        x = x if place is None else fit_part(x, place, self.factor)
        x = jnp.concatenate([skip, x], axis=-1)
        return DoubleConv(self.features, self.dtype, self.norm, name="conv")(x, train)


class UpBilinear(nn.Module):
    """Double the sides bilinearly, DoubleConv."""

    features: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, place: TilePosition | None, train: bool) -> jax.Array:
        return DoubleConv(self.features, self.dtype, self.norm, name="conv")(upsample_bilinear_2x(x, place), train)


class ResnetEncDec(nn.Module):
    """Encoder and decoder; 72,243,843 parameters as published.

    Attributes:
        width: channels of the encoder's stem.
        stage_sizes: bottlenecks in the encoder's four stages.
        residual: what it puts out is added to its input, starts at zero and is left unclipped; else, as published, a
            sigmoid makes it the image.
        norm: "batch" as published, or "none": no BatchNorm, biases instead. ImageNet's encoder then does not fit.
        dtype: what it computes in; None: the images' type, which its output always has.
        remat: compute the activations inside bottlenecks and decoder stages anew in the backward pass.
        cpu_fast_conv: on CPUs, use faster convolution algorithms, equal to rounding; False: plain ones everywhere.
    """

    needs_position: ClassVar[bool] = True  # its bilinear upsampling is over the whole image (align_corners)

    width: int = 64
    stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
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
    def __call__(self, x: jax.Array, train: bool, place: TilePosition | None = None) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for every side from 4 up; `train` uses the batch's statistics.

        A part of an image whose `place` is given becomes what it does in the whole image, except near the part's
        borders. Its first row and column and its own sides are multiples of 32, the whole's sides multiples of 4.
        """
        with convolutions.use_fast_convolutions(self.cpu_fast_conv):
            return at_multiple_of(self.multiple, partial(self._forward, train=train, place=place), x)

    def _forward(self, image: jax.Array, train: bool, place: TilePosition | None) -> jax.Array:
        with_skip, bilinear = (
            partial(rematerialised(block) if self.remat else block, dtype=self.dtype, norm=self.norm)
            for block in (UpWithSkip, UpBilinear)
        )
        encoder = ResNet(self.width, self.stage_sizes, self.dtype, self.remat, self.norm, name=ENCODER)
        c2, c3, c4, c5 = encoder(image, train)
        x = with_skip(16 * self.width, 16, name="up1")(c5, c4, place, train)  # (B, H/16, W/16, 1024)
        x = with_skip(8 * self.width, 8, name="up2")(x, c3, place, train)  # (B, H/8, W/8, 512)
        x = with_skip(4 * self.width, 4, name="up3")(x, c2, place, train)  # (B, H/4, W/4, 256)
        x = bilinear(2 * self.width, name="up4")(x, place and place.shrunk(4), train)  # (B, H/2, W/2, 128)
        x = bilinear(self.width, name="up5")(x, place and place.shrunk(2), train)  # (B, H, W, 64)
        x = conv(3, 1, use_bias=True, dtype=self.dtype, **output_options(self.residual, "outc"))(x)
        return put_out(image, x, self.residual)
