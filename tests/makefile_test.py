"""The Makefile does not make again what is there."""

import os
import shutil
import subprocess

import pytest

from tests.helpers.paths import ROOT


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_rebuilding_the_environment_keeps_existing_data(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data" / "made").mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").touch()
    for days, name in ((3, "pyproject.toml"), (3, "constraints.txt"), (2, "data/made"), (1, ".venv/ready")):
        seconds = (10 - days) * 86400
        os.utime(tmp_path / name, (seconds, seconds))
    result = subprocess.run(["make", "-n", "data/made"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "synthesize_blur" not in result.stdout
    shutil.rmtree(tmp_path / "data" / "made")
    result = subprocess.run(["make", "-n", "data/made"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "synthesize_blur" in result.stdout
