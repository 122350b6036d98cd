"""Reads the next batch while the device computes."""

from collections.abc import Iterator

from jaxdeblur.data.pair_source import ImagePair
from jaxdeblur.errors import InputError


class Prefetcher:
    """Reads one batch ahead, so that reading overlaps with the device's work.

    A read error is kept in `error` instead of raised: all processes must learn of it before any of them ends.
    """

    def __init__(self, batches: Iterator[ImagePair]):
        self._batches = batches
        self.batch: ImagePair | None = None
        self.error: InputError | None = None
        self.advance()

    def take(self) -> ImagePair:
        """Return the batch that was read; it stays the current one until `advance`."""
        if self.batch is None:
            raise self.error or RuntimeError("no batch has been read")
        return self.batch

    def advance(self) -> None:
        """Read the next batch."""
        try:
            self.batch, self.error = next(self._batches), None
        except InputError as error:
            self.batch, self.error = None, error
