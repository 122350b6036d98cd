"""Take motion blur out of a video, frame by frame.

    python -m jaxdeblur.video --weights runs/transformnet --input clip.mp4 --output sharp.mp4

Sound and timing are kept. Needs PyAV: pip install '.[video]'. A clip that is not finished leaves nothing behind.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.clips import ENCODERS, open_clip, restore_clip
from jaxdeblur.console import ProgressBar, say, stop_on_signal
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.predict import check_tiles
from jaxdeblur.tiles import MULTIPLE, OVERLAP, TILE

LINE_SECONDS = 10.0  # between two lines where there is no terminal


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxdeblur.video", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="a run's folder, or a .safetensors")
    add("--input", type=Path, required=True, help="the video")
    add("--output", type=Path, required=True, help=f"the file to write: {', '.join(ENCODERS)}")
    add("--overwrite", action="store_true", help="replace the output if it is there")
    add("--batch_size", type=int, default=4, help="frames restored at once (%(default)s)")
    add("--quality", type=int, default=16, help="of the result, 0 to 51 (%(default)s): less is better and larger")
    add("--self_ensemble", action="store_true", help="mean over eight flips and turns: 8 times the work")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="what the network computes in")
    add("--tile", type=int, help=f"side of tiles, a multiple of {MULTIPLE}; 0 never cuts ({TILE} where it must)")
    add("--overlap", type=int, default=OVERLAP, help=f"of neighbouring tiles in pixels ({OVERLAP})")
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse what cannot be done.

    Raises:
        InputError: lists all that is wrong.
    """
    suffix = options.output.suffix.lower()
    checks = {
        f"--batch_size: {options.batch_size}, expected 1 or more": options.batch_size >= 1,
        f"--quality: {options.quality}, expected 0 to 51": 0 <= options.quality <= 51,
        f"--output: {options.output} ends in {suffix!r}, expected {', '.join(ENCODERS)}": suffix in ENCODERS,
        f"--output: {options.output} is there already; --overwrite replaces it": (
            options.overwrite or not options.output.exists()
        ),
        f"--output: {options.output} is the input": not (
            options.output.exists() and options.input.exists() and options.output.samefile(options.input)
        ),
        f"--output: {options.output.parent} is no folder; make it first": options.output.parent.is_dir(),
        **check_tiles(options.tile, options.overlap),
    }
    if problems := [words for words, good in checks.items() if not good]:
        raise InputError(list_problems("The command line:", problems, "Nothing was done."))


def run(options: argparse.Namespace) -> int:
    """Restore a video and return the exit status: 0, or 130 if it was stopped.

    Raises:
        InputError: something that the user can mend is wrong.
        OSError: the output cannot be written.
    """
    from jaxdeblur.memory import keep_freed_memory
    from jaxdeblur.programs import use_compilation_cache
    from jaxdeblur.restoration import load_restorer

    clip = open_clip(options.input)
    keep_freed_memory()
    use_compilation_cache("")
    cut = {"tile": options.tile, "overlap": options.overlap, "self_ensemble": options.self_ensemble}
    restorer = load_restorer(options.weights, dtype=options.dtype, **cut)
    bar, done, start = ProgressBar(clip.num_frames, 0, "frames"), 0, time.monotonic()
    spoken = start

    def progress(frames: int) -> None:
        nonlocal done, spoken
        done += frames
        bar.advance(frames)
        now = time.monotonic()
        if bar.on_terminal or now - spoken > LINE_SECONDS:
            spoken, rate = now, done / max(now - start, 1e-9)
            words = f"{rate:.2f} frames/s"
            total = f"{done}/{clip.num_frames or '?'} frames, "
            bar.show(words if bar.on_terminal else total + words, max(clip.num_frames - done, 0) / rate)

    with stop_on_signal("the frames under way", "from the first frame") as request:
        how = {"batch_size": options.batch_size, "quality": options.quality}
        whole = restore_clip(clip, options.output, restorer, **how, progress=progress, stop=lambda: bool(request))
    bar.close()
    for note in clip.notes:
        say(f"note: {note}.")
    if not whole:
        say("Stopped; nothing is left of the unfinished video.")
        return 130
    say(f"{done} frames restored, {done / max(time.monotonic() - start, 1e-9):.2f} a second: {options.output}")
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Restore a video; exit with a message if the user can mend what is wrong."""
    try:
        options = make_parser().parse_args(arguments)
        check_options(options)
        status = run(options)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
