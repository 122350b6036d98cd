"""Convolutions that use faster algorithms on CPUs: XLA's numbers up to rounding, summed in another order. NHWC.

Other platforms get XLA's own convolutions, as does everything within `use_fast_convolutions(False)` and, but for
depthwise convolutions, half precision and symbolic sizes. The algorithms are in `winograd`, `polyphase`,
`column_split`, `depthwise` and `im2col_gradients`; docs/performance.md has the measurements.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import jax
import jax.numpy as jnp

from jaxdeblur.models.borders import clear_outside
from jaxdeblur.models.cpu import column_split, depthwise, im2col_gradients, polyphase, winograd
from jaxdeblur.models.cpu.im2col_gradients import Padding

FAST_DTYPES = (jnp.float32, jnp.float64)
DIMENSION_NUMBERS = ("NHWC", "HWIO", "NHWC")
# Set while a network is traced, like jax.default_matmul_precision; otherwise every layer would need an argument.
_fast_enabled = ContextVar("fast_convolutions", default=True)


@contextmanager
def use_fast_convolutions(enabled: bool) -> Iterator[None]:
    """Trace convolutions within with or without the faster algorithms for CPUs."""
    token = _fast_enabled.set(enabled)
    try:
        yield
    finally:
        _fast_enabled.reset(token)


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """Return the convolution of (B, H, W, in) with a square kernel (k, k, in, out) of the same type, zero-padded.

    Args:
        x: images.
        kernel: the kernel.
        stride: along both axes.
        padding: pixels before and after the rows, and the columns.
    """
    if kernel.shape[0] > 1:
        x = clear_outside(x)
    has_static_shape = all(isinstance(side, int) for side in x.shape)
    if not (_fast_enabled.get() and has_static_shape and x.dtype in FAST_DTYPES):
        return _plain(x, kernel, stride=stride, padding=padding)
    return _convolve(x, kernel, stride, padding)


def convolve_depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve each channel of (B, H, W, C) with its own kernel, (3, 3, 1, C) of the same type, zero-padded."""
    x = clear_outside(x)
    return _convolve_depthwise(x, kernel) if _fast_enabled.get() else _plain_depthwise(x, kernel)


def _plain(x: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=DIMENSION_NUMBERS)


def _plain_gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, *, stride: int, padding: Padding
) -> tuple[jax.Array, ...]:
    return jax.vjp(partial(_plain, stride=stride, padding=padding), x, kernel)[1](gradient)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    return _by_platform(x, kernel, stride, padding, differentiated=False)


def _save(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> tuple[jax.Array, tuple]:
    return _by_platform(x, kernel, stride, padding, differentiated=True), (x, kernel)


def _by_platform(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, *, differentiated: bool) -> jax.Array:
    fast = partial(_fast, stride=stride, padding=padding, differentiated=differentiated)
    return jax.lax.platform_dependent(x, kernel, cpu=fast, default=partial(_plain, stride=stride, padding=padding))


def _gradients(stride: int, padding: Padding, saved: tuple, gradient: jax.Array) -> tuple[jax.Array, ...]:
    fast, plain = (partial(form, stride=stride, padding=padding) for form in (_fast_gradients, _plain_gradients))
    return jax.lax.platform_dependent(*saved, gradient, cpu=fast, default=plain)


_convolve.defvjp(_save, _gradients)


def _fast(x: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding, differentiated: bool) -> jax.Array:
    size = kernel.shape[0]
    if size == 1:
        return jnp.einsum("bhwc,cd->bhwd", x[:, ::stride, ::stride], kernel[0, 0])
    if stride == 1 and winograd.is_faster(x.shape, kernel.shape, differentiated=differentiated):
        return winograd.convolve(x, kernel, padding)
    if stride == 1 and column_split.is_faster(kernel.shape):
        return column_split.convolve(x, kernel, padding)
    if polyphase.is_faster(x.shape, kernel.shape, padding) and kernel.shape[2] < kernel.shape[3]:
        return polyphase.convolve(x, kernel, stride, _fast_stride_1)
    return _plain(x, kernel, stride=stride, padding=padding)


def _fast_gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, *, stride: int, padding: Padding
) -> tuple[jax.Array, jax.Array]:
    # Without the barrier, whatever depends on x or the kernel alone would be computed, and kept, in the forward pass.
    x, kernel, gradient = jax.lax.optimization_barrier((x, kernel, gradient))
    size = kernel.shape[0]
    if size == 1:
        return _pointwise_gradients(x, kernel, gradient, stride)
    if polyphase.is_faster(x.shape, kernel.shape, padding):
        by_phases = partial(polyphase.convolve, stride=stride, convolve=_fast_stride_1)
        return jax.vjp(by_phases, x, kernel)[1](gradient)
    if stride == 1 and winograd.gradients_are_faster(x.shape, kernel.shape):
        return winograd.gradients(x, kernel, gradient, padding)
    kernel_gradient = im2col_gradients.kernel_gradient(x, gradient, size, stride, padding)
    if stride == 1 and im2col_gradients.is_small(gradient.shape):
        return im2col_gradients.input_gradient(x.shape, kernel, gradient, padding), kernel_gradient
    (input_gradient,) = jax.vjp(lambda x: _plain(x, kernel, stride=stride, padding=padding), x)[1](gradient)
    return input_gradient, kernel_gradient


def _pointwise_gradients(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, stride: int
) -> tuple[jax.Array, jax.Array]:
    kernel_gradient = im2col_gradients.kernel_gradient(x, gradient, 1, stride, ((0, 0), (0, 0)))
    input_gradient = jnp.einsum("bhwd,cd->bhwc", gradient, kernel[0, 0])
    if stride > 1:
        dilation = [
            (0, length - (output_length - 1) * stride - 1, stride - 1)
            for length, output_length in zip(x.shape[1:3], gradient.shape[1:3], strict=True)
        ]
        zero = jnp.zeros((), gradient.dtype)
        input_gradient = jax.lax.pad(input_gradient, zero, ((0, 0, 0), *dilation, (0, 0, 0)))
    return input_gradient, kernel_gradient


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fast_stride_1(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return _plain(x, kernel, stride=1, padding=padding)


def _save_stride_1(x: jax.Array, kernel: jax.Array, padding: Padding) -> tuple[jax.Array, tuple]:
    return _fast_stride_1(x, kernel, padding), (x, kernel)


def _stride_1_gradients(padding: Padding, saved: tuple, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return _fast_gradients(x, kernel, gradient, stride=1, padding=padding)


_fast_stride_1.defvjp(_save_stride_1, _stride_1_gradients)


def _plain_depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        ((1, 1), (1, 1)),
        dimension_numbers=DIMENSION_NUMBERS,
        feature_group_count=x.shape[3],
    )


def _plain_depthwise_gradients(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, ...]:
    return jax.vjp(_plain_depthwise, x, kernel)[1](gradient)


@jax.custom_vjp
def _convolve_depthwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x, kernel, cpu=depthwise.convolve, default=_plain_depthwise)


def _save_depthwise(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return _convolve_depthwise(x, kernel), (x, kernel)


def _depthwise_gradients(saved: tuple, gradient: jax.Array) -> tuple[jax.Array, ...]:
    options = {"cpu": depthwise.gradients, "default": _plain_depthwise_gradients}
    return jax.lax.platform_dependent(*saved, gradient, **options)


_convolve_depthwise.defvjp(_save_depthwise, _depthwise_gradients)
