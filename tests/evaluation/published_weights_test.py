"""Evaluating a file with PyTorch's names, with a config for another network."""

import json

from safetensors.numpy import save_file

from jaxdeblur.experiment.workflows import evaluate_weights
from jaxdeblur.files import file_sha256
from tests.helpers.published import nafnet_tensors


def test_the_architecture_is_the_files(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "theirs.safetensors"
    save_file({f"params.{name}": tensor for name, tensor in nafnet_tensors().items()}, path)
    before = tiny_config.to_json()
    evaluate_weights(tiny_config, tmp_path / "scores", path)
    assert tiny_config.to_json() == before
    stored = json.loads((tmp_path / "scores" / "config.json").read_text())["model"]
    assert (stored["name"], stored["attention"], stored["padding"]) == ("nafnet", "local", "zeros")
    record = json.loads((tmp_path / "scores" / "eval" / "test-16.json").read_text())
    assert file_sha256(path) in json.dumps(record)
