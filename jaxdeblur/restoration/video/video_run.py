"""The work of `jaxdeblur.video` after its command line is parsed: restore, show progress, report failures."""

import argparse
import time
from pathlib import Path

from jaxdeblur import __version__
from jaxdeblur.console import ProgressBar, StopRequest, say, stop_on_signal
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.restoration.restorer import Restorer, load_model
from jaxdeblur.restoration.resume_record import Job, Record, refuse_danger, stamp_of
from jaxdeblur.restoration.video.jobs import VideoPlan
from jaxdeblur.restoration.video.restore import ClipJob, plan_clip, restore_clip
from jaxdeblur.restoration.video.source import require_pyav
from jaxdeblur.runtime.compilation import use_compilation_cache
from jaxdeblur.runtime.malloc import keep_freed_memory
from jaxdeblur.weights.tensors import fingerprint

LINE_SECONDS = 10.0  # between two lines where there is no terminal
SETTINGS = ("self_ensemble", "dtype", "tile", "overlap")


def run_videos(plan: VideoPlan, options: argparse.Namespace) -> int:
    """Restore videos and return the exit status: 0, 1 after failures, 130 if it was stopped.

    Raises:
        InputError: nothing could be begun, or the only video cannot be restored.
        OSError: the result of the only video cannot be written.
    """
    clips, problems = _inspect(plan, options.quality)
    keep_freed_memory()
    use_compilation_cache("")
    model, variables = load_model(options.weights, dtype=options.dtype)
    cut = {"tile": options.tile, "overlap": options.overlap, "self_ensemble": options.self_ensemble}
    restorer = Restorer(model, variables, **cut)
    # All that decides how a frame is restored.
    settings = {"version": __version__, "weights": fingerprint(variables)}
    settings |= {name: str(getattr(options, name)) for name in SETTINGS}
    record = None
    if plan.folder:
        record = Record(plan.folder, settings | {"quality": options.quality})
        refuse_danger(plan.jobs, record, overwrite=options.overwrite)
        finished = [job for job in clips if record.is_done(job)]
        if finished:
            say(f"{len(finished)} of {len(plan.jobs)} videos are restored already.")
        clips = {job: clip for job, clip in clips.items() if job not in finished}
        plan.folder.mkdir(parents=True, exist_ok=True)
    status = _restore_all(clips, plan, restorer, settings, record, options, problems)
    if problems:
        say(list_problems(f"{len(problems)} failed:", problems, "The others are not affected.", shown=None))
    return status or (1 if problems else 0)


def _restore_all(
    clips: dict[Job, ClipJob],
    plan: VideoPlan,
    restorer: Restorer,
    settings: dict[str, str],
    record: Record | None,
    options: argparse.Namespace,
    problems: list[str],
) -> int:
    """Restore one video after the other; return 130 if it was stopped, else 0.

    What is wrong with a video is added to `problems`; if it is the only one, it is raised.
    """
    with stop_on_signal("the frames under way", "from the last frames it saved") as request:
        for number, (job, clip) in enumerate(clips.items(), start=1):
            if len(clips) > 1:
                say(f"[{number}/{len(clips)}] {job.source}")
            try:
                if not _restore(clip, job, restorer, settings, record, options, request):
                    say("Stopped. The same command resumes where it was.")
                    return 130
            except (InputError, OSError) as error:
                if not plan.folder:
                    raise
                problems.append(str(error))
                if isinstance(error, OSError):  # a full disk, say: the others would fail too
                    return 0
    return 0


def _inspect(plan: VideoPlan, quality: int) -> tuple[dict[Job, ClipJob], list[str]]:
    """Return how each video is restored, and what is wrong with the others.

    Raises:
        InputError: none can be restored, or PyAV is not installed.
    """
    require_pyav()
    clips, errors = {}, []
    for job in plan.jobs:
        try:
            clips[job] = plan_clip(job.source, job.target, quality)
        except InputError as error:
            errors.append(error)
    if not clips:
        if len(errors) == 1 and not plan.problems:
            raise errors[0]
        problems = [*plan.problems, *map(str, errors)]
        raise InputError(
            list_problems("None of the videos can be restored:", problems, "Nothing was done.", shown=None),
            code="video-none-readable",
        )
    return clips, [*plan.problems, *map(str, errors)]


def _restore(
    clip: ClipJob,
    job: Job,
    restorer: Restorer,
    settings: dict[str, str],
    record: Record | None,
    options: argparse.Namespace,
    request: StopRequest,
) -> bool:
    """Restore one video and say how it went; return False if it was stopped."""
    source = stamp_of(job.source) if record else None

    def note_result(path: Path) -> None:
        if record:
            record.add(job, source, stamp_of(path))

    speed = _Progress(clip.clip.num_frames)
    whole = restore_clip(
        clip,
        restorer,
        settings=settings,
        batch_size=options.batch_size,
        overwrite=options.overwrite,
        progress=speed.update,
        stop=lambda: bool(request),
        before_naming=note_result,
    )
    speed.close()
    for note in dict.fromkeys(clip.notes):
        say(f"note: {note}.")
    if whole:
        say(f"{speed.restored} frames restored, {speed.frames_per_second:.2f} a second: {job.target}")
    return whole


class _Progress:
    """Shows how many frames of a video are done, and how fast."""

    def __init__(self, num_frames: int):
        self._num_frames, self._bar, self._resumed, self._done = num_frames, None, 0, 0
        self._start = self._shown = time.monotonic()

    def update(self, done: int) -> None:
        """Show that so many frames are done; at first how many an earlier command has done."""
        if self._bar is None:
            self._bar, self._resumed, self._done = ProgressBar(self._num_frames, done, "frames"), done, done
            self._start = self._shown = time.monotonic()
            if done:
                say(f"Resuming after frame {done}.")
            return
        self._bar.advance(done - self._done)
        self._done, now = done, time.monotonic()
        if self._bar.on_terminal or now - self._shown > LINE_SECONDS:
            self._shown, rate = now, self.frames_per_second
            total = "" if self._bar.on_terminal else f"{done}/{self._num_frames or '?'} frames, "
            self._bar.show(f"{total}{rate:.2f} frames/s", max(self._num_frames - done, 0) / rate)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar:
            self._bar.close()

    @property
    def restored(self) -> int:
        """How many frames were restored since the start."""
        return self._done - self._resumed

    @property
    def frames_per_second(self) -> float:
        """Since the start."""
        return max(self.restored, 1e-9) / max(time.monotonic() - self._start, 1e-9)
