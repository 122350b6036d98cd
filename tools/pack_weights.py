"""Pack a trained network as a file that ships with the package: float16 tensors, with options and origin as metadata.

    python tools/pack_weights.py runs/nafnet jaxdeblur/weights/pretrained --name nafnet-small --version 1 \\
        --training_data "GOPRO_Large; openly licensed photographs with synthetic blur (docs/model_card.md)"

It prints the values for the network's entry in jaxdeblur/weights/pretrained/catalogue.py.
"""

import argparse
import json
import math
import re
import sys
from pathlib import Path

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.files import file_sha256
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.safetensors import read_weights, write_weights
from jaxdeblur.weights.tensors import shapes_of

LICENCE = "Apache-2.0"
TRAINING_DATA = "see docs/model_card.md and NOTICE"


def main() -> None:
    """Pack one network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "source", type=Path, metavar="RUN_OR_FILE", help="a run's folder (its best checkpoint) or a file"
    )
    parser.add_argument("output", type=Path, help="the folder to write NAME@VERSION.safetensors to, or a .safetensors")
    parser.add_argument("--name", required=True, help="lower-case letters, digits and hyphens, such as nafnet-small")
    parser.add_argument("--version", required=True, type=int, help="from 1; increase it for new weights")
    parser.add_argument("--licence", default=LICENCE, help="of the weights (default: %(default)s)")
    parser.add_argument("--training_data", default=TRAINING_DATA, help="what it was trained on (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    arguments = parser.parse_args()
    path = pack(
        arguments.source.expanduser(),
        arguments.output.expanduser(),
        name=arguments.name,
        version=arguments.version,
        licence=arguments.licence,
        training_data=arguments.training_data,
        overwrite=arguments.overwrite,
    )
    variables, metadata = read_weights(path)
    parameters = sum(math.prod(shape) for name, shape in shapes_of(variables).items() if name.startswith("params/"))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, SHA-256 {file_sha256(path)}")
    print(f"network={metadata['network']!r}, parameters={parameters:_}, options={metadata['options']}")
    print(f"fingerprint of the tensors: {metadata['fingerprint']}")


def pack(
    source: Path, output: Path, *, name: str, version: int, licence: str, training_data: str, overwrite: bool = False
) -> Path:
    """Pack the network of a run or a `.safetensors` file, and return the new file's path.

    Raises:
        InputError: the source is not a whole network, the name or version is invalid, or the file exists.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or version < 1:
        raise InputError(
            f"--name {name!r}, --version {version}: expected lower-case letters, digits and hyphens, and at least 1.",
            code="shipped-name",
        )
    path = output if output.suffix == ".safetensors" else output / f"{name}@{version}.safetensors"
    if path.exists() and not overwrite:
        raise InputError(f"{path}: already exists; use --overwrite to replace it.", code="output-exists")
    network = load_network(source)
    metadata = {
        "network": network.name,
        "options": json.dumps(network.options),
        "name": name,
        "version": str(version),
        "licence": licence,
        "training_data": training_data,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_weights(path, network.variables, metadata, dtype=np.float16)
    return path


if __name__ == "__main__":
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
