"""What a command line that restores photographs comes to: jobs, and the folder where results go."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.inputs import find_inputs
from jaxdeblur.outputs import RECORD, Job, plan_jobs
from jaxdeblur.photo_files import FILE_FORMATS, format_of_suffix
from jaxdeblur.photos import SUFFIXES

WRITTEN_SUFFIXES = [suffix for kind in FILE_FORMATS.values() for suffix in kind.suffixes]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a command line comes to.

    Attributes:
        jobs: one for each photograph.
        output: the folder of results.
        problems: a line for each folder that could not be read.
        keeps_record: `output` is a folder of results, not just where one file goes.
    """

    jobs: list[Job]
    output: Path
    problems: list[str]
    keeps_record: bool


def make_plan(names: Sequence[str], output: Path, file_format: str | None) -> Plan:
    """Return what is to be done.

    Args:
        names: files, folders and patterns.
        output: a folder; or, for a single file, a name with the suffix of an image.
        file_format: a key of FILE_FORMATS, or None: that of each photograph.

    Raises:
        InputError: an input is missing, or the output cannot be what it says.
    """
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
