"""Take motion blur out of photographs.

    jaxdeblur restore photo.jpg
    jaxdeblur restore photos --output restored
    python -m jaxdeblur.predict --input photos --output restored

Without --output, photo.jpg becomes photo_restored.png next to it. No file is replaced without --overwrite, and a
photograph never. Photographs are restored at their own size and written without loss. Formats that can be lossless are
kept: PNG, TIFF, WebP, BMP. JPEG and HEIC become PNG, since another round of their compression would cost some of the
sharpness; `--format jpeg` asks for it.

The exit status is 0 if all were restored, 1 if any failed or nothing could be begun, 2 if the command line cannot be
read, and 130 after Ctrl-C.

The same command, started again, continues where it stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.images.photo import MAX_MEGAPIXELS
from jaxdeblur.images.save import FILE_FORMATS
from jaxdeblur.restoration.jobs import make_plan
from jaxdeblur.restoration.tiling import MULTIPLE, OVERLAP, TILE, check_tiles
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP

PROG = "python -m jaxdeblur.predict"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", help=WEIGHTS_HELP)
    add("photographs", nargs="*", metavar="PATH", help="files, folders, or patterns in quotes: 'a/**/*.jpg'")
    add("--input", nargs="+", default=[], metavar="PATH", help="the same, after an option")
    add("--output", type=Path, help="folder of results; of a single file also a name such as sharp.png")
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
    checks = {
        f"--quality: {options.quality}, expected 1 to 100": 1 <= options.quality <= 100,
        f"--resize: {options.resize}, expected 0 or more": options.resize >= 0,
        **check_tiles(options.tile, options.overlap),
        f"--max_megapixels: {options.max_megapixels}, expected more than 0": options.max_megapixels > 0,
    }
    if problems := [words for words, good in checks.items() if not good]:
        raise InputError(list_problems("The command line:", problems, "Nothing was done."))


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> None:
    """Restore photographs; exit with a message for a mistake that the user can fix."""
    parser = make_parser(prog)
    options = parser.parse_intermixed_args(arguments)
    names = options.photographs + options.input
    if not names:
        parser.error("no photographs are named")
    try:
        check_options(options)
        plan = make_plan(names, options.output, options.format)
        # Imported here, so that --help and mistakes on the command line answer at once.
        from jaxdeblur.restoration.photo_run import run_plan

        status = run_plan(plan, options)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
