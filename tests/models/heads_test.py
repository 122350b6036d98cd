"""Residual outputs, and training without BatchNorm; how every network starts."""

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
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.training.losses import LOSSES
from jaxdeblur.weights.tensors import network_shapes
from jaxdeblur.weights.torch_names import to_torch
from tests.helpers.networks import build_tiny, constant_variables

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
    model = build_tiny(name, **dict(options))
    return model, jax.device_get(init_variables(model, jax.random.key(0)))


def shapes(name, **options):
    return network_shapes(build_tiny(name, **options))


@pytest.mark.parametrize("name", ORIGINALS)
def test_norm_none_has_no_batchnorm_and_a_bias_wherever_there_is_a_kernel(name):
    leaves = shapes(name, norm="none")
    assert not [leaf for leaf in leaves if "bn" in leaf or not leaf.startswith("params/")]
    kernels = {leaf.removesuffix("/kernel") for leaf in leaves if leaf.endswith("/kernel")}
    assert kernels == {leaf.removesuffix("/bias") for leaf in leaves if leaf.endswith("/bias")}
    assert kernels == {leaf.removesuffix("/kernel") for leaf in shapes(name) if leaf.endswith("/kernel")}


@pytest.mark.parametrize(("name", "last", "count"), [("transformnet", "conv2", 1), ("resnetencdec", "conv3", 4)])
def test_without_batchnorm_branches_start_at_zero_and_signals_keep_their_scale(name, last, count):
    """At the last layer; with PyTorch's initialisation the signal would shrink in each layer before it."""
    model, variables = create(name, (RESIDUAL, NONE))
    leaves = traverse_util.flatten_dict(variables["params"], sep="/")
    branches = [leaf for leaf in leaves if re.fullmatch(rf"(res_block\d|backbone/layer\d_\d)/{last}/kernel", leaf)]
    assert len(branches) == count
    zero_kernels = {leaf for leaf, values in leaves.items() if leaf.endswith("/kernel") and not np.any(values)}
    assert zero_kernels == {*branches, "correction/kernel"}
    # With these weights the last layer adds two of its input channels to the image.
    kernel = np.zeros_like(variables["params"]["correction"]["kernel"])
    for channel in (0, 1):
        kernel[len(kernel) // 2, len(kernel) // 2, channel, channel] = 1
    params = {**variables["params"], "correction": {**variables["params"]["correction"], "kernel": kernel}}
    image = random_image(64, 64)
    restored = jax.jit(partial(model.apply, train=True))({"params": params}, image)
    signal = np.sqrt(np.mean(np.square(restored - image)[..., :2]))
    assert 0.1 < signal / np.sqrt(np.mean(np.square(image))) < 10


@pytest.mark.parametrize(("name", "options"), [*RECOMMENDED, OTHERS[0], OTHERS[2]])
def test_residual_networks_start_as_the_identity(name, options):
    """Values above 1 are not clipped."""
    model, variables = create(name, options)
    image = 0.5 + 0.6 * random_image(16, 16)
    output, _ = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))(variables, image)
    np.testing.assert_array_equal(output, image)


@pytest.mark.parametrize(
    ("name", "options"), [*RECOMMENDED, *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)]
)
def test_the_loss_of_a_fixed_batch_falls(name, options):
    model, variables = create(name, options)
    sharp = np.kron(random_image(4, 4), np.ones((1, 8, 8, 1), np.float32))
    blur = 0.5 + 0.6 * sharp
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))

    @jax.jit
    def step(variables, opt_state):
        def loss_fn(params):
            everything = {**variables, "params": params}
            prediction, updates = model.apply(everything, blur, train=True, mutable=["batch_stats"])
            return LOSSES["charbonnier"](prediction, sharp), updates

        (loss, updates), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
        changes, opt_state = tx.update(grads, opt_state)
        variables = {**variables, **updates, "params": optax.apply_updates(variables["params"], changes)}
        return variables, opt_state, loss

    opt_state, losses = jax.jit(tx.init)(variables["params"]), []
    for _ in range(40):
        variables, opt_state, loss = step(variables, opt_state)
        losses.append(float(loss))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.8 * losses[0]


@pytest.mark.parametrize("name", ORIGINALS)
def test_other_norms_are_refused(name):
    with pytest.raises(ValueError, match="norm is 'group', expected 'batch' or 'none'"):
        shapes(name, norm="group")


def test_variants_are_not_reported_as_the_published_network(tiny_config):
    assert network_facts(parse_config(tiny_config).model, {})["network"] == "transformnet"
    tiny_config.model.residual = True
    assert network_facts(parse_config(tiny_config).model, {})["network"] == "transformnet (residual)"
    tiny_config.model.norm = "none"
    assert network_facts(parse_config(tiny_config).model, {})["network"] == "transformnet (residual, without BatchNorm)"
    for norm in ("batch", "none"):
        assert network_facts(parse_config(tiny_config).model, shapes("transformnet", norm=norm))["batch_norm"] == (
            norm == "batch"
        )


@pytest.mark.parametrize(("name", "options"), RECOMMENDED[:2] + OTHERS[:2])
def test_variants_are_not_converted_to_pytorch(name, options):
    """PyTorch's network would load part of them, and compute something else."""
    with pytest.raises(InputError) as error:
        to_torch(name, constant_variables(shapes(name, **dict(options))))
    assert error.value.code == "weights-without-original"
