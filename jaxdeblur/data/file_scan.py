"""Scans image files before training: each is decoded once, then known by size and modification time.

Results are stored in `$XDG_CACHE_HOME/jaxdeblur/scans` (default `~/.cache`), one JSON file per scanned folder, so that
the next start decodes only new or changed files. The files may be deleted at any time.
"""

import dataclasses
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL
from tqdm import tqdm

from jaxdeblur.console import say
from jaxdeblur.errors import InputError
from jaxdeblur.files import FileStamp, atomic_write, user_cache_folder
from jaxdeblur.images.decode import verify_image

# Validity depends on both: results of another reader are discarded.
READER = f"rule 2, Pillow {PIL.__version__}"


@dataclasses.dataclass(frozen=True)
class FileScan:
    """Result of scanning one image file.

    Attributes:
        size: (H, W) in pixels, after applying EXIF's orientation; (0, 0) for an invalid file.
        orientation: EXIF's, 1 to 8; 1 where the file has none.
        sha256: of the file's content, in hex; "" if it could not be read.
        problem: why the file is invalid, without its name; "" for a valid one.
    """

    size: tuple[int, int]
    orientation: int
    sha256: str
    problem: str


@dataclasses.dataclass(frozen=True)
class _CacheEntry:
    stamp: FileStamp  # of the file when it was scanned
    scan: FileScan


def scan_files(folder: Path, paths: Iterable[Path]) -> dict[Path, FileScan]:
    """Scan image files below `folder`; only those new or changed since the last scan are decoded.

    Decodes in threads, with a progress bar on a terminal. Invalid files are a result, not an error, and so is a cache
    that cannot be read or written, which is reported.
    """
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    cached = _read_cache(folder)
    scans: dict[Path, FileScan] = {}
    changed: dict[Path, FileStamp] = {}
    for path, name in names.items():
        stamp = _stamp(path)
        if isinstance(stamp, FileScan):
            scans[path] = stamp
        elif name in cached and cached[name].stamp == stamp:
            scans[path] = cached[name].scan
        else:
            changed[path] = stamp
    if not changed:
        return scans
    say(f"{folder}: decoding {len(changed)} new or changed images; {len(scans)} known from an earlier scan.")
    fresh: dict[Path, FileScan] = {}
    try:
        _scan_into(fresh, list(changed))
    finally:  # also keep results up to a Ctrl-C
        # Unreadable files are not cached: permissions change without a new modification time.
        cached |= {names[path]: _CacheEntry(changed[path], scan) for path, scan in fresh.items() if scan.sha256}
        _write_cache(folder, cached)
    return scans | fresh


def cache_file(folder: Path) -> Path | None:
    """Return the cache file of a folder; None without a cache folder (see `user_cache_folder`)."""
    cache = user_cache_folder()
    name = f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()}.json"
    return cache and cache / "scans" / name


def _stamp(path: Path) -> FileStamp | FileScan:
    """Return a file's stamp, or the result for a file that is not to be opened."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return _invalid("is not a regular file")  # opening a pipe would block
        return FileStamp.of(path)
    except OSError as error:
        return _invalid(f"cannot be read ({error.strerror})")


def _scan_into(fresh: dict[Path, FileScan], paths: list[Path]) -> None:
    bar = tqdm(total=len(paths), desc="Decoding images", dynamic_ncols=True, disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor() as pool:  # Pillow releases the GIL while decoding
        for path, scan in zip(paths, pool.map(_scan_file, paths), strict=True):
            fresh[path] = scan
            bar.update()


def _scan_file(path: Path) -> FileScan:
    try:
        content = path.read_bytes()
    except OSError as error:
        return _invalid(f"cannot be read ({error.strerror})")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        pixels, orientation = verify_image(content)
    except InputError as error:
        return _invalid(str(error), sha256)
    height, width = pixels.shape[:2]
    return FileScan((height, width), orientation, sha256, "")


def _invalid(problem: str, sha256: str = "") -> FileScan:
    return FileScan((0, 0), 1, sha256, problem)


def _read_cache(folder: Path) -> dict[str, _CacheEntry]:
    path = cache_file(folder)
    if path is None:
        return {}
    try:
        tree = json.loads(path.read_text())
        if tree["reader"] != READER:
            return {}
        entries = {}
        for name, (size, modified, height, width, orientation, sha256, problem) in tree["files"].items():
            scan = FileScan((height, width), orientation, sha256, problem)
            entries[name] = _CacheEntry(FileStamp(size, modified), scan)
        return entries
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        say(f"{folder}: cannot use the cached scan ({error!r}); decoding every file.")
        return {}


def _write_cache(folder: Path, entries: dict[str, _CacheEntry]) -> None:
    """Store the entries of files that still exist."""
    path = cache_file(folder)
    if path is None:
        return
    files = {
        name: [*entry.stamp, *entry.scan.size, entry.scan.orientation, entry.scan.sha256, entry.scan.problem]
        for name, entry in sorted(entries.items())
        if os.path.lexists(folder / name)
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"folder": str(folder), "reader": READER, "files": files}))
    except OSError as error:
        say(f"{folder}: cannot cache the scan ({error}); the next start will decode every file.")
