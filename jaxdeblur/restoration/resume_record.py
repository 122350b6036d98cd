"""Which results are done already, and which files must not be overwritten.

A folder of results contains `restored.jsonl`: one line per result, appended just before the result gets its final name,
with the source, the settings and fingerprints of both files. A rerun uses it to resume, and to tell results from other
files, which it never overwrites.
"""

import dataclasses
import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import FileFingerprint
from jaxdeblur.restoration.jobs import Job

RECORD = "restored.jsonl"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a record.

    Attributes:
        source: path of the photo or video.
        settings: everything that determines the result's content.
        source_fingerprint: of the source when it was read.
        result_fingerprint: of the complete result.
    """

    source: str
    settings: dict[str, Any]
    source_fingerprint: FileFingerprint
    result_fingerprint: FileFingerprint

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> "Entry":
        """Return the entry that a line states.

        Raises:
            KeyError, TypeError, ValueError: the line is not one of `to_json`.
        """
        fingerprints = (FileFingerprint.from_json(line[key]) for key in ("photograph_stamp", "result_stamp"))
        return cls(line["photograph"], line["settings"], *fingerprints)

    def to_json(self, result: str) -> dict[str, Any]:
        """Return the line for a result, which is named relative to its folder."""
        return {
            "result": result,
            "photograph": self.source,
            "settings": self.settings,
            "photograph_stamp": self.source_fingerprint.to_json(),
            "result_stamp": self.result_fingerprint.to_json(),
        }


def _read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last line for each result, by the result's name.

    Raises:
        OSError: there is no record, or it cannot be read.
    """
    lines = {}
    for line in path.read_bytes().splitlines():
        try:  # a full disk or a power cut may truncate a line
            content = json.loads(line)
            lines[content["result"]] = content
        except (ValueError, KeyError, TypeError):
            continue
    return lines


class KnownResults:
    """Recognises results of earlier commands by the records in the folders above them."""

    def __init__(self) -> None:
        self._names: dict[Path, frozenset[str]] = {}  # by folder, so each record is read once

    def folder_of(self, path: Path) -> Path | None:
        """Return the folder whose record lists this file as a result; None for any other file."""
        real = Path(os.path.realpath(path))
        for folder in real.parents:
            if folder not in self._names:
                try:
                    self._names[folder] = frozenset(_read_lines(folder / RECORD))
                except OSError:
                    self._names[folder] = frozenset()
            if self._names[folder] and real.relative_to(folder).as_posix() in self._names[folder]:
                return folder
        return None


class Record:
    """The record of a folder of results."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        """Read a folder's record, if it has one.

        Args:
            folder: of results.
            settings: everything that determines a result's content; results of other settings do not count as done.
        """
        self._folder, self._settings, self._lock = folder, dict(settings), threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._size_when_read = -1
        self._read()

    def _read(self) -> None:
        """Read the record unless its size is unchanged."""
        with suppress(FileNotFoundError):
            size = (self._folder / RECORD).stat().st_size
            if size != self._size_when_read:
                self._entries = {}
                for name, line in _read_lines(self._folder / RECORD).items():
                    with suppress(KeyError, TypeError, ValueError):  # a foreign line
                        self._entries[name] = Entry.from_json(line)
                self._size_when_read = size

    def add(self, job: Job, source: FileFingerprint, result: FileFingerprint) -> None:
        """Append a complete result that is about to get its final name."""
        name, path = self._name(job), self._folder / RECORD
        entry = Entry(str(job.source), self._settings, source, result)
        with self._lock, path.open("ab") as file:
            # Terminate a truncated line, so it does not corrupt this one.
            file.write(b"\n" * _needs_newline(path) + json.dumps(entry.to_json(name)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._entries[name] = entry

    def is_done(self, job: Job) -> bool:
        """Return whether the target is this job's result with these settings, and neither file has changed."""
        return job.target.exists() and not self.obstacle(job)

    def obstacle(self, job: Job) -> str:
        """Return why the file at the target is not this job's result; "" if it is, or if there is no file."""
        if not os.path.lexists(job.target):
            return ""
        if not self._lists_target(job):
            self._read()  # another command may be restoring the same files
            if not self._lists_target(job):
                return f"{job.target}: exists, and is not a result of this command"
        entry = self._entries[self._name(job)]
        if entry.source != str(job.source):
            return f"{job.target}: was restored from {entry.source}"
        if entry.settings != self._settings:
            changes = [
                f"{name} {entry.settings.get(name)!r}, not {value!r}"
                for name, value in self._settings.items()
                if entry.settings.get(name) != value
            ]
            return f"{job.target}: was restored with other settings ({', '.join(changes)})"
        if not entry.source_fingerprint.matches(job.source):
            return f"{job.target}: was restored before {job.source} changed"
        return ""

    def _lists_target(self, job: Job) -> bool:
        entry = self._entries.get(self._name(job))
        return entry is not None and entry.result_fingerprint.matches(job.target)

    def _name(self, job: Job) -> str:
        return job.target.relative_to(self._folder).as_posix()


def _needs_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def check_targets(jobs: Sequence[Job], record: Record, *, overwrite: bool) -> None:
    """Refuse jobs that would overwrite a source file, or a file that is not the job's own result.

    Raises:
        InputError: lists all of them ("target-is-source" or "target-exists").
    """
    sources = {os.path.realpath(job.source) for job in jobs}
    clashes = [f"{job.target}: is one of the inputs" for job in jobs if os.path.realpath(job.target) in sources]
    if clashes:
        raise InputError(
            list_problems("Input files are never overwritten:", clashes, "Choose another --output."),
            code="target-is-source",
        )
    obstacles = [obstacle for job in jobs if (obstacle := record.obstacle(job))]
    if obstacles and not overwrite:
        remedy = "Choose another --output, or add --overwrite to overwrite them."
        raise InputError(list_problems("These files would be overwritten:", obstacles, remedy), code="target-exists")
