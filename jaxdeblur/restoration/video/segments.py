"""Finished segments of a video in progress, stored next to the result until it is complete.

They are in a hidden folder named after the result. Its `job.json` states the source and the settings, so segments of
another source, other weights or other settings are never mixed. Each segment is one `.safetensors` file, written
atomically.
"""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import FileFingerprint, atomic_write, exclusive_lock, read_json, write_json
from jaxdeblur.restoration.video.encoding import Segment

_JOB = "job.json"
_DISPLAY_INDICES = "places"  # the tensor's name in the file


@dataclasses.dataclass(frozen=True)
class SegmentStore:
    """The existing folder of a result's segments."""

    folder: Path

    def frame_counts(self) -> list[int]:
        """Return the number of frames of each segment, up to the first that is missing or corrupt."""
        counts: list[int] = []
        while True:
            try:
                with safe_open(self._path(len(counts)), framework="numpy") as file:
                    counts.append(len(file.get_tensor("times")))
            except (OSError, SafetensorError):
                return counts

    def save(self, number: int, segment: Segment) -> None:
        """Write a segment atomically.

        Raises:
            OSError: it cannot be written.
        """
        arrays = {
            "times": segment.times,
            _DISPLAY_INDICES: segment.display_indices,
            "keyframes": segment.keyframes,
            "sizes": np.array([len(packet) for packet in segment.packets], np.int64),
            "packets": np.frombuffer(b"".join(segment.packets), np.uint8),
        }
        with atomic_write(self._path(number)) as temporary:
            temporary.write_bytes(save(arrays))

    def load_timing(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `times` and `display_indices` of a segment."""
        with safe_open(self._path(number), framework="numpy") as file:
            return file.get_tensor("times"), file.get_tensor(_DISPLAY_INDICES)

    def load(self, number: int) -> Segment:
        """Return a segment."""
        with safe_open(self._path(number), framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        ends = np.cumsum(arrays["sizes"]).tolist()
        data = arrays["packets"].tobytes()
        packets = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return Segment(arrays["times"], packets, arrays[_DISPLAY_INDICES], arrays["keyframes"])

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def progress_folder(target: Path) -> Path:
    """Return the folder of a result's segments; its name is short even if the result's is long."""
    return target.with_name(f".restoring-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}")


@contextmanager
def open_progress(
    source: Path, target: Path, settings: Mapping[str, str], *, overwrite: bool
) -> Iterator[SegmentStore]:
    """Open the segments of a result, locked against other processes; a crash releases the lock.

    On exit the folder is kept unless it contains no segment.

    Args:
        source: the video.
        target: the result.
        settings: everything besides the source that determines a segment's content.
        overwrite: discard segments of another source or other settings.

    Raises:
        InputError: another process is restoring to the same target ("video-busy"), or there are segments of another
            source or other settings ("video-progress-differs").
        OSError: the folder cannot be written.
    """
    folder = progress_folder(target)
    folder.mkdir(exist_ok=True)
    lock = folder / "lock"
    lock.touch()
    busy = InputError(
        f"--output {target}: another process is writing it. Wait for it, or choose another --output.", code="video-busy"
    )
    with exclusive_lock(lock, busy):
        try:
            _prepare(folder, source, target, settings, overwrite)
            yield SegmentStore(folder)
        finally:
            if folder.exists() and not any(folder.glob("*.safetensors")):
                shutil.rmtree(folder)


def _prepare(folder: Path, source: Path, target: Path, settings: Mapping[str, str], overwrite: bool) -> None:
    """Write the folder's `job.json`; refuse or discard segments of another job."""
    differences = _differences(folder, source, settings)
    if differences and not overwrite:
        raise InputError(
            list_problems(
                f"--output {target}: a partial result of an earlier command ({folder}) differs:",
                differences,
                "Run that command again to resume it, or add --overwrite to discard its result.",
            ),
            code="video-progress-differs",
        )
    if differences or not (folder / _JOB).exists():
        for path in folder.glob("*.safetensors"):
            path.unlink()
        write_json(folder / _JOB, {"settings": dict(settings), "source": FileFingerprint.of(source).to_json()})


def _differences(folder: Path, source: Path, settings: Mapping[str, str]) -> list[str]:
    """Return how a folder's job differs from the requested one; an empty list if they agree or it has none."""
    if not (folder / _JOB).exists():
        return []
    try:
        job = read_json(folder / _JOB)
        fingerprint, earlier = FileFingerprint.from_json(job["source"]), dict(job["settings"])
    except (InputError, KeyError, TypeError, ValueError):
        return [f"{folder / _JOB} is corrupt"]
    differences = [
        f"{name}: {earlier.get(name)!r}, now {settings.get(name)!r}"
        for name in sorted(settings.keys() | earlier.keys())
        if earlier.get(name) != settings.get(name)
    ]
    if not fingerprint.matches(source):
        differences.append(f"{source}: is another video, or has changed")
    return differences
