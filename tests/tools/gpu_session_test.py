"""A session on a GPU machine: its log reader, its arguments, and a rehearsal of synthesis and training."""

import json
import os
import subprocess
import sys

import gpu_session
import numpy as np
import pytest
from PIL import Image

from jaxdeblur.weights.safetensors import read_weights
from tests.helpers.paths import TOOLS


def test_the_last_value_of_a_metric(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert gpu_session.last_metric(path, "speed/steps_per_s") is None
    path.write_text('{"step": 1, "speed/steps_per_s": 2.0}\n{"step": 2, "speed/steps_per_s": 3.0}\n{"step": 3}\n{"st')
    assert gpu_session.last_metric(path, "speed/steps_per_s") == 3.0


def test_output_has_to_be_named(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("OUT", raising=False)
    with pytest.raises(SystemExit, match="2"):
        gpu_session.main(["--photographs", str(tmp_path)])
    assert "--output or the environment variable OUT" in capsys.readouterr().err


@pytest.mark.slow
def test_a_rehearsal_brings_back_weights(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photographs").mkdir()
    for i in range(4):
        noise = Image.fromarray(rng.integers(0, 256, (24, 30, 3), np.uint8))
        noise.resize((300, 240), Image.Resampling.BICUBIC).save(tmp_path / "photographs" / f"{i}.png")
    command = [sys.executable, TOOLS / "gpu_session.py", "--photographs", tmp_path / "photographs"]
    command += ["--output", tmp_path / "out", "--work", tmp_path / "work", "--parts", "synthesize", "train"]
    subprocess.run(command, env=os.environ | {"JAXDEBLUR_TINY": "1"}, timeout=1000, check=True)
    parts = json.loads((tmp_path / "out" / "session.json").read_text())["parts"]
    assert parts["synthesize"]["pairs"] == {"train": 2, "validation": 4, "test": 2}
    assert (parts["train"]["dtype"], parts["train"]["status"], parts["train"]["packed"]) == ("float32", 0, 0)
    _, metadata = read_weights(tmp_path / "out" / "trained.safetensors")
    assert metadata["name"] == "gpu-trained"
