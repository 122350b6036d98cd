"""Reads TensorBoard's event files by the definition of the format."""

from collections.abc import Iterator
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def read_events(folder: Path) -> Iterator[Event]:
    """Yield the events of all files: each is length, checksum, message, checksum."""
    for path in sorted(folder.glob("events.*")):
        content, offset = path.read_bytes(), 0
        while offset < len(content):
            length = int.from_bytes(content[offset : offset + 8], "little")
            message = content[offset + 12 : offset + 12 + length]
            checksum = int.from_bytes(content[offset + 12 + length : offset + 16 + length], "little")
            assert checksum == masked_crc32c(message)
            yield Event.FromString(message)
            offset += 16 + length
