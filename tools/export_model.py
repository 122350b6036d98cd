"""Export a trained network to a file that runs without this package.

    python tools/export_model.py --format onnx --output nafnet.onnx
    python tools/export_model.py --weights runs/transformnet --format onnx --output transformnet.onnx
    python tools/export_model.py --weights transformnet.safetensors --format stablehlo --output transformnet.stablehlo

Both formats contain the weights and map (batch, height, width, 3) float32 RGB in [0, 1], of any batch size, height and
width, to the same shape. Without --weights, the default shipped network is exported. ONNX files are checked with ONNX
Runtime before they are written.
"""

import argparse
import sys
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.export import FORMATS
from jaxdeblur.files import atomic_write
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP, resolve_weights
from jaxdeblur.weights.tensors import fingerprint


def main() -> None:
    """Export one network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help=WEIGHTS_HELP)
    parser.add_argument("--format", required=True, choices=sorted(FORMATS))
    parser.add_argument("--output", type=Path, required=True, help="the file to write; an existing one is overwritten")
    arguments = parser.parse_args()
    export(resolve_weights(arguments.weights), arguments.format, arguments.output.expanduser())


def export(weights: Path, file_format: str, output: Path) -> None:
    """Export the network of a run or a `.safetensors` in one of `FORMATS`; the file is written atomically.

    Raises:
        InputError: the weights are missing, corrupt or not an image-restoring network's, the output cannot be written,
            or a package is missing.
    """
    if output.is_dir():
        raise InputError(f"--output: {output} is a folder, expected a file name.", code="output-is-folder")
    network = load_network(weights)
    if output.exists() and output.samefile(weights):
        raise InputError(f"--output: {output} is the file of the weights. Choose another name.", code="output-is-input")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as temporary:  # fails before the work if the output cannot be written
            content = FORMATS[file_format](network)
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"--output: {output} cannot be written ({error.strerror}). Choose another folder.", code="output-unwritable"
        ) from error
    print(
        f"{output}: {network.name} as {file_format}, {len(content) / 1e6:.1f} MB, height and width from "
        f"{network.multiple} up, weights' SHA-256 {fingerprint(network.variables)}"
    )


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
