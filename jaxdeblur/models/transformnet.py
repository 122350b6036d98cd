"""TransformNet: the image transform network of Johnson et al. 2016 (arXiv 1603.08155, supplementary material).

NHWC float32 in [0, 1] in and out. Layer names are those of the PyTorch original's checkpoints.
"""

from functools import partial

import flax.linen as nn
import jax

from jaxdeblur.models.layers import BatchNorm, ConvTranspose2x, at_multiple_of, conv


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions added to the input; no ReLU after the addition."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(BatchNorm, use_running_average=not train)
        y = conv(self.features, 3, use_bias=False, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y))
        y = conv(self.features, 3, use_bias=False, name="conv2")(y)
        return x + norm(name="bn2")(y)


class TransformNet(nn.Module):
    """Sigmoid-output transform network; 1,677,859 parameters at the default width and depth.

    Attributes:
        width: channels after the first layer; the bottleneck has four times as many.
        num_blocks: residual blocks at a quarter of the resolution.
    """

    width: int = 32
    num_blocks: int = 5

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Map (B, H, W, 3) to the same shape, for every side from 4 up; `train` uses the batch's statistics."""
        return at_multiple_of(4, partial(self._forward, train=train), x)

    def _forward(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(BatchNorm, use_running_average=not train)
        x = conv(self.width, 9, use_bias=True, name="conv1")(x)
        x = nn.relu(norm(name="bn1")(x))
        x = conv(2 * self.width, 3, 2, use_bias=True, name="conv2")(x)  # (B, H/2, W/2, 64)
        x = nn.relu(norm(name="bn2")(x))
        x = conv(4 * self.width, 3, 2, use_bias=True, name="conv3")(x)  # (B, H/4, W/4, 128)
        x = nn.relu(norm(name="bn3")(x))
        for i in range(self.num_blocks):
            x = ResidualBlock(4 * self.width, name=f"res_block{i}")(x, train)
        x = ConvTranspose2x(2 * self.width, 3, use_bias=False, name="conv4")(x)  # (B, H/2, W/2, 64)
        x = nn.relu(norm(name="bn4")(x))
        x = ConvTranspose2x(self.width, 3, use_bias=False, name="conv5")(x)  # (B, H, W, 32)
        x = nn.relu(norm(name="bn5")(x))
        return nn.sigmoid(conv(3, 9, use_bias=True, name="conv6")(x))
