"""Measure training and restoring on a GPU, next to PyTorch, in one run that is bounded in time.

    python tools/benchmark_gpu.py --output benchmark_gpu
    python tools/benchmark_gpu.py --tiny --output /tmp/benchmark    # small sizes on the CPU: checks this script

Runs with the Python that starts it and writes benchmark_gpu.json and benchmark_gpu.md to --output after every row, most
important first. First comes the device itself: matrix products, a copy, and the depthwise convolution in three forms.

A row is a task, network, precision and batch. Its contestants are processes: ours, PyTorch eager and torch.compile,
channels-last, TF32 allowed, autocast for bfloat16, cuDNN's autotuner on, fused Adam. They compile at the same time and
are then timed in turns; where three do not fit in the device's memory, one after another. Images are on the device, and
so is the result: transfers are not measured. Every row has a time limit, in which contestants that are not ready are
left out; at --budget seconds everything stops and remaining rows are recorded as skipped.

Exit status: 0: all rows were measured; 1: a row or contestant failed; 2: no CUDA device; 3: rows were skipped.
"""

import argparse
import importlib.util
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from json_process import JsonProcess, exit_on_signal

PEERS = ("jaxdeblur", "PyTorch eager", "PyTorch compile")
BUDGET_S = 225.0
DEVICE_LIMIT_S = 45.0
ROUNDS, ROUND_S = 5, 0.4  # of each contestant, at least one step

# The published NAFNet for GOPRO: 36 blocks (arXiv 2204.04676).
NAFNET_32 = {
    "width": 32,
    "encoder_blocks": (1, 1, 1, 28),
    "middle_blocks": 1,
    "decoder_blocks": (1, 1, 1, 1),
    "half_resolution": False,
    "attention": "global",
}
SHIPPED = {
    "width": 24,
    "encoder_blocks": (0, 2, 6),
    "middle_blocks": 6,
    "decoder_blocks": (1, 1, 2),
    "half_resolution": True,
    "attention": "none",
}
NETWORKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "nafnet-32": ("nafnet", NAFNET_32),
    "shipped": ("nafnet", SHIPPED),
    "transformnet": ("transformnet", {}),
    "resnetencdec": ("resnetencdec", {}),
    "nafnet-64": ("nafnet", {**NAFNET_32, "width": 64}),
}
TINY_NETWORKS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "nafnet-32": ("nafnet", {**NAFNET_32, "width": 4, "encoder_blocks": (1,), "decoder_blocks": (1,)}),
    "transformnet": ("transformnet", {}),
}


@dataclass(frozen=True)
class Row:
    """What is measured: task, network, precision and (batch, height, width).

    Attributes:
        limit_s: seconds for it, compilation included.
        together: all contestants fit in the device's memory at once.
    """

    task: str
    network: str
    precision: str
    size: tuple[int, int, int]
    limit_s: float
    together: bool = True


BATCH, PHOTO = (32, 256, 256), (1, 720, 1280)
ROWS = (
    Row("train", "nafnet-32", "bfloat16", BATCH, 100),
    Row("train", "shipped", "bfloat16", BATCH, 60),
    Row("train", "transformnet", "bfloat16", BATCH, 45),
    Row("train", "resnetencdec", "bfloat16", BATCH, 60),
    Row("restore", "nafnet-32", "bfloat16", PHOTO, 45),
    Row("restore", "shipped", "bfloat16", PHOTO, 40),
    Row("restore", "transformnet", "bfloat16", PHOTO, 30),
    Row("restore", "resnetencdec", "bfloat16", PHOTO, 40),
    Row("train", "nafnet-32", "TF32", BATCH, 120, together=False),
    Row("train", "shipped", "TF32", BATCH, 60),
    Row("train", "transformnet", "TF32", BATCH, 45),
    Row("train", "resnetencdec", "TF32", BATCH, 60, together=False),
    Row("train", "nafnet-64", "bfloat16", BATCH, 120, together=False),
)
TINY_ROWS = (
    Row("train", "nafnet-32", "bfloat16", (2, 32, 32), 300),
    Row("restore", "transformnet", "TF32", (1, 32, 64), 300, together=False),
)


@dataclass
class Measured:
    """A row's results: `contestants` by name, with `step_s` of each round and facts, or `failure`."""

    row: Row
    status: str = "skipped"
    seconds: float = 0.0
    contestants: dict[str, dict[str, Any]] = field(default_factory=dict)


def start_process(arguments: Sequence[str], log: Path) -> JsonProcess:
    """Start this script as a contestant, or as what measures the device."""
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # contestants share the device
    environment |= {"JAX_PLATFORMS": "cpu"} if "--tiny" in arguments else {}
    return JsonProcess([str(Path(__file__).resolve()), *arguments], environment, log)


class Benchmark:
    """All rows, within a budget."""

    def __init__(self, rows: Sequence[Row], output: Path, *, tiny: bool, peers: Sequence[str], deadline: float):
        self.measured = [Measured(row) for row in rows]
        self.device: dict[str, Any] = {}
        self._output, self._tiny, self._peers, self._deadline = output, tiny, peers, deadline
        self._started = time.monotonic()

    def run(self) -> None:
        """Measure the device, then row after row; the next row's processes import while one is measured."""
        self._measure_device()
        waiting = self._launch(self.measured[0].row) if self.measured else {}
        for i, result in enumerate(self.measured):
            if time.monotonic() > self._deadline - 5:
                break
            processes = waiting
            waiting = self._launch(self.measured[i + 1].row) if i + 1 < len(self.measured) else {}
            start = time.monotonic()
            try:
                self._measure(result, processes, min(start + result.row.limit_s, self._deadline))
            finally:
                for process in processes.values():
                    process.close()
            result.seconds = round(time.monotonic() - start, 1)
            self.write()
            print(describe(result), flush=True)
        for process in waiting.values():
            process.close()
        self.write()

    def _launch(self, row: Row) -> dict[str, JsonProcess]:
        tiny = ["--tiny"] if self._tiny else []
        what = [row.task, row.network, row.precision, *map(str, row.size)]
        logs = {peer: self._output / f"{peer.replace(' ', '_')}.log" for peer in self._peers}
        return {peer: start_process([*tiny, "--contestant", peer, *what], log) for peer, log in logs.items()}

    def _measure_device(self) -> None:
        process = start_process([*(["--tiny"] if self._tiny else []), "--device"], self._output / "device.log")
        until = min(time.monotonic() + DEVICE_LIMIT_S * (10 if self._tiny else 1), self._deadline)
        try:
            while "end" not in (answer := process.receive(until)):
                self.device |= answer
                self.write()
        except (TimeoutError, EOFError) as error:
            self.device["failure"] = str(error)
        process.close()

    def _measure(self, result: Measured, processes: Mapping[str, JsonProcess], until: float) -> None:
        groups = [list(processes)] if result.row.together else [[peer] for peer in processes]
        for group in groups:
            for peer in group:
                processes[peer].send("go")
            ready = [peer for peer in group if self._answer(result, peer, processes[peer], until)]
            for _ in range(ROUNDS):
                for peer in ready:
                    if "failure" not in result.contestants[peer]:
                        processes[peer].send("steps")
                        self._answer(result, peer, processes[peer], until)
            for peer in group:
                processes[peer].close()
        failed = [peer for peer, found in result.contestants.items() if "failure" in found]
        result.status = "failed" if failed else "measured"

    def _answer(self, result: Measured, peer: str, process: JsonProcess, until: float) -> bool:
        """Note a contestant's next answer; return whether there was one."""
        found = result.contestants.setdefault(peer, {"step_s": []})
        try:
            answer = process.receive(until)
        except (TimeoutError, EOFError) as error:
            found["failure"] = str(error)
            return False
        if "step_s" in answer:
            found["step_s"].append(answer["step_s"])
        else:
            found |= answer
        return True

    def write(self) -> None:
        """Write benchmark_gpu.json and benchmark_gpu.md, each in one piece."""
        for suffix, text in (("json", json.dumps(self.as_json(), indent=1)), ("md", self.as_markdown())):
            temporary = self._output / f"benchmark_gpu.{suffix}.tmp"
            temporary.write_text(text)
            temporary.replace(self._output / f"benchmark_gpu.{suffix}")

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured."""
        return {
            "tiny": self._tiny,
            "seconds": round(time.monotonic() - self._started, 1),
            "device": self.device,
            "rows": [asdict(result) for result in self.measured],
        }

    def as_markdown(self) -> str:
        """Return a table of the device and one of the rows."""
        lines = ["| device | |", "| --- | ---: |"]
        lines += [f"| {name} | {_number(value)} |" for name, value in self.device.items()]
        heads = [
            "task",
            "network",
            "precision",
            "batch x H x W",
            "contestant",
            "images/s",
            "ms/step",
            "lowest, highest",
        ]
        heads += ["x faster PyTorch", "TFLOP/s", "of matmul peak", "GB/s", "of copy", "first step, s"]
        lines += ["", f"| {' | '.join(heads)} |", f"|{' --- |' * 5}{' ---: |' * (len(heads) - 5)}"]
        for result in self.measured:
            lines += table_lines(result, self.device)
        return "\n".join(lines) + "\n"

    def exit_status(self) -> int:
        """Return 0, 1 or 3, as the module says."""
        statuses = {result.status for result in self.measured}
        return 1 if "failed" in statuses or "failure" in self.device else 3 if "skipped" in statuses else 0


def table_lines(result: Measured, device: Mapping[str, Any]) -> list[str]:
    """Return the lines of a row in the table, one per contestant.

    All contestants' TFLOP/s are of the FLOPs that XLA counts in our program before optimization; GB/s are of the bytes
    that XLA counts in ours after it. The ratio is of medians.
    """
    row, found = result.row, result.contestants
    head = f"| {row.task} | {row.network} | {row.precision} | {'x'.join(map(str, row.size))} |"
    if not found:
        return [f"{head} {result.status} |{' |' * 9}"]
    medians = {peer: statistics.median(facts["step_s"]) for peer, facts in found.items() if facts["step_s"]}
    ours = found.get(PEERS[0], {})
    peers = [seconds for peer, seconds in medians.items() if peer != PEERS[0]]
    lines = []
    for peer, facts in found.items():
        if peer not in medians:
            lines.append(f"{head} {peer}: {facts.get('failure', 'no steps')} |{' |' * 9}")
            continue
        seconds = medians[peer]
        cells = [peer, f"{row.size[0] / seconds:.1f}", f"{1e3 * seconds:.2f}"]
        cells.append(f"{1e3 * min(facts['step_s']):.2f}, {1e3 * max(facts['step_s']):.2f}")
        cells.append(f"{min(peers) / seconds:.2f}" if peer == PEERS[0] and peers else "")
        rate, peak = ours.get("flops", 0) / seconds, device.get(f"matmul {row.precision}, TFLOP/s")
        cells += [f"{rate / 1e12:.1f}", f"{rate / 1e12 / peak:.1%}"] if rate and peak else ["", ""]
        traffic, copy = ours.get("bytes", 0) / seconds / 1e9, device.get("copy, GB/s")
        shown = peer == PEERS[0] and traffic and copy
        cells += [f"{traffic:.0f}", f"{traffic / copy:.0%}"] if shown else ["", ""]
        cells.append(f"{facts['first_s']:.1f}")
        lines.append(f"{head} {' | '.join(cells)} |")
    return lines


def describe(result: Measured) -> str:
    """Return a line for the terminal."""
    row = result.row
    medians = {
        peer: f"{row.size[0] / statistics.median(facts['step_s']):.1f} images/s" if facts["step_s"] else "no result"
        for peer, facts in result.contestants.items()
    }
    return f"{row.task} {row.network} {row.precision}: {result.status}, {result.seconds} s, {medians}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of this script and of its processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmark_gpu"), help="folder for results (%(default)s)")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything (%(default)g)")
    parser.add_argument("--task", choices=("train", "restore"), help="only rows of this task")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="only rows of these networks")
    parser.add_argument("--no_compile", action="store_true", help="without torch.compile")
    parser.add_argument("--tiny", action="store_true", help="small sizes on the CPU, to test this script")
    parser.add_argument("--contestant", nargs=7, help=argparse.SUPPRESS)
    parser.add_argument("--device", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(command_line: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = build_parser().parse_args(command_line)
    if options.contestant or options.device:
        import benchmark_gpu_peers

        networks = TINY_NETWORKS if options.tiny else NETWORKS
        if options.device:
            benchmark_gpu_peers.measure_device(tiny=options.tiny)
        else:
            benchmark_gpu_peers.contend(options.contestant, networks, round_s=0.0 if options.tiny else ROUND_S)
        return 0
    deadline = time.monotonic() + options.budget
    if not options.tiny:
        from gpu_check import has_cuda

        if not has_cuda():
            print("No CUDA device: nothing was measured. --tiny checks this script on the CPU.", file=sys.stderr)
            return 2
    peers = [peer for peer in PEERS if not (options.no_compile and peer == "PyTorch compile")]
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its contestants are left out.")
        peers = [PEERS[0]]
    rows = [
        row
        for row in (TINY_ROWS if options.tiny else ROWS)
        if options.task in (None, row.task) and (not options.networks or row.network in options.networks)
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, exit_on_signal)
    benchmark = Benchmark(rows, options.output, tiny=options.tiny, peers=peers, deadline=deadline)
    with tempfile.TemporaryDirectory() as programs:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", programs)
        benchmark.run()
    print(f"\n{benchmark.as_markdown()}")
    return benchmark.exit_status()


if __name__ == "__main__":
    sys.exit(main())
