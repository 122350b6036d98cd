"""Benchmark jaxdeblur on this machine, and PyTorch if it is installed.

    python tools/benchmark.py train --json train.json
    python tools/benchmark.py restore --network transformnet
    python tools/benchmark.py data --data PATH/TO/GOPRO_Large

`train`, `restore`: seconds per step or batch, peak memory of the process, time to the first result and share of the
machine's peak, for both networks. `start`: time to the first result, and to that of a second start with a warm
compilation cache. Contestants alternate.
`growth`: ours only, time and memory against image size (256 to 2048), batch size (1 to 16) and steps.
`data`: pairs per second from stored images to batches, by every route, and the throughput of synthetic blur. PATH is a
folder in GOPRO_Large's layout, or a part of one, which is first prepared in all formats in the temporary folder (8 MB
per pair).

On a GPU, `benchmark_gpu.py` measures training and restoring.
"""

import argparse
import platform
import sys
from pathlib import Path

import benchmark_data
import benchmark_networks
import numpy as np
from benchmark_peer import NETWORKS

from jaxdeblur.data.gopro.archive import NUM_PAIRS
from jaxdeblur.errors import InputError
from jaxdeblur.files import write_json
from jaxdeblur.runs.environment import code_version
from jaxdeblur.runtime.optional_packages import require


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["train", "restore", "start", "growth", "data"])
    parser.add_argument("--network", choices=NETWORKS, help="except data: this network only")
    parser.add_argument("--no_compile", action="store_true", help="skip torch.compile, which takes minutes")
    parser.add_argument("--data", type=Path, help="data: folder in GOPRO_Large's layout")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="data: per measurement (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    return parser.parse_args()


def show_data(rows: list[dict]) -> str:
    """Return a Markdown table per task; ratios are to PyTorch's route in the same rounds."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        routes = [row for row in rows if row["task"] == task]
        peer = next((row["rates"] for row in routes if row["route"].startswith("PyTorch")), None)
        lines += ["", f"| {task} | pairs/s | lowest, highest | x PyTorch | GB for GOPRO_Large |"]
        lines += ["| --- | ---: | ---: | ---: | ---: |"]
        for row in routes:
            rates = row["rates"]
            ratio = f"{np.median(np.divide(rates, peer)):.1f}" if peer else ""
            size = row["bytes_per_pair"] * sum(NUM_PAIRS.values()) / 1e9
            spread = f"{min(rates):.0f}, {max(rates):.0f}"
            lines.append(f"| {row['route']} | {np.median(rates):.0f} | {spread} | {ratio} | {size:.1f} |")
    return "\n".join(lines[1:])


def show_synthetic_blur(rows: list[dict]) -> str:
    """Return a Markdown table."""
    lines = ["| synthetic blur, 31 instants, one core | megapixels/s | lowest, highest |", "| --- | ---: | ---: |"]
    for row in rows:
        rates = row["rates"]
        lines.append(f"| {row['kind']} | {np.median(rates):.1f} | {min(rates):.1f}, {max(rates):.1f} |")
    return "\n".join(lines)


def measure_networks(arguments: argparse.Namespace) -> tuple[str, dict]:
    """Return the tables, and the numbers for JSON."""
    part, rounds = arguments.part, arguments.rounds
    networks = [arguments.network] if arguments.network else NETWORKS
    if part == "growth":
        rows = benchmark_networks.run_growth(networks, rounds)
        return benchmark_networks.show_growth(rows), {part: rows}
    peers = benchmark_networks.choose_peers(compiled=not arguments.no_compile)
    if part == "start":
        rows = benchmark_networks.run_starts(networks, rounds, peers)
        return benchmark_networks.show_starts(rows), {part: rows}
    peak = benchmark_networks.measure_peak()
    rows = benchmark_networks.run(part, networks, rounds, peers)
    heading = f"{part}, float32; a product of large matrices: {peak / 1e9:.0f} GFLOP/s"
    return f"{heading}\n\n{benchmark_networks.show(rows, peak)}", {"peak_flops": peak, part: rows}


def measure_data(arguments: argparse.Namespace) -> tuple[str, dict]:
    """Return the tables, and the numbers for JSON.

    Raises:
        InputError: --data is not in that layout, or OpenCV is not installed.
    """
    if arguments.data is None or not (arguments.data / "train").is_dir():
        raise InputError(f"--data: {arguments.data} has no folder train; expected a folder in GOPRO_Large's layout.")
    require("cv2", "Benchmarking synthetic blur")  # before the measurements, which take minutes
    rows = benchmark_data.run(arguments.data, arguments.rounds, arguments.seconds)
    blur = benchmark_data.run_synthetic_blur(arguments.data, arguments.rounds)
    return f"{show_data(rows)}\n\n{show_synthetic_blur(blur)}", {"data": rows, "blur": blur}


def main() -> None:
    """Measure, print the tables, write the JSON."""
    arguments = parse_arguments()
    machine = f"{benchmark_data.CORES} cores, {platform.machine()}, Python {platform.python_version()}"
    tables, numbers = (measure_data if arguments.part == "data" else measure_networks)(arguments)
    print(f"jaxdeblur {code_version()} on {machine}; medians of {arguments.rounds} rounds\n\n{tables}")
    if arguments.json:
        write_json(arguments.json, {"machine": machine, "code_version": code_version(), **numbers})


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
