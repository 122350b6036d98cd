"""The networks: sizes, parameters, and PyTorch's own outputs for the same weights, kept in `golden/`."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_image, random_tensor

from jaxdeblur.models import MODELS, build_model
from jaxdeblur.train_state import count_parameters, init_variables
from jaxdeblur.weights import from_torch, shapes_of

GOLDEN = Path(__file__).parent / "golden"
TINY = {
    "resnetencdec": {"width": 4, "stage_sizes": (1, 1, 1, 1)},
    "transformnet": {"width": 4, "num_blocks": 1},
    "unet": {"width": 4, "num_levels": 2, "num_blocks": 1},
}


@pytest.mark.parametrize(("name", "parameters"), [("transformnet", 1_677_859), ("resnetencdec", 72_243_843)])
def test_parameter_counts_are_the_published_ones(name, parameters):
    variables = jax.eval_shape(lambda key: init_variables(build_model(name), key), jax.random.key(0))
    assert count_parameters(variables["params"]) == parameters


@pytest.mark.parametrize(("name", "tolerance"), [("transformnet", 1e-5), ("resnetencdec", 1e-4)])
def test_outputs_equal_pytorch(name, tolerance):
    """Same weights, same images, evaluation and training mode; 100 and 180 are no multiples of 32."""
    golden = np.load(GOLDEN / f"{name}.npz")
    shapes = json.loads(str(golden["shapes"]))
    tensors = {key: random_tensor(key, tuple(shape)) for key, shape in shapes.items()}
    model = build_model(name)
    expected = shapes_of(jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0)))
    variables = from_torch(name, tensors, expected)
    evaluate = jax.jit(lambda variables, image: model.apply(variables, image, train=False))
    train = jax.jit(lambda variables, image: model.apply(variables, image, train=True, mutable=["batch_stats"])[0])
    for height, width in ((64, 96), (100, 132), (180, 320)):
        image = random_image(height, width)
        for mode, forward in (("eval", evaluate), ("train", train)):
            output = np.asarray(forward(variables, image))
            assert output.shape == image.shape
            case = f"{mode}-{height}x{width}"
            np.testing.assert_allclose(output[:, ::3, ::3], golden[case], rtol=0, atol=tolerance, err_msg=case)


@pytest.mark.parametrize("name", MODELS)
def test_output_size_is_input_size(name):
    model = build_model(name, **TINY[name])
    variables = jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))
    for height in range(16, 34):
        for width in (16, 19, 33, 50):
            image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
            output = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, image)
            assert output.shape == image.shape


@pytest.mark.parametrize("name", ["resnetencdec", "transformnet"])
def test_padding_leaves_the_seen_image_alone(name):
    """An image of 18x21 comes out as the top left of itself reflected to 20x24."""
    model = build_model(name, **TINY[name])
    variables = jax.jit(lambda key: init_variables(model, key))(jax.random.key(0))
    image = random_image(18, 21, batch=1)
    whole = np.pad(image, ((0, 0), (0, 2), (0, 3), (0, 0)), mode="reflect")
    forward = jax.jit(lambda x: model.apply(variables, x, train=False))
    np.testing.assert_allclose(forward(image), np.asarray(forward(whole))[:, :18, :21], atol=1e-6)


def test_unet_starts_as_the_identity():
    model = build_model("unet", **TINY["unet"])
    variables = jax.jit(lambda key: init_variables(model, key))(jax.random.key(0))
    image = random_image(16, 20)
    np.testing.assert_array_equal(model.apply(variables, image, train=True), image)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_reaches_the_output(name):
    """A layer left out of the forward pass would have no gradient; the UNet's zero layers hide others, so it moves."""
    model = build_model(name, **TINY[name])
    variables = jax.jit(lambda key: init_variables(model, key))(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.01, variables["params"])
    target, image = random_image(32, 32), random_image(32, 36)[:, :, :32]

    @jax.jit
    def gradient(params):
        def loss(params):
            everything = {**variables, "params": params}
            return jnp.mean((model.apply(everything, image, train=False) - target) ** 2)

        return jax.grad(loss)(params)

    silent = [name for name, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)) if not np.any(leaf)]
    assert not silent
