"""What the commands that restore photos and videos and serve the web page share: options, their checks, exit status."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.restoration.tiling import MULTIPLE, OVERLAP, TILE, check_tiles
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """Which network restores, and how.

    Attributes:
        weights: a shipped network's name, a run's folder or a `.safetensors`; None for the default network.
        dtype: of the network's computations.
        self_ensemble: average over the eight flips and rotations.
        tile: size of tiles in pixels; 0: never tile; None: tile large images.
        overlap: of neighbouring tiles in pixels.
    """

    weights: str | None
    dtype: str
    self_ensemble: bool
    tile: int | None
    overlap: int

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "NetworkOptions":
        """Return the options that `add_network_options` added."""
        return cls(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(cls)})

    @property
    def result_settings(self) -> dict[str, str | bool | int | None]:
        """The options that affect results, besides the weights' content."""
        return {name: getattr(self, name) for name in ("self_ensemble", "dtype", "tile", "overlap")}

    def checks(self) -> dict[str, bool]:
        """Return a message for each constraint, and whether it holds."""
        return check_tiles(self.tile, self.overlap)


def create_parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows the description as it is written, with the option `--weights`."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help=WEIGHTS_HELP)
    return parser


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `NetworkOptions` except `--weights`."""
    add = parser.add_argument
    add("--self_ensemble", action="store_true", help="average over eight flips and rotations: 8 times the work")
    add("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the network's computations")
    add(
        "--tile",
        type=int,
        help=f"size of tiles, a multiple of {MULTIPLE}; 0 never tiles; if not given, large images use {TILE}",
    )
    add("--overlap", type=int, default=OVERLAP, help="of neighbouring tiles in pixels (%(default)s)")


def require_all(checks: Mapping[str, bool], *, code: str, remedy: str = "Nothing was done.") -> None:
    """Refuse a command line of which a check fails.

    Raises:
        InputError: lists the messages of all failed checks.
    """
    if problems := [message for message, holds in checks.items() if not holds]:
        raise InputError(list_problems("The command line:", problems, remedy), code=code)


def exit_with(command: Callable[[], int]) -> None:
    """Run a command and exit with its status if it is not 0, or with a message on user errors."""
    try:
        status = command()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    if status:
        sys.exit(status)
