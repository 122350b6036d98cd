"""Published files: which network they hold, what is refused, and loading them directly. No PyTorch needed."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxdeblur.errors import InputError
from jaxdeblur.export import convert_weights
from jaxdeblur.files import file_sha256
from jaxdeblur.models import build_model
from jaxdeblur.restoration.restorer import load_restorer
from jaxdeblur.weights import from_torch, load
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.safetensors import read_weights
from jaxdeblur.weights.tensors import fingerprint, network_shapes
from jaxdeblur.weights.torch_files import read_torch_file
from jaxdeblur.weights.torch_names import to_torch
from tests.helpers.networks import normal_variables
from tests.helpers.paths import ROOT
from tests.helpers.published import nafnet_tensors, without_affine

SIDD_BLOCKS = ((2, 2, 4, 8), 12, (2, 2, 2, 2))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A tiny published NAFNet; the user's cache folder is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return save(tmp_path / "theirs.safetensors", nafnet_tensors())


def save(path, tensors):
    save_file({f"params.{name}": tensor for name, tensor in tensors.items()}, path)
    return path


def convert(source, output=None, *options):
    output = output or source.with_name("ours.safetensors")
    convert_weights.main(["to-jax", *options, str(source), str(output)])
    return output


def test_width_and_depths_are_read_from_the_tensors(file, capsys):
    metadata = read_weights(convert(file))[1]
    assert metadata["network"] == "nafnet"
    assert json.loads(metadata["options"]) == {
        "width": 4,
        "encoder_blocks": [1, 2],
        "middle_blocks": 1,
        "decoder_blocks": [1, 2],  # from the highest resolution on
        "half_resolution": False,
        "attention": "local",
        "attention_box": 384,
        "padding": "zeros",
    }
    printed = capsys.readouterr().out
    assert "found NAFNet" in printed
    assert "NAFNet of width 4, blocks 1-2 / 1 / 1-2" in printed
    assert "Warning" not in printed


def test_the_norms_are_folded_and_unfolded(file, tmp_path):
    """Ours to theirs and back is bit-exact; so is theirs to ours and back if the norms are trivial."""
    ours = convert(file)
    tensors, flat = nafnet_tensors(), load_file(ours)
    scale, shift = (tensors[f"encoders.1.0.norm2.{kind}"].astype(np.float64) for kind in ("weight", "bias"))
    kernel = tensors["encoders.1.0.conv4.weight"][:, :, 0, 0].T.astype(np.float64)
    folded = flat["params/encoder1_0/expand2/kernel"][0, 0]
    np.testing.assert_array_equal(folded, (scale[:, None] * kernel).astype(np.float32))
    bias = tensors["encoders.1.0.conv4.bias"] + shift @ kernel
    np.testing.assert_allclose(flat["params/encoder1_0/expand2/bias"], bias, rtol=1e-6)
    convert_weights.convert_to_torch(ours, tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys()
    assert (back["middle_blks.0.norm1.weight"] == 1).all()
    again = convert(tmp_path / "back.safetensors", tmp_path / "again.safetensors")
    assert fingerprint(read_weights(again)[0]) == fingerprint(read_weights(ours)[0])
    trivial = without_affine(tensors)
    convert_weights.convert_to_torch(
        convert(save(tmp_path / "trivial.safetensors", trivial)), tmp_path / "same.safetensors"
    )
    same = load_file(tmp_path / "same.safetensors")
    for name, tensor in trivial.items():
        np.testing.assert_array_equal(same[name], tensor)


def test_attention_is_local_unless_asked(file):
    assert json.loads(read_weights(convert(file, None, "--attention", "global"))[1]["options"])["attention"] == "global"


def test_variants_without_original_are_refused(tmp_path):
    with pytest.raises(InputError) as error:
        convert_weights.convert_to_torch(
            ROOT / "jaxdeblur/weights/pretrained/nafnet-small@1.safetensors", tmp_path / "back.safetensors"
        )
    assert error.value.code == "weights-without-original"


@pytest.mark.parametrize("network", ["transformnet", "resnetencdec"])
def test_the_originals_networks_are_detected(network):
    names = json.loads(str(np.load(ROOT / "tests" / "golden" / f"{network}.npz")["shapes"]))
    assert from_torch.detect("file", names).network == network
    if network == "resnetencdec":
        encoder = [name.removeprefix("bkbone.") for name in names if name.startswith("bkbone.")]
        assert from_torch.detect("file", encoder).network == "resnet50"


def test_msresnet_is_detected_and_loaded_directly(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    variables = normal_variables(network_shapes(build_model("msresnet")), scale=0.01)
    tensors = to_torch("msresnet", variables)
    save_file({f"G.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "model-1000.safetensors")
    network = load_network(tmp_path / "model-1000.safetensors")
    assert (network.name, network.is_from_torch) == ("msresnet", True)
    assert fingerprint(network.variables) == fingerprint(variables)


def test_alexnet_is_detected_and_needs_the_layers_of_lpips(tmp_path):
    names = [f"features.{i}.{kind}" for i in (0, 3, 6, 8, 10) for kind in ("weight", "bias")]
    assert from_torch.detect("file", names).network == "lpips_alex"
    save_file({name: np.zeros(3, np.float32) for name in names}, tmp_path / "alexnet.safetensors")
    assert refused(tmp_path / "alexnet.safetensors") == "lpips-lin"


def refused(path):
    """Return the code of the error with which the conversion fails."""
    output = path.with_name("refused.safetensors")
    with pytest.raises(InputError) as error:
        convert(path, output)
    assert not output.exists()
    return error.value.code


def test_unknown_files_are_refused_naming_what_was_looked_for(tmp_path):
    save_file({"a.weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    assert refused(tmp_path / "other.safetensors") == "checkpoint-unknown-network"
    with pytest.raises(InputError, match=r"(?s)a\.weight.*Looked for .*ResNet-50.*NAFNet.*LPIPS"):
        convert(tmp_path / "other.safetensors")


def test_a_nafssr_file_is_refused(tmp_path):
    block = {
        name.replace("encoders.0.0", "body.0.blk"): tensor
        for name, tensor in nafnet_tensors().items()
        if name.startswith(("encoders.0.0", "intro"))
    }
    path = save(tmp_path / "nafssr.safetensors", block)
    assert refused(path) == "checkpoint-other-task"
    with pytest.raises(InputError, match="NAFSSR") as error:
        load_network(path)
    assert error.value.code == "checkpoint-other-task"


@pytest.mark.parametrize("missing", ["intro.weight", "decoders.0.1.norm2.bias", "ups.1.0.weight", "encoders.0.0.beta"])
def test_missing_tensors_are_named(missing, tmp_path):
    tensors = nafnet_tensors()
    del tensors[missing]
    path = save(tmp_path / "incomplete.safetensors", tensors)
    assert refused(path) == "checkpoint-does-not-fit"
    with pytest.raises(InputError, match=rf"(?s)1 problem.*{missing} \(.*missing"):
        convert(path)


def test_other_shapes_and_infinite_values_are_named(tmp_path):
    tensors = nafnet_tensors()
    tensors["ending.bias"], tensors["downs.0.bias"] = np.full(3, np.nan, np.float32), np.zeros(5, np.float32)
    with pytest.raises(InputError, match=r"(?s)2 problem.*downs\.0\.bias: \(5,\), expected \(8,\)") as error:
        convert(save(tmp_path / "bad.safetensors", tensors))
    assert error.value.code == "checkpoint-does-not-fit"


@pytest.mark.parametrize(
    ("name", "blocks", "warning"),
    [
        ("NAFNet-SIDD-width4", SIDD_BLOCKS, "trained to remove noise, not motion blur"),
        ("model", SIDD_BLOCKS, "trained to remove noise, not motion blur"),
        ("NAFNet-REDS-width4", ((1, 2), 1, (2, 1)), "not for motion blur as in GOPRO"),
        ("NAFNet-GoPro-width4", ((1, 1, 1, 28), 1, (1, 1, 1, 1)), ""),
    ],
)
def test_networks_for_other_tasks_are_accepted_with_a_warning(name, blocks, warning, tmp_path, capsys):
    convert(save(tmp_path / f"{name}.safetensors", nafnet_tensors(2, blocks)))
    printed = capsys.readouterr().out
    assert ("Warning: " in printed) == bool(warning)
    assert warning in printed


def test_half_precision_is_accepted_with_a_warning(tmp_path, capsys):
    half = {name: tensor.astype(np.float16) for name, tensor in nafnet_tensors().items()}
    ours = convert(save(tmp_path / "half.safetensors", half))
    assert "Warning: all values are in half precision" in capsys.readouterr().out
    assert {tensor.dtype for tensor in load_file(ours).values()} == {np.dtype(np.float32)}


def test_a_published_file_is_recognised_by_its_hash(file, monkeypatch, capsys):
    monkeypatch.setitem(from_torch.PUBLISHED_FILES, file_sha256(file), "NAFNet-GoPro-width64.pth")
    convert(file)
    assert "its SHA-256 is that of the published NAFNet-GoPro-width64.pth" in capsys.readouterr().out


def test_a_published_file_is_loaded_directly_and_converted_once(file, tmp_path, monkeypatch, capsys):
    network = load_network(file)
    assert (network.name, network.is_from_torch, network.model.attention) == ("nafnet", True, "local")
    assert network.description == f"{file} (SHA-256 {file_sha256(file)})"
    assert fingerprint(network.variables) == fingerprint(read_weights(convert(file))[0])
    assert "NAFNet of width 4" in capsys.readouterr().err
    (cached,) = (tmp_path / "cache" / "jaxdeblur" / "converted").iterdir()
    assert cached.name.startswith(file_sha256(file))
    with monkeypatch.context() as context:
        context.setattr(load, "convert_network", lambda path: pytest.fail("converted twice"))
        again = load_network(file)
    assert (again.description, again.is_from_torch) == (network.description, True)
    assert fingerprint(again.variables) == fingerprint(network.variables)
    assert "NAFNet of width 4" in capsys.readouterr().err
    cached.write_bytes(b"corrupt")
    assert fingerprint(load_network(file).variables) == fingerprint(network.variables)
    restored = load_restorer(file)(np.zeros((20, 30, 3), np.uint8))
    assert restored.shape == (20, 30, 3)


def test_pytorchs_own_format_without_pytorch(tmp_path, monkeypatch):
    """What is missing is named, unless the conversion is cached."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("jaxdeblur.runtime.optional_packages.importlib.import_module", no_torch)
    path = tmp_path / "NAFNet-GoPro-width32.pth"
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"needs PyTorch.*jaxdeblur\[convert\]") as error:
        load_network(path)
    assert error.value.code == "missing-extra"
    with pytest.raises(InputError):
        read_torch_file(path)


def no_torch(name):
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
