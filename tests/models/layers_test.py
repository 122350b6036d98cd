"""Transposed convolutions against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeblur.models import layers

RNG = np.random.default_rng(0)


def transposed_convolution(x, kernel, padding, output_padding):
    """The definition: every input pixel adds its weighted kernel to the output, at twice its offset."""
    batch, height, width, _ = x.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    full = np.zeros((batch, 2 * height + size, 2 * width + size, features))
    for i in range(height):
        for j in range(width):
            full[:, 2 * i : 2 * i + size, 2 * j : 2 * j + size] += np.einsum("bc,hwcf->bhwf", x[:, i, j], kernel)
    rows, columns = (2 * (n - 1) - 2 * padding + size + output_padding for n in (height, width))
    return full[:, padding : padding + rows, padding : padding + columns]


@pytest.mark.parametrize(("size", "padding", "output_padding"), [(2, 0, 0), (3, 1, 1)])
def test_conv_transpose_equals_its_definition(size, padding, output_padding):
    x = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)
    layer = layers.ConvTranspose2x(6, size, use_bias=True)
    variables = layer.init(jax.random.key(0), x)
    bias = RNG.normal(size=6).astype(np.float32)
    variables = {"params": {**variables["params"], "bias": bias}}
    expected = transposed_convolution(x, np.asarray(variables["params"]["kernel"]), padding, output_padding) + bias
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


def test_conv_transpose_refuses_other_kernel_sizes():
    with pytest.raises(ValueError, match="implemented for 2 and 3"):
        layers.ConvTranspose2x(6, 4, use_bias=False).init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


def test_conv_transpose_has_pytorchs_initialisation():
    """Uniform within 1 / sqrt(features k k): PyTorch takes a transposed kernel's fan-in from its outputs."""
    kernel = layers.ConvTranspose2x(8, 3, use_bias=False).init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))
    bound = 1 / np.sqrt(8 * 9)
    largest = float(jnp.abs(kernel["params"]["kernel"]).max())
    assert 0.98 * bound < largest <= bound
