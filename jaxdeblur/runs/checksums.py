"""Finds damage in a checkpoint: a list of its files with their sizes and SHA-256, written as part of the checkpoint."""

import hashlib
import os
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.files import read_json, sync_to_disk, write_json

NAME = "sha256.json"
# What orbax adds or changes when it renames a checkpoint to its final name; nothing is restored from these.
_NOT_LISTED = (NAME, "_CHECKPOINT_METADATA", "commit_success.txt")


def write_manifest(folder: Path) -> None:
    """Bring all files of a checkpoint to the disk (fsync), then write their sizes and hashes beside them.

    Call it when nothing writes to `folder` any more, before the checkpoint gets its final name: a checkpoint of that
    name then has its manifest, at whatever moment the process is killed.
    """
    files = {name: _size_and_hash(folder / name, sync=True) for name in _list_files(folder)}
    write_json(folder / NAME, files)
    for path in (path for path in folder.rglob("*") if path.is_dir()):
        sync_to_disk(path)


def add_to_manifest(folder: Path, name: str) -> None:
    """Add a file that was written into a checkpoint after the checkpoint was complete."""
    files = {**read_json(folder / NAME), name: _size_and_hash(folder / name, sync=True)}
    write_json(folder / NAME, dict(sorted(files.items())))


def find_damage(folder: Path, *, optional: str = "") -> str:
    """Return what is wrong with a checkpoint, naming the first damaged file; empty if nothing is.

    Args:
        folder: the checkpoint.
        optional: name of a file that may be there without being listed: the process may have been killed after writing
            it and before `add_to_manifest`.
    """
    if not (folder / NAME).is_file():
        return f"{NAME} is missing"
    try:
        files = read_json(folder / NAME)
        for name, (size, sha256) in files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, expected {size}"
            if _size_and_hash(path)[1] != sha256:
                return f"{name} has other content than was written (SHA-256)"
    except (InputError, OSError) as error:
        return str(error)
    except (AttributeError, TypeError, ValueError):
        return f"{NAME} holds no list of files"
    added = [name for name in _list_files(folder) if name not in files and name != optional]
    return f"{added[0]} does not belong to it" if added else ""


def _list_files(folder: Path) -> list[str]:
    # A temporary file is what a killed `write_json` leaves.
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp"]
    return sorted(name for path in paths if (name := path.relative_to(folder).as_posix()) not in _NOT_LISTED)


def _size_and_hash(path: Path, *, sync: bool = False) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size, digest
