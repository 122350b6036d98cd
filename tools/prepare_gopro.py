"""Turn GOPRO_Large into fast records: a TFDS data set of raw pixels, from the authors' zip or the unpacked folder.

    python tools/prepare_gopro.py --source GOPRO_Large.zip --output data/gopro --blur blur --frames 256

The zip is read in place. Everything in it is checked: 22 + 11 sequences, 2,103 + 1,111 pairs, every image. Train with
--config.data.root=data/gopro. On disk, for all of GOPRO_Large: `256` (resized to 256x256) 1.3 GB, `tiles` (full frames
for random crops) 17.8 GB, `full` (full frames as PNG) 6 GB.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from jaxdeblur.errors import InputError

FRAMES = ("256", "tiles", "full")


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="GOPRO_Large.zip, or the folder of its files")
    parser.add_argument("--output", type=Path, required=True, help="folder for prepared data; TFDS's data_dir")
    parser.add_argument("--blur", required=True, choices=["blur", "blur_gamma"], help="which of the two blurred images")
    parser.add_argument("--frames", required=True, choices=FRAMES, nargs="+", help="form or forms of the frames")
    parser.add_argument(
        "--partial", action="store_true", help="accept a part of the data set, and record that it is one"
    )
    return parser.parse_args()


def main() -> None:
    """Prepare the data set, once for each of the sizes."""
    arguments = parse_arguments()
    # Imported here, so that --help and mistakes on the command line answer at once.
    from jaxdeblur.data.array_records import open_folder_of_records
    from jaxdeblur.data.gopro.builder import GoproLarge
    from jaxdeblur.data.gopro.storage import DATA_SET, DATA_VERSION, config_name

    source, output = arguments.source.expanduser(), arguments.output.expanduser()
    if source.is_dir() and source.resolve() in (output.resolve(), *output.resolve().parents):
        raise InputError(f"--output: {output} is or lies in --source, {source}. Choose another folder.")
    for frames in arguments.frames:
        present = output / DATA_SET / config_name(arguments.blur, frames) / DATA_VERSION
        if already := present.exists():
            open_folder_of_records(present)  # nothing in it is missing or damaged
        builder = GoproLarge(
            config=config_name(arguments.blur, frames),
            data_dir=output,
            source=source,
            partial=arguments.partial,
        )
        builder.download_and_prepare()
        pairs = builder.info.metadata["pairs"]
        counts = ", ".join(f"{len(columns['frame']):,} {split}" for split, columns in pairs.items())
        words = "is there already" if already else "is ready"
        print(f"{builder.info.full_name} {words}: {counts} pairs. Train on it with --config.data.root={output}")
        if builder.info.metadata["partial"]:
            print("It is a part of GOPRO_Large:", *builder.info.metadata["missing"], sep="\n  - ")


def stop(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that nothing half made is left."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Stopped; nothing half made is left. Start the same command again.")
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
