"""Converting weights as a user does: every kind of file, both directions, and what is refused."""

import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors
from random_weights import random_tensor
from safetensors.numpy import load_file, save_file

from jaxdeblur.errors import InputError
from jaxdeblur.export import convert_weights
from jaxdeblur.files import file_sha256
from jaxdeblur.weights.safetensors import read_weights
from tests.helpers.paths import ROOT

GOLDEN = ROOT / "tests" / "golden"
TOOL = ROOT / "tools" / "convert_weights.py"


def torch_tensors(network):
    """A complete state dict of the network, made with NumPy only."""
    shapes = json.loads(str(np.load(GOLDEN / f"{network}.npz")["shapes"]))
    return {
        name: np.zeros((), np.int64) if name.endswith("tracked") else random_tensor(name, tuple(shape))
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def transformnet():
    return torch_tensors("transformnet")


def convert(source, output, network="transformnet"):
    convert_weights.convert_to_jax(network, source, output)
    return output


def test_the_round_trip_is_bit_exact(transformnet, tmp_path):
    source = tmp_path / "theirs.safetensors"
    save_file(transformnet, source)
    ours = convert(source, tmp_path / "ours.safetensors")
    convert_weights.convert_to_torch(ours, tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == transformnet.keys()
    for name, tensor in transformnet.items():
        np.testing.assert_array_equal(back[name], tensor)
    metadata = read_weights(ours)[1]
    assert metadata["network"] == "transformnet"
    assert metadata["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert metadata["jaxdeblur"]
    assert json.loads(metadata["options"])["width"] == 32
    with safetensors.safe_open(tmp_path / "back.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["options"]) == json.loads(metadata["options"])


def test_of_a_resnet50_only_the_classifier_is_dropped(tmp_path, capsys):
    encoder = {
        name.removeprefix("bkbone."): tensor
        for name, tensor in torch_tensors("resnetencdec").items()
        if name.startswith("bkbone.")
    }
    classifier = {"fc.weight": np.zeros((1000, 2048), np.float32), "fc.bias": np.zeros(1000, np.float32)}
    save_file({**encoder, **classifier}, tmp_path / "resnet50.safetensors")
    ours = convert(tmp_path / "resnet50.safetensors", tmp_path / "ours.safetensors", "resnet50")
    assert "Dropped: fc.weight, fc.bias" in capsys.readouterr().out
    found = load_file(ours)
    counted = [name for name in encoder if not name.endswith("tracked")]
    assert len(found) == len(counted) == 265
    kernel = encoder["layer3.5.conv2.weight"]
    np.testing.assert_array_equal(found["params/backbone/layer3_5/conv2/kernel"], kernel.transpose(2, 3, 1, 0))
    mean = encoder["layer2.0.downsample.1.running_mean"]
    np.testing.assert_array_equal(found["batch_stats/backbone/layer2_0/downsample_bn/mean"], mean)


def test_the_ema_weights_are_the_default_of_a_file_with_both(transformnet, tmp_path, capsys):
    raw = {f"params.{name}": tensor for name, tensor in transformnet.items()}
    averaged = {f"params_ema.{name}": np.asarray(tensor + 1, tensor.dtype) for name, tensor in transformnet.items()}
    save_file(raw | averaged, tmp_path / "both.safetensors")
    command = ["to-jax", "--network", "transformnet", str(tmp_path / "both.safetensors"), str(tmp_path / "ours")]
    for options, added in (([], 1), (["--which", "ema"], 1), (["--which", "raw"], 0)):
        output = tmp_path / f"ours{len(options)}{added}.safetensors"
        convert_weights.main([*command[:3], *options, command[3], str(output)])
        bias = transformnet["conv6.bias"] + np.float32(added)
        np.testing.assert_array_equal(load_file(output)["params/conv6/bias"], bias)
        line = capsys.readouterr().out.splitlines()[0]
        label, other, kind = [("params.*", "params_ema.*", "ema"), ("params_ema.*", "params.*", "raw")][added]
        assert line.startswith(f"{tmp_path / 'both.safetensors'}: {len(transformnet)} tensors taken from {label}")
        assert line.endswith(f"--which {kind} takes {other}")
        assert read_weights(output)[1]["source_part"] == label


def test_half_precision_becomes_float32(transformnet, tmp_path):
    half = {name: tensor.astype(np.float16) if tensor.ndim else tensor for name, tensor in transformnet.items()}
    save_file(half, tmp_path / "half.safetensors")
    found = load_file(convert(tmp_path / "half.safetensors", tmp_path / "ours.safetensors"))
    assert {tensor.dtype for tensor in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found["params/conv6/bias"], half["conv6.bias"].astype(np.float32))


def bad_files(folder, tensors):
    """Return names of files that must be refused, with the code of each error."""
    folder.mkdir()
    save_file(tensors, folder / "whole.safetensors")
    content = (folder / "whole.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(content[: len(content) // 2])
    (folder / "text.pth").write_text("no weights")
    (folder / "nowhere.pth").symlink_to(folder / "missing")
    save_file({**tensors, "bn1.bias": np.full(32, np.nan, np.float32)}, folder / "nan.safetensors")
    save_file({"a": np.zeros(3, np.float32)}, folder / "other.safetensors")
    return {
        "cut.safetensors": ("checkpoint-damaged",),
        "text.pth": ("checkpoint-damaged", "missing-extra"),  # the latter without PyTorch
        "nowhere.pth": ("no-such-file",),
        "nan.safetensors": ("checkpoint-does-not-fit",),
        "other.safetensors": ("checkpoint-does-not-fit",),
    }


def test_bad_files_are_refused_and_leave_nothing_behind(transformnet, tmp_path):
    output = tmp_path / "out" / "ours.safetensors"
    for name, codes in bad_files(tmp_path / "in", transformnet).items():
        with pytest.raises(InputError) as error:
            convert(tmp_path / "in" / name, output)
        assert error.value.code in codes
    assert not output.parent.exists()


def test_other_output_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"ending in \.safetensors"):
        convert(tmp_path / "in.safetensors", tmp_path / "ours.npz")
    with pytest.raises(InputError, match=r"ending in \.pth or \.safetensors"):
        convert_weights.convert_to_torch(tmp_path, tmp_path / "back.h5")


def test_the_command_reports_what_it_did(transformnet, tmp_path):
    save_file(transformnet, tmp_path / "in.safetensors")
    command = [sys.executable, TOOL, "to-jax", "--network", "transformnet", tmp_path / "in.safetensors"]
    good = subprocess.run([*command, tmp_path / "w" / "out.safetensors"], capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    assert file_sha256(tmp_path / "w" / "out.safetensors") in good.stdout
    command[4] = "resnetencdec"
    bad = subprocess.run([*command, tmp_path / "bad.safetensors"], capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: These weights do not fit resnetencdec")
    assert not (tmp_path / "bad.safetensors").exists()


@pytest.fixture
def file_server(tmp_path):
    """A file server on loopback; (folder, address)."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_is_verified_with_the_hash_in_its_name(file_server, tmp_path):
    folder, address = file_server
    content = os.urandom(3_000_000)
    name = f"resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    assert convert_weights.download(f"{address}/{name}", tmp_path).read_bytes() == content
    (folder / name).write_bytes(content[:-1])
    for file, code in (
        (name, "download-corrupt"),
        ("resnet50-00000000.pth", "download-failed"),
        ("resnet50.pth", "download-without-hash"),
    ):
        with pytest.raises(InputError) as error:
            convert_weights.download(f"{address}/{file}", tmp_path)
        assert error.value.code == code
