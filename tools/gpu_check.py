"""Check on a GPU that this project computes there what it computes on the CPU. Under 4 minutes.

    python tools/gpu_check.py --output gpu_check
    python tools/gpu_check.py --tiny --output /tmp/check    # small sizes on the CPU: checks this script

Runs with the Python that starts it, on the first CUDA device, and writes gpu_check.json and gpu_check.md to --output
after every check.

Time: checks are taken from one list, most important first, by --lanes processes that share the GPU and the CPU cores,
since nearly all of the time is compilation. Each check has its own limit; at its end, or if the process dies, the check
is recorded as failed and the lane continues with the next one in a new process. What allocates memory to its limit runs
last and alone. At --budget seconds everything that is left is stopped and recorded as skipped.

Exit status: 0: all passed; 1: something failed; 2: no CUDA device; 3: nothing failed, but checks were skipped.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from json_process import JsonProcess, exit_on_signal

BUDGET_S = 225.0
START_LIMIT_S = 60.0  # for a process to import JAX and find the device
TINY_LIMITS = 20.0  # factor of all limits with --tiny: they are meant for a GPU and an idle machine
NETWORKS = ("nafnet-32", "shipped", "transformnet", "resnetencdec", "unet", "msresnet")
STATUSES = ("passed", "failed", "timed out", "crashed", "skipped")


@dataclass(frozen=True)
class Task:
    """A check of a network.

    Attributes:
        check: a key of `gpu_check_items.CHECKS`.
        limit_s: seconds it may take.
        fresh: it needs a process in which nothing ran before, because it reads the process's peak memory.
        alone: it needs the whole device.
    """

    check: str
    network: str
    limit_s: float
    fresh: bool = False
    alone: bool = False


@dataclass
class Result:
    """What became of a task: a status of `STATUSES`, its rows, and the reason if it did not pass."""

    task: Task
    status: str = "skipped"
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    reason: str = "no time left"


def plan(networks: Sequence[str] = NETWORKS) -> list[Task]:
    """Return the tasks, most important first; the longest ones, of the published NAFNet, thereby start first."""
    tasks = [Task("device", "", 60)]
    for name in networks:
        tasks += [Task("training", name, 120, fresh=True), Task("outputs", name, 150)]
    tasks += [Task("restoring", "shipped" if "shipped" in networks else "transformnet", 60)]
    tasks += [Task("frozen encoder", "resnetencdec", 60), Task("tiles", "transformnet", 60)]
    tasks += [Task("resume", name, 60) for name in networks]
    tasks += [Task("export", name, 60) for name in networks]
    return tasks + [Task("largest batch", name, 60, fresh=True, alone=True) for name in networks]


class Worker:
    """A process that runs checks one after another and returns their rows as they are measured."""

    def __init__(self, *, tiny: bool, log: Path, alone: bool):
        # Processes share the device, so none may reserve most of its memory, except the one that runs alone.
        environment = {
            "XLA_PYTHON_CLIENT_PREALLOCATE": "true" if alone else "false",
            "JAX_PLATFORMS": "cpu" if tiny else "cuda,cpu",  # the reference is computed on the CPU
        }
        command = [str(Path(__file__).resolve()), "--worker", *(["--tiny"] if tiny else [])]
        self._process = JsonProcess(command, environment, log)
        self.used = False

    def receive(self, until: float) -> dict[str, Any]:
        """Return the next message; see `JsonProcess.receive`."""
        return self._process.receive(until)

    def run(self, task: Task, rows: list[dict[str, Any]], until: float) -> str:
        """Run a check, appending its rows; return the reason why it failed, or "".

        Raises:
            TimeoutError: it was not done in time.
            EOFError: the process ended.
        """
        self.used = True
        self._process.send(json.dumps([task.check, task.network]))
        while "end" not in (message := self.receive(until)):
            rows.append(message)
        failed = [row["item"] for row in rows if not row["passed"]]
        return message["end"] or (f"out of bounds: {'; '.join(failed)}" if failed else "")

    def close(self) -> None:
        """Kill the process, whatever it is doing."""
        self._process.close()


class Session:
    """Runs the tasks in lanes, within the budget, and writes the results after each."""

    def __init__(self, tasks: Sequence[Task], output: Path, *, tiny: bool, deadline: float):
        self.results = [Result(task) for task in tasks]
        self.started = time.monotonic()
        self._output, self._tiny, self._deadline = output, tiny, deadline
        self._patience = TINY_LIMITS if tiny else 1.0
        self._lock = threading.Lock()
        self.device = ""

    def run(self, lanes: int) -> None:
        """Run what shares the device, then what needs it alone."""
        waiting: queue.SimpleQueue[Result] = queue.SimpleQueue()
        for result in self.results:
            if not result.task.alone:
                waiting.put(result)
        threads = [threading.Thread(target=self._lane, args=(waiting, lane)) for lane in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        last: queue.SimpleQueue[Result] = queue.SimpleQueue()
        for result in self.results:
            if result.task.alone:
                last.put(result)
        self._lane(last, lanes)

    def _lane(self, waiting: "queue.SimpleQueue[Result]", lane: int) -> None:
        worker: Worker | None = None
        try:
            while time.monotonic() < self._deadline:
                try:
                    result = waiting.get_nowait()
                except queue.Empty:
                    return
                if worker and result.task.fresh and worker.used:
                    worker.close()
                    worker = None
                worker = self._run_one(result, worker, lane)
        finally:
            if worker:
                worker.close()

    def _run_one(self, result: Result, worker: Worker | None, lane: int) -> Worker | None:
        """Run a task; return the process for the next one, None if it had to be ended."""
        start = time.monotonic()
        try:
            if worker is None:
                log = self._output / f"worker{lane}.log"
                worker = Worker(tiny=self._tiny, log=log, alone=result.task.alone)
                self.device = worker.receive(min(start + START_LIMIT_S * self._patience, self._deadline))["device"]
            until = min(time.monotonic() + result.task.limit_s * self._patience, self._deadline)
            result.reason = worker.run(result.task, result.rows, until)
            result.status = "failed" if result.reason else "passed"
        except TimeoutError:
            late = time.monotonic() >= self._deadline
            # Where the last check was stopped by the budget, what it measured is kept and nothing is blamed on it.
            result.status = "skipped" if late else "timed out"
            result.reason = "no time left" if late else f"limit: {result.task.limit_s:g} s"
        except EOFError as error:
            result.status, result.reason = "crashed", str(error)
        result.seconds = round(time.monotonic() - start, 1)
        if result.status not in ("passed", "failed") and worker:
            worker.close()
            worker = None
        self.write()
        print(f"{result.task.check} {result.task.network}: {result.status}, {result.seconds} s {result.reason}")
        sys.stdout.flush()
        return worker

    def write(self) -> None:
        """Write gpu_check.json and gpu_check.md, each in one piece."""
        with self._lock:
            tables = {"json": json.dumps(self.as_json(), indent=1), "md": self.as_markdown()}
            for suffix, text in tables.items():
                temporary = self._output / f"gpu_check.{suffix}.tmp"
                temporary.write_text(text)
                temporary.replace(self._output / f"gpu_check.{suffix}")

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured."""
        return {
            "device": self.device,
            "tiny": self._tiny,
            "seconds": round(time.monotonic() - self.started, 1),
            "counts": {status: sum(r.status == status for r in self.results) for status in STATUSES},
            "checks": [
                {
                    "check": r.task.check,
                    "network": r.task.network,
                    "status": r.status,
                    "seconds": r.seconds,
                    "reason": r.reason,
                    "rows": r.rows,
                }
                for r in self.results
            ],
        }

    def as_markdown(self) -> str:
        """Return a table with a row per measurement, and one per check without any."""
        lines = [f"{self.device}{', tiny sizes: no measurement of a device' if self._tiny else ''}", ""]
        lines += ["| check | network | measured | value | bound | |", "| --- | --- | --- | ---: | ---: | --- |"]
        for result in self.results:
            head = f"| {result.task.check} | {result.task.network} |"
            for row in result.rows:
                value = f"{row['value']:.3g}" if isinstance(row["value"], float) else row["value"]
                bound = "" if row["bound"] is None else f"{row['bound']:g}"
                status = "" if row["bound"] is None else "passed" if row["passed"] else "**failed**"
                lines.append(f"{head} {row['item']} | {value} {row['unit']} | {bound} | {status} |")
            if result.status != "passed":
                lines.append(f"{head} | | | **{result.status}**: {result.reason} |")
        return "\n".join(lines) + "\n"

    def exit_status(self) -> int:
        """Return 0, 1 or 3, as the module says."""
        statuses = {result.status for result in self.results}
        return 1 if statuses - {"passed", "skipped"} else 3 if "skipped" in statuses else 0


def work(*, tiny: bool) -> None:
    """Run the checks that standard input names, until it ends; the worker's side."""
    messages = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries that print do not disturb the messages

    def send(message: dict[str, Any]) -> None:
        messages.write(json.dumps(message) + "\n")

    import jax
    from gpu_check_items import CHECKS, FULL, TINY, Bench

    bench = Bench(TINY if tiny else FULL)
    send({"device": f"{bench.device.device_kind}, JAX {jax.__version__}"})
    for line in sys.stdin:
        check, network = json.loads(line)
        try:
            for row in CHECKS[check](bench, network):
                send({"item": row.item, "value": row.value, "bound": row.bound, "unit": row.unit, "passed": row.passed})
            send({"end": ""})
        except Exception as error:  # a check must not end the others
            print(f"{check} {network}:", file=sys.stderr)
            sys.excepthook(type(error), error, error.__traceback__)
            send({"end": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"})
        jax.clear_caches()  # programs hold device memory


def has_cuda() -> bool:
    """Return whether JAX finds a CUDA device, asked in another process: this one holds no device."""
    code = "import jax; raise SystemExit(jax.devices()[0].platform != 'gpu')"
    try:
        return subprocess.run([sys.executable, "-c", code], timeout=START_LIMIT_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main(command_line: Sequence[str] | None = None) -> int:
    """Run the checks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu_check"), help="folder for the results (%(default)s)")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything (%(default)g)")
    parser.add_argument("--lanes", type=int, default=3, help="processes at a time (%(default)s)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="only these")
    parser.add_argument("--checks", nargs="+", help="only these, as: training 'frozen encoder'")
    parser.add_argument("--tiny", action="store_true", help="small networks on the CPU, to test this script")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(command_line)
    if options.worker:
        work(tiny=options.tiny)
        return 0
    deadline = time.monotonic() + options.budget
    if not options.tiny and not has_cuda():
        print("No CUDA device: nothing was checked. --tiny checks this script on the CPU.", file=sys.stderr)
        return 2
    networks = options.networks or [name for name in NETWORKS if not (options.tiny and name == "shipped")]
    tasks = [task for task in plan(networks) if not options.checks or task.check in options.checks]
    options.output.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, exit_on_signal)
    session = Session(tasks, options.output, tiny=options.tiny, deadline=deadline)
    session.run(options.lanes)
    session.write()
    print((options.output / "gpu_check.md").read_text())
    print(json.dumps(session.as_json()["counts"]), f"{session.as_json()['seconds']} s")
    return session.exit_status()


if __name__ == "__main__":
    sys.exit(main())
