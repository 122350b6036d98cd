"""From the command line of `video` to jobs: which videos, and which file each is restored to."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.errors import InputError
from jaxdeblur.restoration.find_photos import find_inputs
from jaxdeblur.restoration.jobs import Job, OutputFormat, assign_targets
from jaxdeblur.restoration.resume_record import RECORD
from jaxdeblur.restoration.video.encoding import CONTAINERS
from jaxdeblur.videos.reader import VIDEO_SUFFIXES


@dataclasses.dataclass(frozen=True)
class VideoPlan:
    """What a command line asks for.

    Attributes:
        jobs: one per video.
        folder: of results, with a record; None if the output is a single file.
        problems: one line for each folder that could not be read.
    """

    jobs: list[Job]
    folder: Path | None
    problems: list[str]


def plan_videos(names: Sequence[str], output: Path) -> VideoPlan:
    """Return the jobs of a command line.

    Args:
        names: files, folders (searched recursively) and patterns.
        output: a folder; or, for a single file, a file name with a suffix of `CONTAINERS`.

    Raises:
        InputError: an input is missing or there are no videos ("input-missing", "video-no-input"), or the output does
            not fit the inputs ("video-output").
    """
    output = Path(os.path.abspath(output.expanduser()))
    paths = [Path(name).expanduser() for name in names]
    is_file_name = output.suffix and len(paths) == 1 and paths[0].is_file()
    if not output.is_dir() and (output.suffix.lower() in CONTAINERS or is_file_name):
        return _plan_single_file(names, output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; expected a folder.", code="video-output")
    folders = [Path(os.path.abspath(path)) for path in paths if path.is_dir()]
    if output in folders:
        raise InputError(f"--output {output}: is the folder of the videos. Choose another one.", code="video-output")
    files: list[str] = []
    problems: list[str] = []
    for name, path in zip(names, paths, strict=True):
        files += map(str, _videos_below(path, output, problems)) if path.is_dir() else [name]
    if not files:
        raise InputError(
            f"--input {' '.join(names)}: no videos; expected files with the suffixes {', '.join(VIDEO_SUFFIXES)}",
            code="video-no-input",
        )
    inputs = find_inputs(files, output)
    base = Path(os.path.commonpath([inputs.base, *folders]))
    jobs = assign_targets(inputs.files, base, output, _choose_format)
    return VideoPlan(jobs, output, problems + inputs.problems)


def _choose_format(path: Path) -> OutputFormat:
    suffix = path.suffix.lower() if path.suffix.lower() in CONTAINERS else ".mp4"
    return OutputFormat(suffix, (suffix,))


def _plan_single_file(names: Sequence[str], output: Path) -> VideoPlan:
    suffix = output.suffix.lower()
    if suffix not in CONTAINERS:
        raise InputError(
            f"--output: {output} ends in {output.suffix!r}, expected {', '.join(CONTAINERS)}", code="video-output"
        )
    several = InputError(
        f"--output {output}: a file name is for one input file; name a folder instead.", code="video-output"
    )
    if any(Path(name).expanduser().is_dir() for name in names):
        raise several
    inputs = find_inputs(names, output)
    if len(inputs.files) != 1:
        raise several
    if output.exists() and output.samefile(inputs.files[0]):
        raise InputError(f"--output: {output} is the input", code="video-output")
    if not output.parent.is_dir():
        raise InputError(f"--output: there is no folder {output.parent}; create it first", code="video-output")
    return VideoPlan([Job(inputs.files[0], output, suffix)], None, inputs.problems)


def _videos_below(root: Path, output: Path, problems: list[str]) -> list[Path]:
    """Return the videos below a folder, in order; report how many other files were skipped.

    Hidden files and folders, `output` and other folders of results are skipped. Folders that cannot be read are added
    to `problems`.
    """

    def add_problem(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read ({error.strerror})")

    files: list[Path] = []
    for folder, subfolders, names in os.walk(root, onerror=add_problem):
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if not name.startswith(".")
            and os.path.abspath(Path(folder, name)) != str(output)
            and not Path(folder, name, RECORD).exists()
        ]
        files += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    if len(videos) < len(files):
        say(f"{root}: skipped {len(files) - len(videos)} file(s) without a video's suffix.")
    return videos
