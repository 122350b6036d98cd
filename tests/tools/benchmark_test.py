"""Benchmarks: ratios of alternating steps, contestants in subprocesses, and rates of synthetic blur."""

from functools import partial

import benchmark
import benchmark_data
import benchmark_networks
import numpy as np
import pytest

from tests.helpers.images import write_pairs


def row(peer, seconds, gib, **facts):
    return {
        "peer": peer,
        "task": "train",
        "network": "transformnet",
        "size": [2, 256, 256],
        "step_s": seconds,
        "peak_bytes": gib * 2**30,
        "peak_step_bytes": gib * 2**29,
        "first_s": 3.0,
        **facts,
    }


def test_ratios_are_to_the_faster_peer_in_the_same_rounds():
    """By hand: eager is faster than compiled; the rounds' ratios are 2/1, 6/2 and 2/4, their median 2.00."""
    rows = [
        row("jaxdeblur", [1.0, 2.0, 4.0], 1, flops=50e9),
        row("PyTorch eager", [2.0, 6.0, 2.0], 4),
        row("PyTorch compile", [7.0, 7.0, 7.0], 2),
    ]
    header, _, ours, eager, _ = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in benchmark_networks.show(rows, 100e9).splitlines()
    ]
    ours, eager = dict(zip(header, ours, strict=True)), dict(zip(header, eager, strict=True))
    assert ours["s/step"] == "2.000"
    assert ours["images/s"] == "1.00"
    assert ours["PyTorch's / ours"] == "2.00"
    assert ours["ours / PyTorch's"] == "0.50"
    assert ours["GiB in steps"] == "0.50"
    assert ours["of peak"] == "25%"  # 50 GFLOPs in 2 s are 25 GFLOP/s
    assert eager["PyTorch's / ours"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("task", ["train", "restore"])
def test_a_contestant_takes_steps_in_its_own_process(task, monkeypatch, tmp_path):
    monkeypatch.setitem(benchmark_networks.SIZES, task, [(2, 32, 32)])
    (result,) = benchmark_networks.run(task, ["transformnet"], 2, ["jaxdeblur"])
    assert len(result["step_s"]) == 2
    assert 0 < np.median(result["step_s"]) < result["compile_s"] < result["first_s"]
    assert 2**27 < result["peak_bytes"] < 2**33
    assert 2**27 < result.get("peak_step_bytes", result["peak_bytes"]) <= result["peak_bytes"]
    # The residual blocks: 2x8x8 pixels, 10 convolutions, forward and two gradients; less for borders.
    blocks = (3 if task == "train" else 1) * 10 * 2 * (2 * 8 * 8) * 9 * 128 * 128
    assert 0.8 * blocks < result["flops"] < 2 * blocks


@pytest.mark.slow
def test_second_start_uses_the_compilation_cache(tmp_path):
    """A recompiled program would be a new entry; XLA's key covers the program and its options."""
    start = partial(benchmark_networks.Contestant, "jaxdeblur", "train", "transformnet", (2, 32, 32), str(tmp_path))
    start().end()
    entries = sorted(path.name for path in tmp_path.glob("*-cache"))
    assert entries
    start().end()
    assert sorted(path.name for path in tmp_path.glob("*-cache")) == entries


def test_start_table_shows_the_median_ratio():
    """By hand: 8 s, 4 s and 6 s, to half of each."""
    ours = {"network": "transformnet", "task": "train", "size": [2, 32, 32], "peer": "jaxdeblur", "first_s": 5.0}
    theirs = [ours | {"peer": name, "second_s": [8.0, 4.0, 6.0]} for name in ("PyTorch eager", "PyTorch compile")]
    rows = [ours | {"second_s": [4.0, 2.0, 3.0]}, *theirs]
    assert benchmark_networks.show_starts(rows).splitlines()[2].endswith("| 2.00 |")


@pytest.mark.slow
def test_growth_is_shown_per_megapixel_and_over_time(monkeypatch):
    """By hand: 0.5 s and 1/4 GiB for a quarter of a megapixel; and a subprocess that reports memory after each step."""
    monkeypatch.setattr(benchmark_networks, "SIZES", {"train": ()})
    monkeypatch.setattr(benchmark_networks, "GROWTH", [(1, 64, 64)])
    monkeypatch.setattr(benchmark_networks, "LARGEST_PIXELS", {("train", "transformnet"): 3 * 32 * 32})
    monkeypatch.setattr(benchmark_networks, "LONG_SIZE", (2, 32, 32))
    monkeypatch.setattr(benchmark_networks, "LONG_STEPS", (1, 3))
    (long,) = benchmark_networks.run_growth(["transformnet"], 2)  # the largest size is skipped
    assert (long["size"], len(long["step_s"])) == ([2, 32, 32], 3)
    assert 2**27 < long.get("resident_bytes", [2**28])[-1] < 2**33
    first = long | {"size": [1, 500, 500], "step_s": [0.5, 0.5], "peak_step_bytes": 2**28}
    long["resident_bytes"] = [2**29, 0, 2**30]
    table = benchmark_networks.show_growth([first, long]).splitlines()
    assert table[2] == "| transformnet | train | 1x500x500 | 0.500 | 2.00 | 0.25 | 1.00 |"
    assert table[-1] == "| transformnet | train | 2x32x32 | 0.50 | 1.00 |"


def test_synthetic_blur_is_timed(tmp_path):
    pytest.importorskip("cv2")
    write_pairs(tmp_path, "train", "scene_a", 1, side=88)
    rows = benchmark_data.run_synthetic_blur(tmp_path, rounds=2)
    assert all(len(row["rates"]) == 2 and min(row["rates"]) > 0 for row in rows)
    assert len(benchmark.show_synthetic_blur(rows).splitlines()) == 2 + len(rows)
