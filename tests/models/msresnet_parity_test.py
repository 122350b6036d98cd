"""MSResNet against our PyTorch module with the same random weights: outputs, gradients of its loss, conversion."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_image

from jaxdeblur.errors import InputError
from jaxdeblur.export import convert_weights
from jaxdeblur.models import build_model
from jaxdeblur.models.network import COARSE_OUTPUTS
from jaxdeblur.training.losses import mae, mean_over_scales, mse
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.tensors import fingerprint, network_shapes
from jaxdeblur.weights.torch_names import from_torch

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[convert]'")
pytestmark = pytest.mark.parity


def make_twins(**options):
    """Return PyTorch's network with random weights, our network, and the same weights for it."""
    from make_goldens import random_state
    from torch_networks import MSResNet

    theirs, ours = MSResNet(**options), build_model("msresnet", **options)
    state = random_state(theirs)
    theirs.load_state_dict(state)
    tensors = {name: tensor.numpy() for name, tensor in state.items()}
    return theirs, ours, from_torch("msresnet", tensors, network_shapes(ours))


@pytest.fixture(scope="module")
def published():
    """Of the published size."""
    return make_twins()


def in_torch(network, image):
    """Return PyTorch's output in float64, NHWC, for an image padded by reflection to multiples of 4."""
    height, width = image.shape[1:3]
    padded = np.pad(image, ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0)), mode="reflect")
    with torch.no_grad():
        output = network.double()(torch.from_numpy(padded).double().permute(0, 3, 1, 2))
    return output.permute(0, 2, 3, 1).numpy()[:, :height, :width]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("size", [(32, 48), (30, 45), (5, 8)])
def test_forward_equals_pytorch(published, size, dtype):
    """Relative to the largest value, against PyTorch in float64; sizes that are multiples of 4 and that are not."""
    theirs, ours, variables = published
    image = random_image(*size, batch=1).astype(dtype)
    expected = in_torch(theirs, image)
    with jax.enable_x64(dtype == np.float64):
        typed = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables["params"])
        output = np.asarray(jax.jit(partial(ours.apply, train=False))({"params": typed}, image))
    assert output.dtype == dtype
    assert expected.std() > 0.1
    bound = 1e-10 if dtype == np.float64 else 1e-4
    assert np.abs(output - expected).max() / np.abs(expected).max() <= bound


@pytest.mark.parametrize(("loss", "name"), [(mae, "l1_loss"), (mse, "mse_loss")])
def test_gradients_of_the_loss_over_scales_equal_pytorch(loss, name):
    """In float64, within 1e-10 of each tensor's largest entry."""
    from torch_networks import gaussian_pyramid

    theirs, ours, variables = make_twins(width=4, num_blocks=2)
    blur, sharp = (random_image(16, 20, batch=2)[part].astype(np.float64) for part in (np.s_[:1], np.s_[1:]))

    @jax.jit
    def gradient(params):
        def total(params):
            prediction, updates = ours.apply({"params": params}, blur, train=True, mutable=[COARSE_OUTPUTS])
            return mean_over_scales(loss, prediction, updates[COARSE_OUTPUTS]["images"], sharp)

        return jax.value_and_grad(total)(params)

    with jax.enable_x64(True):
        our_loss, found = jax.device_get(
            gradient(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables["params"]))
        )
    outputs = theirs.double().all_scales(torch.from_numpy(blur).permute(0, 3, 1, 2))
    targets = gaussian_pyramid(torch.from_numpy(sharp).permute(0, 3, 1, 2))
    values = [getattr(torch.nn.functional, name)(*pair) for pair in zip(outputs, targets, strict=True)]
    their_loss = sum(values) / 3
    their_loss.backward()
    assert our_loss == pytest.approx(their_loss.item(), rel=1e-12)
    gradients = {key: parameter.grad.numpy() for key, parameter in theirs.named_parameters()}
    expected = traverse_util.flatten_dict(from_torch("msresnet", gradients, network_shapes(ours))["params"])
    for key, our in traverse_util.flatten_dict(found).items():
        assert np.abs(our - expected[key]).max() <= 1e-10 * np.abs(expected[key]).max(), key


def test_the_authors_files_are_converted_and_back(published, tmp_path):
    """Of an adversarial run: the generator under G, a discriminator under D."""
    theirs, _, variables = published
    state = theirs.float().state_dict()
    torch.save({"G": state, "D": {"features.0.weight": torch.zeros(64, 3, 5, 5)}}, tmp_path / "model-1000.pt")
    convert_weights.convert_to_jax("msresnet", tmp_path / "model-1000.pt", tmp_path / "ours.safetensors")
    network = load_network(tmp_path / "ours.safetensors")
    assert network.model == build_model("msresnet")
    assert fingerprint(network.variables) == fingerprint(variables)
    convert_weights.convert_to_torch(tmp_path / "ours.safetensors", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    theirs.load_state_dict(back, strict=True)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_a_missing_and_an_unknown_tensor_are_named(published, tmp_path):
    state = dict(published[0].float().state_dict())
    state["body_models.0.body.21.weight"] = state.pop("body_models.2.body.7.body.2.bias")
    torch.save({"G": state}, tmp_path / "model-1.pt")
    with pytest.raises(InputError) as error:
        convert_weights.convert_to_jax("msresnet", tmp_path / "model-1.pt", tmp_path / "ours.safetensors")
    assert error.value.code == "checkpoint-does-not-fit"
    assert "body_models.0.body.21.weight" in str(error.value)
    assert "body_models.2.body.7.body.2.bias (params/scale2/block7/conv2/bias) (64,): missing" in str(error.value)
