"""The work of the command `video`: load the network, restore the videos, show progress, report failures."""

import argparse
import dataclasses
from pathlib import Path

from jaxdeblur import __version__
from jaxdeblur.console import StopRequest, say, stop_on_signal
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import FileFingerprint
from jaxdeblur.restoration.jobs import Job
from jaxdeblur.restoration.options import NetworkOptions
from jaxdeblur.restoration.progress_display import ProgressDisplay
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.restoration.resume_record import Record, check_targets
from jaxdeblur.restoration.video.job import VideoJob, plan_restoration
from jaxdeblur.restoration.video.plan import VideoPlan
from jaxdeblur.restoration.video.restore import restore_video
from jaxdeblur.runtime.compilation import use_compilation_cache
from jaxdeblur.runtime.malloc import keep_freed_memory
from jaxdeblur.videos.reader import require_pyav
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.pretrained.catalogue import resolve_weights
from jaxdeblur.weights.tensors import fingerprint


@dataclasses.dataclass(frozen=True)
class VideoOptions:
    """Options of the command.

    Attributes:
        network: which network, and how it is applied.
        batch_size: frames per batch.
        quality: constant rate factor, 0 to 51.
        overwrite: overwrite results, and partial ones of other settings.
    """

    network: NetworkOptions
    batch_size: int
    quality: int
    overwrite: bool

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "VideoOptions":
        """Return the options of a parsed command line."""
        network = NetworkOptions.from_arguments(arguments)
        return cls(network, arguments.batch_size, arguments.quality, arguments.overwrite)


def run_videos(plan: VideoPlan, options: VideoOptions) -> int:
    """Restore videos and return the exit status: 0, 1 after failures, 130 if stopped.

    Raises:
        InputError: before anything was restored, or if the only video cannot be restored.
        OSError: the result of the only video cannot be written.
    """
    videos, problems = _plan_restorations(plan, options.quality)
    keep_freed_memory()
    use_compilation_cache("")
    network = load_network(resolve_weights(options.network.weights), dtype=options.network.dtype)
    restorer = Restorer(
        network.model,
        network.variables,
        tile=options.network.tile,
        overlap=options.network.overlap,
        self_ensemble=options.network.self_ensemble,
    )
    # Everything that determines how a frame is restored.
    settings = {"version": __version__, "weights": fingerprint(network.variables)}
    settings |= {name: str(value) for name, value in options.network.result_settings.items()}
    run = _Run(plan, options, restorer, settings)
    if run.record and plan.folder:
        check_targets(plan.jobs, run.record, overwrite=options.overwrite)
        num_videos = len(videos)
        videos = {job: video for job, video in videos.items() if not run.record.is_done(job)}
        if len(videos) < num_videos:
            say(f"{num_videos - len(videos)} of {len(plan.jobs)} videos are done already.")
        plan.folder.mkdir(parents=True, exist_ok=True)
    with stop_on_signal("the frames in progress", "from the last frames it saved") as stop:
        completed = run.restore_all(videos, problems, stop)
    if problems:
        say(list_problems(f"{len(problems)} failed:", problems, "The others are not affected.", shown=None))
    if not completed:
        return 130
    return 1 if problems else 0


def _plan_restorations(plan: VideoPlan, quality: int) -> tuple[dict[Job, VideoJob], list[str]]:
    """Return how each video is restored, and the problems of those that cannot be.

    Raises:
        InputError: none can be restored ("video-none-readable"), or PyAV is not installed ("missing-extra").
    """
    require_pyav()
    videos: dict[Job, VideoJob] = {}
    errors: list[InputError] = []
    for job in plan.jobs:
        try:
            videos[job] = plan_restoration(job.source, job.target, quality)
        except InputError as error:
            errors.append(error)
    problems = [*plan.problems, *map(str, errors)]
    if not videos:
        if len(errors) == 1 and not plan.problems:
            raise errors[0]
        raise InputError(
            list_problems("None of the videos can be restored:", problems, "Nothing was done.", shown=None),
            code="video-none-readable",
        )
    return videos, problems


class _Run:
    """What all videos of a command share.

    Attributes:
        record: of the folder of results; None if the output is a single file.
    """

    def __init__(self, plan: VideoPlan, options: VideoOptions, restorer: Restorer, settings: dict[str, str]):
        self._options, self._restorer, self._settings = options, restorer, settings
        self.record = Record(plan.folder, settings | {"quality": options.quality}) if plan.folder else None

    def restore_all(self, videos: dict[Job, VideoJob], problems: list[str], stop: StopRequest) -> bool:
        """Restore one video after the other; return False if stopped.

        Args:
            videos: the jobs.
            problems: of each video that fails, a line is appended; without a record, the error is raised instead.
            stop: requests to stop.
        """
        for number, (job, video) in enumerate(videos.items(), start=1):
            if len(videos) > 1:
                say(f"[{number}/{len(videos)}] {job.source}")
            try:
                if not self._restore(job, video, stop):
                    say("Stopped. Run the same command to resume.")
                    return False
            except (InputError, OSError) as error:
                if not self.record:
                    raise
                problems.append(str(error))
                if isinstance(error, OSError):  # such as a full disk: the others would fail as well
                    break
        return True

    def _restore(self, job: Job, video: VideoJob, stop: StopRequest) -> bool:
        """Restore one video and print how it went; return False if stopped."""
        source = FileFingerprint.of(job.source) if self.record else None

        def add_to_record(complete_file: Path) -> None:
            if self.record and source:
                self.record.add(job, source, FileFingerprint.of(complete_file))

        progress = _FrameProgress(video.video.num_frames)
        completed = restore_video(
            video,
            self._restorer,
            settings=self._settings,
            batch_size=self._options.batch_size,
            overwrite=self._options.overwrite,
            progress=progress.update,
            stop=lambda: bool(stop),
            before_rename=add_to_record,
        )
        progress.close()
        for note in dict.fromkeys(video.notes):
            say(f"note: {note}.")
        if completed:
            say(f"{progress.num_restored} frames restored, {progress.throughput:.2f} frames/s: {job.target}")
        return completed


class _FrameProgress:
    """Shows how many frames of a video are done.

    Attributes:
        num_restored: frames restored by this command.
    """

    def __init__(self, num_frames: int):
        self.num_restored = 0
        self._num_frames, self._num_resumed = num_frames, 0
        self._display: ProgressDisplay | None = None

    def update(self, done: int) -> None:
        """Show the number of frames done; the first call states those of earlier commands."""
        if self._display is None:
            self._num_resumed = done
            self._display = ProgressDisplay(self._num_frames, done, items="frames", unit="frames")
            if done:
                say(f"Resuming after frame {done}.")
            return
        frames = done - self._num_resumed - self.num_restored
        self.num_restored += frames
        self._display.add_work(frames, frames)
        self._display.complete(frames)
        self._display.update()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._display:
            self._display.close()

    @property
    def throughput(self) -> float:
        """Frames per second."""
        return self._display.throughput if self._display else 0.0
