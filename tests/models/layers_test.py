"""Each layer against its plain definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeblur.models import layers
from jaxdeblur.models.cpu import polyphase

RNG = np.random.default_rng(0)


def transposed_convolution(x, kernel, padding, output_padding):
    """The definition: every input pixel adds its weighted kernel to the output, two pixels further for each step."""
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


def test_conv_transpose_refuses_other_kernels():
    with pytest.raises(ValueError, match="written for 2 and 3"):
        layers.ConvTranspose2x(6, 4, use_bias=False).init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


def test_conv_transpose_starts_as_pytorch_does():
    """Uniform within 1 / sqrt(features k k): PyTorch counts the fan-in of a transposed kernel from its outputs."""
    kernel = layers.ConvTranspose2x(8, 3, use_bias=False).init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))
    bound = 1 / np.sqrt(8 * 9)
    largest = float(jnp.abs(kernel["params"]["kernel"]).max())
    assert 0.98 * bound < largest <= bound


@pytest.mark.parametrize(("height", "width"), [(1, 2), (2, 3), (5, 8)])
def test_upsample_is_linear_with_aligned_corners(height, width):
    """Against NumPy's interpolation of each row and column at evenly spaced points from first to last pixel."""
    x = RNG.normal(size=(height, width)).astype(np.float32)
    rows = np.array([np.interp(np.linspace(0, width - 1, 2 * width), range(width), row) for row in x])
    both = np.array([np.interp(np.linspace(0, height - 1, 2 * height), range(height), column) for column in rows.T]).T
    np.testing.assert_allclose(layers.upsample_bilinear_2x(x[None, :, :, None])[0, :, :, 0], both, atol=1e-5)


def test_depth_to_space_orders_phases_by_row_then_column():
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)  # four phases of two channels
    expected = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]]], np.float32)
    np.testing.assert_array_equal(polyphase.depth_to_space(x)[0], expected)


def test_space_to_depth_undoes_depth_to_space():
    x = RNG.normal(size=(2, 3, 4, 8)).astype(np.float32)
    np.testing.assert_array_equal(polyphase.space_to_depth(polyphase.depth_to_space(x)), x)


def test_fit_to_takes_the_first_row_away_and_adds_the_last():
    """As F.pad with [d // 2, d - d // 2]: for -1 that is (-1, 0), for 1 it is (0, 1)."""
    x = jnp.arange(1.0, 7.0).reshape(1, 3, 2, 1)
    np.testing.assert_array_equal(layers.fit_to(x, 2, 3)[0, :, :, 0], [[3, 4, 0], [5, 6, 0]])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 18), (19, 16)])
def test_other_sizes_are_reflected_and_cropped_back(height, width):
    x = RNG.normal(size=(1, height, width, 3)).astype(np.float32)
    seen = []

    def network(padded):
        seen.append(np.asarray(padded))
        return padded + 1

    np.testing.assert_allclose(layers.at_multiple_of(4, network, x), x + 1, rtol=1e-6)
    expected = np.pad(x, ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(seen[0], expected)


def test_sides_too_small_to_reflect_are_refused():
    with pytest.raises(ValueError, match="1x16 is too small"):
        layers.at_multiple_of(4, lambda x: x, jnp.zeros((1, 1, 16, 3)))
