"""The networks: sizes, parameters, and PyTorch's own outputs for the same weights, kept in `golden/`."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_image, random_tensor

from jaxdeblur.models import MODELS, build_model
from jaxdeblur.runs.train_state import count_parameters, init_variables
from jaxdeblur.weights.tensors import shapes_of
from jaxdeblur.weights.torch_names import from_torch
from tests.helpers.paths import ROOT

GOLDEN = ROOT / "tests" / "golden"
TINY = {
    "nafnet": {
        "width": 4,
        "encoder_blocks": (1,),
        "middle_blocks": 1,
        "decoder_blocks": (1,),
        "attention": "global",
    },
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


def abstract_variables(model):
    return jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))


def train_forward(model, params, others, x):
    """Return the prediction of a training step, and BatchNorm's statistics after it."""
    return model.apply({**others, "params": params}, x, train=True, mutable=["batch_stats"])


def equations(jaxpr):
    """Yield all equations of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for item in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_convolutions_run_in_bfloat16_and_statistics_in_float32(name, remat):
    """Forward and backward; sums over images (BatchNorm's) and the output are float32."""
    model = build_model(name, **TINY[name], dtype="bfloat16", remat=remat)
    variables, image = abstract_variables(model), jax.ShapeDtypeStruct((5, 32, 32, 3), jnp.float32)
    assert shapes_of(variables) == shapes_of(abstract_variables(build_model(name, **TINY[name])))
    prediction, updates = jax.eval_shape(partial(train_forward, model), variables["params"], variables, image)
    assert prediction.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {np.dtype(np.float32)}

    def loss(params, others, x):
        return jnp.mean(train_forward(model, params, others, x)[0])

    found = [*equations(jax.make_jaxpr(jax.grad(loss))(variables["params"], variables, image).jaxpr)]
    kinds = ("conv_general_dilated", "dot_general")  # the latter where a kernel is 1x1
    convolutions = [
        equation
        for equation in found
        if equation.primitive.name in kinds
        and any(side % 5 == 0 for variable in equation.invars for side in variable.aval.shape)
    ]  # of images, which are five; kernels are rearranged in their own type
    # Depthwise ones are sums of products, taken in float32.
    forward = sum(name.endswith("kernel") and "depthwise" not in name for name in shapes_of(variables))
    assert len(convolutions) >= 3 * forward - 1  # forward, and the gradients of kernel and input (not the image's)
    assert {str(variable.aval.dtype) for equation in convolutions for variable in equation.invars} == {"bfloat16"}


@pytest.fixture(scope="module")
def variables():
    """Of a tiny TransformNet."""
    return jax.jit(partial(init_variables, build_model("transformnet", **TINY["transformnet"])))(jax.random.key(0))


def test_bfloat16_is_close_to_float32(variables):
    image, outputs = random_image(16, 16), []
    models = [build_model("transformnet", **TINY["transformnet"], dtype=dtype) for dtype in ("float32", "bfloat16")]
    for model in models:
        outputs.append(jax.jit(partial(train_forward, model))(variables["params"], variables, image))
    (exact, statistics), (rounded, rounded_statistics) = outputs
    difference = np.abs(exact - rounded)
    assert 1e-5 < difference.max() < 0.05
    assert difference.mean() < 0.01
    for one, other in zip(jax.tree.leaves(statistics), jax.tree.leaves(rounded_statistics), strict=True):
        np.testing.assert_allclose(other, one, rtol=0.02, atol=0.01)


def saved_bytes(name, size, **options):
    """Return the bytes per image that the forward pass leaves for the backward pass, weights not counted."""
    model, batch = build_model(name, **options), 5  # by which arrays of images are told from kernels
    variables, image = abstract_variables(model), jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    run = partial(jax.vjp, partial(train_forward, model), has_aux=True)
    _, pull_back, _ = jax.eval_shape(run, variables["params"], variables, image)
    images = [leaf for leaf in jax.tree.leaves(pull_back) if leaf.ndim == 4 and leaf.shape[0] == batch]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in images) / batch


@pytest.mark.parametrize("name", MODELS)
def test_rematerialisation_saves_less(name):
    """The networks of the recipes, at 256x256."""
    plain, remat, half = (saved_bytes(name, 256, **options) for options in ({}, {"remat": True}, {"dtype": "bfloat16"}))
    assert remat < 0.3 * plain
    assert half < 0.8 * plain  # BatchNorm's insides stay float32


@pytest.mark.parametrize("name", ["nafnet", "transformnet"])
def test_rematerialisation_changes_no_number(name):
    """Gradients, statistics and initial weights, of networks with all kinds of parts that are computed anew."""
    image, results = random_image(16, 16), []
    for remat in (False, True):
        model = build_model(name, **TINY[name], remat=remat)

        @jax.jit
        def gradient(key, model=model):
            def loss(params):
                prediction, updates = train_forward(model, params, initial, image)
                return jnp.mean(jnp.square(prediction)), updates

            initial = init_variables(model, key)
            return initial, jax.value_and_grad(loss, has_aux=True)(initial["params"])

        results.append(gradient(jax.random.key(0)))
    for plain, remat in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(remat, plain, rtol=1e-5, atol=1e-7)


def test_a_network_of_a_config_read_back_from_json_is_the_same():
    """And can be hashed, which jit's static arguments must be."""
    options = json.loads(json.dumps(TINY["resnetencdec"]))
    assert isinstance(options["stage_sizes"], list)
    again = build_model("resnetencdec", **options)
    assert hash(again) == hash(build_model("resnetencdec", **TINY["resnetencdec"]))
