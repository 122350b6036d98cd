"""The PyTorch NAFNet of the benchmark computes what ours does, and has the published size."""

import jax
import numpy as np
import pytest

from jaxdeblur.models import build_model
from jaxdeblur.runs.train_state import init_variables

pytestmark = pytest.mark.parity

OPTIONS = {"width": 4, "encoder_blocks": (1, 2), "middle_blocks": 1, "decoder_blocks": (2, 1)}
PLAIN = {"expand1": "conv1", "expand2": "conv4", "attention": "sca.1", "project1": "conv3", "project2": "conv5"}


def block_tensors(block, prefix):
    """Return a block's tensors under PyTorch's names; our normalization has neither scale nor shift."""
    found = {}
    for ours, theirs in PLAIN.items():
        if ours in block:
            found[f"{prefix}.{theirs}.weight"] = block[ours]["kernel"].transpose(3, 2, 0, 1)
            found[f"{prefix}.{theirs}.bias"] = block[ours]["bias"]
    found[f"{prefix}.conv2.weight"] = block["depthwise"]["kernel"].transpose(3, 2, 0, 1)
    found[f"{prefix}.conv2.bias"] = block["depthwise"]["bias"]
    for ours, theirs in (("project1", "beta"), ("project2", "gamma")):
        found[f"{prefix}.{theirs}"] = block[ours]["scale"].reshape(1, -1, 1, 1)
    return found


def to_torch(params, levels):
    found = {}
    for ours, theirs in (("input", "intro"), ("output", "ending")):
        found[f"{theirs}.weight"] = params[ours]["kernel"].transpose(3, 2, 0, 1)
        found[f"{theirs}.bias"] = params[ours]["bias"]
    for name, block in params.items():
        part, _, number = name.partition("_")
        if part == "middle":
            found |= block_tensors(block, f"middle_blks.{number}")
        elif part.startswith("encoder"):
            found |= block_tensors(block, f"encoders.{part[7:]}.{number}")
        elif part.startswith("decoder"):
            found |= block_tensors(block, f"decoders.{levels - 1 - int(part[7:])}.{number}")
    for level in range(levels):
        kernel = params[f"down{level}"]["kernel"][0, 0]  # (2 2 C, 2C), rows (dy, dx, c)
        found[f"downs.{level}.weight"] = kernel.reshape(2, 2, -1, kernel.shape[1]).transpose(3, 2, 0, 1)
        found[f"downs.{level}.bias"] = params[f"down{level}"]["bias"]
        kernel = params[f"up{level}"]["kernel"][0, 0]  # (2C, 2 2 C/2), columns (dy, dx, c); PyTorch's (c, dy, dx)
        columns = kernel.reshape(len(kernel), 2, 2, -1).transpose(3, 1, 2, 0).reshape(-1, len(kernel))
        found[f"ups.{levels - 1 - level}.0.weight"] = columns[:, :, None, None]
    return found


@pytest.mark.parametrize(("attention", "half_resolution"), [("global", False), ("none", True)])
def test_both_compute_the_same(attention, half_resolution):
    torch = pytest.importorskip("torch")
    torch_networks = pytest.importorskip("torch_networks")
    options = {**OPTIONS, "attention": attention, "half_resolution": half_resolution}
    rng = np.random.default_rng(0)
    model = build_model("nafnet", **options)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32),
        init_variables(model, jax.random.key(0))["params"],
    )
    tensors = to_torch(params, levels=2)
    if half_resolution:  # ours (dy, dx, c), pixel_unshuffle's (c, dy, dx)
        order = np.arange(12).reshape(2, 2, 3).transpose(2, 0, 1).ravel()
        tensors["intro.weight"] = tensors["intro.weight"][:, order]
        tensors["ending.weight"], tensors["ending.bias"] = (tensors[f"ending.{k}"][order] for k in ("weight", "bias"))
    module = torch_networks.NAFNet(**options)
    expected_names = {name for name in module.state_dict() if ".norm" not in name}
    assert set(tensors) == expected_names
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, strict=False)
    image = rng.random((2, 32, 48, 3), np.float32)
    ours = np.asarray(model.apply({"params": params}, image, train=False))
    with torch.inference_mode():
        theirs = module(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(("width", "parameters"), [(32, 17_111_907), (16, 4_347_827)])
def test_it_has_the_published_size(width, parameters):
    pytest.importorskip("torch")
    torch_networks = pytest.importorskip("torch_networks")
    assert sum(tensor.numel() for tensor in torch_networks.NAFNet(width).parameters()) == parameters
    assert len(torch_networks.NAFNet(width).state_dict()) == 664
