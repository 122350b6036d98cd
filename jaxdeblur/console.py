"""Terminal interaction: messages, the progress bar and Ctrl-C."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tqdm import tqdm

_enabled = True


def silence() -> None:
    """Suppress messages and bars, as in all processes of a run but the first; errors are still printed."""
    global _enabled
    _enabled = False


class StopRequest:
    """Flag that becomes and stays true when the user asks the run to stop."""

    def __init__(self) -> None:
        self.received_at: float | None = None

    def __bool__(self) -> bool:
        return self.received_at is not None


@contextmanager
def stop_on_signal(after: str = "this step", resume_point: str = "from the last checkpoint") -> Iterator[StopRequest]:
    """Turn SIGINT (Ctrl-C) or SIGTERM into a stop request; a second signal exits immediately with status 130.

    A signal within a second of the first is ignored: a double tap, or a shell that signals the whole process group.

    Args:
        after: what is finished before stopping, as the message names it.
        resume_point: where the same command resumes after an immediate exit, as the message names it.
    """
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        # Async-signal-safe calls only: the process may be in the middle of printing or saving.
        if request.received_at is None:
            request.received_at = time.monotonic()
            _write_to_terminal(f"Stopping after {after}; press Ctrl-C again to stop immediately.\n")
        elif time.monotonic() - request.received_at > 1.0:
            _write_to_terminal(f"Stopped. The same command resumes {resume_point}.\n")
            os._exit(130)

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _write_to_terminal(text: str) -> None:
    # stderr may be closed: Ctrl-C also kills a `tee` that the run is piped into.
    with suppress(OSError):
        os.write(2, text.encode())


class ProgressBar:
    """Progress bar in images (or `unit`s) with the time left; plain lines where stderr is not a terminal."""

    def __init__(self, total_images: int, done_images: int, unit: str = "images"):
        self.on_terminal = sys.stderr.isatty() and _enabled
        self._bar = tqdm(
            total=total_images,
            initial=done_images,
            # Without tqdm's rate, which includes compilation and validation.
            bar_format=f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} {unit} [{{elapsed}}<{{remaining}}{{postfix}}]",
            dynamic_ncols=True,
            disable=not self.on_terminal,
        )

    def advance(self, images: int) -> None:
        """Advance by a number of images."""
        self._bar.update(images)

    def show(self, text: str, seconds_left: float) -> None:
        """Show `text` next to the bar, or print it as a line."""
        if self.on_terminal:
            self._bar.set_postfix_str(text)
        else:
            minutes, seconds = divmod(round(seconds_left), 60)
            say(f"{text}, {minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")

    def close(self) -> None:
        """Stop updating the bar and leave it on screen."""
        self._bar.close()


def say(text: str) -> None:
    """Print a line to stderr, above the bar if there is one."""
    if not _enabled:
        return
    with suppress(OSError):  # stderr may be closed; that must not end the run
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


@contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, so that incomplete output is removed as after Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
