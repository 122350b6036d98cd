"""Seconds and memory of training steps and of restoring, beside PyTorch; each contestant in a process of its own."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_peer import PEERS

from jaxdeblur.console import say

PEER = Path(__file__).with_name("benchmark_peer.py")
# Batch, height, width.
SIZES = {"train": ((2, 256, 256), (8, 128, 128)), "restore": ((2, 256, 256), (1, 720, 1280))}
NETWORKS = ("transformnet", "resnetencdec")


class _Contestant:
    """A process that takes a step when it is told to."""

    def __init__(self, peer: str, task: str, network: str, size: Sequence[int]):
        command = [sys.executable, str(PEER), peer, task, network, *map(str, size)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.row: dict[str, Any] = {"peer": peer, "task": task, "network": network, "size": list(size), "step_s": []}
        self.row |= self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.row['peer']} ended with status {self._process.wait()}; see above")
        return json.loads(line)

    def step(self) -> None:
        """Take a step and note its seconds."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.row["step_s"].append(self._read()["step_s"])

    def end(self) -> dict[str, Any]:
        """Return what was measured."""
        self._process.stdin.close()
        self.row |= self._read()
        self._process.wait()
        return self.row


def run(task: str, networks: Sequence[str], rounds: int, *, compiled: bool) -> list[dict[str, Any]]:
    """Return a row for each contestant: `step_s` of each round, `first_s`, `peak_bytes`, and facts.

    Args:
        task: `train` or `restore`.
        networks: by name.
        rounds: steps of each, which take turns.
        compiled: let torch.compile take part, which takes minutes to compile.
    """
    peers = [PEERS[0]]
    if importlib.util.find_spec("torch") is None:
        say("PyTorch is not installed: its rows are left out.")
    else:
        peers += PEERS[1:] if compiled else PEERS[1:2]
    rows = []
    for network in networks:
        for size in SIZES[task]:
            contestants = [_Contestant(peer, task, network, size) for peer in peers]
            for _ in range(rounds):
                for contestant in contestants:
                    contestant.step()
            rows += [contestant.end() for contestant in contestants]
            say(f"{task}, {network}, {'x'.join(map(str, size))}: done.")
    return rows


def measure_peak() -> float:
    """Return the machine's FLOP/s in a product of large float32 matrices."""
    found = subprocess.run(
        [sys.executable, str(PEER), "peak", "", ""], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(found)["peak_flops"]


def show(rows: list[dict[str, Any]], peak_flops: float) -> str:
    """Return a Markdown table; ratios are the better of PyTorch's to ours, of steps that took turns."""
    columns = ("network", "batch x H x W", "contestant", "s/step", "lowest, highest", "images/s", "PyTorch's / ours")
    columns += ("peak GiB", "ours / PyTorch's", "first result, s", "GFLOPs", "of peak")
    lines = [f"| {' | '.join(columns)} |", "| --- | --- | --- |" + " ---: |" * (len(columns) - 3)]
    for row in rows:
        peers = [other for other in rows if (other["network"], other["size"]) == (row["network"], row["size"])]
        theirs = [other for other in peers if other["peer"] != PEERS[0]]
        seconds, speed, memory = np.median(row["step_s"]), "", ""
        if row["peer"] == PEERS[0] and theirs:
            best = min(theirs, key=lambda other: np.median(other["step_s"]))
            speed = f"{np.median(np.divide(best['step_s'], row['step_s'])):.2f}"
            memory = f"{row['peak_bytes'] / min(other['peak_bytes'] for other in theirs):.2f}"
        flops = row.get("flops", 0)
        cells = [row["network"], "x".join(map(str, row["size"])), row["peer"], f"{seconds:.3f}"]
        cells += [f"{min(row['step_s']):.3f}, {max(row['step_s']):.3f}", f"{row['size'][0] / seconds:.2f}", speed]
        cells += [f"{row['peak_bytes'] / 2**30:.2f}", memory, f"{row['first_s']:.1f}"]
        cells += [f"{flops / 1e9:.0f}" if flops else "", f"{flops / seconds / peak_flops:.0%}" if flops else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
