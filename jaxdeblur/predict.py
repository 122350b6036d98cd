"""Deblur photos.

    jaxdeblur restore photo.jpg
    jaxdeblur restore photos --output restored
    python -m jaxdeblur.predict --input photos --output restored

Without --output, photo.jpg becomes photo_restored.png next to it. Files are only overwritten with --overwrite, and
input files never. Photos are restored at their original size and written losslessly. Formats that can be lossless are
kept: PNG, TIFF, WebP, BMP. JPEG, AVIF and HEIC become PNG, since recompression would cost some of the sharpness;
`--format jpeg` overrides this.

The exit status is 0 if all photos were restored, 1 if any failed or nothing could be started, 2 if the command line
cannot be parsed, and 130 after Ctrl-C.

With a folder as --output, run the same command again to resume.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.images.photo import MAX_MEGAPIXELS
from jaxdeblur.images.save import FILE_FORMATS
from jaxdeblur.restoration.options import NetworkOptions, add_network_options, create_parser, exit_with, require_all
from jaxdeblur.restoration.photo_plan import plan_photos

PROG = "python -m jaxdeblur.predict"


def make_parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = create_parser(prog, __doc__)
    add = parser.add_argument
    add("photos", nargs="*", metavar="PATH", help="files, folders, or patterns in quotes: 'a/**/*.jpg'")
    add("--input", nargs="+", default=[], metavar="PATH", help="the same, as an option")
    add("--output", type=Path, help="folder for the results; for a single file also a file name such as sharp.png")
    add(
        "--format",
        choices=FILE_FORMATS,
        help="of all results; if not given, each photo's, but PNG for JPEG, AVIF, HEIC",
    )
    add("--quality", type=int, default=95, help="of JPEG results, 1 to 100 (%(default)s), without chroma subsampling")
    add("--side_by_side", action="store_true", help="write input | result")
    add("--overwrite", action="store_true", help="overwrite existing files, except input files")
    add("--resize", type=int, default=0, metavar="SIDE", help="first resize each photo to SIDE x SIDE, bicubically")
    add("--max_megapixels", type=float, default=MAX_MEGAPIXELS, help="refuse larger photos (%(default)g)")
    add_network_options(parser)
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse numbers out of range.

    Raises:
        InputError: lists all of them ("restore-options").
    """
    require_all(
        {
            f"--quality: {options.quality}, expected 1 to 100": 1 <= options.quality <= 100,
            f"--resize: {options.resize}, expected 0 or more": options.resize >= 0,
            **NetworkOptions.from_arguments(options).checks(),
            f"--max_megapixels: {options.max_megapixels}, expected more than 0": options.max_megapixels > 0,
        },
        code="restore-options",
    )


def main(arguments: Sequence[str] | None = None, *, prog: str = PROG) -> None:
    """Restore photos; exit with a message on user errors."""
    parser = make_parser(prog)
    options = parser.parse_intermixed_args(arguments)
    names = options.photos + options.input
    if not names:
        parser.error("no photos given")

    def run() -> int:
        check_options(options)
        plan = plan_photos(names, options.output, options.format)
        # Imported late, so --help and mistakes on the command line do not wait for JAX.
        from jaxdeblur.restoration.photo_run import PhotoOptions, run_photos

        return run_photos(plan, PhotoOptions.from_arguments(options))

    exit_with(run)


if __name__ == "__main__":
    main()
