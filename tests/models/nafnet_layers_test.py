"""NAFNet's layers against the convolution or normalisation they are equivalent to, forward and backward."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeblur.models import nafnet_layers
from jaxdeblur.models.cpu import conv, depthwise
from jaxdeblur.runs.train_state import init_variables
from tests.helpers.networks import build_tiny

RNG = np.random.default_rng(0)
NHWC = ("NHWC", "HWIO", "NHWC")


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def assert_same_with_gradients(ours, expected, *arguments, atol=1e-4):
    """Compare values, and the gradients of all arguments for a random cotangent."""
    (value, pull), (expected_value, expected_pull) = (
        jax.vjp(jax.jit(function), *arguments) for function in (ours, expected)
    )
    np.testing.assert_allclose(value, expected_value, rtol=1e-5, atol=atol)
    cotangent = noise(*expected_value.shape)
    for gradient, expected_gradient in zip(pull(cotangent), expected_pull(cotangent), strict=True):
        assert np.abs(expected_gradient).max() > 0.1
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=atol)


def grouped_convolution(x, kernel):
    options = {"dimension_numbers": NHWC, "feature_group_count": x.shape[3]}
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), **options)


# The kernel's gradient adds eight rows at once: fewer, one more, a multiple.
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (9, 6), (16, 4)])
def test_depthwise_equals_a_grouped_convolution(size):
    assert_same_with_gradients(conv.convolve_depthwise, grouped_convolution, noise(2, *size, 6), noise(3, 3, 1, 6))


def test_depthwise_equals_a_grouped_convolution_in_float64():
    with jax.enable_x64(True):
        x, kernel = RNG.normal(size=(1, 9, 5, 3)), RNG.normal(size=(3, 3, 1, 3))
        np.testing.assert_allclose(conv.convolve_depthwise(x, kernel), grouped_convolution(x, kernel), atol=1e-13)


def test_depthwise_adds_its_bias():
    layer, x = nafnet_layers.DepthwiseConv(), noise(1, 4, 5, 3)
    variables = layer.init(jax.random.key(0), x)["params"]
    bias = noise(3)
    shifted = layer.apply({"params": {**variables, "bias": bias}}, x)
    difference = shifted - layer.apply({"params": variables}, x)
    np.testing.assert_allclose(difference, np.broadcast_to(bias, x.shape), atol=1e-6)


def lowered_gradient(platform, fast):
    """Return the lowered gradient of a tiny NAFNet, and how many depthwise convolutions the network has."""
    model = build_tiny("nafnet", cpu_fast_conv=fast)
    variables = jax.eval_shape(partial(init_variables, model), jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    gradient = jax.jit(jax.grad(lambda params, images: model.apply({"params": params}, images, train=True).sum()))
    lowered = gradient.trace(variables["params"], images).lower(lowering_platforms=(platform,))
    return lowered.as_text(), sum("depthwise" in block for part in variables["params"].values() for block in part)


@pytest.mark.parametrize(("platform", "fast"), [("cuda", True), ("tpu", True), ("cuda", False), ("cpu", False)])
def test_nafnets_gradient_has_grouped_convolutions_except_for_fast_ones_on_cpus(platform, fast):
    """Each depthwise layer has one forward, and one each for the gradients of its input and its kernel."""
    text, layers = lowered_gradient(platform, fast)
    groups = [
        line
        for line in text.splitlines()
        if "stablehlo.convolution" in line
        and not ("feature_group_count = 1 :" in line and "batch_group_count = 1 :" in line)
    ]
    assert len(groups) == 3 * layers


def test_nafnets_gradient_on_cpus_has_shifted_products():
    text, _ = lowered_gradient("cpu", True)
    assert "feature_group_count = 8" not in text
    assert "batch_group_count = 8" not in text


@pytest.mark.parametrize("scaled", [False, True])
def test_pointwise_equals_a_convolution(scaled):
    layer = nafnet_layers.PointwiseConv(5, scaled=scaled)
    kernel, bias, scale = noise(1, 1, 4, 5), noise(5), noise(5)

    def ours(x, kernel, bias, scale):
        params = {"kernel": kernel, "bias": bias, **({"scale": scale} if scaled else {})}
        return layer.apply({"params": params}, x) + (0 if scaled else jnp.sum(scale))

    def convolution(x, kernel, bias, scale):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC) + bias
        return y * scale if scaled else y + jnp.sum(scale)

    assert_same_with_gradients(ours, convolution, noise(2, 3, 6, 4), kernel, bias, scale)


def test_a_scaled_layer_starts_at_zero_but_its_kernel_does_not():
    layer, x = nafnet_layers.PointwiseConv(5, scaled=True), noise(2, 3, 6, 4)
    variables = layer.init(jax.random.key(0), x)
    assert not np.any(layer.apply(variables, x))
    assert np.std(variables["params"]["kernel"]) == pytest.approx(0.5, rel=0.3)  # 1 / sqrt(4 channels)


def test_layer_norm_equals_flax():
    layer = nn.LayerNorm(epsilon=1e-6, use_bias=False, use_scale=False, use_fast_variance=False)
    x = 3 + 2 * noise(2, 3, 4, 8)
    assert_same_with_gradients(nafnet_layers.normalise_channels, lambda x: layer.apply({}, x), x)


def test_simple_gate_multiplies_the_halves():
    def halves(x):
        return x[..., :3] * x[..., 3:]

    assert_same_with_gradients(nafnet_layers.simple_gate, halves, noise(2, 3, 4, 6))


def test_sums_of_bfloat16_are_in_float32():
    """Of 4096 equal products, a bfloat16 sum would lose all after the 256th; a kernel's gradient is such a sum."""
    x, kernel = jnp.ones((1, 64, 64, 2), jnp.bfloat16), jnp.ones((3, 3, 1, 2), jnp.bfloat16)
    _, gradient = jax.jit(depthwise.gradients)(x, kernel, jnp.ones_like(x))
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(gradient[1, 1].astype(np.float32), 4096, rtol=0.01)


def test_layer_norm_of_bfloat16_is_computed_in_float32():
    x = (100 + 4 * noise(4, 4, 4, 8)).astype(jnp.bfloat16)  # the mean's rounding error would be up to 0.25
    normalised = nafnet_layers.normalise_channels(x)
    assert normalised.dtype == jnp.bfloat16
    expected = nafnet_layers.normalise_channels(x.astype(jnp.float32))
    np.testing.assert_allclose(normalised.astype(np.float32), expected, atol=0.01)
