"""Which result belongs to which photograph, what is done already, and what must not be touched.

A folder of results holds `restored.jsonl`: one line for each result, written just before the result gets its name. It
says which photograph was restored and how. So a command that was stopped goes on where it was, and a file of another
origin is never taken for a result, nor replaced.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import shorten_name
from jaxdeblur.images.save import FILE_FORMATS, format_of_suffix

RECORD = "restored.jsonl"


@dataclasses.dataclass(frozen=True)
class Job:
    """One photograph to restore."""

    source: Path
    target: Path
    file_format: str


def plan_jobs(files: Sequence[Path], base: Path, output: Path, file_format: str | None) -> list[Job]:
    """Return which file each photograph is restored to; no two share one.

    A result lies in `output` as the photograph lies in `base`, and has its name and suffix, or the suffix of another
    format. Where two would have one name (a.jpg and a.png, both written as PNG), the one whose suffix changes is called
    by its whole name, a.jpg.png. Names that differ in case alone count as one: on some systems they are.

    Args:
        files: the photographs.
        base: a folder above all of them.
        output: the folder of results.
        file_format: a key of FILE_FORMATS, or None: that of the photograph, or PNG where that would lose something.
    """
    plans = []
    for path in files:
        kind = file_format or lossless_format(path)
        changed = path.suffix.lower() not in FILE_FORMATS[kind].suffixes
        plans.append((changed, path, output / path.relative_to(base), kind))
    jobs, taken = {}, set()
    for changed, path, place, kind in sorted(plans, key=lambda plan: plan[0]):  # those that keep their names first
        suffix = FILE_FORMATS[kind].suffixes[0]
        names = itertools.chain(
            [(place.name, "")] if not changed else [(place.stem, suffix), (place.name, suffix)],
            ((place.name, f".{number}{suffix}") for number in itertools.count(2)),
        )
        targets = (place.with_name(shorten_name(*name)) for name in names)
        target = next(target for target in targets if _plain(target) not in taken)
        taken.add(_plain(target))
        jobs[path] = Job(path, target, kind)
    return [jobs[path] for path in files]


def lossless_format(path: Path) -> str:
    """Return the format of a photograph's suffix, or PNG for one that loses something whenever it is written."""
    kind = format_of_suffix(path.suffix)
    return kind if kind and kind != "jpeg" else "png"


def _plain(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


@dataclasses.dataclass(frozen=True)
class Stamp:
    """What a file's content is told by: its size in bytes, when it was changed, in ns, and its SHA-256."""

    size: int
    changed: int
    sha256: str

    def fits(self, path: Path) -> bool:
        """Return whether a file has this content; one of the same size and time is not read."""
        try:
            found = path.stat()
            return found.st_size == self.size and (found.st_mtime_ns == self.changed or _sha256(path) == self.sha256)
        except OSError:
            return False


def stamp_of(path: Path) -> Stamp:
    """Return a file's stamp."""
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns, _sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_record(path: Path) -> dict[str, dict[str, Any]]:
    """Return what a record says, by the result's name.

    Raises:
        OSError: there is no record, or it cannot be read.
    """
    entries = {}
    for line in path.read_bytes().splitlines():
        try:  # a line that was cut short, by a full disk or a power cut, says nothing
            entry = json.loads(line)
            entries[entry["result"]] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return entries


class KnownResults:
    """The results of earlier commands, known by the records of the folders above them."""

    def __init__(self, record: str) -> None:
        """Look for records of this name."""
        self._record = record
        self._names: dict[Path, frozenset[str]] = {}  # by folder, so that each record is read once

    def folder_of(self, path: Path) -> Path | None:
        """Return the folder whose record lists this file as a result; None for any other file."""
        real = Path(os.path.realpath(path))
        for folder in real.parents:
            if folder not in self._names:
                try:
                    self._names[folder] = frozenset(_read_record(folder / self._record))
                except OSError:
                    self._names[folder] = frozenset()
            if self._names[folder] and real.relative_to(folder).as_posix() in self._names[folder]:
                return folder
        return None


class Record:
    """What a folder of results says of them."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        """Read the record of a folder, if it has one.

        Args:
            folder: of results.
            settings: all that decides what a result looks like; what was restored otherwise is not done.
        """
        self._folder, self._settings, self._lock = folder, dict(settings), threading.Lock()
        self._entries: dict[str, dict[str, Any]] = {}
        self._size = -1  # of the record when it was read, in bytes
        self._read()

    def _read(self) -> None:
        """Read the record, unless it is as it was."""
        with suppress(FileNotFoundError):
            size = (self._folder / RECORD).stat().st_size
            if size != self._size:
                entries = _read_record(self._folder / RECORD)
                self._entries = {name: entry for name, entry in entries.items() if _is_whole(entry)}
                self._size = size

    def add(self, job: Job, source: Stamp, result: Stamp) -> None:
        """Note a result that is complete and is about to get its name."""
        entry = {
            "result": self._name(job),
            "photograph": str(job.source),
            "settings": self._settings,
            "photograph_stamp": dataclasses.astuple(source),
            "result_stamp": dataclasses.astuple(result),
        }
        with self._lock, (self._folder / RECORD).open("ab") as file:
            # A line that was cut short is ended, so that it does not spoil this one.
            file.write(b"\n" * _needs_newline(self._folder / RECORD) + json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._entries[entry["result"]] = entry

    def is_done(self, job: Job) -> bool:
        """Return whether this photograph was restored to this file with these settings, and both are as they were."""
        return job.target.exists() and not self.obstacle(job)

    def obstacle(self, job: Job) -> str:
        """Return why the file that is there is not this job's result; nothing if it is, or if none is there."""
        if not os.path.lexists(job.target):
            return ""
        if not self._has_result(job):
            self._read()  # another command may be at the same photographs
            if not self._has_result(job):
                return f"{job.target}: exists, and is no result of this command"
        entry = self._entries[self._name(job)]
        if entry["photograph"] != str(job.source):
            return f"{job.target}: was restored from {entry['photograph']}"
        if entry["settings"] != self._settings:
            found = entry["settings"]
            differing = [name for name in self._settings if found.get(name) != self._settings[name]]
            words = ", ".join(f"{name} {found.get(name)!r}, not {self._settings[name]!r}" for name in differing)
            return f"{job.target}: was restored with other settings ({words})"
        if not _stamp_in(entry, "photograph_stamp").fits(job.source):
            return f"{job.target}: was restored before {job.source} changed"
        return ""

    def _has_result(self, job: Job) -> bool:
        entry = self._entries.get(self._name(job))
        return entry is not None and _stamp_in(entry, "result_stamp").fits(job.target)

    def _name(self, job: Job) -> str:
        return job.target.relative_to(self._folder).as_posix()


def _is_whole(entry: Mapping[str, Any]) -> bool:
    stamps = [entry.get(field) for field in ("photograph_stamp", "result_stamp")]
    return {"photograph", "settings"} <= entry.keys() and all(isinstance(s, list) and len(s) == 3 for s in stamps)


def _stamp_in(entry: Mapping[str, Any], field: str) -> Stamp:
    return Stamp(*entry[field])


def _needs_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def refuse_danger(jobs: Sequence[Job], record: Record, *, overwrite: bool) -> None:
    """Refuse jobs that would replace a photograph, or a file that is not their own result.

    Raises:
        InputError: lists all of them.
    """
    sources = {os.path.realpath(job.source) for job in jobs}
    own = [f"{job.target}: is one of the photographs" for job in jobs if os.path.realpath(job.target) in sources]
    if own:
        raise InputError(list_problems("Photographs are never replaced:", own, "Choose another --output."))
    obstacles = [words for job in jobs if (words := record.obstacle(job))]
    if obstacles and not overwrite:
        remedy = "Choose another --output, or add --overwrite to replace them."
        raise InputError(list_problems("These files would be replaced:", obstacles, remedy))
