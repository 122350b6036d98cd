"""The work of the command `restore`: load the network, restore the photos, show progress, report failures."""

import argparse
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jax

from jaxdeblur import __version__
from jaxdeblur.console import StopRequest, say, stop_on_signal
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.restoration.batch import Processing, Progress, restore_photos
from jaxdeblur.restoration.jobs import Job
from jaxdeblur.restoration.options import NetworkOptions
from jaxdeblur.restoration.photo_plan import PhotoPlan
from jaxdeblur.restoration.progress_display import ProgressDisplay
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.restoration.resume_record import Record, check_targets
from jaxdeblur.runtime.compilation import use_compilation_cache
from jaxdeblur.runtime.malloc import keep_freed_memory
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.pretrained.catalogue import resolve_weights
from jaxdeblur.weights.tensors import fingerprint


@dataclasses.dataclass(frozen=True)
class PhotoOptions:
    """Options of the command.

    Attributes:
        network: which network, and how it is applied.
        processing: what else is done to each photo.
        overwrite: overwrite files at the targets, except input files.
    """

    network: NetworkOptions
    processing: Processing
    overwrite: bool

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "PhotoOptions":
        """Return the options of a parsed command line."""
        processing = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Processing)}
        return cls(NetworkOptions.from_arguments(arguments), Processing(**processing), arguments.overwrite)


def run_photos(plan: PhotoPlan, options: PhotoOptions) -> int:
    """Restore photos and return the exit status: 0, 1 after failures, 130 if stopped.

    Raises:
        InputError: before anything was restored.
    """
    keep_freed_memory()
    use_compilation_cache("")
    network = load_network(resolve_weights(options.network.weights), dtype=options.network.dtype)
    # Everything that determines a result's content, except its format, which is in its name.
    settings = {"version": __version__, "weights": fingerprint(network.variables), **options.network.result_settings}
    processing = options.processing
    settings |= {name: getattr(processing, name) for name in ("quality", "side_by_side", "resize")}
    record = Record(plan.output, settings)
    check_targets(plan.jobs, record, overwrite=options.overwrite)
    pending = [job for job in plan.jobs if not record.is_done(job)]
    num_done = len(plan.jobs) - len(pending)
    if num_done:
        say(f"{num_done} of {len(plan.jobs)} are done already.")
    _create_folders([plan.output] if plan.keeps_record else sorted({job.target.parent for job in pending}))
    restorers = [
        Restorer(
            network.model,
            network.variables,
            tile=options.network.tile,
            overlap=options.network.overlap,
            self_ensemble=options.network.self_ensemble,
            device=device,
        )
        for device in jax.local_devices()[: len(pending)]
    ]
    with stop_on_signal("the photos in progress", "where it stopped") as stop:
        return _restore(pending, restorers, processing, stop, record, plan)


def _create_folders(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise InputError(
                f"--output {folder}: cannot be written to ({error.strerror}).", code="output-unwritable"
            ) from error


def _restore(
    pending: Sequence[Job],
    restorers: Sequence[Restorer],
    processing: Processing,
    stop: StopRequest,
    record: Record,
    plan: PhotoPlan,
) -> int:
    """Restore the pending photos, show progress, report what failed, and return the exit status."""
    total, problems, num_restored = len(plan.jobs), list(plan.problems), 0
    notes: Counter[str] = Counter()
    display = ProgressDisplay(total, total - len(pending), items="photos", unit="MP")
    events = restore_photos(pending, restorers, processing, stop=stop, record=record if plan.keeps_record else None)
    for event in events:
        if isinstance(event, Progress):
            display.add_work(event.photos, event.megapixels)
        else:
            num_restored += not event.error
            problems += [event.error] if event.error else []
            notes.update(event.notes)
            display.complete(1)
        display.update()
    display.close()
    for note, count in sorted(notes.items()):
        say(f"note: {count} photo(s): {note}.")
    throughput = f", {display.throughput:.2f} MP/s" if num_restored else ""
    say(f"{num_restored} photo(s) restored, in {plan.jobs[0].target if total == 1 else plan.output}{throughput}.")
    if problems:
        say(list_problems(f"{len(problems)} failed:", problems, "The others are not affected.", shown=None))
    if stop:
        say("Stopped. Run the same command to resume." if plan.keeps_record else "Stopped.")
        return 130
    return 1 if problems else 0
