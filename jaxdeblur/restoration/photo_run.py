"""What `jaxdeblur.predict` does once its command line is understood: restore, show progress, say what failed."""

import argparse
import tempfile
import time
from collections import Counter

import jax

from jaxdeblur import __version__
from jaxdeblur.console import ProgressBar, say, stop_on_signal
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.restoration.batch import Batch, Progress, Treatment
from jaxdeblur.restoration.jobs import Plan
from jaxdeblur.restoration.restorer import Restorer, load_model
from jaxdeblur.restoration.resume_record import Record, refuse_danger
from jaxdeblur.runtime.compilation import use_compilation_cache
from jaxdeblur.runtime.malloc import keep_freed_memory
from jaxdeblur.weights.tensors import fingerprint

LINE_SECONDS = 10.0  # between two lines where there is no terminal
SETTINGS = ("quality", "side_by_side", "self_ensemble", "resize", "dtype", "tile", "overlap")


def run_plan(plan: Plan, options: argparse.Namespace) -> int:
    """Restore photographs and return the exit status: 0, 1 after failures, 130 if it was stopped.

    Raises:
        InputError: nothing could be begun.
    """
    keep_freed_memory()
    use_compilation_cache("")
    model, variables = load_model(options.weights, dtype=options.dtype)
    # All that decides what a result looks like, but for its format, which its name says.
    settings = {"version": __version__, "weights": fingerprint(variables)}
    record = Record(plan.output, settings | {name: getattr(options, name) for name in SETTINGS})
    refuse_danger(plan.jobs, record, overwrite=options.overwrite)
    left = [job for job in plan.jobs if not record.is_done(job)]
    done = len(plan.jobs) - len(left)
    if done:
        say(f"{done} of {len(plan.jobs)} are done already.")
    for folder in [plan.output] if plan.keeps_record else sorted({job.target.parent for job in left}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise InputError(f"--output {folder}: cannot be written to ({error.strerror}).") from error
    cut = {"tile": options.tile, "overlap": options.overlap, "self_ensemble": options.self_ensemble}
    devices = jax.local_devices()[: len(left)]
    restorers = [Restorer(model, variables, device=device, **cut) for device in devices]
    treatment = Treatment(options.resize, options.side_by_side, options.quality, options.max_megapixels)
    batch = Batch(left, restorers, treatment, record if plan.keeps_record else None)
    return _follow(batch, plan, done)


class _Speed:
    """How fast photographs are restored, and when it is time to say so."""

    def __init__(self, photographs: int):
        self._left, self._done, self._megapixels = photographs, 0.0, 0.0
        self._start = self._spoken = time.monotonic()

    def count(self, progress: Progress) -> None:
        self._done += progress.photographs
        self._megapixels += progress.megapixels

    def is_due(self, on_terminal: bool) -> bool:
        """Return whether it is time to speak, ten times a second at most; plain lines come more rarely."""
        now = time.monotonic()
        due = now - self._spoken > (0.1 if on_terminal else LINE_SECONDS)
        self._spoken = now if due else self._spoken
        return due

    @property
    def megapixels_per_second(self) -> float:
        return self._megapixels / max(time.monotonic() - self._start, 1e-9)

    @property
    def seconds_left(self) -> float:
        passed = time.monotonic() - self._start
        return passed * (self._left - self._done) / max(self._done, 1e-9)


def _follow(batch: Batch, plan: Plan, done: int) -> int:
    """Show progress until all has ended, say what failed, and return the exit status."""
    total, problems, notes, good = len(plan.jobs), list(plan.problems), Counter(), 0
    bar, speed = ProgressBar(total, done), _Speed(total - done)
    with stop_on_signal("the photographs under way", "where it was") as request:
        for event in batch.results(request):
            if isinstance(event, Progress):
                speed.count(event)
            else:
                good += not event.error
                problems += [event.error] if event.error else []
                notes.update(event.notes)
                bar.advance(1)
            if speed.is_due(bar.on_terminal):
                words = f"{speed.megapixels_per_second:.2f} MP/s"
                bar.show(
                    words if bar.on_terminal else f"{done + good}/{total} photographs, {words}", speed.seconds_left
                )
    bar.close()
    for words, count in sorted(notes.items()):
        say(f"note: {count} photograph(s): {words}.")
    words = f", {speed.megapixels_per_second:.2f} MP/s" if good else ""
    say(f"{good} photograph(s) restored, in {plan.jobs[0].target if total == 1 else plan.output}{words}.")
    if problems:
        say(list_problems(f"{len(problems)} failed:", problems, "The others are not touched by this.", shown=None))
    if request:
        say("Stopped. Start the same command again to go on where it was.")
        return 130
    return 1 if problems else 0
