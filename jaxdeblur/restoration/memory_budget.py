"""Limits how many megapixels a pipeline holds in memory at once."""

import threading


class MemoryBudget:
    """A semaphore weighted by megapixels. As a context manager, it closes on exit."""

    def __init__(self, megapixels: float):
        self._total, self._closed = megapixels, False
        self._held: list[float] = []
        self._changed = threading.Condition()

    def __enter__(self) -> "MemoryBudget":
        return self

    def __exit__(self, *details: object) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def acquire(self, megapixels: float) -> bool:
        """Wait until there is room, or nothing else is held; return False if the budget is closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._held or sum(self._held) + megapixels <= self._total
            )
            if not self._closed:
                self._held.append(megapixels)
            return not self._closed

    def release(self, megapixels: float) -> None:
        """Give back what `acquire` was called with."""
        with self._changed:
            self._held.remove(megapixels)
            self._changed.notify_all()
