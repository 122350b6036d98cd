"""Strict conversion of PyTorch's tensors; what a fingerprint depends on."""

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.models import build_model
from jaxdeblur.weights.tensors import fingerprint, network_shapes, shapes_of
from jaxdeblur.weights.torch_names import RULES, Rule, from_torch, invert, to_torch

MODEL = build_model("transformnet", width=2, num_blocks=1)


def torch_tensors():
    """A complete state dict of a narrow TransformNet, written by hand; each tensor has different numbers."""
    shapes = {
        "conv1.weight": (2, 3, 9, 9),
        "conv1.bias": (2,),
        "conv2.weight": (4, 2, 3, 3),
        "conv2.bias": (4,),
        "conv3.weight": (8, 4, 3, 3),
        "conv3.bias": (8,),
        "res_blocks.0.conv1.weight": (8, 8, 3, 3),
        "res_blocks.0.conv2.weight": (8, 8, 3, 3),
        "conv4.weight": (8, 4, 3, 3),
        "conv5.weight": (4, 2, 3, 3),
        "conv6.weight": (3, 2, 9, 9),
        "conv6.bias": (3,),
    }
    norms = {"bn1": 2, "bn2": 4, "bn3": 8, "res_blocks.0.bn1": 8, "res_blocks.0.bn2": 8, "bn4": 4, "bn5": 2}
    for name, channels in norms.items():
        shapes |= {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{name}.num_batches_tracked"] = ()
    rng = np.random.default_rng(0)
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def expected():
    return network_shapes(MODEL)


def test_tensors_are_renamed_and_transposed(expected):
    tensors = torch_tensors()
    variables = from_torch("transformnet", tensors, expected)
    assert shapes_of(variables) == expected
    assert variables["params"]["conv2"]["kernel"][0, 1, 1, 3] == tensors["conv2.weight"][3, 1, 0, 1]
    assert variables["params"]["conv4"]["kernel"][0, 1, 6, 3] == tensors["conv4.weight"][6, 3, 0, 1]
    assert variables["params"]["res_block0"]["bn2"]["scale"][5] == tensors["res_blocks.0.bn2.weight"][5]
    assert variables["batch_stats"]["bn3"]["var"][5] == tensors["bn3.running_var"][5]
    assert variables["batch_stats"]["bn3"]["mean"][5] == tensors["bn3.running_mean"][5]


def test_the_inverse_conversion_restores_every_tensor(expected):
    tensors = torch_tensors()
    back = to_torch("transformnet", from_torch("transformnet", tensors, expected))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        if tensor.ndim:
            np.testing.assert_array_equal(back[name], tensor)


def test_a_rule_is_inverted_by_swapping_pattern_and_template():
    rule = Rule(r"res\.(\d+)\.conv([45])\.weight", r"params/res\1/conv\2/kernel", (2, 3, 1, 0))
    assert invert(rule) == (r"params/res(\d+)/conv([45])/kernel", r"res.\1.conv\2.weight", (3, 2, 0, 1))


@pytest.mark.parametrize("network", RULES)
def test_inverting_a_rule_twice_changes_nothing_but_escapes(network):
    for rule in RULES[network]:
        twice = invert(invert(rule))
        assert twice.torch.replace(r"\.", ".") == rule.torch.replace(r"\.", ".")
        assert (twice.ours, twice.axes) == (rule.ours, rule.axes)


def test_all_problems_are_listed_at_once(expected):
    tensors = torch_tensors()
    del tensors["bn1.running_mean"]
    tensors["fc.weight"] = np.zeros((10, 8), np.float32)
    tensors["conv6.bias"] = np.zeros(4, np.float32)
    tensors["res_blocks.7.conv1.weight"] = np.zeros((8, 8, 3, 3), np.float32)
    with pytest.raises(InputError) as error:
        from_torch("transformnet", tensors, expected)
    for problem in (
        "4 problem(s)",
        "bn1.running_mean (batch_stats/bn1/mean) (2,): missing",
        "fc.weight (10, 8): not a tensor of transformnet",
        "conv6.bias becomes params/conv6/bias of (4,), expected (3,)",
        "res_blocks.7.conv1.weight (8, 8, 3, 3): this transformnet has no params/res_block7/conv1/kernel",
    ):
        assert problem in str(error.value)


def test_the_fingerprint_depends_on_every_number_and_name_but_not_on_order():
    weights = {"params": {"a": {"kernel": np.arange(4.0)}, "b": {"kernel": np.arange(4.0) + 1}}}
    swapped = {"params": {"a": weights["params"]["b"], "b": weights["params"]["a"]}}
    reordered = {"params": dict(reversed(weights["params"].items()))}
    changed = {"params": {**weights["params"], "a": {"kernel": np.array([0.0, 1, 2, 3.0000001])}}}
    assert fingerprint(reordered) == fingerprint(weights)
    assert len({fingerprint(tree) for tree in (weights, swapped, changed)}) == 3
