"""PyTorch's own files as training code writes them, read without executing anything in them."""

import argparse
import collections
import datetime
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.export import convert_weights
from jaxdeblur.weights.safetensors import read_weights
from jaxdeblur.weights.torch_files import Inert, read_torch_file

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'jaxdeblur[convert]'")
pytestmark = pytest.mark.parity

FORMATS = pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
EXTRAS = {
    "float64": np.float64(31.2),
    "float16": np.float16(1),
    "int64": np.int64(3),
    "bool": np.bool_(True),
    "str": np.str_("GoPro"),
    "array": np.arange(3.0),
    "random state": np.random.RandomState(0).get_state(),
    "options": argparse.Namespace(lr=1e-3, best=np.float32(1), folder=Path("runs")),
    "path": Path("runs") / "best.pth",
}


@FORMATS
@pytest.mark.parametrize("extra", EXTRAS)
def test_what_training_code_stores_next_to_weights_is_ignored(extra, zip_format, tmp_path):
    weights = torch.randn(3, 2)
    path = tmp_path / "a.pth"
    torch.save({"best": EXTRAS[extra], "net": {"a": weights}}, path, _use_new_zipfile_serialization=zip_format)
    np.testing.assert_array_equal(read_torch_file(path)["net"]["a"], weights.numpy())
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global"):
        torch.load(path, weights_only=True)  # what is allowed above is not allowed globally


@FORMATS
@pytest.mark.parametrize(
    ("extra", "name"),
    [(datetime.date(2020, 1, 1), "datetime.date"), (collections.defaultdict(list), "collections.defaultdict")],
)
def test_other_names_are_refused(extra, name, zip_format, tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"when": extra, "a": torch.zeros(1)}, path, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(InputError, match=rf"a\.pth: references {name}, ") as error:
        read_torch_file(path)
    assert error.value.code == "checkpoint-unsafe"


@FORMATS
def test_allowed_names_are_not_called(zip_format, tmp_path):
    """Python's unpickler would allocate 16 GB for the first file, and run the code in the second."""

    class Large:
        def __reduce__(self):
            return np.ndarray, ((2**32,), np.dtype(np.float32))

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "witness"),)

    class Wrapped:
        def __reduce__(self):
            return argparse.Namespace, (Bomb(),)

    path = tmp_path / "a.pth"
    torch.save({"b": Large(), "a": torch.ones(1)}, path, _use_new_zipfile_serialization=zip_format)
    loaded = read_torch_file(path)
    assert isinstance(loaded["b"], Inert)
    assert not vars(loaded["b"])
    torch.save({"b": Wrapped(), "a": torch.ones(1)}, path, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(InputError) as error:
        read_torch_file(path)
    assert error.value.code == "checkpoint-unsafe"
    assert not (tmp_path / "witness").exists()


@FORMATS
def test_a_training_checkpoint_is_converted(zip_format, tmp_path, capsys):
    """With EMA weights, a compiled and distributed raw network, an optimizer, options and NumPy scalars."""
    from torch_networks import TransformNet

    network, averaged = TransformNet(), TransformNet()
    checkpoint = {
        "epoch": np.int64(3),
        "best_psnr": np.float64(31.2),
        "args": argparse.Namespace(lr=1e-3),
        "model": {f"module._orig_mod.{name}": tensor for name, tensor in network.state_dict().items()},
        "ema": torch.optim.swa_utils.AveragedModel(averaged).state_dict(),
        "optimizer": torch.optim.Adam(network.parameters()).state_dict(),
    }
    torch.save(checkpoint, tmp_path / "theirs.pth", _use_new_zipfile_serialization=zip_format)
    for which, twin in (("raw", network), (None, averaged)):
        ours = tmp_path / f"{which}.safetensors"
        convert_weights.convert_to_jax("transformnet", tmp_path / "theirs.pth", ours, which=which)
        kernel = read_weights(ours)[0]["params"]["conv1"]["kernel"]
        np.testing.assert_array_equal(kernel, twin.conv1.weight.detach().numpy().transpose(2, 3, 1, 0))
    assert "tensors taken from ema.module.*, the EMA weights; --which raw takes" in capsys.readouterr().out
