"""Small things about files: JSON read and written whole, and which code is running."""

import errno
import functools
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from jaxdeblur.console import say
from jaxdeblur.errors import InputError


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file of a trained run.") from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}). Restore it, or start again in another --workdir.") from error


def write_json(path: Path, tree: Any) -> None:
    """Write JSON atomically: readers see the old file or the new one, after a power cut too.

    The temporary file's name is unique, so that processes writing the same file do not disturb each other.

    Raises:
        ValueError: `tree` holds NaN or an infinity.
    """
    text = json.dumps(tree, indent=1, allow_nan=False) + "\n"
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk: new names and renames then survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def user_cache_folder() -> Path | None:
    """Return where this package may keep what it can make again: `$XDG_CACHE_HOME/jaxdeblur`, or below `~/.cache`.

    None, which the user is told once, where there is no home folder to write to, as in some containers.
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
        _say_that_nothing_is_kept(getattr(error, "strerror", None) or str(error).rstrip("."))
        return None
    return folder


@functools.cache
def _say_that_nothing_is_kept(reason: str) -> None:
    say(f"No home folder to keep a cache in ({reason}): going on without one. XDG_CACHE_HOME may name another.")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


NAME_BYTES = 255  # of the longest name on Linux and macOS


def printable(name: str) -> str:
    r"""Return a name as text that can be written everywhere: bytes that are no UTF-8 as \xff."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def require_utf8(folder: Path, option: str) -> None:
    """Refuse a folder whose path is no UTF-8.

    Raises:
        InputError: names it (code "name-not-utf8").
    """
    path = str(folder.absolute())
    if printable(path) != path:
        raise InputError(
            f"{option} {printable(path)}: its path is no UTF-8, and checkpoints cannot be kept there. Choose a folder "
            "with another name.",
            code="name-not-utf8",
        )


def shortened(stem: str, ending: str) -> str:
    """Return a file's name of `stem` and `ending`, whose stem is cut where the name would be too long."""
    encoded = os.fsencode(stem)
    room = NAME_BYTES - len(os.fsencode(ending))
    # A character that is cut in two is dropped.
    return (stem if len(encoded) <= room else encoded[:room].decode(errors="ignore")) + ending
