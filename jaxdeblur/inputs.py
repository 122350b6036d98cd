"""Which photographs a command line means: files, folders, patterns."""

import dataclasses
import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.photos import SUFFIXES


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

    Of a folder, with its subfolders, those are taken whose suffix is a photograph's; links are followed. Hidden files,
    `output`, and other folders that hold results, are passed over.

    Args:
        names: files, folders and patterns such as `photos/*.jpg`, where ** stands for any number of folders.
        output: where results go to.
        record: name of the file that tells a folder of results.

    Raises:
        InputError: a name stands for nothing.
    """
    files, bases, problems, missing = [], [], [], []
    for name in names:
        path = Path(os.path.abspath(Path(name).expanduser()))
        if path.is_dir():
            files += _walk(path, output, record, problems)
            bases.append(path)
        elif os.path.lexists(path):
            files.append(path)
            bases.append(path.parent)
        elif found := _matches(path):
            files += found
            bases.append(_fixed_part(path))
        else:
            kind = "matches no file" if glob.has_magic(name) else "there is no such file or folder"
            missing.append(f"{name}: {kind}")
    if missing:
        raise InputError(list_problems("--input:", missing, "Nothing was done."))
    files = list(dict.fromkeys(files))
    if not files and not problems:
        suffixes = ", ".join(SUFFIXES)
        raise InputError(
            f"--input {' '.join(names)}: holds no photographs; expected files with the suffixes {suffixes}"
        )
    try:
        base = Path(os.path.commonpath(bases))
    except ValueError as error:  # Windows: other drives
        raise InputError("--input: these lie on several drives; restore them one drive at a time") from error
    return Inputs(files, base, problems)


def _matches(pattern: Path) -> list[Path]:
    found = sorted(glob.glob(str(pattern), recursive=True))
    return [Path(path) for path in found if Path(path).is_file() and not path.endswith(os.sep)]


def _fixed_part(pattern: Path) -> Path:
    """Return the deepest folder that all matches of a pattern lie in."""
    return next(folder for folder in pattern.parents if not glob.has_magic(str(folder)))


def _walk(root: Path, output: Path, record: str, problems: list[str]) -> list[Path]:
    """Return the photographs below a folder in order of their names; say what is passed over."""
    found, others, passed = [], Counter(), []
    for folder, names in _folders(root, output, record, problems, passed):
        for name in names:
            suffix = Path(name).suffix.lower()
            if suffix in SUFFIXES:
                found.append(folder / name)
            elif not name.startswith("."):
                others[suffix or "no suffix"] += 1
    found = [path for path in found if not path.name.startswith(".")]
    if others:
        kinds = ", ".join(sorted(others))
        say(f"{root}: passed over {others.total()} file(s) that are no photographs by their suffix ({kinds}).")
    for line in passed:
        say(line)
    return found


def _folders(
    root: Path, output: Path, record: str, problems: list[str], passed: list[str]
) -> Iterator[tuple[Path, list[str]]]:
    """Yield folders and the names of their files; none that leads back into itself, and no folder of results."""

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
                passed.append(f"{path}: passed over, a link that leads back to a folder above it.")
            elif real == os.path.realpath(output):
                passed.append(f"{path}: passed over, it is the folder of results.")
            elif (path / record).exists():
                passed.append(f"{path}: passed over, it holds results ({record}); name it in --input to restore them.")
            else:
                ancestors[str(path)] = above | {real}
                kept.append(name)
        subfolders[:] = kept
        yield Path(folder), sorted(names)
