"""Segments of a video that is being restored, kept next to where the result goes until it is complete.

They lie in a hidden folder whose name follows from the result's. `job.json` in it says what was restored and how, so
that segments of another source, other weights or other settings are never joined to new ones. Each segment is one
`.safetensors` file, which gets its name only once it is on disk.
"""

import dataclasses
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import atomic_write, read_json, write_json
from jaxdeblur.restoration.resume_record import Stamp, stamp_of
from jaxdeblur.restoration.video.encoding import Segment

_JOB = "job.json"


@dataclasses.dataclass(frozen=True)
class SegmentStore:
    """The folder of a result's segments.

    Attributes:
        folder: it exists.
    """

    folder: Path

    def frame_counts(self) -> list[int]:
        """Return how many frames each segment holds, up to the first that is missing or damaged."""
        counts = []
        while True:
            try:
                with safe_open(self._path(len(counts)), framework="numpy") as file:
                    counts.append(len(file.get_tensor("times")))
            except (OSError, SafetensorError):
                return counts

    def save(self, number: int, segment: Segment) -> None:
        """Write a segment in one piece.

        Raises:
            OSError: it cannot be written.
        """
        arrays = {
            "times": segment.times,
            "places": segment.places,
            "keyframes": segment.keyframes,
            "sizes": np.array([len(packet) for packet in segment.packets], np.int64),
            "packets": np.frombuffer(b"".join(segment.packets), np.uint8),
        }
        with atomic_write(self._path(number)) as temporary:
            temporary.write_bytes(save(arrays))

    def timing(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `times` and `places` of a segment."""
        with safe_open(self._path(number), framework="numpy") as file:
            return file.get_tensor("times"), file.get_tensor("places")

    def load(self, number: int) -> Segment:
        """Return a segment."""
        with safe_open(self._path(number), framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        ends = np.cumsum(arrays["sizes"]).tolist()
        data = arrays["packets"].tobytes()
        packets = [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return Segment(arrays["times"], packets, arrays["places"], arrays["keyframes"])

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"


def progress_folder(target: Path) -> Path:
    """Return where the segments of a result are kept; its name is short however long the result's is."""
    return target.with_name(f".restoring-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}")


@contextmanager
def open_progress(
    source: Path, target: Path, settings: Mapping[str, Any], *, overwrite: bool
) -> Iterator[SegmentStore]:
    """Open the segments of a result, locked against other processes; a crash releases the lock.

    On exit the folder stays, unless it was removed or holds no segment.

    Args:
        source: the video that is restored.
        target: the result's path.
        settings: all that decides what a segment holds besides the source; values that JSON keeps.
        overwrite: discard segments of another source or other settings.

    Raises:
        InputError: another process is restoring to the same path ("video-busy"), or there are segments of another
            source or other settings ("video-progress-differs").
        OSError: the folder cannot be written.
    """
    folder = progress_folder(target)
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"--output {target}: another process is writing it. Wait for it, or choose another --output.",
                code="video-busy",
            ) from error
        try:
            _prepare(folder, source, target, settings, overwrite)
            yield SegmentStore(folder)
        finally:
            if folder.exists() and not any(folder.glob("*.safetensors")):
                shutil.rmtree(folder)


def _prepare(folder: Path, source: Path, target: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Note in the folder what is restored and how; refuse or discard segments of something else."""
    differences = _differences(folder, source, settings)
    if differences and not overwrite:
        raise InputError(
            list_problems(
                f"--output {target}: an earlier command got part of the way ({folder}), but differs:",
                differences,
                "Run that command again to resume it, or add --overwrite to discard what it restored.",
            ),
            code="video-progress-differs",
        )
    if differences or not (folder / _JOB).exists():
        for path in folder.glob("*.safetensors"):
            path.unlink()
        write_json(folder / _JOB, {"settings": dict(settings), "source": dataclasses.astuple(stamp_of(source))})


def _differences(folder: Path, source: Path, settings: Mapping[str, Any]) -> list[str]:
    """Return in what the job of a folder differs from the one that is asked for; nothing if the folder has none."""
    if not (folder / _JOB).exists():
        return []
    try:
        job = read_json(folder / _JOB)
        stamp, found = Stamp(*job["source"]), dict(job["settings"])
    except (InputError, KeyError, TypeError, ValueError):
        return [f"{folder / _JOB} is damaged"]
    names = sorted(settings.keys() | found.keys())
    differences = [
        f"{name}: {found.get(name)!r}, now {settings.get(name)!r}"
        for name in names
        if found.get(name) != settings.get(name)
    ]
    if not stamp.fits(source):
        differences.append(f"{source}: is another video, or has changed")
    return differences
