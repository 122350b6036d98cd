"""What a command line that restores photographs comes to: jobs, and the folder where results go."""

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
from jaxdeblur.restoration.resume_record import RECORD, Job, plan_jobs

MARK = "_restored"  # ends the names of results that lie next to their photographs
WRITTEN_SUFFIXES = [suffix for kind in FILE_FORMATS.values() for suffix in kind.suffixes]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a command line comes to.

    Attributes:
        jobs: one for each photograph.
        output: the folder of results, or one above all of them.
        problems: a line for each folder that could not be read.
        keeps_record: `output` is a folder of results, not just where single files go.
    """

    jobs: list[Job]
    output: Path
    problems: list[str]
    keeps_record: bool


def make_plan(names: Sequence[str], output: Path | None, file_format: str | None) -> Plan:
    """Return what is to be done.

    Args:
        names: files, folders and patterns.
        output: a folder; or, for a single file, a name with the suffix of an image; or None: each result is written
            next to its photograph, under the photograph's name with `_restored` added.
        file_format: a key of FILE_FORMATS, or None: that of each photograph.

    Raises:
        InputError: an input is missing, or the output cannot be what it says.
    """
    if output is None:
        return _plan_beside(names, file_format)
    output = Path(os.path.expanduser(output)).absolute()
    suffix_format = format_of_suffix(output.suffix)
    if suffix_format and not output.is_dir():
        return _plan_one(names, output, file_format, suffix_format)
    if output.exists() and not output.is_dir():
        words = f"--output {output}: is a file; expected a folder, or a name with an image's suffix."
        raise InputError(words, code="output-is-file")
    if output.suffix.lower() in SUFFIXES and not output.exists():
        words = f"--output {output}: {output.suffix} cannot be written; choose one of {', '.join(WRITTEN_SUFFIXES)}."
        raise InputError(words, code="output-format")
    inputs = find_inputs(names, output, RECORD)
    if inputs.base.resolve() == output.resolve() and any(Path(name).is_dir() for name in names):
        raise InputError(
            f"--output {output}: is the folder of the photographs. Name another one, {output}/restored say.",
            code="output-is-input",
        )
    return Plan(plan_jobs(inputs.files, inputs.base, output, file_format), output, inputs.problems, True)


def _plan_beside(names: Sequence[str], file_format: str | None) -> Plan:
    folders = [name for name in names if Path(name).expanduser().is_dir()]
    if folders:
        raise InputError(
            f"--output: missing. {folders[0]} is a folder; name a folder for its results.", code="output-missing"
        )
    # The output is a name that no folder has, so that nothing is passed over for lying in it.
    inputs = find_inputs(names, Path(names[0]), RECORD)
    photographs = _without_marked(inputs.files)
    jobs = [
        dataclasses.replace(job, target=job.target.with_name(shorten_name(job.target.stem, MARK + job.target.suffix)))
        for job in plan_jobs(photographs, inputs.base, inputs.base, file_format)
    ]
    return Plan(jobs, inputs.base, inputs.problems, False)


def _without_marked(files: Sequence[Path]) -> list[Path]:
    """Return the files without results next to their photographs, which a shell's `*` names too."""
    stems = {file.with_suffix("") for file in files}
    marked = {file for file in files if file.stem.endswith(MARK) and _unmarked(file) in stems}
    if marked:
        say(f"Passed over {len(marked)} result(s) of earlier commands, whose names end in {MARK}.")
    return [file for file in files if file not in marked]


def _unmarked(file: Path) -> Path:
    return file.with_name(file.stem.removesuffix(MARK))


def _plan_one(names: Sequence[str], output: Path, file_format: str | None, suffix_format: str) -> Plan:
    # `output` holds nothing yet, so that nothing is passed over for lying in it.
    inputs = find_inputs(names, output, RECORD)
    if len(inputs.files) != 1 or Path(names[0]).is_dir():
        words = f"--output {output}: a file's name is for one input file; name a folder instead."
        raise InputError(words, code="output-for-one-file")
    if file_format not in (None, suffix_format):
        words = f"--output {output}: its suffix is not that of --format {file_format}. Drop one of them."
        raise InputError(words, code="output-format")
    return Plan([Job(inputs.files[0], output, suffix_format)], output.parent, inputs.problems, False)
