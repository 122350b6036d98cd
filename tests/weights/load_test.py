"""Loading a network from a file; runs are covered by the tests that train."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxdeblur.errors import InputError
from jaxdeblur.files import file_sha256
from jaxdeblur.models import options_of
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import fingerprint, network_shapes
from tests.helpers.networks import build_tiny, normal_variables


@pytest.fixture
def file(tmp_path):
    """A tiny UNet's file, and its variables."""
    model = build_tiny("unet")
    variables = normal_variables(network_shapes(model))
    path = tmp_path / "unet.safetensors"
    write_weights(path, variables, {"network": "unet", "options": json.dumps(options_of(model))})
    return path, variables


def test_a_network_is_loaded_with_its_origin(file):
    path, variables = file
    network = load_network(path)
    assert (network.name, network.model, network.multiple) == ("unet", build_tiny("unet"), 4)
    assert network.options == options_of(build_tiny("unet"))
    assert fingerprint(network.variables) == fingerprint(variables)
    assert network.description == f"{path} (SHA-256 {file_sha256(path)})"


def test_the_compute_type_is_the_callers(file):
    assert load_network(file[0], dtype="bfloat16").model == build_tiny("unet", dtype="bfloat16")


def test_files_without_a_network_are_refused(tmp_path):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    write_weights(tmp_path / "metric.safetensors", {"params": {"a": np.zeros(3)}}, {"network": "lpips_alex"})
    for name, code in (
        ("other.safetensors", "weights-foreign"),
        ("metric.safetensors", "weights-restore-nothing"),
        ("missing.safetensors", "weights-unreadable"),
        (".", "not-a-run"),
    ):
        with pytest.raises(InputError) as error:
            load_network(tmp_path / name)
        assert error.value.code == code


def test_files_of_weights_have_the_permissions_of_other_files(tmp_path):
    write_weights(tmp_path / "a.safetensors", normal_variables(network_shapes(build_tiny("unet"))), {"network": "unet"})
    (tmp_path / "b").touch()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode
