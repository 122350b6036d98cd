"""NAFNet's layers: pointwise and depthwise convolutions, LayerNorm and SimpleGate. NHWC throughout.

Kernels have the shapes of the equivalent `nn.Conv`. `dtype` is the compute type, None meaning the input's. Sums over
taps, pixels and channels are in at least float32 whatever the compute type, except those inside matrix products and,
outside CPUs, convolutions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxdeblur.models.cpu.conv import convolve_depthwise

LAYER_NORM_EPSILON = 1e-6


class PointwiseConv(nn.Module):
    """1x1 convolution, (B, H, W, in) to (B, H, W, features), computed as a matrix product.

    Attributes:
        features: output channels.
        scaled: multiply the output by a zero-initialised parameter per channel, `scale`.
        use_bias: add a bias.
        dtype: compute type.
    """

    features: int
    scaled: bool = False
    use_bias: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (1, 1, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else None
        if self.scaled:  # scaling the kernel is cheaper than scaling every pixel
            scale = self.param("scale", nn.initializers.zeros, (self.features,))
            kernel, bias = kernel * scale, None if bias is None else bias * scale
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]  # on CPUs, products of more axes have a slower gradient
        return (y if bias is None else y + bias).reshape(*x.shape[:3], self.features)


class DepthwiseConv(nn.Module):
    """3x3 depthwise convolution with zero padding and bias. The kernel is (3, 3, 1, C)."""

    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, 1, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return convolve_depthwise(x, kernel) + bias


@jax.custom_vjp
def normalise_channels(x: jax.Array) -> jax.Array:
    """Normalise each pixel's channels to mean 0 and variance 1 (LayerNorm, Ba et al. 2016, arXiv 1607.06450).

    Scale and bias are left to the convolution that follows. Only `x` is stored for the backward pass.
    """
    return _normalise(x)[0].astype(x.dtype)


def _normalise(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the normalised channels and the inverse of their standard deviation, at least float32."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse_deviation = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + LAYER_NORM_EPSILON)
    return centred * inverse_deviation, inverse_deviation


def _normalise_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return normalise_channels(x), x


def _normalise_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    normalised, inverse_deviation = _normalise(x)
    gradient = gradient.astype(normalised.dtype)
    projection = jnp.mean(gradient * normalised, axis=-1, keepdims=True)
    centred = gradient - jnp.mean(gradient, axis=-1, keepdims=True)
    return (((centred - normalised * projection) * inverse_deviation).astype(x.dtype),)


normalise_channels.defvjp(_normalise_forward, _normalise_backward)


@jax.custom_vjp
def simple_gate(x: jax.Array) -> jax.Array:
    """Multiply the first half of the channels by the second: NAFNet's SimpleGate."""
    first, second = jnp.split(x, 2, axis=-1)
    return first * second


def _gate_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return simple_gate(x), x


def _gate_backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    # A single product; JAX's derivative pads each half's gradient with zeros and adds the two.
    first, second = jnp.split(x, 2, axis=-1)
    return (jnp.concatenate([second, first], axis=-1) * jnp.concatenate([gradient, gradient], axis=-1),)


simple_gate.defvjp(_gate_forward, _gate_backward)
