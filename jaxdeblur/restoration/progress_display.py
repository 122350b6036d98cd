"""Shows progress, throughput and time left while photos or videos are restored."""

import time

from jaxdeblur.console import ProgressBar

BAR_SECONDS = 0.1  # between updates of the bar
LINE_SECONDS = 10.0  # between lines if standard error is not a terminal


class ProgressDisplay:
    """A progress bar on a terminal, otherwise a line from time to time."""

    def __init__(self, total: int, done: int, *, items: str, unit: str):
        """Start the clock.

        Args:
            total: number of items; 0 if unknown.
            done: items completed by earlier commands; they do not count towards the throughput.
            items: what is counted, such as "photos".
            unit: of throughput, such as "MP" for megapixels.
        """
        self._total, self._completed, self._items, self._unit = total, done, items, unit
        self._remaining, self._processed, self._work = total - done, 0.0, 0.0
        self._bar = ProgressBar(total, done, items)
        self._start = self._shown = time.monotonic()

    def add_work(self, items: float, work: float) -> None:
        """Count work done by the network: items (fractions allowed), and work in the unit of throughput."""
        self._processed += items
        self._work += work

    def complete(self, items: int) -> None:
        """Count items as completed, or failed."""
        self._completed += items
        self._bar.advance(items)

    def update(self) -> None:
        """Show the current state if the last one is old enough."""
        now = time.monotonic()
        if now - self._shown <= (BAR_SECONDS if self._bar.on_terminal else LINE_SECONDS):
            return
        self._shown = now
        rate = f"{self.throughput:.2f} {self._unit}/s"
        seconds_left = (now - self._start) * max(self._remaining - self._processed, 0) / max(self._processed, 1e-9)
        counts = "" if self._bar.on_terminal else f"{self._completed}/{self._total or '?'} {self._items}, "
        self._bar.show(counts + rate, seconds_left)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    @property
    def throughput(self) -> float:
        """Work per second since the start."""
        return self._work / max(time.monotonic() - self._start, 1e-9)
