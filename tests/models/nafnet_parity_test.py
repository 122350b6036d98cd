"""NAFNet as published against a PyTorch module with the same random tensors: outputs, gradients and files."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from make_goldens import NAFNET, random_state
from random_weights import random_image

from jaxdeblur.errors import InputError
from jaxdeblur.export import convert_weights
from jaxdeblur.models import build_model
from jaxdeblur.weights import nafnet_from_torch
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.safetensors import read_weights
from jaxdeblur.weights.tensors import fingerprint, network_shapes, shapes_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[convert]'")
pytestmark = pytest.mark.parity
SIZES = ((48, 64), (37, 50), (3, 90))  # multiples of 4, others, and too small for reflection
# Boxes of 24, 12 and 6 pixels by level, smaller than most of the feature maps above.
ATTENTIONS = {"global": {}, "local": {"attention_box": 24}, "local, covering": {"attention_box": 384}}


@pytest.fixture(scope="module", params=ATTENTIONS)
def twins(request):
    """(PyTorch's network, its state, our network, our variables)."""
    from torch_networks import NAFNet

    options = {"attention": request.param.split(",")[0], **ATTENTIONS[request.param]}
    network = NAFNet(**NAFNET, **options)
    state = random_state(network)
    network.double().load_state_dict(state)
    published, variables = nafnet_from_torch.from_torch({name: tensor.numpy() for name, tensor in state.items()})
    model = build_model("nafnet", **{**published, **options})
    assert network_shapes(model) == shapes_of(variables)
    return network, state, model, variables


def unfolded(network, published, variables):
    """Give PyTorch's network our tensors: the rounding of the folded ones is in both, so float64 can agree."""
    back = nafnet_from_torch.to_torch(published, variables)
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in back.items()}, strict=True)


def forward_in_torch(network, image):
    with torch.no_grad():
        return network(torch.from_numpy(image).double().permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("size", SIZES)
def test_forward_equals_pytorch(twins, size, measured):
    """In float64 with the same folded tensors; in float32, relative to the largest value, with the original ones."""
    network, state, model, variables = twins
    image = random_image(*size)
    forward = jax.jit(lambda variables, x: model.apply(variables, x, train=False))
    network.load_state_dict(state)
    theirs, ours = forward_in_torch(network, image), np.asarray(forward(variables, image))
    assert np.abs(theirs - image).max() > 0.1
    measured("nafnet", "forward, against float64, relative", np.abs(ours - theirs).max() / np.abs(theirs).max(), 1e-4)
    unfolded(network, {**NAFNET, "half_resolution": False, "attention": "local"}, variables)
    with jax.enable_x64(True):
        doubled = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        ours = np.asarray(forward(doubled, image.astype(np.float64)))
    measured("nafnet", "forward, float64", np.abs(ours - forward_in_torch(network, image)).max(), 1e-10)


def test_gradients_equal_pytorch(twins, measured):
    """Of a sum of squares with respect to every tensor but the folded ones, and to the image, in float64."""
    network, _, model, variables = twins
    unfolded(network, {**NAFNET, "half_resolution": False, "attention": "local"}, variables)
    image = random_image(37, 50).astype(np.float64)

    def loss(variables, image):
        return jnp.sum(jnp.square(model.apply(variables, image, train=False)))

    with jax.enable_x64(True):
        doubled = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        ours, our_image = jax.device_get(jax.jit(jax.grad(loss, argnums=(0, 1)))(doubled, image))
    network.zero_grad()
    their_image = torch.from_numpy(image).permute(0, 3, 1, 2).clone().requires_grad_()
    network(their_image).square().sum().backward()
    image_gradient = their_image.grad.permute(0, 2, 3, 1).numpy()
    difference = np.abs(our_image - image_gradient).max() / np.abs(image_gradient).max()
    measured("nafnet", "gradient of the image, relative, float64", difference, 1e-9)
    gradients = {name: parameter.grad.numpy() for name, parameter in network.named_parameters()}
    norms = {name: (np.ones if name.endswith("weight") else np.zeros)(t.shape) for name, t in gradients.items()}
    # With trivial norms the conversion only rearranges; it rounds to float32 nowhere else than in the fold.
    rearranged = nafnet_from_torch.from_torch(
        {name: norms[name] if ".norm" in name else gradients[name] for name in norms}
    )
    theirs = traverse_util.flatten_dict(rearranged[1], sep="/")
    for name, our in traverse_util.flatten_dict(ours, sep="/").items():
        is_folded = "expand" in name  # rounded to float32
        what = f"gradient of any tensor, relative, {'float32' if is_folded else 'float64'}"
        difference = np.abs(our - theirs[name]).max() / np.abs(theirs[name]).max()
        measured("nafnet", what, difference, 1e-6 if is_folded else 1e-9)


@pytest.fixture(scope="module")
def published():
    """(PyTorch's network, its state, our variables)."""
    from torch_networks import NAFNet

    network = NAFNet(**NAFNET)
    state = random_state(network)
    _, variables = nafnet_from_torch.from_torch({name: tensor.numpy() for name, tensor in state.items()})
    return network, state, variables


def save(path, state, key="params"):
    torch.save({key: state}, path)
    return path


@pytest.mark.parametrize("key", ["params", "params_ema"])
def test_the_round_trip_of_pth_files(published, key, tmp_path, monkeypatch):
    """The way back loads with strict=True and converts to the same tensors."""
    network, state, variables = published
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = save(tmp_path / "theirs.pth", state, key)
    convert_weights.main(["to-jax", str(path), str(tmp_path / "ours.safetensors")])
    assert fingerprint(read_weights(tmp_path / "ours.safetensors")[0]) == fingerprint(variables)
    loaded = load_network(path)
    assert (loaded.model.width, loaded.model.attention, loaded.model.attention_box) == (4, "local", 384)
    assert fingerprint(loaded.variables) == fingerprint(variables)
    convert_weights.convert_to_torch(tmp_path / "ours.safetensors", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    network.load_state_dict(back, strict=True)
    assert all(torch.equal(back[name], state[name]) for name in state if ".conv2." in name or "beta" in name)
    again = load_network(tmp_path / "back.pth")
    assert fingerprint(again.variables) == fingerprint(variables)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_reported(published, dtype, tmp_path, capsys):
    path = save(tmp_path / "half.pth", {name: tensor.to(dtype) for name, tensor in published[1].items()})
    convert_weights.main(["to-jax", str(path), str(tmp_path / "ours.safetensors")])
    assert "Warning: all values are in half precision" in capsys.readouterr().out


def test_a_file_that_contains_code_is_refused_and_not_executed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "witness"),)

    torch.save({"params": {"intro.weight": torch.zeros(4, 3, 3, 3)}, "b": Bomb()}, tmp_path / "NAFNet.pth")
    with pytest.raises(InputError) as error:
        load_network(tmp_path / "NAFNet.pth")
    assert error.value.code == "checkpoint-unsafe"
    assert not (tmp_path / "witness").exists()
