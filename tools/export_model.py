"""Write a trained network as a file that runs without this package.

    python tools/export_model.py --format onnx --output nafnet.onnx
    python tools/export_model.py --weights runs/transformnet --format onnx --output transformnet.onnx
    python tools/export_model.py --weights transformnet.safetensors --format stablehlo --output transformnet.stablehlo

Both formats hold the weights and take (batch, height, width, 3) float32 RGB in [0, 1], any batch and any sides, and
return the same. Without --weights it is the default shipped network. ONNX files are checked by ONNX Runtime before they
are written.
"""

import argparse
import sys
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.export.stablehlo import FORMATS
from jaxdeblur.files import atomic_write
from jaxdeblur.weights.load import read_network
from jaxdeblur.weights.pretrained.catalogue import WEIGHTS_HELP, resolve_weights
from jaxdeblur.weights.tensors import fingerprint


def main() -> None:
    """Export one network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", help=WEIGHTS_HELP)
    parser.add_argument("--format", required=True, choices=sorted(FORMATS))
    parser.add_argument("--output", type=Path, required=True, help="the file to write; one that exists is replaced")
    arguments = parser.parse_args()
    export(resolve_weights(arguments.weights), arguments.format, arguments.output.expanduser())


def export(weights: Path, form: str, output: Path) -> None:
    """Write the network of a run or a `.safetensors` in one of `FORMATS`, in one piece: the whole file or none.

    Raises:
        InputError: the weights are missing, damaged or no network's, the output cannot be written, or a package is
            missing.
    """
    if output.is_dir():
        raise InputError(f"--output: {output} is a folder, expected the name of a file.")
    network = read_network(weights)
    if output.exists() and output.samefile(weights):
        raise InputError(f"--output: {output} is the file of the weights, which it would replace. Choose another name.")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(output) as temporary:  # fails before the work where the folder is not writable
            content = FORMATS[form](network)
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"--output: {output} cannot be written ({error.strerror}). Choose another folder.") from error
    print(
        f"{output}: {network.name} as {form}, {len(content) / 1e6:.1f} MB, sides from {network.multiple} up, "
        f"weights' SHA-256 {fingerprint(network.variables)}"
    )


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
