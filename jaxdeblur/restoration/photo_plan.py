"""From the command line of `restore` to jobs: inputs, output folder or file, and formats."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.errors import InputError
from jaxdeblur.files import shorten_name
from jaxdeblur.images.photo import SUFFIXES
from jaxdeblur.images.save import FILE_FORMATS, format_of_suffix
from jaxdeblur.restoration.find_photos import find_inputs
from jaxdeblur.restoration.jobs import Job, plan_jobs

RESULT_MARK = "_restored"  # ends the names of results that are written next to their photos
WRITABLE_SUFFIXES = [suffix for file_format in FILE_FORMATS.values() for suffix in file_format.suffixes]


@dataclasses.dataclass(frozen=True)
class PhotoPlan:
    """What a command line asks for.

    Attributes:
        jobs: one per photo.
        output: the folder of results, or a folder above all of them.
        problems: one line for each folder that could not be read.
        keeps_record: `output` is a folder of results with a record, not just the parent of single files.
    """

    jobs: list[Job]
    output: Path
    problems: list[str]
    keeps_record: bool


def plan_photos(names: Sequence[str], output: Path | None, file_format: str | None) -> PhotoPlan:
    """Return the jobs of a command line.

    Args:
        names: files, folders and patterns.
        output: a folder; or, for a single file, a file name with an image suffix; or None to write each result next to
            its photo, with `_restored` appended to the name.
        file_format: a key of `FILE_FORMATS`, or None to keep each photo's.

    Raises:
        InputError: an input is missing, or the output does not fit the inputs ("output-is-file", "output-format",
            "output-is-input", "output-missing", "output-for-one-file"; see also `find_inputs`).
    """
    if output is None:
        return _plan_next_to_photos(names, file_format)
    output = Path(os.path.expanduser(output)).absolute()
    suffix_format = format_of_suffix(output.suffix)
    if suffix_format and not output.is_dir():
        return _plan_single_file(names, output, file_format, suffix_format)
    if output.exists() and not output.is_dir():
        raise InputError(
            f"--output {output}: is a file; expected a folder, or a file name with an image suffix.",
            code="output-is-file",
        )
    if output.suffix.lower() in SUFFIXES and not output.exists():
        raise InputError(
            f"--output {output}: {output.suffix} cannot be written; choose one of {', '.join(WRITABLE_SUFFIXES)}.",
            code="output-format",
        )
    inputs = find_inputs(names, output)
    if inputs.base.resolve() == output.resolve() and any(Path(name).is_dir() for name in names):
        raise InputError(
            f"--output {output}: is the folder of the photos. Choose another one, such as {output}/restored.",
            code="output-is-input",
        )
    return PhotoPlan(plan_jobs(inputs.files, inputs.base, output, file_format), output, inputs.problems, True)


def _plan_next_to_photos(names: Sequence[str], file_format: str | None) -> PhotoPlan:
    folders = [name for name in names if Path(name).expanduser().is_dir()]
    if folders:
        raise InputError(
            f"--output: missing. {folders[0]} is a folder; name a folder for its results.", code="output-missing"
        )
    # No file lies below another file, so passing one as the output folder skips nothing.
    inputs = find_inputs(names, Path(names[0]))
    jobs = [
        dataclasses.replace(
            job, target=job.target.with_name(shorten_name(job.target.stem, RESULT_MARK + job.target.suffix))
        )
        for job in plan_jobs(_without_results(inputs.files), inputs.base, inputs.base, file_format)
    ]
    return PhotoPlan(jobs, inputs.base, inputs.problems, False)


def _without_results(files: Sequence[Path]) -> list[Path]:
    """Return the files that are not results next to their photos, which a shell's `*` matches too."""
    stems = {file.with_suffix("") for file in files}
    results = {file for file in files if file.stem.endswith(RESULT_MARK) and _without_mark(file) in stems}
    if results:
        say(f"Skipped {len(results)} result(s) of earlier commands, whose names end in {RESULT_MARK}.")
    return [file for file in files if file not in results]


def _without_mark(file: Path) -> Path:
    return file.with_name(file.stem.removesuffix(RESULT_MARK))


def _plan_single_file(names: Sequence[str], output: Path, file_format: str | None, suffix_format: str) -> PhotoPlan:
    inputs = find_inputs(names, output)
    if len(inputs.files) != 1 or Path(names[0]).is_dir():
        raise InputError(
            f"--output {output}: a file name is for one input file; name a folder instead.", code="output-for-one-file"
        )
    if file_format not in (None, suffix_format):
        raise InputError(
            f"--output {output}: its suffix contradicts --format {file_format}. Drop one of them.",
            code="output-format",
        )
    return PhotoPlan([Job(inputs.files[0], output, suffix_format)], output.parent, inputs.problems, False)
