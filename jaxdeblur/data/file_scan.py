"""One look at every image file before training: opened and decoded once, remembered by size and time of change.

What was found is kept in `$XDG_CACHE_HOME/jaxdeblur/scans` (`~/.cache` where that is not set), one JSON file per folder
scanned, so that the next start decodes only what is new or changed. The files may be deleted at any time.
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
from jaxdeblur.files import user_cache_folder
from jaxdeblur.images.decode import verify_image

# What is a good image depends on these two: results of others are not taken over.
READER = f"rule 2, Pillow {PIL.__version__}"


@dataclasses.dataclass(frozen=True)
class FileScan:
    """What is known of one image file.

    Attributes:
        size: (H, W) in pixels, as the image stands after EXIF's orientation; (0, 0) for a bad file.
        orientation: EXIF's, 1 to 8; 1 where the file has none.
        sha256: of the file's bytes, in hexadecimal; empty when they could not be read.
        problem: what is wrong with the file, without its name; empty for a good one.
    """

    size: tuple[int, int]
    orientation: int
    sha256: str
    problem: str


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A result of the cache, and what the file looked like then: size in bytes, time of change in nanoseconds."""

    stamp: tuple[int, int]
    scan: FileScan


def scan_files(folder: Path, paths: Iterable[Path]) -> dict[Path, FileScan]:
    """Return what is known of image files below `folder`; those new or changed since the last scan are decoded now.

    Decoding runs in threads, with a progress bar on a terminal. Files that are bad are a result, not an error, and so
    is a cache that cannot be read or written, which one line tells.
    """
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    known = _read_cache(folder)
    scans: dict[Path, FileScan] = {}
    changed: dict[Path, tuple[int, int]] = {}
    for path, name in names.items():
        stamp = _stamp(path)
        if isinstance(stamp, FileScan):
            scans[path] = stamp
        elif name in known and known[name].stamp == stamp:
            scans[path] = known[name].scan
        else:
            changed[path] = stamp
    if not changed:
        return scans
    say(f"{folder}: opening {len(changed)} images once; {len(scans)} are known from an earlier scan.")
    fresh: dict[Path, FileScan] = {}
    try:
        _scan_into(fresh, list(changed))
    finally:  # what is known by the time of a Ctrl-C is not lost
        # Results of files that could not be opened are not kept: permissions change without a new time of change.
        known |= {names[path]: _Entry(changed[path], scan) for path, scan in fresh.items() if scan.sha256}
        _write_cache(folder, known)
    return scans | fresh


def cache_file(folder: Path) -> Path | None:
    """Return where the results for a folder are kept; None where nothing can be (see `user_cache_folder`)."""
    cache = user_cache_folder()
    name = f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()}.json"
    return cache and cache / "scans" / name


def _stamp(path: Path) -> tuple[int, int] | FileScan:
    try:
        status = path.stat()
    except OSError as error:
        return _bad(f"cannot be read ({error.strerror})")
    if not stat.S_ISREG(status.st_mode):
        return _bad("is no regular file")  # opening a pipe would wait for ever
    return status.st_size, status.st_mtime_ns


def _scan_into(fresh: dict[Path, FileScan], paths: list[Path]) -> None:
    bar = tqdm(total=len(paths), desc="Opening images", dynamic_ncols=True, disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor() as pool:  # Pillow lets other threads run while it decodes
        for path, scan in zip(paths, pool.map(_scan_file, paths), strict=True):
            fresh[path] = scan
            bar.update()


def _scan_file(path: Path) -> FileScan:
    try:
        content = path.read_bytes()
    except OSError as error:
        return _bad(f"cannot be read ({error.strerror})")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        pixels, orientation = verify_image(content)
    except InputError as error:
        return _bad(str(error), sha256)
    return FileScan(pixels.shape[:2], orientation, sha256, "")


def _bad(problem: str, sha256: str = "") -> FileScan:
    return FileScan((0, 0), 1, sha256, problem)


def _read_cache(folder: Path) -> dict[str, _Entry]:
    path = cache_file(folder)
    if path is None:
        return {}
    try:
        tree = json.loads(path.read_text())
        if tree["reader"] != READER:
            return {}
        entries = {}
        for name, (size, changed, height, width, orientation, sha256, problem) in tree["files"].items():
            scan = FileScan((height, width), orientation, sha256, problem)
            entries[name] = _Entry((size, changed), scan)
        return entries
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        say(f"{folder}: the results of the last scan cannot be used ({error!r}); every file is opened anew.")
        return {}


def _write_cache(folder: Path, entries: dict[str, _Entry]) -> None:
    """Keep the entries of files that are still there, in one piece."""
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
        temporary = path.with_name(f"{path.name}.{os.getpid()}")  # runs that start at once do not share it
        temporary.write_text(json.dumps({"folder": str(folder), "reader": READER, "files": files}))
        temporary.replace(path)
    except OSError as error:
        say(f"{folder}: the scan's results cannot be kept ({error}); the next start will open every file again.")
