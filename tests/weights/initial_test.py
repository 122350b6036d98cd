"""What a run starts from: exactly what was requested, with a description for its records, or an error."""

import json

import numpy as np
import pytest
from flax import traverse_util

from jaxdeblur.errors import InputError
from jaxdeblur.models import options_of
from jaxdeblur.weights.initial import fill, read_initial_weights
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import network_shapes
from tests.helpers.networks import build_tiny, constant_variables

NONE = {"network": "", "encoder": ""}


@pytest.fixture(scope="module")
def shapes():
    return network_shapes(build_tiny("resnetencdec"))


def numbered(shapes, part=""):
    """Variables of which each tensor is filled with a different number."""
    tensors = {
        name: np.full(shape, i, np.float32) for i, (name, shape) in enumerate(shapes.items()) if f"/{part}" in name
    }
    return traverse_util.unflatten_dict(tensors, sep="/")


def code_of(*arguments):
    with pytest.raises(InputError) as error:
        read_initial_weights(*arguments)
    return error.value.code, str(error.value)


def test_an_encoder_fills_its_part_only(shapes, tmp_path):
    encoder = numbered(shapes, "backbone/")
    write_weights(tmp_path / "encoder.safetensors", encoder, {"network": "resnet50"})
    initial = read_initial_weights("resnetencdec", {**NONE, "encoder": str(tmp_path / "encoder.safetensors")}, shapes)
    assert "encoder pretrained, from" in initial.description
    assert "SHA-256" in initial.description
    filled = traverse_util.flatten_dict(fill(constant_variables(shapes, -1), initial), sep="/")
    expected = traverse_util.flatten_dict(encoder, sep="/")
    assert filled.keys() == shapes.keys()
    for name, tensor in filled.items():
        assert np.unique(tensor) == (expected[name].flat[0] if "/backbone/" in name else -1)


def test_random_weights_are_described_as_random(shapes):
    assert read_initial_weights("resnetencdec", NONE, shapes).description == "random; encoder not pretrained"
    other = network_shapes(build_tiny("transformnet"))
    assert read_initial_weights("transformnet", NONE, other).description == "random"


def test_a_missing_encoder_names_the_command_that_creates_it(shapes, tmp_path):
    path = tmp_path / "resnet50.safetensors"
    code, message = code_of("resnetencdec", {**NONE, "encoder": str(path)}, shapes)
    assert code == "encoder-missing"
    assert f"python tools/convert_weights.py to-jax --network resnet50 --download resnet50 {path}" in message


def test_weights_that_do_not_fit_are_listed_on_both_sides(shapes, tmp_path):
    encoder = numbered(shapes, "backbone/")
    del encoder["params"]["backbone"]["conv1"]
    encoder["params"]["extra"] = {"kernel": np.zeros(3, np.float32)}
    encoder["batch_stats"]["backbone"]["bn1"]["mean"] = np.zeros(5, np.float32)
    write_weights(tmp_path / "encoder.safetensors", encoder, {"network": "resnet50"})
    start = {**NONE, "encoder": str(tmp_path / "encoder.safetensors")}
    code, message = code_of("resnetencdec", start, shapes)
    assert code == "weights-do-not-fit"
    for problem in (
        "3 problem(s)",
        "params/backbone/conv1/kernel (7, 7, 3, 4): missing",
        "params/extra/kernel (3,): unexpected",
        "batch_stats/backbone/bn1/mean: (5,), expected (4,)",
    ):
        assert problem in message


def test_an_encoder_for_a_network_without_one_is_refused(tmp_path):
    shapes = network_shapes(build_tiny("transformnet"))
    assert code_of("transformnet", {**NONE, "encoder": str(tmp_path)}, shapes)[0] == "no-encoder"


def test_another_architecture_is_refused_with_the_fields_that_differ(tmp_path):
    path = tmp_path / "whole.safetensors"
    model = build_tiny("nafnet", encoder_blocks=(0, 2), decoder_blocks=(1, 1))
    shapes, stored = network_shapes(model), options_of(model)
    write_weights(path, constant_variables(shapes), {"network": "nafnet", "options": json.dumps(stored)})
    start = {**NONE, "network": str(path)}
    options = {**stored, "encoder_blocks": (1, 2), "attention": "global", "later": 1}
    code, message = code_of("nafnet", start, shapes, options)
    assert code == "other-architecture"
    assert "model.encoder_blocks: the weights have [0, 2], the config [1, 2]" in message
    assert "model.attention: the weights have 'none', the config 'global'" in message
    assert "model.width:" not in message
    assert "model.later" not in message
    code, message = code_of("unet", start, {}, {"width": 4})
    assert code == "other-architecture"
    assert "model.name: the weights have 'nafnet', the config 'unet'" in message
    assert read_initial_weights("nafnet", start, shapes, stored).tensors.keys() == shapes.keys()


def test_a_whole_network_comes_from_a_file(shapes, tmp_path):
    path = tmp_path / "whole.safetensors"
    write_weights(path, numbered(shapes), {"network": "resnetencdec"})
    initial = read_initial_weights("resnetencdec", {**NONE, "network": str(path)}, shapes)
    assert initial.tensors.keys() == shapes.keys()
    assert initial.description.startswith(f"whole network from {path} (SHA-256 ")
