"""The benchmark of networks: ratios of steps that took turns, and contestants that answer."""

import json
import subprocess
import sys

import benchmark_networks
import numpy as np
import pytest


def row(peer, seconds, gib, **facts):
    return {
        "peer": peer,
        "network": "transformnet",
        "size": [2, 256, 256],
        "step_s": seconds,
        "peak_bytes": gib * 2**30,
        "first_s": 3.0,
        **facts,
    }


def test_ratios_are_the_better_peers_of_the_same_rounds():
    """By hand: eager is better than compiled; round by round 2/1, 6/2 and 2/4, of which 2.00 is the middle one."""
    rows = [
        row("jaxdeblur", [1.0, 2.0, 4.0], 1, flops=50e9),
        row("PyTorch eager", [2.0, 6.0, 2.0], 4),
        row("PyTorch compile", [7.0, 7.0, 7.0], 2),
    ]
    heads, _, ours, eager, _ = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in benchmark_networks.show(rows, 100e9).splitlines()
    ]
    ours, eager = dict(zip(heads, ours, strict=True)), dict(zip(heads, eager, strict=True))
    assert ours["s/step"] == "2.000"
    assert ours["images/s"] == "1.00"
    assert ours["PyTorch's / ours"] == "2.00"
    assert ours["ours / PyTorch's"] == "0.50"
    assert ours["of peak"] == "25%"  # 50 GFLOPs in 2 s are 25 GFLOP/s
    assert eager["PyTorch's / ours"] == ""


@pytest.mark.parametrize("task", ["train", "restore"])
def test_a_contestant_takes_a_step_for_each_line(task):
    command = [sys.executable, str(benchmark_networks.PEER), "jaxdeblur", task, "transformnet", "2", "32", "32"]
    found = subprocess.run(command, input="\n\n", capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    ready, *steps, end = map(json.loads, found.stdout.splitlines())
    assert len(steps) == 2
    assert 0 < np.median([step["step_s"] for step in steps]) < ready["first_s"]
    assert 2**27 < end["peak_bytes"] < 2**33
    # 97 GFLOPs at 2x256x256 by the layers' shapes, of which this is 1/64; the compiler may count more.
    assert task == "restore" or 1.2e9 < ready["flops"] < 2.5e9
