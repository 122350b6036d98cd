"""Layers that PyTorch has and flax.linen lacks, with PyTorch's numbers. NHWC throughout.

Each layer's test compares it with the plain definition (a transposed convolution, an interpolation), so a reader can
trust the faster form used here. `dtype` is what a layer computes in, None that of its input; parameters and running
statistics are float32 whatever it is, and BatchNorm takes the batch's mean and variance in float32.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxdeblur.models.cpu.conv import convolve
from jaxdeblur.models.cpu.polyphase import depth_to_space

BATCH_NORM_EPSILON = 1e-5
# PyTorch's momentum 0.1 is 0.9 here: this one weighs the old value, as flax does, PyTorch's the new one.
BATCH_NORM_MOMENTUM = 0.9

# PyTorch's default for kernels, uniform within 1 / sqrt(fan in). Biases start at zero here, not uniform as there.
PYTORCH_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def conv(
    features: int,
    kernel: int,
    stride: int = 1,
    *,
    use_bias: bool,
    name: str,
    kernel_init: nn.initializers.Initializer = PYTORCH_INIT,
    dtype: DTypeLike | None = None,
) -> nn.Conv:
    """Return a convolution with PyTorch's symmetric padding of kernel // 2, computed in `dtype`.

    `SAME` would pad a strided convolution on the right only and sample other pixels.
    """
    padding = ((kernel // 2, kernel // 2),) * 2
    return nn.Conv(
        features,
        (kernel, kernel),
        (stride, stride),
        padding,
        use_bias=use_bias,
        kernel_init=kernel_init,
        conv_general_dilated=_convolve,
        dtype=dtype,
        name=name,
    )


def _convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int],
    padding: list[tuple[int, int]],
    **options: object,
) -> jax.Array:
    """Stand in for `lax.conv_general_dilated`, as `nn.Conv` calls it; its other options are the usual ones here."""
    return convolve(x, kernel, strides[0], tuple(padding))


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167) with the variables of `nn.BatchNorm`.

    It computes x * factor + shift, as PyTorch does, so that of its input and x - mean only the former needs keeping for
    the backward pass.
    """

    use_running_average: bool
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        if self.use_running_average:
            center, spread = mean.value, variance.value
        else:
            center, spread = _moments(x)
            if not self.is_initializing():
                for running, new in ((mean, center), (variance, spread)):
                    running.value = BATCH_NORM_MOMENTUM * running.value + (1 - BATCH_NORM_MOMENTUM) * new
        factor = scale * jax.lax.rsqrt(spread + BATCH_NORM_EPSILON)
        shift = bias - center * factor
        return _scale(x, factor, shift).astype(self.dtype or x.dtype)


# Of the steps within, and of an image in half precision made wide for them, nothing is kept for the backward pass.
@partial(jax.checkpoint, prevent_cse=False)
def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return each channel's mean and variance over all pixels, at least in float32."""
    wide, axes = x.astype(jnp.promote_types(jnp.float32, x.dtype)), tuple(range(x.ndim - 1))
    mean = wide.mean(axes)
    return mean, jnp.maximum(0.0, (wide * wide).mean(axes) - mean * mean)


@partial(jax.checkpoint, prevent_cse=False)
def _scale(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    return (x * factor + shift).astype(x.dtype)


class TilePosition(NamedTuple):
    """Where a part of an image lies: its first row and column, and the sides of the whole, in pixels."""

    top: jax.Array | int
    left: jax.Array | int
    height: jax.Array | int
    width: jax.Array | int

    def shrunk(self, factor: int) -> "TilePosition":
        """Return the place at a resolution that is `factor` times lower; all four are multiples of it."""
        return TilePosition(*(number // factor for number in self))


def rematerialised(block: type[nn.Module]) -> type[nn.Module]:
    """Return a block whose activations are computed anew in the backward pass: less memory, about a forward more work.

    The names of its parameters stay. It is called as block(...)(*arrays, train), `train` the last of its arguments.
    """
    arguments = list(inspect.signature(block.__call__).parameters)
    static = (arguments.index("train"),) if "train" in arguments else ()
    return nn.remat(block, static_argnums=static)


# Row t, phase p, tap k of a transposed convolution with kernel 3, stride 2, padding 1, output padding 1. Input i
# reaches output n = 2 i - 1 + k: even outputs see tap 1 of x[m]; odd ones tap 2 of x[m] and tap 0 of x[m + 1].
_KERNEL3_PHASES = np.zeros((2, 2, 3), np.float32)
_KERNEL3_PHASES[0, 0, 1] = _KERNEL3_PHASES[0, 1, 2] = _KERNEL3_PHASES[1, 1, 0] = 1.0


class ConvTranspose2x(nn.Module):
    """Transposed convolution of stride 2 in sub-pixel form: (B, H, W, in) to (B, 2 H, 2 W, features).

    kernel_size 2 equals PyTorch's ConvTranspose2d(k=2, stride=2), kernel_size 3 its ConvTranspose2d(k=3, stride=2,
    padding=1, output_padding=1). XLA would convolve a zero-stuffed image; here an ordinary convolution on the small
    image puts out the 2x2 phases (Shi et al. 2016, arXiv 1609.05158). The kernel is (k, k, in, features).
    """

    features: int
    kernel_size: int
    use_bias: bool
    dtype: DTypeLike | None = None
    kernel_init: nn.initializers.Initializer | None = None  # None: PyTorch's

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs, size = x.shape[-1], self.kernel_size
        # PyTorch counts a transposed convolution's fan-in from its *output* channels.
        pytorch_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=-1, out_axis=-2)
        kernel = self.param("kernel", self.kernel_init or pytorch_init, (size, size, inputs, self.features))
        if size == 2:
            phases = kernel.transpose(2, 0, 1, 3)[None, None]  # (1, 1, in, 2, 2, features)
            padding = ((0, 0), (0, 0))
        elif size == 3:
            phases = jnp.einsum("tpk,uql,klio->tuipqo", _KERNEL3_PHASES, _KERNEL3_PHASES, kernel)
            padding = ((0, 1), (0, 1))
        else:
            raise ValueError(f"kernel_size is {size}; the sub-pixel form is written for 2 and 3")
        phases = phases.reshape(*phases.shape[:3], 4 * self.features)
        x, phases = nn.dtypes.promote_dtype(x, phases, dtype=self.dtype)
        x = convolve(x, phases, 1, padding)
        x = depth_to_space(x)  # (B, 2 H, 2 W, features)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return x


def upsample_bilinear_2x(x: jax.Array, place: TilePosition | None = None) -> jax.Array:
    """Double both sides bilinearly, corners aligned: PyTorch's Upsample(scale_factor=2, align_corners=True).

    `jax.image.resize` aligns pixel edges instead. Aligned corners make what a pixel gets depend on its place in the
    whole image: a part of one has to know its own.
    """
    height, width = x.shape[1:3]
    place = place or TilePosition(0, 0, height, width)
    return _double(_double(x, 1, place.top, place.height), 2, place.left, place.width)


def _double(x: jax.Array, axis: int, first: jax.Array | int, whole: jax.Array | int) -> jax.Array:
    """Double a side whose rows are those from row `first` of `whole` on.

    Output row 2 i of the whole lies i / (2 whole - 1) before row i, output row 2 i + 1 that many of whole - 1 - i after
    it. Where the neighbour is a row that the part lacks, the part's own stands for it.
    """
    size = x.shape[axis]
    place = first + jnp.arange(size)
    shape = [size if i == axis else 1 for i in range(x.ndim)]
    before, after = ((n / (2 * whole - 1)).astype(x.dtype).reshape(shape) for n in (place, whole - 1 - place))
    ends = (jax.lax.slice_in_dim(x, 0, 1, axis=axis), jax.lax.slice_in_dim(x, size - 1, size, axis=axis))
    previous = jnp.concatenate([ends[0], jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis)
    following = jnp.concatenate([jax.lax.slice_in_dim(x, 1, size, axis=axis), ends[1]], axis)
    pairs = jnp.stack([x + before * (previous - x), x + after * (following - x)], axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])


def fit_to(x: jax.Array, height: int, width: int) -> jax.Array:
    """Zero-pad or crop both sides to (height, width) as the PyTorch original does.

    `F.pad(x, [d // 2, d - d // 2, ...])` with floor division: a difference of -1 takes away the *first* row.
    """
    rows, columns = height - x.shape[1], width - x.shape[2]
    config = ((0, 0, 0), (rows // 2, rows - rows // 2, 0), (columns // 2, columns - columns // 2, 0), (0, 0, 0))
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)


def fit_part(x: jax.Array, place: TilePosition, factor: int) -> jax.Array:
    """Move what `fit_to` left in place in a part of an image to where `fit_to` puts it in the whole.

    There a side that was halved with rounding up and doubled again may be one longer than before, and loses its first
    row or column. The sides of the part are even, so it loses none; its last row or column becomes arbitrary.

    Args:
        x: of the part, at 1/factor of the image's resolution.
        place: of the part, in pixels of the image.
        factor: see `x`.
    """
    for axis, length in ((1, place.height), (2, place.width)):
        lost = 2 * -(-length // (2 * factor)) - -(-length // factor)  # 0 or 1
        x = jnp.where(lost == 1, jnp.roll(x, -1, axis), x)
    return x


def at_multiple_of(multiple: int, network: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Apply `network` at sides that are multiples of `multiple`: reflect at the lower right, crop the result back."""
    height, width = x.shape[1:3]
    rows, columns = -height % multiple, -width % multiple
    if rows == 0 and columns == 0:
        return network(x)
    if height <= rows or width <= columns:
        raise ValueError(f"image of {height}x{width} is too small to reflect to a multiple of {multiple}")
    x = _reflect_at_end(_reflect_at_end(x, 1, multiple), 2, multiple)
    return network(x)[:, :height, :width]


def _reflect_at_end(x: jax.Array, axis: int, multiple: int) -> jax.Array:
    """Reflect at the end of `axis` up to a multiple. The size may be a symbol, which `jnp.pad` cannot reflect."""
    size = x.shape[axis]
    padded = -(-size // multiple) * multiple  # of a symbol, too, known to be a multiple
    mirrored = jax.lax.slice_in_dim(x, 2 * size - 1 - padded, size - 1, axis=axis)
    return jnp.concatenate([x, jnp.flip(mirrored, axis)], axis)
