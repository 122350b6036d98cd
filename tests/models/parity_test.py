"""The networks, their gradients and their training against PyTorch modules with the same random weights.

Where rounding in float32 would hide or mimic an error, the comparison is in float64, and the test says why.
"""

import contextlib
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from random_weights import random_image

from jaxdeblur.errors import InputError
from jaxdeblur.export import convert_weights
from jaxdeblur.models import build_model
from jaxdeblur.models.resnet import ResNet
from jaxdeblur.runtime.compilation import compile_program
from jaxdeblur.training.learning_rate import create_schedule
from jaxdeblur.training.losses import mse
from jaxdeblur.training.optimizer import create_optimizer
from jaxdeblur.weights.safetensors import read_weights
from jaxdeblur.weights.tensors import fingerprint, network_shapes
from jaxdeblur.weights.torch_files import read_torch_file
from jaxdeblur.weights.torch_names import from_torch, to_torch
from tests.helpers.configs import named

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[convert]'")
pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=["transformnet", "resnetencdec"])
def twins(request):
    """(name, PyTorch's network, its state, our compiled forward by mode, our variables)."""
    from make_goldens import random_state
    from torch_networks import NETWORKS

    network = NETWORKS[request.param]()
    state = random_state(network)
    model = build_model(request.param)
    tensors = {name: tensor.numpy() for name, tensor in state.items()}
    variables = from_torch(request.param, tensors, network_shapes(model))
    forward = {
        False: as_shipped(lambda variables, x: model.apply(variables, x, train=False)),
        True: as_shipped(lambda variables, x: model.apply(variables, x, train=True, mutable=["batch_stats"])[0]),
    }
    return request.param, network, state, forward, variables


def as_shipped(function):
    """Return the function compiled with the options of predictions; plain jit would choose other kernels."""

    def call(variables, x):
        return compile_program(jax.jit(function), variables, x, use_ynnpack_matmul=False).call(variables, x)

    return call


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 96), (100, 132), (180, 320), (256, 256)])
def test_forward_equals_pytorch(twins, height, width, train, measured):
    """Against PyTorch in float64 at every size: at 256x256 its float32 differs from that by 1.2e-5 (TransformNet)."""
    name, network, state, forward, variables = twins
    if (name, height, train) == ("resnetencdec", 16, True):
        pytest.skip("16x16 leaves one pixel per image for the statistics of c5")
    image = random_image(height, width)
    ours = np.asarray(forward[train](variables, image))
    theirs = {dtype: forward_in_torch(network, state, image, train, dtype) for dtype in (torch.float32, torch.float64)}
    tolerance = {"transformnet": 1e-5, "resnetencdec": 1e-4}[name]
    mode = "training" if train else "evaluation"
    measured(name, f"forward, {mode} mode, against float64", np.abs(ours - theirs[torch.float64]).max(), tolerance)
    if height < 256:
        difference = np.abs(ours - theirs[torch.float32]).max()
        measured(name, f"forward, {mode} mode, against float32, up to 180x320", difference, tolerance)


def forward_in_torch(network, state, image, train, dtype):
    """Return PyTorch's output, NHWC, computed in `dtype` from the initial weights and statistics."""
    network.to(dtype)
    network.load_state_dict(state)
    network.train(train)
    with torch.no_grad():
        return network(torch.from_numpy(image).to(dtype).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
def test_the_encoders_four_feature_maps_equal_pytorch(twins, train, measured):
    """Against PyTorch in float64. In training mode ours is float64 too: PyTorch's float32 differs by 2e-4 there."""
    name, network, state, _, variables = twins
    if name != "resnetencdec":
        pytest.skip("transformnet has no encoder")
    image, encoder = random_image(100, 132), ResNet(64, (3, 4, 6, 3))
    dtype = np.float64 if train else np.float32
    with jax.enable_x64(train):
        parts = {
            key: jax.tree.map(lambda leaf: leaf.astype(dtype), tree["backbone"]) for key, tree in variables.items()
        }
        forward = jax.jit(lambda parts, x: encoder.apply(parts, x, train=train, mutable=["batch_stats"])[0])
        ours = jax.device_get(forward(parts, image.astype(dtype)))
    network.double().load_state_dict(state)
    network.train(train)
    with torch.no_grad():
        theirs = network.bkbone(torch.from_numpy(image).double().permute(0, 3, 1, 2))
    for our, their in zip(ours, theirs, strict=True):
        their = their.permute(0, 2, 3, 1).numpy()
        mode = "training mode, float64" if train else "evaluation mode, float32"
        what = f"the encoder's feature maps, {mode}, relative"
        measured(name, what, np.abs(our - their).max() / np.abs(their).max(), 1e-4)


def test_gradients_equal_pytorch(twins, measured):
    """Of the MSE, in training mode, in float64: within 1e-9 of each tensor's largest entry.

    In float32 neither side is exact: where rounding changes the sign of a ReLU's input, the gradient changes.
    TransformNet's at 64x96 then differ from float64 by up to 4% (PyTorch) and 1% (ours) of the largest entry.
    """
    name, network, state, _, variables = twins
    model = build_model(name)
    blur, sharp = (random_image(64, 96, batch=4).astype(np.float64)[part] for part in (np.s_[:2], np.s_[2:]))

    @jax.jit
    def gradient(variables):
        def loss(params):
            everything = {**variables, "params": params}
            return mse(model.apply(everything, blur, train=True, mutable=["batch_stats"])[0], sharp)

        return jax.grad(loss)(variables["params"])

    with jax.enable_x64(True):
        doubled = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        ours = traverse_util.flatten_dict(jax.device_get(gradient(doubled)), sep="/")
    network.double().load_state_dict(state)
    network.train()
    network.zero_grad()
    prediction = network(torch.from_numpy(blur).permute(0, 3, 1, 2))
    torch.nn.functional.mse_loss(prediction, torch.from_numpy(sharp).permute(0, 3, 1, 2)).backward()
    gradients = {key: parameter.grad.numpy() for key, parameter in network.named_parameters()}
    statistics = {key: tensor.numpy() for key, tensor in state.items() if key not in gradients}
    turned = from_torch(name, {**gradients, **statistics}, network_shapes(model))
    theirs = traverse_util.flatten_dict(turned["params"], sep="/")
    assert ours.keys() == theirs.keys()
    for key, their in theirs.items():
        # A bias right before BatchNorm has zero gradient; its kernel's gives the scale.
        kernel = theirs.get(key.replace("/bias", "/kernel"), their)
        largest = max(np.abs(their).max(), np.abs(kernel).max())
        measured(name, "gradient of any tensor, relative, float64", np.abs(ours[key] - their).max() / largest, 1e-9)


OPTIMIZERS = {
    "adam": ({"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8}, lambda p: torch.optim.Adam(p, lr=1e-3)),
    "sgd": ({"name": "sgd", "momentum": 0.0}, lambda p: torch.optim.SGD(p, lr=1e-3)),
}
STEPS = 20


def batches(dtype):
    """Yield twenty batches of two pairs of 64x64: at least 8 values per channel for BatchNorm's statistics."""
    images = random_image(64, 64, batch=4 * STEPS).astype(dtype)
    for step in range(STEPS):
        yield images[4 * step : 4 * step + 2], images[4 * step + 2 : 4 * step + 4]


def train_ours(name, variables, optimizer, dtype):
    model = build_model(name)
    schedule = create_schedule(named(name="constant", learning_rate=1e-3), STEPS, STEPS)
    tx = create_optimizer(named(**OPTIMIZERS[optimizer][0]), schedule, 0.0, None)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)

    @jax.jit
    def step(variables, opt_state, blur, sharp):
        def loss_fn(params):
            everything = {**variables, "params": params}
            prediction, updates = model.apply(everything, blur, train=True, mutable=["batch_stats"])
            return mse(prediction, sharp), updates["batch_stats"]

        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"])
        updates, opt_state = tx.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, "batch_stats": batch_stats}, opt_state, loss

    opt_state, losses = tx.init(variables["params"]), []
    for blur, sharp in batches(dtype):
        variables, opt_state, loss = step(variables, opt_state, blur, sharp)
        losses.append(float(loss))
    return losses, jax.device_get(variables)


def train_theirs(network, state, optimizer, dtype):
    network.to(torch.float64 if dtype == np.float64 else torch.float32).load_state_dict(state)
    network.train()
    optimizer, losses = OPTIMIZERS[optimizer][1](network.parameters()), []
    for blur, sharp in batches(dtype):
        prediction = network(torch.from_numpy(blur).permute(0, 3, 1, 2))
        loss = torch.nn.functional.mse_loss(prediction, torch.from_numpy(sharp).permute(0, 3, 1, 2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_twenty_steps_equal_pytorch(twins, optimizer, dtype, measured):
    """Losses in both precisions; weights and running statistics in float64.

    In float32, Adam turns rounding errors of zero gradients (biases before BatchNorm) into full steps of random sign,
    and ReLUs amplify rounding: two float32 runs differ by up to 1e-2 after 20 steps. Agreement in float64 shows that
    this is rounding, not a different algorithm.
    """
    name, network, state, _, variables = twins
    context = jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()
    with context:
        our_losses, our_variables = train_ours(name, variables, optimizer, dtype)
    their_losses, theirs = train_theirs(network, state, optimizer, dtype)
    difference = np.abs(np.divide(our_losses, their_losses) - 1).max()
    what = f"losses of 20 {optimizer} steps, relative, {np.dtype(dtype).name}"
    measured(name, what, difference, 2e-2 if dtype == np.float32 else 1e-6)
    assert abs(our_losses[0] - our_losses[-2]) > 1e-3 * our_losses[0]  # the weights have changed
    if dtype == np.float64:
        ours = {key: tensor for key, tensor in to_torch(name, our_variables).items() if tensor.ndim}
        difference = difference_after_training(network, state, ours, theirs)
        measured(name, f"weights and statistics after 20 {optimizer} steps, relative, float64", difference, 1e-4)


def difference_after_training(network, state, ours, theirs):
    """Return the largest difference relative to its tensor's largest entry.

    PyTorch's running variance averages the unbiased variance of n values, n / (n - 1) times flax's. So if flax's is
    0.9^20 v + b after 20 steps from v, where b is due to the batches, PyTorch's is 0.9^20 v + n / (n - 1) b.
    """
    counts, differences = values_per_channel(network), []
    for key, our in ours.items():
        if key.endswith("running_var"):
            initial, count = 0.9**STEPS * state[key].numpy(), counts[key.removesuffix(".running_var")]
            our = initial + count / (count - 1) * (our - initial)
        differences.append(np.abs(our - theirs[key]).max() / np.abs(theirs[key]).max())
    return max(differences)


def values_per_channel(network):
    """Return how many values per channel each BatchNorm sees in a batch, by layer."""
    counts, hooks = {}, []
    for key, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            note = lambda _, inputs, __, key=key: counts.update({key: inputs[0].numel() // inputs[0].shape[1]})  # noqa: E731
            hooks.append(module.register_forward_hook(note))
    with torch.no_grad():
        network(torch.zeros(2, 3, 64, 64, dtype=next(network.parameters()).dtype))
    for hook in hooks:
        hook.remove()
    return counts


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_the_round_trip_of_pth_files_is_bit_exact(twins, tmp_path, zip_format, wrapped):
    """For both of PyTorch's formats since 2017; the result loads with strict=True."""
    name, network, state, _, variables = twins
    saved = {"epoch": 1, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}} if wrapped else state
    torch.save(saved, tmp_path / "theirs.pth", _use_new_zipfile_serialization=zip_format)
    convert_weights.convert_to_jax(name, tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert fingerprint(read_weights(tmp_path / "ours.safetensors")[0]) == fingerprint(variables)
    convert_weights.convert_to_torch(tmp_path / "ours.safetensors", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    network.float().load_state_dict(back, strict=True)
    for key, tensor in state.items():
        assert key.endswith("num_batches_tracked") or torch.equal(back[key], tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_exactly(tmp_path, dtype):
    tensor = torch.randn(5, 3).to(dtype)
    torch.save({"a": tensor}, tmp_path / "half.pth")
    np.testing.assert_array_equal(read_torch_file(tmp_path / "half.pth")["a"], tensor.float().numpy())


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
def test_a_file_that_contains_code_is_refused_and_not_executed(tmp_path, zip_format):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "witness"),)

    torch.save({"a": torch.zeros(1), "b": Bomb()}, tmp_path / "bomb.pth", _use_new_zipfile_serialization=zip_format)
    with pytest.raises(InputError) as error:
        convert_weights.convert_to_jax("transformnet", tmp_path / "bomb.pth", tmp_path / "out.safetensors")
    assert error.value.code == "checkpoint-unsafe"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bomb.pth"]


def test_a_truncated_file_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    for cut in (10, len(content) // 2, len(content) - 10):
        (tmp_path / "cut.pth").write_bytes(content[:cut])
        with pytest.raises(InputError) as error:
            read_torch_file(tmp_path / "cut.pth")
        assert error.value.code == "checkpoint-damaged"
