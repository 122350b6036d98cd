"""What a run starts from: exactly what was asked for, said in its records, or a clear refusal."""

import json

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxdeblur.errors import InputError
from jaxdeblur.models import build_model
from jaxdeblur.weights.initial import fill, read_initial_weights
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import fingerprint, network_shapes

TINY = {"width": 4, "stage_sizes": (1, 1, 1, 1)}
MODEL = build_model("resnetencdec", **TINY)
NONE = {"network": "", "encoder": ""}


@pytest.fixture(scope="module")
def shapes():
    return network_shapes(MODEL)


def numbered(shapes, part=""):
    """Variables whose tensors are filled with a number of their own."""
    tensors = {
        name: np.full(shape, i, np.float32) for i, (name, shape) in enumerate(shapes.items()) if f"/{part}" in name
    }
    return traverse_util.unflatten_dict(tensors, sep="/")


def test_an_encoder_fills_its_part_and_leaves_the_rest(shapes, tmp_path):
    encoder = numbered(shapes, "backbone/")
    write_weights(tmp_path / "encoder.safetensors", encoder, {"network": "resnet50"})
    start = {**NONE, "encoder": str(tmp_path / "encoder.safetensors")}
    initial = read_initial_weights("resnetencdec", start, shapes)
    assert "encoder pretrained, from" in initial.description
    assert "SHA-256" in initial.description
    random = jax.tree.map(lambda shape: np.zeros(shape) - 1, shapes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    filled = traverse_util.flatten_dict(fill(traverse_util.unflatten_dict(random, sep="/"), initial), sep="/")
    expected = traverse_util.flatten_dict(encoder, sep="/")
    assert filled.keys() == shapes.keys()
    for name, tensor in filled.items():
        assert np.unique(tensor) == (expected[name].flat[0] if "/backbone/" in name else -1)


def test_random_weights_are_said_to_be_random(shapes):
    assert read_initial_weights("resnetencdec", NONE, shapes).description == "random; encoder not pretrained"
    other = network_shapes(build_model("transformnet", width=4, num_blocks=1))
    assert read_initial_weights("transformnet", NONE, other).description == "random"


def test_a_missing_encoder_names_the_command_that_makes_it(shapes, tmp_path):
    path = tmp_path / "resnet50.safetensors"
    with pytest.raises(InputError) as error:
        read_initial_weights("resnetencdec", {**NONE, "encoder": str(path)}, shapes)
    command = f"python tools/convert_weights.py to-jax --network resnet50 --download resnet50 {path}"
    assert command in str(error.value)
    assert "--config.init.encoder=''" in str(error.value)


def test_weights_that_do_not_fit_are_listed_on_both_sides(shapes, tmp_path):
    encoder = numbered(shapes, "backbone/")
    del encoder["params"]["backbone"]["conv1"]
    encoder["params"]["extra"] = {"kernel": np.zeros(3, np.float32)}
    encoder["batch_stats"]["backbone"]["bn1"]["mean"] = np.zeros(5, np.float32)
    write_weights(tmp_path / "encoder.safetensors", encoder, {"network": "resnet50"})
    with pytest.raises(InputError) as error:
        read_initial_weights("resnetencdec", {**NONE, "encoder": str(tmp_path / "encoder.safetensors")}, shapes)
    for words in (
        "3 problem(s)",
        "params/backbone/conv1/kernel (7, 7, 3, 4): missing",
        "params/extra/kernel (3,): unexpected",
        "batch_stats/backbone/bn1/mean: (5,), expected (4,)",
    ):
        assert words in str(error.value)


def test_an_encoder_for_a_network_without_one_is_refused(tmp_path):
    shapes = network_shapes(build_model("transformnet", width=4, num_blocks=1))
    with pytest.raises(InputError, match="transformnet has no encoder to fill"):
        read_initial_weights("transformnet", {**NONE, "encoder": str(tmp_path)}, shapes)


def test_weights_of_another_architecture_are_refused_by_the_fields_that_differ(tmp_path):
    path = tmp_path / "whole.safetensors"
    stated = {"width": 8, "encoder_blocks": [0, 2], "decoder_blocks": [1, 1], "attention": "none"}
    write_weights(path, {"params": {}}, {"network": "nafnet", "options": json.dumps(stated)})
    start = {**NONE, "network": str(path)}
    options = {"width": 8, "encoder_blocks": (1, 2), "decoder_blocks": (1, 1), "attention": "global", "later": 1}
    with pytest.raises(InputError) as error:
        read_initial_weights("nafnet", start, {}, options)
    assert error.value.code == "other-architecture"
    for words in (
        "model.encoder_blocks: the weights have [0, 2], the config [1, 2]",
        "model.attention: the weights have 'none', the config 'global'",
    ):
        assert words in str(error.value)
    assert "model.width:" not in str(error.value)
    assert "model.later" not in str(error.value)
    with pytest.raises(InputError) as error:
        read_initial_weights("unet", start, {}, {"width": 4})
    assert error.value.code == "other-architecture"
    assert "model.name: the weights have 'nafnet', the config 'unet'" in str(error.value)
    assert read_initial_weights("nafnet", start, {}, {**stated, "encoder_blocks": (0, 2)}).tensors == {}


def test_a_whole_network_comes_from_a_file(shapes, tmp_path):
    write_weights(tmp_path / "whole.safetensors", numbered(shapes), {"network": "resnetencdec"})
    initial = read_initial_weights("resnetencdec", {**NONE, "network": str(tmp_path / "whole.safetensors")}, shapes)
    assert initial.tensors.keys() == shapes.keys()
    variables, network, _ = load_network(tmp_path / "whole.safetensors")
    assert network == "resnetencdec"
    assert fingerprint(variables) == fingerprint(numbered(shapes))


def test_a_file_of_other_origin_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no weights of ours"):
        load_network(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_network(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="no folder of a run"):
        load_network(tmp_path)
