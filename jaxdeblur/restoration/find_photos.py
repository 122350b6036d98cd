"""Resolves the inputs of a command line (files, folders, patterns) to the files to restore."""

import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.images.photo import SUFFIXES
from jaxdeblur.images.raw import RAW_SUFFIXES
from jaxdeblur.restoration.resume_record import RECORD, KnownResults


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The files to restore.

    Attributes:
        files: absolute paths, without duplicates, in order.
        base: the deepest folder that contains every input; results mirror the paths below it.
        problems: one line for each folder that could not be read.
    """

    files: list[Path]
    base: Path
    problems: list[str]


def find_inputs(names: Sequence[str], output: Path) -> Inputs:
    """Return the files that the inputs name.

    Folders are searched recursively, following links, for files with a photo's suffix. Hidden files and folders, and
    the contents of `output`, are skipped. Results of earlier commands are never inputs, however they are named: a
    shell's `*` matches them too.

    Args:
        names: files, folders and patterns such as `photos/*.jpg`; ** matches any number of folders.
        output: the folder of results.

    Raises:
        InputError: an input matches nothing ("input-missing"), there are no photos ("no-photographs"), or the inputs
            are on several drives ("several-drives").
    """
    files: list[Path] = []
    bases: list[Path] = []
    problems: list[str] = []
    missing: list[str] = []
    input_filter = _InputFilter(output)
    for name in names:
        path = Path(os.path.abspath(os.path.expanduser(name)))
        if len(names) > 1 and path.is_dir() and input_filter.is_output(path):
            continue
        resolved = _resolve(path, input_filter, problems)
        if resolved is None:
            missing.append(f"{name}: {'matches no file' if glob.has_magic(name) else 'no such file or folder'}")
            continue
        matches, base = resolved
        photos = input_filter.without_results(matches)
        files += photos
        # An input that names only results must not change where the others' results go.
        if photos or not matches:
            bases.append(base)
    if missing:
        raise InputError(list_problems("--input:", missing, "Nothing was done."), code="input-missing")
    input_filter.report()
    if not files and not problems:
        message = f"--input {' '.join(names)}: no photos; expected files with the suffixes {', '.join(SUFFIXES)}"
        if input_filter.results:
            message += ". Results of earlier commands do not count: copy them elsewhere to restore them"
        raise InputError(message, code="no-photographs")
    try:
        base = Path(os.path.commonpath(bases))
    except ValueError as error:  # on Windows
        raise InputError(
            "--input: the inputs are on several drives; restore them one drive at a time", code="several-drives"
        ) from error
    return Inputs(list(dict.fromkeys(files)), base, problems)


class _InputFilter:
    """Decides which files are not inputs, and reports them to the user.

    Attributes:
        results: number of results of earlier commands, by their folder.
    """

    def __init__(self, output: Path):
        self.results: Counter[Path] = Counter()
        self._output, self._known_results = Path(os.path.realpath(output)), KnownResults()
        self._messages: list[str] = []

    def note(self, message: str) -> None:
        """Add a message to the report."""
        self._messages.append(message)

    def is_output(self, folder: Path) -> bool:
        """Return whether a folder is this command's output, and note it if so."""
        is_output = os.path.realpath(folder) == str(self._output)
        if is_output:
            self.note(f"{folder}: skipped, it is the output folder.")
        return is_output

    def without_output(self, files: list[Path], base: Path) -> list[Path]:
        """Return the files of a pattern that are not in the output folder, unless all of `base` is in it."""
        if Path(os.path.realpath(base)).is_relative_to(self._output):
            return files
        remaining = [path for path in files if self._output not in Path(os.path.realpath(path)).parents]
        if len(remaining) < len(files):
            self.note(f"{self._output}: skipped, it is the output folder.")
        return remaining

    def without_results(self, files: list[Path]) -> list[Path]:
        """Return the files that are neither results of earlier commands nor their records."""
        remaining = []
        for path in files:
            if folder := self._known_results.folder_of(path):
                self.results[folder] += 1
            elif path.name != RECORD:
                remaining.append(path)
        return remaining

    def report(self) -> None:
        """Print what was skipped."""
        for folder, count in self.results.items():
            self.note(f"{folder}: skipped {count} result(s) of earlier commands (listed in {RECORD}).")
        for message in dict.fromkeys(self._messages):
            say(message)


def _resolve(path: Path, input_filter: _InputFilter, problems: list[str]) -> tuple[list[Path], Path] | None:
    """Return the files that a path or pattern names, and the folder they are relative to; None if it names nothing."""
    if path.is_dir():
        return _walk(path, input_filter, problems), path
    if os.path.lexists(path):
        return [path], path.parent
    if matches := _matching_files(path):
        base = _fixed_part(path)
        return input_filter.without_output(matches, base), base
    return None


def _matching_files(pattern: Path) -> list[Path]:
    matches = sorted(glob.glob(str(pattern), recursive=True))
    return [Path(path) for path in matches if Path(path).is_file() and not path.endswith(os.sep)]


def _fixed_part(pattern: Path) -> Path:
    """Return the deepest folder that contains all matches of a pattern."""
    return next(folder for folder in pattern.parents if not glob.has_magic(str(folder)))


def _walk(root: Path, input_filter: _InputFilter, problems: list[str]) -> list[Path]:
    """Return the photos below a folder, sorted by name; note what is skipped."""
    photos: list[Path] = []
    raw_files: list[str] = []
    other_suffixes: Counter[str] = Counter()
    for folder, names in _walk_folders(root, input_filter, problems):
        for name in names:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                photos.append(folder / name)
            elif suffix in RAW_SUFFIXES:
                raw_files.append(str(folder / name))
            elif name != RECORD:
                other_suffixes[suffix or "no suffix"] += 1
    if raw_files:
        heading = f"{root}: skipped {len(raw_files)} camera raw file(s), of which only previews can be read:"
        input_filter.note(list_problems(heading, raw_files, "To restore them, develop them to TIFF or PNG first."))
    if other_suffixes:
        suffixes = ", ".join(sorted(other_suffixes))
        input_filter.note(f"{root}: skipped {other_suffixes.total()} file(s) without a photo's suffix ({suffixes}).")
    return photos


def _walk_folders(root: Path, input_filter: _InputFilter, problems: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder with its file names; skip the output folder, and links to a folder above them."""

    def add_problem(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read ({error.strerror})")

    start = Path(os.path.realpath(root))
    # Real paths of each folder still to be visited and of its ancestors, to detect cycles of links.
    ancestors = {str(root): {str(start), *map(str, start.parents)}}
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=add_problem):
        above = ancestors.pop(folder)
        to_visit = []
        for name in sorted(subfolders):
            path = Path(folder, name)
            real = os.path.realpath(path)
            if name.startswith("."):
                continue
            if real in above:
                input_filter.note(f"{path}: skipped, a link to a folder above it.")
            elif not input_filter.is_output(path):
                ancestors[str(path)] = above | {real}
                to_visit.append(name)
        subfolders[:] = to_visit
        yield Path(folder), sorted(names)
