"""Export a trained network to a file that runs without this package.

    jaxdeblur export --format onnx --output nafnet.onnx
    jaxdeblur export --weights runs/transformnet --format onnx --output transformnet.onnx
    jaxdeblur export --weights transformnet.safetensors --format stablehlo --output transformnet.stablehlo

Both formats contain the weights and map (batch, height, width, 3) float32 RGB in [0, 1], of any batch size, height and
width, to the same shape. Without --weights, the default shipped network is exported. ONNX files are checked with ONNX
Runtime before they are written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP, resolve_weights

FORMATS = ("onnx", "stablehlo")


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", help=WEIGHTS_HELP)
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--output", type=Path, required=True, help="the file to write; an existing one is overwritten")
    return parser


def main(arguments: Sequence[str] | None = None, *, prog: str) -> None:
    """Export one network; exit with a message on user errors."""
    options = make_parser(prog).parse_args(arguments)
    # Imported here, so that --help and errors on the command line do not wait for JAX.
    from jaxdeblur.export.write import export

    try:
        print(export(resolve_weights(options.weights), options.format, options.output.expanduser()))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
