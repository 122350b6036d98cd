"""Which photographs a command line means: files, folders, patterns."""

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
from jaxdeblur.restoration.resume_record import KnownResults


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The photographs to restore.

    Attributes:
        files: absolute, each once, in order.
        base: the deepest folder that holds everything that was named; outputs keep their places below it.
        problems: a line for each folder that cannot be read.
    """

    files: list[Path]
    base: Path
    problems: list[str]


def find_inputs(names: Sequence[str], output: Path, record: str) -> Inputs:
    """Return the photographs that names stand for.

    Of a folder, with its subfolders, those are taken whose suffix is a photograph's; links are followed. Hidden files
    and folders, and what lies in `output`, are passed over. However it is named, no result of an earlier command is
    taken for a photograph: a shell's `*` names results as well.

    Args:
        names: files, folders and patterns such as `photos/*.jpg`, where ** stands for any number of folders.
        output: the folder of results.
        record: name of the files that list results.

    Raises:
        InputError: a name stands for nothing (code "input-missing"), or there are no photographs ("no-photographs").
    """
    files, bases, problems, missing = [], [], [], []
    passed = _PassedOver(output, record)
    for name in names:
        path = Path(os.path.abspath(os.path.expanduser(name)))
        if path.is_dir():
            if len(names) > 1 and passed.is_output(path):
                continue
            found, base = _walk(path, passed, problems), path
        elif os.path.lexists(path):
            found, base = [path], path.parent
        elif matches := _matches(path):
            base = _fixed_part(path)
            found = passed.without_output(matches, base)
        else:
            kind = "matches no file" if glob.has_magic(name) else "there is no such file or folder"
            missing.append(f"{name}: {kind}")
            continue
        photographs = passed.without_results(found)
        files += photographs
        # A name that stands for results alone must not move the places of the others.
        if photographs or not found:
            bases.append(base)
    if missing:
        raise InputError(list_problems("--input:", missing, "Nothing was done."), code="input-missing")
    passed.tell()
    files = list(dict.fromkeys(files))
    if not files and not problems:
        words = f"--input {' '.join(names)}: holds no photographs; expected files with the suffixes "
        words += ", ".join(SUFFIXES)
        if passed.results:
            words += ". Results of earlier commands do not count: copy them elsewhere to restore them"
        raise InputError(words, code="no-photographs")
    try:
        base = Path(os.path.commonpath(bases))
    except ValueError as error:  # Windows: other drives
        words = "--input: these lie on several drives; restore them one drive at a time"
        raise InputError(words, code="several-drives") from error
    return Inputs(files, base, problems)


class _PassedOver:
    """What is not taken for a photograph, and is said to the user."""

    def __init__(self, output: Path, record: str):
        self.results: Counter[Path] = Counter()  # by the folder of results
        self.record = record
        self._output, self._known = Path(os.path.realpath(output)), KnownResults(record)
        self._lines: list[str] = []

    def note(self, line: str) -> None:
        """Keep a line for the user."""
        self._lines.append(line)

    def is_output(self, folder: Path) -> bool:
        """Return whether a folder is that of this command's results, and note it."""
        found = os.path.realpath(folder) == str(self._output)
        if found:
            self.note(f"{folder}: passed over, it is the folder of results.")
        return found

    def without_output(self, files: list[Path], base: Path) -> list[Path]:
        """Return those matches of a pattern that do not lie in the folder of results, if it is below `base`."""
        if Path(os.path.realpath(base)).is_relative_to(self._output):
            return files  # the photographs themselves lie there
        kept = [path for path in files if self._output not in Path(os.path.realpath(path)).parents]
        if len(kept) < len(files):
            self.note(f"{self._output}: passed over, it is the folder of results.")
        return kept

    def without_results(self, files: list[Path]) -> list[Path]:
        """Return the files that are neither results of earlier commands nor records of them."""
        kept = []
        for path in files:
            if folder := self._known.folder_of(path):
                self.results[folder] += 1
            elif path.name != self.record:
                kept.append(path)
        return kept

    def tell(self) -> None:
        """Tell the user what was passed over."""
        for folder, count in self.results.items():
            self.note(f"{folder}: passed over {count} result(s) of earlier commands ({self.record} lists them).")
        for line in dict.fromkeys(self._lines):
            say(line)


def _matches(pattern: Path) -> list[Path]:
    found = sorted(glob.glob(str(pattern), recursive=True))
    return [Path(path) for path in found if Path(path).is_file() and not path.endswith(os.sep)]


def _fixed_part(pattern: Path) -> Path:
    """Return the deepest folder that all matches of a pattern lie in."""
    return next(folder for folder in pattern.parents if not glob.has_magic(str(folder)))


def _walk(root: Path, passed: _PassedOver, problems: list[str]) -> list[Path]:
    """Return the photographs below a folder in order of their names; note what is passed over."""
    found, raw, others = [], [], Counter()
    for folder, names in _folders(root, passed, problems):
        for name in names:
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                found.append(folder / name)
            elif suffix in RAW_SUFFIXES:
                raw.append(str(folder / name))
            elif name != passed.record:
                others[suffix or "no suffix"] += 1
    if raw:
        heading = f"{root}: passed over {len(raw)} raw file(s) of cameras, of which only previews can be read:"
        passed.note(list_problems(heading, raw, "To restore them, develop them to TIFF or PNG first."))
    if others:
        kinds = ", ".join(sorted(others))
        passed.note(f"{root}: passed over {others.total()} file(s) that are no photographs by their suffix ({kinds}).")
    return found


def _folders(root: Path, passed: _PassedOver, problems: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders and the names of their files; none that leads back into itself, and not the folder of results."""

    def note(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read ({error.strerror})")

    start = Path(os.path.realpath(root))
    ancestors = {str(root): {str(start), *map(str, start.parents)}}  # of each folder that is yet to come, with itself
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=note):
        above = ancestors.pop(folder)
        kept = []
        for name in sorted(subfolders):
            path = Path(folder, name)
            real = os.path.realpath(path)
            if name.startswith("."):
                continue
            if real in above:
                passed.note(f"{path}: passed over, a link that leads back to a folder above it.")
            elif not passed.is_output(path):
                ancestors[str(path)] = above | {real}
                kept.append(name)
        subfolders[:] = kept
        yield Path(folder), sorted(names)
