"""Time and memory of training steps, restoring and startup, compared with PyTorch.

Each contestant runs in a separate process, with a compilation cache that is empty at first.
"""

import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_peer import PEERS

from jaxdeblur.console import say

PEER = Path(__file__).with_name("benchmark_peer.py")
# Batch, height, width.
SIZES = {"train": ((2, 256, 256), (8, 128, 128)), "restore": ((2, 256, 256), (1, 720, 1280))}
GROWTH = (*((1, side, side) for side in (256, 512, 1024, 2048)), *((batch, 256, 256) for batch in (2, 4, 8, 16)))
LARGEST_PIXELS = {("train", "resnetencdec"): 16 * 256 * 256}  # 2048x2048: 26 GB, extrapolated from 2x256x256
LONG_SIZE, LONG_STEPS = (8, 128, 128), (1, 10, 40)  # for growth over time


class Contestant:
    """A process that takes a step on request."""

    def __init__(self, peer: str, task: str, network: str, size: Sequence[int], programs: str):
        command = [sys.executable, str(PEER), peer, task, network, *map(str, size)]
        caches = {"JAX_COMPILATION_CACHE_DIR": programs, "TORCHINDUCTOR_CACHE_DIR": programs}
        self.row: dict[str, Any] = {"peer": peer, "task": task, "network": network, "size": list(size), "step_s": []}
        start, pipe = time.perf_counter(), subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **caches})
        self.row |= self._read()
        self.row["first_s"] = time.perf_counter() - start

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.row['peer']} ended with status {self._process.wait()}; see above")
        return json.loads(line)

    def step(self, count: int = 1) -> None:
        """Take steps without a pause; record the seconds of each and the resident memory after it."""
        self._process.stdin.write("\n" * count)
        self._process.stdin.flush()
        for _ in range(count):
            for key, value in self._read().items():
                self.row.setdefault(key, []).append(value)

    def end(self) -> dict[str, Any]:
        """End the process and return its measurements."""
        self._process.stdin.close()
        self.row |= self._read()
        self._process.stdout.close()
        self._process.wait()
        return self.row


def choose_peers(*, compiled: bool) -> tuple[str, ...]:
    """Return the contestants: PyTorch's if installed, with torch.compile (which takes minutes) if `compiled`."""
    if importlib.util.find_spec("torch") is None:
        say("PyTorch is not installed: its rows are left out.")
        return PEERS[:1]
    return PEERS if compiled else PEERS[:2]


def run(task: str, networks: Sequence[str], rounds: int, peers: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row per contestant: `step_s` of each round, `first_s`, `peak_bytes`, and facts.

    Args:
        task: `train` or `restore`.
        networks: by name.
        rounds: steps of each, which take turns.
        peers: the contestants.
    """
    rows = []
    for network in networks:
        for size in SIZES[task]:
            with tempfile.TemporaryDirectory() as programs:
                contestants = [Contestant(peer, task, network, size, programs) for peer in peers]
                for _ in range(rounds):
                    for contestant in contestants:
                        contestant.step()
                rows += [contestant.end() for contestant in contestants]
            say(f"{task}, {network}, {'x'.join(map(str, size))}: done.")
    return rows


def run_starts(networks: Sequence[str], rounds: int, peers: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row per contestant and task: `first_s`, and `second_s` of each later start, alternating.

    A start is the time from the process's beginning to its first training step's or restored batch's end.
    """
    rows = []
    for network in networks:
        for task in SIZES:
            with tempfile.TemporaryDirectory() as programs:
                start = partial(Contestant, task=task, network=network, size=SIZES[task][0], programs=programs)
                starts = {peer: start(peer).end() | {"second_s": []} for peer in peers}
                for _ in range(rounds):
                    for peer in peers:
                        starts[peer]["second_s"].append(start(peer).end()["first_s"])
            rows += starts.values()
            say(f"start, {network}, {task}: done.")
    return rows


def run_growth(networks: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Return rows of ours only, for growing images and batches, and for many training steps."""
    rows = []
    with tempfile.TemporaryDirectory() as programs:
        for network, task in itertools.product(networks, SIZES):
            sizes = [size for size in GROWTH if math.prod(size) <= LARGEST_PIXELS.get((task, network), math.inf)]
            counts = dict.fromkeys(sizes, rounds) | ({LONG_SIZE: LONG_STEPS[-1]} if task == "train" else {})
            for size, count in counts.items():
                contestant = Contestant(PEERS[0], task, network, size, programs)
                contestant.step(count)
                rows.append(contestant.end())
            say(f"growth, {network}, {task}: done.")
    return rows


def measure_peak() -> float:
    """Return the machine's FLOP/s in a product of large float32 matrices."""
    done = subprocess.run([sys.executable, str(PEER), "peak"], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)["peak_flops"]


def show(rows: list[dict[str, Any]], peak_flops: float) -> str:
    """Return a Markdown table; ratios are the faster PyTorch variant's to ours, of alternating steps."""
    header = ("network", "batch x H x W", "contestant", "s/step", "lowest, highest", "images/s", "PyTorch's / ours")
    header += ("GiB in steps", "ours / PyTorch's", "peak GiB", "ours / PyTorch's", "first result, s", "compiling, s")
    header += ("GFLOPs", "of peak")
    table = []
    for row in rows:
        peers = [other for other in _same_task(row, rows) if row["peer"] == PEERS[0] and other["peer"] != PEERS[0]]
        seconds, speed = np.median(row["step_s"]), ""
        if peers:
            best = min(peers, key=lambda other: np.median(other["step_s"]))
            speed = f"{np.median(np.divide(best['step_s'], row['step_s'])):.2f}"
        flops = row.get("flops", 0)
        cells = [row["network"], "x".join(map(str, row["size"])), row["peer"], f"{seconds:.3f}"]
        cells += [f"{min(row['step_s']):.3f}, {max(row['step_s']):.3f}", f"{row['size'][0] / seconds:.2f}", speed]
        for key in ("peak_step_bytes", "peak_bytes"):
            cells.append(f"{row[key] / 2**30:.2f}" if key in row else "")
            least = min((other[key] for other in peers if key in row), default=0)
            cells.append(f"{row[key] / least:.2f}" if least else "")
        cells.append(f"{row['first_s']:.1f}")
        cells += [f"{row['compile_s']:.1f}" if "compile_s" in row else "", f"{flops / 1e9:.0f}" if flops else ""]
        table.append([*cells, f"{flops / seconds / peak_flops:.0%}" if flops else ""])
    return _markdown(header, table)


def show_starts(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table; ratios are torch.compile's (eager PyTorch's without it) to ours."""
    header = ("network", "first result of", "contestant", "first start, s", "second start, s", "lowest, highest")
    header += ("PyTorch's / ours: first", "second")
    table = []
    for row in rows:
        peer_row = _same_task(row, rows)[-1]
        cells = [row["network"], row["task"], row["peer"], f"{row['first_s']:.1f}", f"{np.median(row['second_s']):.1f}"]
        cells.append(f"{min(row['second_s']):.1f}, {max(row['second_s']):.1f}")
        compared = row["peer"] == PEERS[0] and peer_row is not row
        cells.append(f"{peer_row['first_s'] / row['first_s']:.2f}" if compared else "")
        cells.append(f"{np.median(np.divide(peer_row['second_s'], row['second_s'])):.2f}" if compared else "")
        table.append(cells)
    return _markdown(header, table)


def show_growth(rows: list[dict[str, Any]]) -> str:
    """Return one Markdown table by size, and one by step."""
    header = ("network", "task", "batch x H x W", "s/step", "s/megapixel", "GiB in steps", "GiB/megapixel")
    over_time = ("network", "task", "batch x H x W", *(f"GiB after step {step}" for step in LONG_STEPS))
    table, long_table = [], []
    for row in rows:
        cells = [row["network"], row["task"], "x".join(map(str, row["size"]))]
        if tuple(row["size"]) == LONG_SIZE:
            resident = row.get("resident_bytes", [math.nan] * LONG_STEPS[-1])
            long_table.append([*cells, *(f"{resident[step - 1] / 2**30:.2f}" for step in LONG_STEPS)])
        else:
            megapixels, seconds = math.prod(row["size"]) / 1e6, np.median(row["step_s"])
            memory = row.get("peak_step_bytes", row["peak_bytes"]) / 2**30
            cells += [f"{seconds:.3f}", f"{seconds / megapixels:.2f}", f"{memory:.2f}", f"{memory / megapixels:.2f}"]
            table.append(cells)
    return f"{_markdown(header, table)}\n\n{_markdown(over_time, long_table)}"


def _same_task(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the same task, network and size, in the contestants' order."""
    same = ("task", "network", "size")
    return [other for other in rows if all(other[key] == row[key] for key in same)]


def _markdown(header: Sequence[str], table: list[list[str]]) -> str:
    lines = [header, ["---"] * 3 + ["---:"] * (len(header) - 3), *table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
