"""Convert GOPRO_Large to fast records: a TFDS data set of raw pixels, from the published zip or the unpacked folder.

    jaxdeblur prepare-gopro --source GOPRO_Large.zip --output data/gopro --blur blur --frames 256

The zip is read in place, and everything in it is checked: 22 + 11 sequences, 2,103 + 1,111 pairs, every image. Train
with --config.data.root=data/gopro. Disk space for all of GOPRO_Large: `256` (resized to 256x256) 1.3 GB, `tiles` (full
frames for random crops) 17.8 GB, `full` (full frames as PNG) 6 GB.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.console import interrupt_on_sigterm
from jaxdeblur.errors import InputError

FRAMES = ("256", "tiles", "full")


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="GOPRO_Large.zip, or the folder of its files")
    parser.add_argument("--output", type=Path, required=True, help="folder for prepared data; TFDS's data_dir")
    parser.add_argument("--blur", required=True, choices=["blur", "blur_gamma"], help="blur variant")
    parser.add_argument("--frames", required=True, choices=FRAMES, nargs="+", help="storage format or formats")
    parser.add_argument("--partial", action="store_true", help="accept a part of the data set, recorded as such")
    return parser


def prepare(arguments: argparse.Namespace) -> None:
    """Prepare the data set in each of the formats and print the result.

    Raises:
        InputError: see `GoproLarge.download_and_prepare`; or the output lies inside the source (code
            "output-inside-input").
    """
    # Imported here, so that --help and errors on the command line appear at once.
    from jaxdeblur.data.array_records import open_folder_of_records
    from jaxdeblur.data.gopro.builder import GoproLarge
    from jaxdeblur.data.gopro.storage import DATA_SET, DATA_VERSION, config_name

    source, output = arguments.source.expanduser(), arguments.output.expanduser()
    if source.is_dir() and source.resolve() in (output.resolve(), *output.resolve().parents):
        raise InputError(
            f"--output: {output} is or lies in --source, {source}. Choose another folder.", code="output-inside-input"
        )
    for frames in arguments.frames:
        name = config_name(arguments.blur, frames)
        existing = output / DATA_SET / name / DATA_VERSION
        if exists := existing.exists():
            open_folder_of_records(existing)  # raises if it is incomplete or corrupt
        builder = GoproLarge(config=name, data_dir=output, source=source, partial=arguments.partial)
        builder.download_and_prepare()
        metadata = builder.info.metadata
        counts = ", ".join(f"{len(columns['frame']):,} {split}" for split, columns in metadata["pairs"].items())
        state = "already exists" if exists else "is ready"
        print(f"{builder.info.full_name} {state}: {counts} pairs. Train on it with --config.data.root={output}")
        if metadata["partial"]:
            print("It is a part of GOPRO_Large:", *metadata["missing"], sep="\n  - ")


def main(arguments: Sequence[str] | None = None, *, prog: str) -> None:
    """Prepare the data set; exit with a message on user errors."""
    options = make_parser(prog).parse_args(arguments)
    try:
        with interrupt_on_sigterm():
            prepare(options)
    except KeyboardInterrupt:
        sys.exit("Stopped; no incomplete data is left. Run the same command again.")
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
