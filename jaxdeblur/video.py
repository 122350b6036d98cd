"""Deblur videos, frame by frame.

    jaxdeblur video --input clip.mp4 --output sharp.mp4
    jaxdeblur video --weights runs/transformnet --input clips 'more/*.mov' --output restored

Sound and timing are kept. Needs PyAV: pip install '.[video]'. Run the same command again to resume.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.restoration.options import NetworkOptions, add_network_options, create_parser, exit_with, require_all
from jaxdeblur.restoration.video.encoding import CONTAINERS
from jaxdeblur.restoration.video.plan import VideoPlan, plan_videos

PROG = "python -m jaxdeblur.video"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = create_parser(prog, __doc__)
    add = parser.add_argument
    add("--input", nargs="+", required=True, help="videos, folders of videos, or patterns in quotes")
    add("--output", type=Path, required=True, help=f"a folder, or for one video a file: {', '.join(CONTAINERS)}")
    add("--overwrite", action="store_true", help="overwrite results, and unfinished ones of other settings")
    add("--batch_size", type=int, default=4, help="frames per batch (%(default)s)")
    add("--quality", type=int, default=16, help="constant rate factor, 0 to 51 (%(default)s); lower is better, larger")
    add_network_options(parser)
    return parser


def check_options(options: argparse.Namespace, plan: VideoPlan) -> None:
    """Refuse numbers out of range and an existing output file.

    Raises:
        InputError: lists all problems ("video-options").
    """
    checks = {
        f"--batch_size: {options.batch_size}, expected 1 or more": options.batch_size >= 1,
        f"--quality: {options.quality}, expected 0 to 51": 0 <= options.quality <= 51,
        **NetworkOptions.from_arguments(options).checks(),
    }
    if not plan.folder:  # a folder's record says what may be overwritten
        target = plan.jobs[0].target
        checks[f"--output: {target} exists; add --overwrite to overwrite it"] = options.overwrite or not target.exists()
    require_all(checks, code="video-options")


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> None:
    """Restore videos; exit with a message on user errors."""
    options = make_parser(prog).parse_args(arguments)

    def run() -> int:
        plan = plan_videos(options.input, options.output)
        check_options(options, plan)
        # Imported late, so --help and mistakes on the command line do not wait for JAX.
        from jaxdeblur.restoration.video.run import VideoOptions, run_videos

        return run_videos(plan, VideoOptions.from_arguments(options))

    exit_with(run)


if __name__ == "__main__":
    main()
