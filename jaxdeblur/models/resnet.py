"""ResNet-50's feature pyramid (He et al. 2015, arXiv 1512.03385), laid out as torchvision's `resnet50`. NHWC."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from jaxdeblur.models import layers
from jaxdeblur.models.borders import clear_outside
from jaxdeblur.models.heads import Norm, make_norm
from jaxdeblur.models.init import he_normal, he_normal_fan_out, zeros
from jaxdeblur.models.layers import rematerialised


def make_conv(norm: Norm, dtype: DTypeLike | None) -> Callable[..., nn.Conv]:
    """Return `layers.conv` with torchvision's initialisation, or without BatchNorm with a bias."""
    init = he_normal_fan_out if norm == "batch" else he_normal
    return partial(layers.conv, use_bias=norm == "none", kernel_init=init, dtype=dtype)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions added to the input; the 3x3 one has the stride (torchvision's v1.5)."""

    planes: int
    stride: int
    dtype: DTypeLike | None = None
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm, layer = make_norm(self.norm, train, self.dtype), make_conv(self.norm, self.dtype)
        last_init = he_normal_fan_out if self.norm == "batch" else zeros
        y = layer(self.planes, 1, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = layer(self.planes, 3, self.stride, name="conv2")(y)
        y = nn.relu(norm(name="bn2")(y))
        y = layer(4 * self.planes, 1, name="conv3", kernel_init=last_init)(y)
        y = norm(name="bn3")(y)
        if x.shape != y.shape:
            x = layer(4 * self.planes, 1, self.stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stem and four stages of bottlenecks, without the classifier.

    Attributes:
        width: channels of the stem; 64 in ResNet-50.
        stage_sizes: bottlenecks per stage; (3, 4, 6, 3) in ResNet-50.
        dtype: compute type; None: the input's.
        remat: gradient checkpointing of each bottleneck.
        norm: "batch", or "none": no BatchNorm, biases instead.
    """

    width: int
    stage_sizes: tuple[int, int, int, int]
    dtype: DTypeLike | None = None
    remat: bool = False
    norm: Norm = "batch"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """Return the stages' outputs c2 to c5, at 1/4, 1/8, 1/16 and 1/32 of the input's size, rounded up."""
        bottleneck = rematerialised(Bottleneck) if self.remat else Bottleneck
        x = make_conv(self.norm, self.dtype)(self.width, 7, 2, name="conv1")(x)  # (B, H/2, W/2, 64)
        x = nn.relu(make_norm(self.norm, train, self.dtype)(name="bn1")(x))
        # After a ReLU, padding with zeros is equivalent to max pooling's own padding with -inf.
        x = nn.max_pool(clear_outside(x), (3, 3), (2, 2), padding=((1, 1), (1, 1)))  # (B, H/4, W/4, 64)
        features = []
        for stage, num_blocks in enumerate(self.stage_sizes):
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"layer{stage + 1}_{block}"
                x = bottleneck(self.width * 2**stage, stride, self.dtype, self.norm, name=name)(x, train)
            features.append(x)  # (B, H/(4 2^stage), W/(4 2^stage), 256 2^stage)
        return features
