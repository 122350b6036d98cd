"""LPIPS by hand, against NumPy and against PyTorch; its weights through the converter."""

import numpy as np
import pytest
from random_weights import random_image, random_tensor
from safetensors.numpy import load_file, save_file

from jaxdeblur.errors import InputError
from jaxdeblur.evaluation.lpips import MIN_SIDE, SHAPES, lpips, read_lpips
from jaxdeblur.export import convert_weights
from jaxdeblur.weights.safetensors import read_weights, write_weights

# Shapes of the published files, by their names.
ALEXNET = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}
SHIFT, SCALE = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])


def random_alexnet():
    state = {f"{name}.weight": random_tensor(f"{name}.weight", shape) for name, shape in ALEXNET.items()}
    state |= {f"{name}.bias": random_tensor(f"{name}.bias", shape[:1]) for name, shape in ALEXNET.items()}
    return state | {f"classifier.{i}.{kind}": np.zeros(2, np.float32) for i in (1, 4, 6) for kind in ("weight", "bias")}


def random_lin():
    names = [f"lin{i}.model.1.weight" for i in range(5)]
    return {
        name: np.abs(random_tensor(name, (1, shape[0], 1, 1)))
        for name, shape in zip(names, ALEXNET.values(), strict=True)
    }


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lpips")
    save_file(random_alexnet(), folder / "alexnet.safetensors")
    save_file(random_lin(), folder / "alex.safetensors")
    path = folder / "out" / "lpips.safetensors"
    convert_weights.convert_to_jax("lpips_alex", folder / "alexnet.safetensors", path, lin=folder / "alex.safetensors")
    return path


def make_images(height, width):
    images = random_image(height, width)
    return images, np.clip(images + np.random.default_rng(0).normal(0, 0.2, images.shape), 0, 1).astype(np.float32)


def windows(x, side, stride):
    """Return (H', W', C, side, side) of (H, W, C)."""
    return np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(0, 1))[::stride, ::stride]


def lpips_in_numpy(image, other):
    """The definition in float64 with PyTorch's tensors, one image pair (H, W, 3) in [0, 1]."""
    state, lin = random_alexnet(), random_lin()
    layers = [
        (name, stride, padding) for name, stride, padding in zip(ALEXNET, (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), strict=True)
    ]

    def features(x):
        x = (2.0 * x - 1 - SHIFT) / SCALE
        for name, stride, padding in layers:
            if name in ("features.3", "features.6"):
                x = windows(x, 3, 2).max(axis=(-2, -1))
            kernel = state[f"{name}.weight"].astype(float)
            x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
            x = np.einsum("hwcij,ocij->hwo", windows(x, kernel.shape[-1], stride), kernel, optimize=True)
            x = np.maximum(x + state[f"{name}.bias"], 0)
            yield x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10)

    terms = zip(features(image), features(other), lin.values(), strict=True)
    return sum((((x - y) ** 2) @ weight[0, :, 0, 0]).mean() for x, y, weight in terms)


@pytest.mark.parametrize(("height", "width"), [(31, 31), (40, 67)])
def test_lpips_equals_its_definition(weights_file, height, width):
    images, others = make_images(height, width)
    actual = np.asarray(lpips(read_weights(weights_file)[0], images, others))
    expected = [lpips_in_numpy(image, other) for image, other in zip(images, others, strict=True)]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    assert min(expected) > 0.01


def test_the_distance_is_zero_for_equal_images_and_symmetric(weights_file):
    variables, (images, others) = read_weights(weights_file)[0], make_images(35, 35)
    assert (np.asarray(lpips(variables, images, images)) < 1e-12).all()
    np.testing.assert_allclose(lpips(variables, images, others), lpips(variables, others, images), rtol=1e-6)


def test_lpips_by_hand(tmp_path):
    """Two features: red as it is, and a constant 1. All other layers are constant, the same for both images."""
    tensors = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    tensors["params/conv1/kernel"][5, 5, 0, 0] = 1
    tensors["params/conv1/bias"][1] = 1
    tensors["params/lin0/kernel"][0, 0, :2, 0] = 3, 5
    for i in range(1, 5):
        tensors[f"params/conv{i + 1}/bias"][:] = 1
        tensors[f"params/lin{i}/kernel"][:] = 1
    write_weights(tmp_path / "w.safetensors", tensors, {"network": "lpips_alex"})
    score = read_lpips(tmp_path / "w.safetensors")
    prediction, sharp = np.full((31, 40, 3), 1.7), np.full((31, 40, 3), 153, np.uint8)  # clipped to 1; 153 is 0.6
    x, y = (1 + 0.030) / 0.458, (0.2 + 0.030) / 0.458
    u, v = np.array([x, 1]) / np.hypot(x, 1), np.array([y, 1]) / np.hypot(y, 1)
    assert score(prediction, sharp) == pytest.approx(3 * (u[0] - v[0]) ** 2 + 5 * (u[1] - v[1]) ** 2, abs=1e-6)
    assert score(sharp / 255 + 0.4 / 255, sharp) < 1e-12  # rounded, as a saved image is


def test_an_image_that_is_too_small_is_refused(weights_file):
    score = read_lpips(weights_file)
    with pytest.raises(InputError, match="at least 31x31 pixels, found 40x30") as error:
        score(np.zeros((30, 40, 3)), np.zeros((30, 40, 3), np.uint8))
    assert error.value.code == "image-too-small"
    assert score(np.zeros((MIN_SIDE, 40, 3)), np.zeros((MIN_SIDE, 40, 3), np.uint8)) < 1e-12


def test_wrong_weights_are_refused(weights_file, tmp_path):
    with pytest.raises(InputError, match=r"LPIPS weights not found(.|\n)*--network lpips_alex --lin"):
        read_lpips(tmp_path / "none.safetensors")
    variables, _ = read_weights(weights_file)
    write_weights(tmp_path / "other.safetensors", variables, {"network": "unet"})
    with pytest.raises(InputError) as error:
        read_lpips(tmp_path / "other.safetensors")
    assert error.value.code == "lpips-wrong-network"


def test_the_converter_combines_both_files_without_the_classifier(weights_file, tmp_path, capsys):
    tensors = load_file(weights_file)
    assert {name: tensor.shape for name, tensor in tensors.items()} == SHAPES
    kernel = random_alexnet()["features.10.weight"]
    np.testing.assert_array_equal(tensors["params/conv5/kernel"], kernel.transpose(2, 3, 1, 0))
    metadata = read_weights(weights_file)[1]
    assert (metadata["source"], metadata["lin"]) == ("alexnet.safetensors", "alex.safetensors")
    folder = weights_file.parent.parent
    sources = {"lin": folder / "alex.safetensors"}
    convert_weights.convert_to_jax("lpips_alex", folder / "alexnet.safetensors", tmp_path / "w.safetensors", **sources)
    assert "Dropped: classifier.1.weight" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"lin4.model.1.weight .* missing"):
        convert_weights.convert_to_jax("lpips_alex", folder / "alexnet.safetensors", tmp_path / "w.safetensors")


@pytest.mark.parametrize("arguments", [["lpips_alex"], ["transformnet", "--lin", "alex.pth"]])
def test_a_second_file_is_accepted_for_lpips_only(monkeypatch, capsys, arguments):
    monkeypatch.setattr("sys.argv", ["convert_weights.py", "to-jax", "--network", *arguments, "a.pth", "b.safetensors"])
    with pytest.raises(SystemExit):
        convert_weights.main()
    assert "--network lpips_alex needs --lin" in capsys.readouterr().err


@pytest.mark.parity
@pytest.mark.parametrize(("height", "width"), [(31, 31), (65, 98), (180, 320)])
def test_lpips_equals_pytorch(tmp_path, height, width):
    """The published files as PyTorch writes them, and the distance from PyTorch's own layers."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[convert]'")
    functional = torch.nn.functional
    state, lin = ({name: torch.from_numpy(t) for name, t in make().items()} for make in (random_alexnet, random_lin))
    torch.save(state, tmp_path / "alexnet.pth")
    torch.save(lin, tmp_path / "alex.pth")
    path = tmp_path / "lpips.safetensors"
    convert_weights.convert_to_jax("lpips_alex", tmp_path / "alexnet.pth", path, lin=tmp_path / "alex.pth")
    images, others = make_images(height, width)
    actual = np.asarray(lpips(read_weights(path)[0], images, others))

    def features(x):
        x = torch.from_numpy(x).permute(0, 3, 1, 2) * 2 - 1
        x = (x - torch.tensor(SHIFT).view(1, 3, 1, 1)) / torch.tensor(SCALE).view(1, 3, 1, 1)
        for name, stride, padding in zip(ALEXNET, (4, 1, 1, 1, 1), (2, 2, 1, 1, 1), strict=True):
            if name in ("features.3", "features.6"):
                x = functional.max_pool2d(x, 3, 2)
            kernel, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
            x = torch.relu(functional.conv2d(x.double(), kernel, bias, stride, padding))
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    expected = 0
    for x, y, weight in zip(features(images), features(others), lin.values(), strict=True):
        expected += functional.conv2d((x - y) ** 2, weight.double()).mean((1, 2, 3))
    np.testing.assert_allclose(actual, expected.numpy(), rtol=0, atol=1e-5)
