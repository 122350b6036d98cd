"""Layers of networks that convolve channels and places apart, in forms that are fast on CPUs too. NHWC throughout.

On a CPU XLA takes some forty times longer for a depthwise convolution, one of many groups, than its few operations
need; here it is nine shifted products, which become one loop. A convolution with a 1x1 kernel is the matrix product
that it is. Kernels have the shapes of the convolutions that the layers equal, which the tests compare them with.
`dtype` is what a layer computes in, None that of its input; sums over taps, places and channels are float32 whatever it
is, but for those of matrix products, which are the device's.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeblur.models.borders import clear_outside

TAPS = tuple((row, column) for row in range(3) for column in range(3))
# Rows whose products are added in one fused loop. XLA's own sum over all places is four times slower on a CPU.
ROWS_AT_ONCE = 8


class PointwiseConv(nn.Module):
    """1x1 convolution, (B, H, W, in) to (B, H, W, features).

    Attributes:
        features: channels it puts out.
        scaled: multiply what it puts out by a parameter per channel, `scale`, which starts at zero.
        use_bias: add a bias.
        dtype: what it computes in.
    """

    features: int
    scaled: bool = False
    use_bias: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (1, 1, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        if self.scaled:  # of few weights, not of many pixels
            scale = self.param("scale", nn.initializers.zeros, (self.features,))
            kernel, bias = kernel * scale, None if bias is None else bias * scale
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]  # a product of more than two axes has a slower gradient on CPUs
        return (y if bias is None else y + bias).reshape(*x.shape[:3], self.features)


class DepthwiseConv(nn.Module):
    """3x3 convolution of each channel by itself, zeros around the image, with bias. The kernel is (3, 3, 1, C)."""

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, 1, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return depthwise_conv(clear_outside(x), kernel) + bias


def _padded(x: jax.Array) -> jax.Array:
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


@jax.custom_vjp
def depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve each channel of (B, H, W, C) with its own of the kernels (3, 3, 1, C), zeros around the image."""
    height, width = x.shape[1:3]
    padded, kernel = _padded(x).astype(jnp.float32), kernel.astype(jnp.float32)
    products = (padded[:, i : i + height, j : j + width] * kernel[i, j, 0] for i, j in TAPS)
    return functools.reduce(jnp.add, products).astype(x.dtype)


def _depthwise_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise_conv(x, kernel), (x, kernel)


def _depthwise_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    height, width = x.shape[1:3]
    # Rows of zeros make the height a multiple; they add nothing.
    missing = ((0, 0), (0, -height % ROWS_AT_ONCE), (0, 0), (0, 0))
    inputs, outputs = (jnp.pad(array, missing).astype(jnp.float32) for array in (_padded(x), gradient))
    end = outputs.shape[1]
    taps = []
    for i, j in TAPS:
        rows = (
            inputs[:, i + row : i + end : ROWS_AT_ONCE, j : j + width] * outputs[:, row::ROWS_AT_ONCE]
            for row in range(ROWS_AT_ONCE)
        )
        taps.append(functools.reduce(jnp.add, rows))  # (B, H/8, W, C)
    of_kernel = jnp.sum(jnp.stack(taps), axis=(1, 2, 3)).reshape(kernel.shape)
    return depthwise_conv(gradient, kernel[::-1, ::-1]), of_kernel.astype(kernel.dtype)


depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


@jax.custom_vjp
def normalise_channels(x: jax.Array) -> jax.Array:
    """Bring the channels of each pixel to mean 0 and variance 1 (LayerNorm, Ba et al. 2016, arXiv 1607.06450).

    Without scale and bias: the convolution that follows has both. Only `x` is kept for the backward pass.
    """
    return _normal(x)[0].astype(x.dtype)


def _normal(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the normalised channels and one over their standard deviation, float32."""
    x = x.astype(jnp.float32)
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-6)
    return centred * inverse, inverse


def _normalise_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return normalise_channels(x), x


def _normalise_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    (normal, inverse), gradient = _normal(x), gradient.astype(jnp.float32)
    along = jnp.mean(gradient * normal, axis=-1, keepdims=True)
    centred = gradient - jnp.mean(gradient, axis=-1, keepdims=True)
    return (((centred - normal * along) * inverse).astype(x.dtype),)


normalise_channels.defvjp(_normalise_forward, _normalise_backward)


@jax.custom_vjp
def gate(x: jax.Array) -> jax.Array:
    """Multiply one half of the channels by the other: NAFNet's SimpleGate."""
    first, second = jnp.split(x, 2, axis=-1)
    return first * second


def _gate_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gate(x), x


def _gate_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # One product; JAX's own fills up each half's gradient with zeros and adds the two.
    first, second = jnp.split(x, 2, axis=-1)
    return (jnp.concatenate([second, first], axis=-1) * jnp.concatenate([gradient, gradient], axis=-1),)


gate.defvjp(_gate_forward, _gate_backward)
