"""What a person at the terminal sees and does: a progress bar, and Ctrl-C."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tqdm import tqdm

_listening = True


def silence() -> None:
    """Print neither lines nor bars from now on, as in all processes of a run but one; errors are still printed."""
    global _listening
    _listening = False


class StopRequest:
    """Becomes true, and stays so, when the user asks the run to stop."""

    def __init__(self) -> None:
        self.received_at: float | None = None

    def __bool__(self) -> bool:
        return self.received_at is not None


@contextmanager
def stop_on_signal(after: str = "this step", goes_on: str = "from the last checkpoint") -> Iterator[StopRequest]:
    """Turn SIGINT (Ctrl-C) or SIGTERM into a request to stop; a later one ends the process at once, with status 130.

    One that follows within a second counts as the same: a double tap, or a shell that signals the whole group.

    Args:
        after: what is finished first, in the words for the user.
        goes_on: from where the same command goes on after a process that was ended at once.
    """
    request = StopRequest()

    def receive(number: int, frame: FrameType | None) -> None:
        del number, frame
        # Only what is safe inside a handler: the process may be in the middle of printing or saving.
        if request.received_at is None:
            request.received_at = time.monotonic()
            _write_to_terminal(f"Stopping after {after}; once more to stop at once.\n")
        elif time.monotonic() - request.received_at > 1.0:
            _write_to_terminal(f"Stopped. The same command goes on {goes_on}.\n")
            os._exit(130)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _write_to_terminal(text: str) -> None:
    # Ctrl-C also ends the `tee` that a run may be piped into.
    with suppress(OSError):
        os.write(2, text.encode())


class ProgressBar:
    """A bar of images (or what `unit` says) and time left on a terminal; plain lines where standard error is none."""

    def __init__(self, total_images: int, done_images: int, unit: str = "images"):
        self.on_terminal = sys.stderr.isatty() and _listening
        self._bar = tqdm(
            total=total_images,
            initial=done_images,
            # Without tqdm's own rate, which counts compiling and validation in.
            bar_format=f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} {unit} [{{elapsed}}<{{remaining}}{{postfix}}]",
            dynamic_ncols=True,
            disable=not self.on_terminal,
        )

    def advance(self, images: int) -> None:
        """Count images as done."""
        self._bar.update(images)

    def show(self, text: str, seconds_left: float) -> None:
        """Put `text` beside the bar, or print it as a line."""
        if self.on_terminal:
            self._bar.set_postfix_str(text)
        else:
            minutes, seconds = divmod(round(seconds_left), 60)
            say(f"{text}, {minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def say(text: str) -> None:
    """Print a line to standard error, above the bar if there is one."""
    if not _listening:
        return
    with suppress(OSError):  # nobody may be listening any more; that is no reason to lose work
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()
