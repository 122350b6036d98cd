"""Which videos a command line means, and which file each is restored to."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.console import say
from jaxdeblur.errors import InputError
from jaxdeblur.restoration.find_photos import find_inputs
from jaxdeblur.restoration.resume_record import RECORD, Job
from jaxdeblur.restoration.video.encoding import CONTAINERS
from jaxdeblur.synthesis.scenes import VIDEOS


@dataclasses.dataclass(frozen=True)
class VideoPlan:
    """What a command line comes to.

    Attributes:
        jobs: one for each video.
        folder: of results, which keeps a record of them; None if the output is a single file.
        problems: a line for each folder that could not be read.
    """

    jobs: list[Job]
    folder: Path | None
    problems: list[str]


def plan_videos(names: Sequence[str], output: Path) -> VideoPlan:
    """Return which video is restored to which file.

    Args:
        names: files, folders (all videos below them) and patterns.
        output: a folder; or, for a single file, a name with one of the suffixes of CONTAINERS.

    Raises:
        InputError: an input is missing or holds no video ("video-no-input"), or the output does not fit the inputs
            ("video-output").
    """
    output = Path(os.path.abspath(output.expanduser()))
    paths = [Path(name).expanduser() for name in names]
    meant_as_file = output.suffix and len(paths) == 1 and paths[0].is_file()
    if not output.is_dir() and (output.suffix.lower() in CONTAINERS or meant_as_file):
        return _plan_file(names, output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; expected a folder.", code="video-output")
    folders = [Path(os.path.abspath(path)) for path in paths if path.is_dir()]
    if output in folders:
        raise InputError(f"--output {output}: is the folder of the videos. Name another one.", code="video-output")
    expanded, problems = [], []
    for name, path in zip(names, paths, strict=True):
        expanded += map(str, _videos_below(path, output, problems)) if path.is_dir() else [name]
    if not expanded:
        raise InputError(
            f"--input {' '.join(names)}: holds no videos; expected files with the suffixes {', '.join(VIDEOS)}",
            code="video-no-input",
        )
    inputs = find_inputs(expanded, output, RECORD)
    base = Path(os.path.commonpath([inputs.base, *folders]))
    return VideoPlan(_plan_folder(inputs.files, base, output), output, problems + inputs.problems)


def _plan_file(names: Sequence[str], output: Path) -> VideoPlan:
    suffix = output.suffix.lower()
    if suffix not in CONTAINERS:
        raise InputError(
            f"--output: {output} ends in {output.suffix!r}, expected {', '.join(CONTAINERS)}", code="video-output"
        )
    wrong = InputError(f"--output {output}: names a file, which is for one video; name a folder.", code="video-output")
    if any(Path(name).expanduser().is_dir() for name in names):
        raise wrong
    inputs = find_inputs(names, output, RECORD)  # `output` holds nothing yet, so nothing in it is passed over
    if len(inputs.files) != 1:
        raise wrong
    if output.exists() and output.samefile(inputs.files[0]):
        raise InputError(f"--output: {output} is the input", code="video-output")
    if not output.parent.is_dir():
        raise InputError(f"--output: there is no folder {output.parent}; create it first", code="video-output")
    return VideoPlan([Job(inputs.files[0], output, suffix)], None, inputs.problems)


def _videos_below(root: Path, output: Path, problems: list[str]) -> list[Path]:
    """Return the videos below a folder, in order; say how many other files there are.

    Hidden files and folders, `output` and other folders of results are left out. Folders that cannot be read are added
    to `problems`.
    """

    def note(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read ({error.strerror})")

    found = []
    for folder, subfolders, names in os.walk(root, onerror=note):
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if not name.startswith(".")
            and os.path.abspath(Path(folder, name)) != str(output)
            and not Path(folder, name, RECORD).exists()
        ]
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    videos = [path for path in found if path.suffix.lower() in VIDEOS]
    if len(videos) < len(found):
        say(f"{root}: skipped {len(found) - len(videos)} file(s) whose suffix is not a video's.")
    return videos


def _plan_folder(files: Sequence[Path], base: Path, output: Path) -> list[Job]:
    """Return jobs whose results lie in `output` as their sources do in `base`.

    A format that cannot be written becomes .mp4. Where two results would get one name, as of a.avi and a.mp4, the one
    whose suffix changes is called by its whole name, a.avi.mp4. Names that differ in case alone count as one.
    """
    jobs, taken = {}, set()
    for path in sorted(files, key=lambda path: path.suffix.lower() not in CONTAINERS):  # those that keep names first
        place = output / path.relative_to(base)
        suffix = path.suffix.lower() if path.suffix.lower() in CONTAINERS else ".mp4"
        names = [place.name] if path.suffix.lower() == suffix else [place.stem + suffix, place.name + suffix]
        names += [f"{place.name}.{number}{suffix}" for number in range(2, len(files) + 2)]
        target = next(place.with_name(name) for name in names if str(place.with_name(name)).casefold() not in taken)
        taken.add(str(target).casefold())
        jobs[path] = Job(path, target, suffix)
    return [jobs[path] for path in files]
