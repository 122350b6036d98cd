"""A process that answers in lines of JSON, with a time limit for each answer; for the GPU check and benchmark."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parent.parent


class JsonProcess:
    """A Python script in its own process group, which is killed as a whole: torch.compile starts further processes."""

    running: ClassVar[set[int]] = set()  # process groups

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path):
        """Start a script with its arguments; its standard error is appended to `log`."""
        shared = {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",  # used where JAX_COMPILATION_CACHE_DIR is set
        }
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **shared, **environment},
                start_new_session=True,
            )
        JsonProcess.running.add(self._process.pid)
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def send(self, line: str) -> None:
        """Send a line. If the process has ended, the next `receive` says so."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def receive(self, until: float) -> dict[str, Any]:
        """Return the next answer.

        Args:
            until: `time.monotonic()` at which to give up.

        Raises:
            TimeoutError: there was none.
            EOFError: the process ended.
        """
        try:
            line = self._lines.get(timeout=max(until - time.monotonic(), 0.0))
        except queue.Empty:
            raise TimeoutError("not ready within the time limit") from None
        if line is None:
            raise EOFError(f"the process ended with status {self._process.wait()}; see its log")
        return json.loads(line)

    def close(self) -> None:
        """Kill the process group, whatever it is doing."""
        _kill_group(self._process.pid)
        self._process.wait()
        JsonProcess.running.discard(self._process.pid)


def exit_on_signal(number: int, frame: FrameType | None) -> None:
    """Handle a signal: kill all processes and exit at once. What was measured is on disk."""
    del frame
    for group in JsonProcess.running.copy():
        _kill_group(group)
    os._exit(128 + number)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
