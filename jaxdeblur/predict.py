"""Take motion blur out of photographs.

    python -m jaxdeblur.predict --weights runs/transformnet --input photos --output restored

Photographs are restored at their own size and written without loss. Formats that can be lossless are kept: PNG, TIFF,
WebP, BMP. JPEG and HEIC become PNG, since another round of their compression would take from the result what was just
won; `--format jpeg` asks for it.

The same command, started again, goes on where it was stopped.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdeblur import __version__
from jaxdeblur.console import ProgressBar, say, stop_on_signal
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.inputs import find_inputs
from jaxdeblur.outputs import RECORD, Job, Record, plan_jobs, refuse_danger
from jaxdeblur.photo_files import FILE_FORMATS, format_of_suffix
from jaxdeblur.photos import MAX_MEGAPIXELS
from jaxdeblur.tiles import MULTIPLE, OVERLAP, TILE

LINE_SECONDS = 10.0  # between two lines where there is no terminal


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxdeblur.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="a run's folder, or a .safetensors")
    add("--input", nargs="+", required=True, metavar="PATH", help="files, folders, or patterns in quotes: 'a/**/*.jpg'")
    add("--output", type=Path, required=True, help="folder of results; of a single file also a name such as sharp.png")
    add(
        "--format",
        choices=FILE_FORMATS,
        help="of all results; otherwise that of each photograph, PNG for JPEG and HEIC",
    )
    add("--quality", type=int, default=95, help="of JPEG results, 1 to 100 (95); colours at full resolution")
    add("--side_by_side", action="store_true", help="write input | result")
    add("--overwrite", action="store_true", help="replace files that are in the way; photographs never")
    add("--self_ensemble", action="store_true", help="mean over eight flips and turns: 8 times the work")
    add(
        "--resize",
        type=int,
        default=0,
        metavar="SIDE",
        help="first resize whole photographs to SIDE x SIDE, bicubically",
    )
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="what the network computes in")
    add("--tile", type=int, help=f"side of tiles, a multiple of {MULTIPLE}; 0 never cuts ({TILE} where it must)")
    add("--overlap", type=int, default=OVERLAP, help=f"of neighbouring tiles in pixels ({OVERLAP})")
    add("--max_megapixels", type=float, default=MAX_MEGAPIXELS, help="refuse larger ones as bombs (%(default)g)")
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing.

    Raises:
        InputError: lists all of them.
    """
    tile = TILE if options.tile is None else options.tile
    checks = {
        f"--quality: {options.quality}, expected 1 to 100": 1 <= options.quality <= 100,
        f"--resize: {options.resize}, expected 0 or more": options.resize >= 0,
        f"--tile: {tile}, expected 0 or a multiple of {MULTIPLE}": tile >= 0 and tile % MULTIPLE == 0,
        f"--overlap: {options.overlap}, expected 0 to --tile less {MULTIPLE}": (
            not tile or 0 <= options.overlap <= tile - MULTIPLE
        ),
        f"--max_megapixels: {options.max_megapixels}, expected more than 0": options.max_megapixels > 0,
    }
    if problems := [words for words, good in checks.items() if not good]:
        raise InputError(list_problems("The command line:", problems, "Nothing was done."))


def plan(options: argparse.Namespace) -> tuple[list[Job], Path, list[str], bool]:
    """Return the jobs, the folder of results, problems found on the way, and whether the folder has a record.

    Raises:
        InputError: an input is missing, or the output cannot be what it says.
    """
    output = Path(options.output).expanduser().absolute()
    suffix_format = format_of_suffix(output.suffix)
    if suffix_format and not output.is_dir():
        inputs = find_inputs(options.input, output.parent, RECORD)
        if len(inputs.files) != 1 or inputs.base != inputs.files[0].parent:
            raise InputError(f"--output {output}: a file's name is for one input file; name a folder instead.")
        if options.format not in (None, suffix_format):
            raise InputError(
                f"--output {output}: its suffix is not that of --format {options.format}. Drop one of them."
            )
        return [Job(inputs.files[0], output, suffix_format)], output.parent, inputs.problems, False
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; expected a folder, or a name with an image's suffix.")
    inputs = find_inputs(options.input, output, RECORD)
    if inputs.base.resolve() == output.resolve() and any(Path(name).is_dir() for name in options.input):
        raise InputError(
            f"--output {output}: is the folder of the photographs. Name another one, {output}/restored say."
        )
    return plan_jobs(inputs.files, inputs.base, output, options.format), output, inputs.problems, True


def settings_of(options: argparse.Namespace, weights_sha256: str) -> dict[str, Any]:
    """Return all that decides what a result looks like."""
    names = ("format", "quality", "side_by_side", "self_ensemble", "resize", "dtype", "tile", "overlap")
    return {"version": __version__, "weights": weights_sha256} | {name: getattr(options, name) for name in names}


def restore_photographs(options: argparse.Namespace) -> int:
    """Do what the command line says, and return the exit status: 0, 1 after failures, 130 if it was stopped.

    Raises:
        InputError: nothing could be begun.
    """
    check_options(options)
    jobs, output, problems, keeps_record = plan(options)
    # Imported here, so that --help and mistakes on the command line answer at once.
    import jax

    from jaxdeblur.batch_restoration import Batch, Treatment
    from jaxdeblur.programs import use_compilation_cache
    from jaxdeblur.restoration import Restorer, load_model
    from jaxdeblur.weights import fingerprint

    use_compilation_cache("")
    model, variables, placed = load_model(options.weights, dtype=options.dtype)
    record = Record(output, settings_of(options, fingerprint(variables)))
    refuse_danger(jobs, record, overwrite=options.overwrite)
    left = [job for job in jobs if not record.is_done(job)]
    if len(left) < len(jobs):
        say(f"{len(jobs) - len(left)} of {len(jobs)} are done already.")
    output.mkdir(parents=True, exist_ok=True)
    cut = {"tile": options.tile, "overlap": options.overlap, "self_ensemble": options.self_ensemble}
    restorers = [
        Restorer(model, variables, placed=placed, device=device, **cut) for device in jax.local_devices()[: len(left)]
    ]
    treatment = Treatment(options.resize, options.side_by_side, options.quality, options.max_megapixels)
    batch = Batch(left, restorers, treatment, record if keeps_record else None)
    return _follow(batch, len(jobs), len(jobs) - len(left), problems, output)


def _follow(batch: Any, total: int, done: int, problems: list[str], output: Path) -> int:
    """Show progress until all has ended, say what failed, and return the exit status."""
    notes, megapixels, begun, good = Counter(), 0.0, done, 0
    bar, start = ProgressBar(total, done), time.monotonic()
    spoken = start
    with stop_on_signal("the photographs under way", "where it was") as request:
        for result in batch.results(request):
            done, megapixels, now = done + 1, megapixels + result.megapixels, time.monotonic()
            notes.update(result.notes)
            if result.error:
                problems.append(result.error)
            else:
                good += 1
            bar.advance(1)
            if bar.on_terminal or now - spoken > LINE_SECONDS or done == total:
                spoken = now
                seconds_left = (now - start) / (done - begun) * (total - done)
                bar.show(f"{done}/{total} photographs, {megapixels / (now - start):.2f} MP/s", seconds_left)
    bar.close()
    for words, count in sorted(notes.items()):
        say(f"note: {count} photograph(s): {words}.")
    say(f"{good} photograph(s) restored, in {output}.")
    if problems:
        say(list_problems(f"{len(problems)} failed:", problems, "The others are done.", shown=None))
    if request:
        say("Stopped. Start the same command again to go on.")
        return 130
    return 1 if problems else 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Restore photographs; exit with a message if the user can mend what is wrong."""
    try:
        status = restore_photographs(make_parser().parse_args(arguments))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
