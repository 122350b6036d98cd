"""Which result belongs to which photo or video: one job per input file, each with its own target path."""

import dataclasses
import itertools
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxdeblur.files import shorten_name
from jaxdeblur.images.save import FILE_FORMATS, format_of_suffix


@dataclasses.dataclass(frozen=True)
class Job:
    """One file to restore.

    Attributes:
        source: the photo or video.
        target: the result.
        file_format: of the result: a key of `FILE_FORMATS` for photos, a suffix for videos.
    """

    source: Path
    target: Path
    file_format: str


@dataclasses.dataclass(frozen=True)
class OutputFormat:
    """The format of a result.

    Attributes:
        name: see `Job.file_format`.
        suffixes: in lower case; files with one of them keep it, others get the first.
    """

    name: str
    suffixes: tuple[str, ...]


def plan_jobs(files: Sequence[Path], base: Path, output: Path, file_format: str | None) -> list[Job]:
    """Return a job for each photo; no two share a target.

    Args:
        files: the photos.
        base: a folder above all of them.
        output: the folder of results.
        file_format: a key of `FILE_FORMATS`; None keeps each photo's format if it can be lossless, else uses PNG.
    """

    def choose_format(path: Path) -> OutputFormat:
        name = file_format or lossless_format(path)
        return OutputFormat(name, FILE_FORMATS[name].suffixes)

    return assign_targets(files, base, output, choose_format)


def lossless_format(path: Path) -> str:
    """Return the key in `FILE_FORMATS` of a file's suffix, or "png" if that format is lossy or cannot be written."""
    name = format_of_suffix(path.suffix)
    return name if name and name != "jpeg" else "png"


def assign_targets(
    files: Sequence[Path], base: Path, output: Path, choose_format: Callable[[Path], OutputFormat]
) -> list[Job]:
    """Return a job for each file, in order; no two share a target.

    Targets mirror, below `output`, the files' paths relative to `base`. A result keeps its source's name, with the
    suffix of its format. If two results would get the same name (a.jpg and a.png, both written as PNG), the one whose
    suffix changes gets the full source name: a.jpg.png. Names that differ only in case or Unicode normalization count
    as the same, because some file systems treat them so.
    """
    plans = []
    for path in files:
        file_format = choose_format(path)
        changes_suffix = path.suffix.lower() not in file_format.suffixes
        plans.append((changes_suffix, path, output / path.relative_to(base), file_format))
    jobs: dict[Path, Job] = {}
    taken: set[str] = set()
    # Files that keep their suffix choose first, so they also keep their names.
    for changes_suffix, path, mirrored, file_format in sorted(plans, key=lambda plan: plan[0]):
        suffix = file_format.suffixes[0]
        names = itertools.chain(
            [(mirrored.stem, suffix), (mirrored.name, suffix)] if changes_suffix else [(mirrored.name, "")],
            ((mirrored.name, f".{number}{suffix}") for number in itertools.count(2)),
        )
        targets = (mirrored.with_name(shorten_name(*name)) for name in names)
        target = next(target for target in targets if _normalized(target) not in taken)
        taken.add(_normalized(target))
        jobs[path] = Job(path, target, file_format.name)
    return [jobs[path] for path in files]


def _normalized(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()
