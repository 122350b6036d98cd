"""Writes a trained network to a file in one of the formats."""

from collections.abc import Callable
from pathlib import Path

from jaxdeblur.errors import InputError
from jaxdeblur.export.onnx import to_onnx
from jaxdeblur.export.stablehlo import to_stablehlo
from jaxdeblur.files import atomic_write
from jaxdeblur.weights.load import TrainedNetwork, load_network
from jaxdeblur.weights.tensors import fingerprint

# By name: functions that return the content of a file.
FORMATS: dict[str, Callable[[TrainedNetwork], bytes]] = {"onnx": to_onnx, "stablehlo": to_stablehlo}


def export(weights: Path, file_format: str, output: Path) -> str:
    """Export the network of a run or a `.safetensors` in one of `FORMATS`; the file is written atomically.

    Returns:
        A line that describes the file.

    Raises:
        InputError: the weights are missing, corrupt or not an image-restoring network's; the output cannot be written
            (code "output-is-folder", "output-is-input" or "output-unwritable"); or a package is missing.
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
    return (
        f"{output}: {network.name} as {file_format}, {len(content) / 1e6:.1f} MB, height and width from "
        f"{network.multiple} up, weights' SHA-256 {fingerprint(network.variables)}"
    )
