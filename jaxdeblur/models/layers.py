"""Layers with PyTorch's numerics that flax.linen lacks. NHWC; kernels are (h, w, in, out).

`dtype` is the compute type, None meaning the input's. Parameters and running statistics are always float32, and
BatchNorm computes a batch's mean and variance in float32.
"""

import inspect
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.initializers import Initializer
from jax.typing import DTypeLike

from jaxdeblur.models.cpu.conv import convolve
from jaxdeblur.models.init import pytorch_default, pytorch_default_transposed
from jaxdeblur.models.pixels import depth_to_space

BATCH_NORM_EPSILON = 1e-5
# PyTorch's momentum 0.1 is 0.9 here: flax weights the old value, PyTorch the new one.
BATCH_NORM_MOMENTUM = 0.9


def conv(
    features: int,
    kernel: int,
    stride: int = 1,
    *,
    use_bias: bool,
    name: str,
    kernel_init: Initializer = pytorch_default,
    dtype: DTypeLike | None = None,
) -> nn.Conv:
    """Return a convolution with PyTorch's symmetric padding of kernel // 2.

    flax's `SAME` pads strided convolutions asymmetrically and so samples other pixels.
    """
    padding = ((kernel // 2, kernel // 2),) * 2
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding,
        use_bias=use_bias,
        kernel_init=kernel_init,
        conv_general_dilated=_conv_general_dilated,
        dtype=dtype,
        name=name,
    )


def _conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: list[tuple[int, int]],
    **options: object,
) -> jax.Array:
    """Replace `lax.conv_general_dilated` in `nn.Conv`; the remaining options have their defaults here."""
    rows, columns = padding
    return convolve(x, kernel, strides[0], (rows, columns))


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167) with the variables of `nn.BatchNorm`.

    It is computed as x * factor + shift, as in PyTorch, so that the backward pass needs x but not also x - mean.
    """

    use_running_average: bool
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        if self.use_running_average:
            mean, variance = running_mean.value, running_variance.value
        else:
            mean, variance = _moments(x)
            if not self.is_initializing():
                for running, new in ((running_mean, mean), (running_variance, variance)):
                    running.value = BATCH_NORM_MOMENTUM * running.value + (1 - BATCH_NORM_MOMENTUM) * new
        factor = scale * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)
        shift = bias - mean * factor
        return _scale(x, factor, shift).astype(self.dtype or x.dtype)


# Checkpointed: otherwise intermediates, and a float32 copy of a bfloat16 image, would be stored for the backward pass.
@partial(jax.checkpoint, prevent_cse=False)
def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return each channel's mean and variance over batch and pixels, in float32 or wider."""
    wide, axes = x.astype(jnp.promote_types(jnp.float32, x.dtype)), tuple(range(x.ndim - 1))
    mean = wide.mean(axes)
    return mean, jnp.maximum(0.0, (wide * wide).mean(axes) - mean * mean)


@partial(jax.checkpoint, prevent_cse=False)
def _scale(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    return (x * factor + shift).astype(x.dtype)


def rematerialised(block: type[nn.Module]) -> type[nn.Module]:
    """Return the block with gradient checkpointing: less memory for about one more forward pass of work.

    Parameter names are unchanged. Blocks are called as block(...)(*arrays, train), with `train` last.
    """
    arguments = list(inspect.signature(block.__call__).parameters)
    static = (arguments.index("train"),) if "train" in arguments else ()
    return nn.remat(block, static_argnums=static)


# _KERNEL3_PHASES[t, p, k] is 1 where, in a transposed convolution with kernel 3, stride 2, padding 1 and output padding
# 1, output 2 m + p receives input m + t through tap k. Input i reaches output n = 2 i - 1 + k, so even outputs receive
# x[m] through tap 1, odd ones x[m] through tap 2 and x[m + 1] through tap 0.
_KERNEL3_PHASES = np.zeros((2, 2, 3), np.float32)
_KERNEL3_PHASES[0, 0, 1] = _KERNEL3_PHASES[0, 1, 2] = _KERNEL3_PHASES[1, 1, 0] = 1.0


class ConvTranspose2x(nn.Module):
    """Transposed convolution of stride 2 in sub-pixel form: (B, H, W, in) to (B, 2 H, 2 W, features).

    kernel_size 2 equals PyTorch's ConvTranspose2d(k=2, stride=2), kernel_size 3 its ConvTranspose2d(k=3, stride=2,
    padding=1, output_padding=1). XLA would convolve a zero-stuffed image; instead, an ordinary convolution at the low
    resolution computes the 2x2 phases (Shi et al. 2016, arXiv 1609.05158). The kernel is (k, k, in, features).
    """

    features: int
    kernel_size: int
    use_bias: bool
    dtype: DTypeLike | None = None
    kernel_init: Initializer = pytorch_default_transposed

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs, size = x.shape[-1], self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (size, size, inputs, self.features))
        padding: tuple[tuple[int, int], tuple[int, int]]
        if size == 2:
            phases = kernel.transpose(2, 0, 1, 3)[None, None]  # (1, 1, in, 2, 2, features)
            padding = ((0, 0), (0, 0))
        elif size == 3:
            phases = jnp.einsum("tpk,uql,klio->tuipqo", _KERNEL3_PHASES, _KERNEL3_PHASES, kernel)
            padding = ((0, 1), (0, 1))
        else:
            raise ValueError(f"kernel_size is {size}; the sub-pixel form is implemented for 2 and 3")
        phases = phases.reshape(*phases.shape[:3], 4 * self.features)
        x, phases = nn.dtypes.promote_dtype(x, phases, dtype=self.dtype)
        x = convolve(x, phases, 1, padding)  # (B, H, W, 4 features)
        x = depth_to_space(x)  # (B, 2 H, 2 W, features)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return x
