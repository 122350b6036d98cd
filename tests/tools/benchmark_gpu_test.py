"""The GPU benchmark: numbers of its table by hand, rows that can be built, and a run in tiny sizes."""

import json
import subprocess
import sys

import benchmark_gpu
import benchmark_gpu_peers
import pytest
from benchmark_gpu import Measured, Row, table_lines
from safetensors import safe_open

from jaxdeblur.models import build_model, options_of
from jaxdeblur.weights.pretrained.catalogue import resolve_weights
from tests.helpers.paths import TOOLS

DEVICE = {"matmul bfloat16, TFLOP/s": 800.0, "copy, GB/s": 3000.0}


def test_table_by_hand():
    """32 images in 0.2 s; 1.6 TFLOPs in it are 8 TFLOP/s, 1% of 800; 300 GB in it are half of the copy."""
    found = {
        "jaxdeblur": {"step_s": [0.1, 0.2, 0.4], "flops": 1.6e12, "bytes": 300e9, "first_s": 30.0},
        "PyTorch eager": {"step_s": [0.3, 0.3, 0.3], "first_s": 5.0},
        "PyTorch compile": {"step_s": [], "failure": "not ready within the time limit"},
    }
    row = Row("train", "nafnet-32", "bfloat16", (32, 256, 256), 100)
    ours, eager, compiled = table_lines(Measured(row, "failed", 1.0, found), DEVICE)
    head = "| train | nafnet-32 | bfloat16 | 32x256x256 |"
    assert ours == f"{head} jaxdeblur | 160.0 | 200.00 | 100.00, 400.00 | 1.50 | 8.0 | 1.0% | 1500 | 50% | 30.0 |"
    assert eager == f"{head} PyTorch eager | 106.7 | 300.00 | 300.00, 300.00 |  | 5.3 | 0.7% |  |  | 5.0 |"
    assert compiled.startswith(f"{head} PyTorch compile: not ready within the time limit |")


def test_rows_can_be_built():
    for rows, networks in (
        (benchmark_gpu.ROWS, benchmark_gpu.NETWORKS),
        (benchmark_gpu.TINY_ROWS, benchmark_gpu.TINY_NETWORKS),
    ):
        for row in rows:
            kind, options = networks[row.network]
            build_model(kind, **options)
            assert row.precision in ("bfloat16", "TF32")
    assert benchmark_gpu.ROWS[0] == Row("train", "nafnet-32", "bfloat16", (32, 256, 256), 100)


def test_the_shipped_networks_options_are_the_shipped_ones():
    with safe_open(resolve_weights(None), "numpy") as file:
        stored = json.loads(file.metadata()["options"])
    built = options_of(build_model("nafnet", **benchmark_gpu.SHIPPED))
    assert stored == json.loads(json.dumps(built))


def test_device_speeds_are_those_that_the_table_needs():
    names = {name for speeds in benchmark_gpu_peers.device_speeds(tiny=True) for name in speeds}
    assert set(DEVICE) | {"matmul TF32, TFLOP/s"} <= names
    forms = ("grouped convolution", "shifted products", "our layer")
    for form in forms:
        assert sum(form in name for name in names) == 2  # forward, and with gradients


@pytest.mark.slow
def test_a_run_in_tiny_sizes(tmp_path):
    command = [sys.executable, TOOLS / "benchmark_gpu.py", "--tiny", "--no_compile", "--budget", "900"]
    process = subprocess.run(
        [*command, "--output", tmp_path], capture_output=True, text=True, timeout=1000, check=False
    )
    result = json.loads((tmp_path / "benchmark_gpu.json").read_text())
    assert [row["status"] for row in result["rows"]] == ["measured", "measured"], process.stderr
    for row in result["rows"]:
        ours = row["contestants"]["jaxdeblur"]
        assert len(ours["step_s"]) == benchmark_gpu.ROUNDS
        assert min(ours["step_s"]) > 0
        assert ours["flops"] > 1e6
    assert process.returncode == 0
