"""Small things about files: JSON read and written whole, and which code is running."""

import errno
import functools
import hashlib
import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

from jaxdeblur import __version__
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


def code_version() -> str:
    """Return this package's version, with the git commit when it runs from its own checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        # A package installed below somebody else's checkout must not report that one's commit.
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return __version__
        return f"{__version__}+{_git(root, 'describe', '--always', '--dirty', '--abbrev=12')}"
    except (OSError, subprocess.SubprocessError):
        return __version__


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
