"""Overlapping I/O with computation: read one item ahead, write one item behind, each in one thread."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def read_ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """Iterate over items, which must not be None, computing the next one in a thread while one is in use.

    On exit, waits for the item being computed.
    """

    def iterate(thread: ThreadPoolExecutor) -> Iterator[T]:
        following: Future[T | None] = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item
            del item  # frees its memory while the next one is awaited

    with ThreadPoolExecutor(1, "read-ahead") as thread:
        yield iterate(thread)


@contextmanager
def write_behind(write: Callable[[T], object]) -> Iterator[Callable[[T], None]]:
    """Yield a function that runs `write` in a thread, one call at a time.

    Each call waits for the previous one and raises its error; so does the end of the context, unless it ends with
    another error.
    """
    with ThreadPoolExecutor(1, "write-behind") as thread:
        previous: Future[object] | None = None

        def submit(item: T) -> None:
            nonlocal previous
            if previous:
                previous.result()
            previous = thread.submit(write, item)

        yield submit
        if previous:
            previous.result()
