"""Files written before options were stored: the tensors determine the architecture."""

import pytest

from jaxdeblur.weights.legacy import infer_options
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import network_shapes
from tests.helpers.networks import build_tiny, constant_variables

LEVELS = {"encoder_blocks": (1, 2, 1), "middle_blocks": 3, "decoder_blocks": (2, 1, 1)}
EMPTY_LEVELS = {"encoder_blocks": (0, 2, 1), "decoder_blocks": (1, 0, 0)}


@pytest.mark.parametrize(
    ("name", "options", "multiple"),
    [
        ("transformnet", {}, 4),
        ("transformnet", {"residual": True, "num_blocks": 2}, 4),
        ("transformnet", {"norm": "none"}, 4),
        ("resnetencdec", {}, 4),
        ("resnetencdec", {"residual": True, "norm": "none"}, 4),
        ("unet", {"num_levels": 3}, 8),
        ("nafnet", LEVELS, 16),
        ("nafnet", EMPTY_LEVELS, 16),
        ("nafnet", {**LEVELS, "half_resolution": False, "attention": "global"}, 8),
    ],
)
def test_the_architecture_is_inferred(name, options, multiple, tmp_path):
    model = build_tiny(name, **options)
    write_weights(tmp_path / "old.safetensors", constant_variables(network_shapes(model)), {"network": name})
    network = load_network(tmp_path / "old.safetensors")
    assert network.model == model
    assert network.multiple == multiple


def test_nothing_is_inferred_without_the_first_layer():
    assert infer_options("unet", network_shapes(build_tiny("transformnet"))) is None
