"""Remove motion blur from videos, frame by frame.

    python -m jaxdeblur.video --input clip.mp4 --output sharp.mp4
    python -m jaxdeblur.video --weights runs/transformnet --input clips 'more/*.mov' --output restored

Sound and timing are kept. Needs PyAV: pip install '.[video]'. The same command, started again, resumes where it was
stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.restoration.tiling import MULTIPLE, OVERLAP, TILE, check_tiles
from jaxdeblur.restoration.video.encoding import CONTAINERS
from jaxdeblur.restoration.video.jobs import VideoPlan, plan_videos
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP

PROG = "python -m jaxdeblur.video"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", help=WEIGHTS_HELP)
    add("--input", nargs="+", required=True, help="videos, folders of them, or patterns in quotes")
    add("--output", type=Path, required=True, help=f"a folder, or for one video a file: {', '.join(CONTAINERS)}")
    add("--overwrite", action="store_true", help="replace results, and unfinished ones of other settings")
    add("--batch_size", type=int, default=4, help="frames restored at once (%(default)s)")
    add("--quality", type=int, default=16, help="of the result, 0 to 51 (%(default)s): less is better and larger")
    add("--self_ensemble", action="store_true", help="mean over eight flips and turns: 8 times the work")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="what the network computes in")
    add("--tile", type=int, help=f"side of tiles, a multiple of {MULTIPLE}; 0 never cuts ({TILE} where it must)")
    add("--overlap", type=int, default=OVERLAP, help=f"of neighbouring tiles in pixels ({OVERLAP})")
    return parser


def check_options(options: argparse.Namespace, plan: VideoPlan) -> None:
    """Refuse what cannot be done.

    Raises:
        InputError: lists all that is wrong ("video-options").
    """
    checks = {
        f"--batch_size: {options.batch_size}, expected 1 or more": options.batch_size >= 1,
        f"--quality: {options.quality}, expected 0 to 51": 0 <= options.quality <= 51,
        **check_tiles(options.tile, options.overlap),
    }
    if not plan.folder:  # a folder has a record of what may be replaced
        target = plan.jobs[0].target
        checks[f"--output: {target} exists; add --overwrite to replace it"] = options.overwrite or not target.exists()
    if problems := [words for words, good in checks.items() if not good]:
        raise InputError(list_problems("The command line:", problems, "Nothing was done."), code="video-options")


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> None:
    """Restore videos; exit with a message if the user can fix what is wrong."""
    try:
        options = make_parser(prog).parse_args(arguments)
        plan = plan_videos(options.input, options.output)
        check_options(options, plan)
        # Imported here, so that --help and mistakes on the command line answer at once.
        from jaxdeblur.restoration.video.video_run import run_videos

        status = run_videos(plan, options)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
