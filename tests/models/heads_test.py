"""TransformNet and ResnetEncDec without BatchNorm, and as corrections of their input; how every network begins."""

import re
from functools import cache, partial

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util
from random_weights import random_image

from jaxdeblur.config.run_config import parse_config
from jaxdeblur.errors import InputError
from jaxdeblur.experiment.run_identity import network_facts
from jaxdeblur.models import build_model
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.training.losses import LOSSES
from jaxdeblur.weights.initial import network_shapes
from jaxdeblur.weights.load import read_network
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import shapes_of
from jaxdeblur.weights.torch_names import to_torch

TINY = {
    "nafnet": {"width": 4, "encoder_blocks": (1,), "middle_blocks": 1, "decoder_blocks": (1,)},
    "resnetencdec": {"width": 4, "stage_sizes": (1, 1, 1, 1)},
    "transformnet": {"width": 4, "num_blocks": 2},
}
ORIGINALS = ("resnetencdec", "transformnet")
RESIDUAL, NONE = ("residual", True), ("norm", "none")
RECOMMENDED = [("transformnet", (RESIDUAL, NONE)), ("resnetencdec", (RESIDUAL, NONE)), ("nafnet", ())]
OTHERS = [
    ("transformnet", (RESIDUAL,)),
    ("transformnet", (NONE,)),
    ("nafnet", (("attention", "global"), ("half_resolution", False))),
]


@cache
def create(name, options):
    model = build_model(name, **{**TINY[name], **dict(options)})
    return model, jax.device_get(init_variables(model, jax.random.key(0)))


def shapes(name, **options):
    model = build_model(name, **{**TINY[name], **options})
    return shapes_of(jax.eval_shape(partial(init_variables, model), jax.random.key(0)))


def zeros(name, options):
    flat = {leaf: np.zeros(shape, np.float32) for leaf, shape in shapes(name, **dict(options)).items()}
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.mark.parametrize("name", ORIGINALS)
def test_norm_none_has_no_batchnorm_and_a_bias_wherever_there_is_a_kernel(name):
    leaves = shapes(name, norm="none")
    assert not [leaf for leaf in leaves if "bn" in leaf or not leaf.startswith("params/")]
    kernels = {leaf.removesuffix("/kernel") for leaf in leaves if leaf.endswith("/kernel")}
    assert kernels == {leaf.removesuffix("/bias") for leaf in leaves if leaf.endswith("/bias")}
    assert kernels == {leaf.removesuffix("/kernel") for leaf in shapes(name) if leaf.endswith("/kernel")}


@pytest.mark.parametrize(("name", "last", "count"), [("transformnet", "conv2", 2), ("resnetencdec", "conv3", 4)])
def test_without_batchnorm_branches_begin_at_zero_and_signals_keep_their_size(name, last, count):
    """At the last layer; PyTorch's first weights would shrink the signal with each of the layers before it."""
    model, variables = create(name, (RESIDUAL, NONE))
    leaves = traverse_util.flatten_dict(variables["params"], sep="/")
    branches = [leaf for leaf in leaves if re.fullmatch(rf"(res_block\d|backbone/layer\d_\d)/{last}/kernel", leaf)]
    assert len(branches) == count
    zeros = {leaf for leaf, values in leaves.items() if leaf.endswith("/kernel") and not np.any(values)}
    assert zeros == {*branches, "correction/kernel"}
    # With two weights of the last layer, what is put out is the image and two channels that came in.
    kernel = np.zeros_like(variables["params"]["correction"]["kernel"])
    for channel in (0, 1):
        kernel[len(kernel) // 2, len(kernel) // 2, channel, channel] = 1
    params = {**variables["params"], "correction": {**variables["params"]["correction"], "kernel": kernel}}
    image = random_image(64, 64)
    restored = jax.jit(partial(model.apply, train=True))({"params": params}, image)
    seen = np.sqrt(np.mean(np.square(restored - image)[..., :2]))
    assert 0.1 < seen / np.sqrt(np.mean(np.square(image))) < 10


@pytest.mark.parametrize(("name", "options"), RECOMMENDED + OTHERS)
def test_networks_that_correct_start_as_the_identity_and_the_loss_of_a_fixed_batch_falls(name, options):
    """The identity beyond 1, too: nothing is clipped."""
    model, variables = create(name, options)
    sharp = np.kron(random_image(4, 4), np.ones((1, 8, 8, 1), np.float32))
    blur = 0.5 + 0.6 * sharp
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    @jax.jit
    def step(variables, opt_state):
        def loss_fn(params):
            everything = {**variables, "params": params}
            prediction, updates = model.apply(everything, blur, train=True, mutable=["batch_stats"])
            return LOSSES["charbonnier"](prediction, sharp), (prediction, updates)

        (loss, (prediction, updates)), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
        changes, opt_state = tx.update(grads, opt_state)
        variables = {**variables, **updates, "params": optax.apply_updates(variables["params"], changes)}
        return variables, opt_state, loss, prediction

    opt_state, losses = jax.jit(tx.init)(variables["params"]), []
    for i in range(40):
        variables, opt_state, loss, prediction = step(variables, opt_state)
        losses.append(float(loss))
        if i == 0 and (name == "nafnet" or RESIDUAL in options):
            np.testing.assert_array_equal(prediction, blur)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


@pytest.mark.parametrize("name", ORIGINALS)
def test_another_norm_is_refused_with_words(name):
    with pytest.raises(ValueError, match="norm is 'group', expected 'batch' or 'none'"):
        shapes(name, norm="group")


LEVELS = (("encoder_blocks", (1, 2, 1)), ("middle_blocks", 3), ("decoder_blocks", (2, 1, 1)))
EMPTY_LEVELS = (("encoder_blocks", (0, 2, 1)), ("decoder_blocks", (1, 0, 0)))


@pytest.mark.parametrize(
    ("name", "options", "multiple"),
    [
        ("transformnet", (), 4),
        ("transformnet", (RESIDUAL,), 4),
        ("transformnet", (NONE,), 4),
        ("resnetencdec", (), 4),
        ("resnetencdec", (RESIDUAL, NONE), 4),
        ("nafnet", LEVELS, 16),
        ("nafnet", EMPTY_LEVELS, 16),
        ("nafnet", (*LEVELS, ("half_resolution", False), ("attention", "global")), 8),
    ],
)
def test_weights_alone_tell_which_variant_they_are(name, options, multiple, tmp_path):
    write_weights(tmp_path / "weights.safetensors", zeros(name, options), {"network": name})
    network = read_network(tmp_path / "weights.safetensors")
    assert network.model == build_model(name, **{**TINY[name], **dict(options)})
    assert network.multiple == multiple


def test_the_report_does_not_take_a_variant_for_the_published_network(tiny_config):
    assert network_facts(parse_config(tiny_config).model, {})["network"] == "transformnet"
    tiny_config.model.residual = True
    assert network_facts(parse_config(tiny_config).model, {})["network"] == "transformnet (residual)"
    tiny_config.model.norm = "none"
    assert network_facts(parse_config(tiny_config).model, {})["network"] == "transformnet (residual, without BatchNorm)"
    for norm in ("batch", "none"):
        shapes = network_shapes(build_model("transformnet", **TINY["transformnet"], norm=norm))
        assert network_facts(parse_config(tiny_config).model, shapes)["batch_norm"] == (norm == "batch")


@pytest.mark.parametrize(("name", "options"), RECOMMENDED[:2] + OTHERS[:2])
def test_variants_are_not_written_as_pytorchs_network(name, options):
    """It would load them in part, and compute something else."""
    with pytest.raises(InputError, match=rf"not a tensor of {name}"):
        to_torch(name, zeros(name, options))
