"""File primitives: atomic writes, locks, JSON, hashes, change stamps, file names and the cache folder."""

import errno
import fcntl
import functools
import hashlib
import itertools
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from jaxdeblur.console import say
from jaxdeblur.errors import InputError

TEMPORARY_SUFFIX = ".tmp"
MAX_NAME_BYTES = 255  # Linux and macOS


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` to write to; sync it and rename it to `path` on success.

    Readers see the old file or the new one, also after a power cut. On failure the temporary file is deleted and
    `path` is unchanged. The temporary name is short however long that of `path` is, and locked: no other thread or
    process writes to it, and what a killed process left behind is overwritten.

    Raises:
        OSError: the disk is full, or the folder is not writable.
    """
    descriptor, temporary = _open_temporary(path)
    try:
        try:
            yield temporary
            sync_to_disk(temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    finally:
        os.close(descriptor)
    with suppress(OSError):  # some network file systems cannot sync a folder; the file is complete anyway
        sync_to_disk(path.parent)


def _open_temporary(path: Path) -> tuple[int, Path]:
    """Create and lock an empty temporary file; return its descriptor, which holds the lock, and its path."""
    stem = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    for number in itertools.count():
        temporary = path.with_name(f".{stem}-{number}{TEMPORARY_SUFFIX}")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), temporary.stat()):
                os.ftruncate(descriptor, 0)
                return descriptor, temporary
        except (BlockingIOError, FileNotFoundError):  # another writer has it, or has just renamed it
            pass
        except OSError:  # a file system without locks: a random name instead
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            temporary = path.with_name(f".{stem}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
            return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), temporary
        os.close(descriptor)
    raise AssertionError("unreachable")


def sync_to_disk(path: Path) -> None:
    """Flush a file's content, or a folder's entries (new names and renames), to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive_lock(path: Path, held_elsewhere: InputError) -> Iterator[None]:
    """Lock an existing file or folder against other processes; a crash releases the lock.

    Raises:
        InputError: `held_elsewhere`, if another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise held_elsewhere from error
        yield
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """Return the parsed content of a JSON file.

    Raises:
        InputError: it is missing (code "json-unreadable") or corrupt (code "json-corrupt").
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); expected a file of a trained run.", code="json-unreadable"
        ) from error
    except ValueError as error:
        raise InputError(
            f"{path}: is not valid JSON ({error}). Restore it, or start over in another --workdir.", code="json-corrupt"
        ) from error


def write_json(path: Path, tree: Any) -> None:
    """Write JSON atomically.

    Raises:
        ValueError: `tree` contains NaN or infinity.
    """
    text = json.dumps(tree, indent=1, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileStamp(NamedTuple):
    """Size in bytes and modification time in nanoseconds; a file whose stamp is equal is taken as unchanged."""

    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Return the stamp of a file.

        Raises:
            OSError: there is no such file.
        """
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


class FileFingerprint(NamedTuple):
    """Identifies a file's content: its stamp, and its SHA-256 in hex."""

    stamp: FileStamp
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileFingerprint":
        """Return the fingerprint of a file.

        Raises:
            OSError: it cannot be read.
        """
        return cls(FileStamp.of(path), file_sha256(path))

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> "FileFingerprint":
        """Return the fingerprint that `to_json` stored.

        Raises:
            ValueError, TypeError: these are not three values.
        """
        size, modified, sha256 = values
        return cls(FileStamp(size, modified), sha256)

    def to_json(self) -> tuple[int, int, str]:
        """Return size, modification time and SHA-256."""
        return (*self.stamp, self.sha256)

    def matches(self, path: Path) -> bool:
        """Return whether a file has this content; it is only read if its size is equal but its time is not."""
        try:
            stamp = FileStamp.of(path)
            return stamp == self.stamp or (stamp.size == self.stamp.size and file_sha256(path) == self.sha256)
        except OSError:
            return False


def user_cache_folder() -> Path | None:
    """Return this package's cache folder, `$XDG_CACHE_HOME/jaxdeblur` or `~/.cache/jaxdeblur`.

    None, with a message printed once, where no home folder is writable, as in some containers.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "jaxdeblur"
    try:
        folder = Path.home() / ".cache" / "jaxdeblur"
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except (RuntimeError, OSError) as error:
        _report_no_cache(getattr(error, "strerror", None) or str(error).rstrip("."))
        return None
    return folder


@functools.cache
def _report_no_cache(reason: str) -> None:
    say(f"No writable home folder for a cache ({reason}): continuing without one. Set XDG_CACHE_HOME to use another.")


def printable(name: str) -> str:
    r"""Return a file name as valid Unicode text, with bytes that are not UTF-8 escaped as \xff."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def require_utf8(folder: Path, option: str) -> None:
    """Refuse a folder whose path is not UTF-8.

    Raises:
        InputError: names it (code "name-not-utf8").
    """
    path = str(folder.absolute())
    if printable(path) != path:
        raise InputError(
            f"{option} {printable(path)}: the path is not UTF-8, so checkpoints cannot be stored there. Use a folder "
            "with another name.",
            code="name-not-utf8",
        )


def shorten_name(stem: str, ending: str) -> str:
    """Return the file name `stem` + `ending`, truncating the stem to keep within MAX_NAME_BYTES."""
    encoded = os.fsencode(stem)
    room = MAX_NAME_BYTES - len(os.fsencode(ending))
    # errors="ignore" drops a character that was cut in half.
    return (stem if len(encoded) <= room else encoded[:room].decode(errors="ignore")) + ending
