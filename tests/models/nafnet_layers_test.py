"""Each layer against the convolution or normalisation that it stands for, forward and backward."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeblur.models import nafnet_layers

RNG = np.random.default_rng(0)
NHWC = ("NHWC", "HWIO", "NHWC")


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def assert_same_with_gradients(ours, theirs, *arguments, atol=1e-4):
    """Values, and the gradients of all arguments for a random cotangent."""
    (found, pull), (wanted, wanted_pull) = (jax.vjp(jax.jit(function), *arguments) for function in (ours, theirs))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=atol)
    cotangent = noise(*wanted.shape)
    for gradient, wanted_gradient in zip(pull(cotangent), wanted_pull(cotangent), strict=True):
        assert np.abs(wanted_gradient).max() > 0.1
        np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-5, atol=atol)


# Rows are added eight at once in the kernel's gradient: fewer, one more, a multiple.
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (9, 6), (16, 4)])
def test_depthwise_equals_a_convolution_of_as_many_groups(size):
    def convolution(x, kernel):
        options = {"dimension_numbers": NHWC, "feature_group_count": 6}
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), **options)

    assert_same_with_gradients(nafnet_layers.depthwise_conv, convolution, noise(2, *size, 6), noise(3, 3, 1, 6))


def test_depthwise_adds_its_bias():
    layer, x = nafnet_layers.DepthwiseConv(), noise(1, 4, 5, 3)
    variables = layer.init(jax.random.key(0), x)["params"]
    bias = noise(3)
    moved = layer.apply({"params": {**variables, "bias": bias}}, x)
    np.testing.assert_allclose(moved - layer.apply({"params": variables}, x), np.broadcast_to(bias, x.shape), atol=1e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_pointwise_equals_a_convolution(scaled):
    layer = nafnet_layers.PointwiseConv(5, scaled=scaled)
    kernel, bias, scale = noise(1, 1, 4, 5), noise(5), noise(5)

    def ours(x, kernel, bias, scale):
        params = {"kernel": kernel, "bias": bias, **({"scale": scale} if scaled else {})}
        return layer.apply({"params": params}, x) + (0 if scaled else jnp.sum(scale))

    def theirs(x, kernel, bias, scale):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC) + bias
        return y * scale if scaled else y + jnp.sum(scale)

    assert_same_with_gradients(ours, theirs, noise(2, 3, 6, 4), kernel, bias, scale)


def test_a_scaled_layer_starts_at_zero_with_a_kernel_that_does_not():
    layer, x = nafnet_layers.PointwiseConv(5, scaled=True), noise(2, 3, 6, 4)
    variables = layer.init(jax.random.key(0), x)
    assert not np.any(layer.apply(variables, x))
    assert np.std(variables["params"]["kernel"]) == pytest.approx(0.5, rel=0.3)  # one over the root of four channels


def test_channels_are_normalised_as_flax_does():
    layer = nn.LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False, use_fast_variance=False)
    x = 3 + 2 * noise(2, 3, 4, 8)
    assert_same_with_gradients(nafnet_layers.normalise_channels, lambda x: layer.apply({}, x), x)


def test_the_gate_multiplies_the_halves():
    def plain(x):
        return x[..., :3] * x[..., 3:]

    assert_same_with_gradients(nafnet_layers.gate, plain, noise(2, 3, 4, 6))


def test_sums_of_bfloat16_are_taken_in_float32():
    """Of 4096 equal products bfloat16 would lose all after the 256th; a kernel's gradient is such a sum."""
    x, kernel = jnp.ones((1, 64, 64, 2), jnp.bfloat16), jnp.ones((3, 3, 1, 2), jnp.bfloat16)
    (gradient,) = jax.grad(lambda k: jnp.sum(nafnet_layers.depthwise_conv(x, k).astype(jnp.float32)), (0,))(kernel)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(gradient[1, 1].astype(np.float32), 4096, rtol=0.01)


def test_channels_of_bfloat16_are_normalised_in_float32():
    x = (100 + 4 * noise(4, 4, 4, 8)).astype(jnp.bfloat16)  # to which the mean would be rounded by up to a quarter
    found = nafnet_layers.normalise_channels(x)
    assert found.dtype == jnp.bfloat16
    wanted = nafnet_layers.normalise_channels(x.astype(jnp.float32))
    np.testing.assert_allclose(found.astype(np.float32), wanted, atol=0.01)
