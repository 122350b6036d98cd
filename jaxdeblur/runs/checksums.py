"""Checksums of a checkpoint's files, stored with it to detect corruption.

`sha256.json` maps each file, relative to the checkpoint's folder, to its size in bytes and its SHA-256.
"""

from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.files import TEMPORARY_SUFFIX, file_sha256, read_json, sync_to_disk, write_json

CHECKSUM_FILE = "sha256.json"
# Files that orbax adds or changes when it renames a checkpoint to its final name; nothing is restored from them.
_UNLISTED = (CHECKSUM_FILE, "_CHECKPOINT_METADATA", "commit_success.txt")


def write_checksums(folder: Path) -> None:
    """Flush all files of a checkpoint to disk (fsync) and record their sizes and SHA-256.

    Call it when nothing writes to `folder` any more and before the checkpoint gets its final name: a checkpoint with
    its final name then always has its checksums, whenever the process is killed.
    """
    names = _list_files(folder)
    for name in names:
        sync_to_disk(folder / name)
    write_json(folder / CHECKSUM_FILE, {name: _size_and_sha256(folder / name) for name in names})
    for path in (path for path in folder.rglob("*") if path.is_dir()):
        sync_to_disk(path)


def add_checksum(folder: Path, name: str) -> None:
    """Record a file that was added to a complete checkpoint, after it has been flushed to disk."""
    files = {**read_json(folder / CHECKSUM_FILE), name: _size_and_sha256(folder / name)}
    write_json(folder / CHECKSUM_FILE, dict(sorted(files.items())))


def find_corruption(folder: Path, *, optional: str = "") -> str:
    """Return a description of the first corrupt file of a checkpoint; "" if it is intact.

    Args:
        folder: the checkpoint.
        optional: a file that may exist without a checksum: the process may have been killed between writing it and
            `add_checksum`.
    """
    if not (folder / CHECKSUM_FILE).is_file():
        return f"{CHECKSUM_FILE} is missing"
    try:
        files = read_json(folder / CHECKSUM_FILE)
        for name, (size, sha256) in files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, expected {size}"
            if file_sha256(path) != sha256:
                return f"{name} has a different SHA-256 than when it was written"
    except (InputError, OSError) as error:
        return str(error)
    except (AttributeError, TypeError, ValueError):
        return f"{CHECKSUM_FILE} is not a list of files"
    unexpected = [name for name in _list_files(folder) if name not in files and name != optional]
    return f"{unexpected[0]} is not part of the checkpoint" if unexpected else ""


def _list_files(folder: Path) -> list[str]:
    # A killed `write_json` leaves a temporary file.
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != TEMPORARY_SUFFIX]
    return sorted(name for path in paths if (name := path.relative_to(folder).as_posix()) not in _UNLISTED)


def _size_and_sha256(path: Path) -> tuple[int, str]:
    return path.stat().st_size, file_sha256(path)
