"""The conversion as a user runs it: every form a file comes in, there and back, and what is refused."""

import argparse
import functools
import hashlib
import http.server
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar

import convert_weights
import numpy as np
import pytest
import safetensors
from random_weights import random_tensor
from safetensors.numpy import load_file, save_file

from jaxdeblur.errors import InputError
from jaxdeblur.files import file_sha256
from jaxdeblur.weights import torch_files
from jaxdeblur.weights.safetensors import read_weights
from tests.helpers.paths import ROOT

GOLDEN = ROOT / "tests" / "golden"
TOOL = ROOT / "tools" / "convert_weights.py"


def torch_tensors(network):
    """A whole checkpoint of the network by PyTorch's names, from NumPy alone."""
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


def test_there_and_back_is_bit_exact(transformnet, tmp_path):
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


def test_a_resnet50_loses_its_classifier_and_nothing_else(tmp_path, capsys):
    encoder = {
        name.removeprefix("bkbone."): tensor
        for name, tensor in torch_tensors("resnetencdec").items()
        if name.startswith("bkbone.")
    }
    classifier = {"fc.weight": np.zeros((1000, 2048), np.float32), "fc.bias": np.zeros(1000, np.float32)}
    save_file({**encoder, **classifier}, tmp_path / "resnet50.safetensors")
    ours = convert(tmp_path / "resnet50.safetensors", tmp_path / "ours.safetensors", "resnet50")
    assert "Left out: fc.weight, fc.bias" in capsys.readouterr().out
    found = load_file(ours)
    counted = [name for name in encoder if not name.endswith("tracked")]
    assert len(found) == len(counted) == 265
    kernel = encoder["layer3.5.conv2.weight"]
    np.testing.assert_array_equal(found["params/backbone/layer3_5/conv2/kernel"], kernel.transpose(2, 3, 1, 0))
    mean = encoder["layer2.0.downsample.1.running_mean"]
    np.testing.assert_array_equal(found["batch_stats/backbone/layer2_0/downsample_bn/mean"], mean)


def test_a_file_with_both_kinds_gives_the_ema_weights_unless_told_otherwise(transformnet, tmp_path, capsys):
    raw = {f"params.{name}": tensor for name, tensor in transformnet.items()}
    averaged = {f"params_ema.{name}": np.asarray(tensor + 1, tensor.dtype) for name, tensor in transformnet.items()}
    save_file(raw | averaged, tmp_path / "both.safetensors")
    command = ["to-jax", "--network", "transformnet", str(tmp_path / "both.safetensors"), str(tmp_path / "ours")]
    for options, added in (([], 1), (["--which", "ema"], 1), (["--which", "raw"], 0)):
        output = tmp_path / f"ours{len(options)}{added}.safetensors"
        convert_weights.main([*command[:3], *options, command[3], str(output)])
        bias = transformnet["conv6.bias"] + np.float32(added)
        np.testing.assert_array_equal(load_file(output)["params/conv6/bias"], bias)
        said = capsys.readouterr().out.splitlines()[0]
        taken, other, kind = [("params.*", "params_ema.*", "ema"), ("params_ema.*", "params.*", "raw")][added]
        assert said.startswith(f"{tmp_path / 'both.safetensors'}: {len(transformnet)} tensors taken from {taken}")
        assert said.endswith(f"--which {kind} takes {other}")
        assert read_weights(output)[1]["source_part"] == taken


def test_half_precision_becomes_float32(transformnet, tmp_path):
    half = {name: tensor.astype(np.float16) if tensor.ndim else tensor for name, tensor in transformnet.items()}
    save_file(half, tmp_path / "half.safetensors")
    found = load_file(convert(tmp_path / "half.safetensors", tmp_path / "ours.safetensors"))
    assert {tensor.dtype for tensor in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found["params/conv6/bias"], half["conv6.bias"].astype(np.float32))


class Name:
    """Pickles as the global name it is given, as torch's own classes do."""

    def __init__(self, name):
        self.name = name


class TarPickler(pickle._Pickler):
    """Writes names without importing them, and tensors as persistent identities: PyTorch's format before 2017."""

    def save_name(self, obj):
        module, name = obj.name.rsplit(".", 1)
        self.write(f"c{module}\n{name}\n".encode())

    dispatch: ClassVar[dict] = {**pickle._Pickler.dispatch, Name: save_name}

    def persistent_id(self, obj):
        return str(obj[1]) if isinstance(obj, tuple) and obj and obj[0] == "tensor" else None


def write_tar(path, tensors, *, tail=None):
    """Write a state dict as PyTorch 0.1.9 did: sys_info, storages, tensors and the pickle, in a tar."""

    def dump(value):
        buffer = io.BytesIO()
        TarPickler(buffer, protocol=2).dump(value)
        return buffer.getvalue()

    storages, views = dump(len(tensors)), dump(len(tensors))
    for i, tensor in enumerate(tensors.values()):
        storages += dump((i, "cpu", Name("torch.FloatStorage"))) + struct.pack("<q", tensor.size) + tensor.tobytes()
        strides = [stride // 4 for stride in tensor.strides]
        views += dump((1000 + i, i, Name("torch.FloatTensor"))) + struct.pack("<i4x", tensor.ndim)
        views += struct.pack(f"<{2 * tensor.ndim + 1}q", *tensor.shape, *strides, 0)
    storages += dump([])
    named = OrderedDict((name, ("tensor", 1000 + i)) for i, name in enumerate(tensors))
    if tail is not None:
        named["tail"] = tail
    with tarfile.open(path, "w:") as tar:
        for name, content in (
            ("sys_info", dump({})),
            ("storages", storages),
            ("tensors", views),
            ("pickle", dump(named)),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_the_tar_format_is_read_without_torch(transformnet, tmp_path):
    floats = {name: tensor for name, tensor in transformnet.items() if tensor.ndim}
    write_tar(tmp_path / "old.pth", floats)
    found = torch_files.read_torch_file(tmp_path / "old.pth")
    assert list(found) == list(floats)
    for name, tensor in floats.items():
        np.testing.assert_array_equal(found[name], tensor)
    convert(tmp_path / "old.pth", tmp_path / "ours.safetensors")


@pytest.mark.parametrize("extra", [np.float64(31.2), np.arange(3), argparse.Namespace(lr=1e-3), Path("runs")])
def test_what_lies_next_to_the_weights_in_a_tar_does_not_hinder(extra, tmp_path):
    write_tar(tmp_path / "old.pth", {"conv6.bias": np.ones(3, np.float32)}, tail=extra)
    found = torch_files.read_torch_file(tmp_path / "old.pth")
    np.testing.assert_array_equal(found["conv6.bias"], np.ones(3))
    assert isinstance(found["tail"], torch_files.Inert)


def test_code_in_a_tar_is_refused_and_not_run(transformnet, tmp_path):
    witness = tmp_path / "witness"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(witness),)

    write_tar(tmp_path / "bomb.pth", {"conv6.bias": transformnet["conv6.bias"]}, tail=Bomb())
    with pytest.raises(InputError, match=r"which is no part of a state dict.*files that carry code are never loaded"):
        convert(tmp_path / "bomb.pth", tmp_path / "ours.safetensors")
    assert not witness.exists()


def test_a_tensor_beyond_its_storage_is_refused():
    with pytest.raises(ValueError, match="beyond its storage"):
        torch_files._view(np.zeros(5, np.float32), (2, 3), (3, 1), 0)
    with pytest.raises(ValueError, match="beyond its storage"):
        torch_files._view(np.zeros(5, np.float32), (2,), (-1,), 4)


def bad_files(folder, tensors):
    """Return files that must be refused, and what must be said of each."""
    folder.mkdir()
    save_file(tensors, folder / "whole.safetensors")
    content = (folder / "whole.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(content[: len(content) // 2])
    (folder / "text.pth").write_text("no weights")
    (folder / "nowhere.pth").symlink_to(folder / "missing")
    save_file({**tensors, "bn1.bias": np.full(32, np.nan, np.float32)}, folder / "nan.safetensors")
    save_file({"a": np.zeros(3, np.float32)}, folder / "other.safetensors")
    write_tar(folder / "tar.pth", {"conv6.weight": tensors["conv6.weight"]})
    tar = (folder / "tar.pth").read_bytes()
    (folder / "cut.pth").write_bytes(tar[: len(tar) // 2])
    return {
        "cut.safetensors": "cannot be read as safetensors",
        "text.pth": "cannot be read as a PyTorch checkpoint|needs PyTorch",
        "nowhere.pth": "no such file",
        "nan.safetensors": "bn1.bias: holds NaN or infinite numbers",
        "other.safetensors": r"a \(3,\): not a tensor of transformnet(.|\n)*conv6.bias .*missing",
        "cut.pth": "cannot be read as a PyTorch checkpoint",
    }


def test_bad_files_are_refused_and_leave_nothing_behind(transformnet, tmp_path):
    output = tmp_path / "out" / "ours.safetensors"
    for name, words in bad_files(tmp_path / "in", transformnet).items():
        with pytest.raises(InputError, match=words):
            convert(tmp_path / "in" / name, output)
    assert not output.parent.exists()


def test_an_output_of_another_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"ends in .safetensors"):
        convert(tmp_path / "in.safetensors", tmp_path / "ours.npz")
    with pytest.raises(InputError, match=r"ends in .pth or .safetensors"):
        convert_weights.convert_to_torch(tmp_path, tmp_path / "back.h5")


def test_the_command_says_what_it_did(transformnet, tmp_path):
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


def test_a_download_is_checked_by_the_hash_in_its_name(file_server, tmp_path):
    folder, address = file_server
    content = os.urandom(3_000_000)
    name = f"resnet50-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(content)
    assert convert_weights.download(f"{address}/{name}", tmp_path).read_bytes() == content
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"its SHA-256 is .*, expected"):
        convert_weights.download(f"{address}/{name}", tmp_path)
    with pytest.raises(InputError, match=r"cannot be fetched .*404"):
        convert_weights.download(f"{address}/resnet50-00000000.pth", tmp_path)
    with pytest.raises(InputError, match="carries no hash"):
        convert_weights.download(f"{address}/resnet50.pth", tmp_path)
