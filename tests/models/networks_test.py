"""The networks: output sizes, parameters, compute types, and PyTorch's outputs for the same weights (`golden/`)."""

import inspect
import json
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_image, random_tensor

from jaxdeblur.models import (
    ENCODERS,
    MODELS,
    build_model,
    needs_position,
    options_of,
    prefers_ynnpack_matmul,
    sees_whole_image,
)
from jaxdeblur.runs.train_state import count_parameters, init_variables
from jaxdeblur.weights.tensors import shapes_of
from jaxdeblur.weights.torch_names import from_torch
from tests.helpers.networks import TINY, abstract_variables, build_tiny
from tests.helpers.paths import ROOT

GOLDEN = ROOT / "tests" / "golden"


def build_complete(name, **options):
    """Return a tiny network with every kind of layer."""
    return build_tiny(name, **({"attention": "global"} if name == "nafnet" else {}), **options)


@pytest.mark.parametrize(("name", "parameters"), [("transformnet", 1_677_859), ("resnetencdec", 72_243_843)])
def test_parameter_counts_are_the_published_ones(name, parameters):
    variables = abstract_variables(build_model(name))
    assert count_parameters(variables["params"]) == parameters


@pytest.mark.parametrize(
    ("height", "width"), [(100, 132), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((64, 96), (180, 320)))]
)
@pytest.mark.parametrize(("name", "tolerance"), [("transformnet", 1e-5), ("resnetencdec", 1e-4)])
def test_outputs_equal_pytorch(name, tolerance, height, width):
    """In evaluation and training mode; 100 and 180 are not multiples of 32."""
    golden = np.load(GOLDEN / f"{name}.npz")
    shapes = json.loads(str(golden["shapes"]))
    tensors = {key: random_tensor(key, tuple(shape)) for key, shape in shapes.items()}
    model = build_model(name)
    variables = from_torch(name, tensors, shapes_of(abstract_variables(model)))
    evaluate = jax.jit(lambda variables, image: model.apply(variables, image, train=False))
    train = jax.jit(lambda variables, image: model.apply(variables, image, train=True, mutable=["batch_stats"])[0])
    image = random_image(height, width)
    for mode, forward in (("eval", evaluate), ("train", train)):
        output = np.asarray(forward(variables, image))
        assert output.shape == image.shape
        case = f"{mode}-{height}x{width}"
        np.testing.assert_allclose(output[:, ::3, ::3], golden[case], rtol=0, atol=tolerance, err_msg=case)


@pytest.mark.parametrize("name", MODELS)
def test_output_size_is_input_size(name):
    """For every residue of height and width modulo the network's multiple, one of them of each at a time."""
    model = build_complete(name)
    variables = abstract_variables(model)
    for excess in range(model.multiple):
        height, width = 16 + excess, 24 + (excess + 1) % model.multiple
        image = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
        output = jax.eval_shape(partial(model.apply, train=False), variables, image)
        assert output.shape == image.shape


@pytest.mark.parametrize("name", MODELS)
def test_networks_state_facts_about_themselves(name):
    model = build_tiny(name)
    params = abstract_variables(model)["params"]
    assert model.encoder == "" or model.encoder in params
    assert ENCODERS.get(name, "") == model.encoder
    assert needs_position(model) == ("position" in inspect.signature(model.__call__).parameters)
    assert not sees_whole_image(model)
    assert options_of(model) == {**options_of(build_model(name)), **TINY[name]}


def test_only_networks_with_global_attention_see_the_whole_image():
    assert sees_whole_image(build_tiny("nafnet", attention="global"))


def test_other_modules_have_no_facts():
    """A user's own module can be restored with, so the functions that read facts must accept it."""
    module = nn.Dense(3)
    assert not any(fact(module) for fact in (needs_position, sees_whole_image, prefers_ynnpack_matmul))


@pytest.mark.parametrize("name", ["resnetencdec", "transformnet"])
def test_images_of_other_sizes_are_padded_by_reflection(name):
    """The output for 18x21 is the top left part of the output for the image reflected to 20x24."""
    model = build_tiny(name)
    variables = jax.jit(lambda key: init_variables(model, key))(jax.random.key(0))
    image = random_image(18, 21, batch=1)
    whole = np.pad(image, ((0, 0), (0, 2), (0, 3), (0, 0)), mode="reflect")
    forward = jax.jit(lambda x: model.apply(variables, x, train=False))
    np.testing.assert_allclose(forward(image), np.asarray(forward(whole))[:, :18, :21], atol=1e-6)


def test_unet_starts_as_the_identity():
    model = build_tiny("unet")
    variables = jax.jit(lambda key: init_variables(model, key))(jax.random.key(0))
    image = random_image(16, 20)
    np.testing.assert_array_equal(model.apply(variables, image, train=True), image)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_reaches_the_output(name):
    """Unused layers have no gradient. Weights are shifted, as zero-initialised layers would hide others."""
    model = build_complete(name)
    variables = jax.jit(lambda key: init_variables(model, key))(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.01, variables["params"])
    target, image = random_image(32, 32), random_image(32, 36)[:, :, :32]

    @jax.jit
    def gradient(params):
        def loss(params):
            everything = {**variables, "params": params}
            return jnp.mean((model.apply(everything, image, train=False) - target) ** 2)

        return jax.grad(loss)(params)

    unused = [name for name, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)) if not np.any(leaf)]
    assert not unused


def train_forward(model, params, others, x):
    """Return a training step's prediction, and BatchNorm's statistics after it."""
    return model.apply({**others, "params": params}, x, train=True, mutable=["batch_stats"])


def equations(jaxpr):
    """Yield all equations of a jaxpr, nested ones included."""
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
    """Forward and backward; BatchNorm's sums over images, and the output, are float32."""
    model = build_complete(name, dtype="bfloat16", remat=remat)
    variables, image = abstract_variables(model), jax.ShapeDtypeStruct((5, 32, 32, 3), jnp.float32)
    assert shapes_of(variables) == shapes_of(abstract_variables(build_complete(name)))
    prediction, updates = jax.eval_shape(partial(train_forward, model), variables["params"], variables, image)
    assert prediction.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {np.dtype(np.float32)}

    def loss(params, others, x):
        return jnp.mean(train_forward(model, params, others, x)[0])

    all_equations = [*equations(jax.make_jaxpr(jax.grad(loss))(variables["params"], variables, image).jaxpr)]
    kinds = ("conv_general_dilated", "dot_general")  # the latter where a kernel is 1x1
    convolutions = [
        equation
        for equation in all_equations
        if equation.primitive.name in kinds
        and any(side % 5 == 0 for variable in equation.invars for side in variable.aval.shape)
    ]  # of images, recognised by the batch size of five; kernels are rearranged in float32
    # On CPUs depthwise convolutions are sums of products in float32.
    forward = sum(name.endswith("kernel") and "depthwise" not in name for name in shapes_of(variables))
    assert len(convolutions) >= 3 * forward - 1  # forward, and the gradients of kernel and input (not the image's)
    assert {str(variable.aval.dtype) for equation in convolutions for variable in equation.invars} == {"bfloat16"}


@pytest.fixture(scope="module")
def variables():
    """Of a tiny TransformNet."""
    return jax.jit(partial(init_variables, build_tiny("transformnet")))(jax.random.key(0))


def test_bfloat16_is_close_to_float32(variables):
    image, outputs = random_image(16, 16), []
    models = [build_tiny("transformnet", dtype=dtype) for dtype in ("float32", "bfloat16")]
    for model in models:
        outputs.append(jax.jit(partial(train_forward, model))(variables["params"], variables, image))
    (exact, statistics), (rounded, rounded_statistics) = outputs
    difference = np.abs(exact - rounded)
    assert 1e-5 < difference.max() < 0.05
    assert difference.mean() < 0.01
    for one, other in zip(jax.tree.leaves(statistics), jax.tree.leaves(rounded_statistics), strict=True):
        np.testing.assert_allclose(other, one, rtol=0.02, atol=0.01)


def saved_bytes(name, size, **options):
    """Return the bytes per image stored for the backward pass, without weights."""
    model, batch = build_model(name, **options), 5  # distinguishes arrays of images from kernels
    variables, image = abstract_variables(model), jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    run = partial(jax.vjp, partial(train_forward, model), has_aux=True)
    _, pull_back, _ = jax.eval_shape(run, variables["params"], variables, image)
    images = [leaf for leaf in jax.tree.leaves(pull_back) if leaf.ndim == 4 and leaf.shape[0] == batch]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in images) / batch


@pytest.mark.parametrize("name", MODELS)
def test_rematerialisation_saves_less(name):
    """Default architectures at 256x256."""
    plain, remat, half = (saved_bytes(name, 256, **options) for options in ({}, {"remat": True}, {"dtype": "bfloat16"}))
    assert remat < 0.3 * plain
    assert half < 0.8 * plain  # BatchNorm's intermediates stay float32


@pytest.mark.parametrize(
    ("name", "options"),
    [("nafnet", {"encoder_blocks": (1,), "middle_blocks": 0, "decoder_blocks": (0,)}), ("transformnet", {})],
)
def test_rematerialisation_changes_no_result(name, options):
    """Gradients, statistics and initial weights are the same; the two networks have all kinds of checkpointed parts."""
    image, results = random_image(16, 16), []
    for remat in (False, True):
        model = build_complete(name, remat=remat, **options)

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


def test_networks_from_json_options_equal_the_original():
    """They are hashable too, as jit's static arguments must be."""
    options = json.loads(json.dumps(TINY["resnetencdec"]))
    assert isinstance(options["stage_sizes"], list)
    from_json = build_model("resnetencdec", **options)
    assert from_json == build_tiny("resnetencdec")
    assert hash(from_json) == hash(build_tiny("resnetencdec"))
