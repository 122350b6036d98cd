"""Convert weights from PyTorch and to PyTorch.

    jaxdeblur convert to-jax NAFNet-GoPro-width32.pth weights/nafnet-gopro-32.safetensors
    jaxdeblur convert to-jax resnet50-11ad3fa6.pth weights/resnet50.safetensors
    jaxdeblur convert to-jax --network resnet50 --download resnet50 weights/resnet50.safetensors
    jaxdeblur convert to-jax --network lpips_alex --lin alex.pth --download alexnet lpips.safetensors
    jaxdeblur convert to-torch runs/transformnet transformnet.pth

Networks: resnetencdec, transformnet, msresnet (DeepDeblur's), nafnet (as published, of any width and depths), resnet50
(torchvision's, the encoder of resnetencdec) and lpips_alex (the metric LPIPS: torchvision's AlexNet with the layers'
weights of --lin). Without --network, the network is detected from the names of the file's tensors.
"""

import argparse
import hashlib
import json
import re
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from tqdm import tqdm

from jaxdeblur.errors import InputError
from jaxdeblur.evaluation import lpips
from jaxdeblur.files import atomic_write, file_sha256
from jaxdeblur.models import ENCODERS, MODELS, build_model
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.weights import nafnet_from_torch
from jaxdeblur.weights.from_torch import KNOWN, NAFNET, convert_network, detect, read_tensors
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.safetensors import read_metadata, read_weights, write_weights
from jaxdeblur.weights.tensors import Shapes, network_shapes, shapes_of
from jaxdeblur.weights.torch_checkpoints import EMA, RAW
from jaxdeblur.weights.torch_names import DROPPED, RULES, from_torch, to_torch

# torchvision's published files. A name contains the first digits of the file's SHA-256.
DOWNLOADS = {
    "alexnet": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
}


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxdeblur convert") -> None:
    """Convert one file.

    Raises:
        InputError: see `convert_to_jax` and `convert_to_torch`.
    """
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    directions = parser.add_subparsers(dest="direction", required=True)
    to_jax = directions.add_parser("to-jax", help="convert PyTorch's weights to ours")
    to_jax.add_argument("--network", choices=sorted(known.network for known in KNOWN), help="(default: detected)")
    to_jax.add_argument("--download", choices=sorted(DOWNLOADS), help="download the published file instead of INPUT")
    to_jax.add_argument("--lin", type=Path, help="alex.pth of the LPIPS repository, version 0.1; for lpips_alex only")
    to_jax.add_argument("--which", choices=(EMA, RAW), help="of a file with both (default: the EMA weights)")
    to_jax.add_argument(
        "--attention",
        choices=("local", "global"),
        help="of a NAFNet: means over boxes of 384 pixels, as for its published scores (default), or over all pixels",
    )
    to_jax.add_argument("input", type=Path, nargs="?", help="a .pth or .safetensors file with PyTorch's names")
    to_jax.add_argument("output", type=Path, help="the .safetensors file to write")
    to_pytorch = directions.add_parser("to-torch", help="convert our weights to PyTorch's")
    to_pytorch.add_argument("input", type=Path, help="a run's folder or a .safetensors file of ours")
    to_pytorch.add_argument("output", type=Path, help="the .pth or .safetensors file to write")
    options = parser.parse_args(arguments)
    if options.direction == "to-torch":
        convert_to_torch(options.input, options.output)
    elif (options.input is None) == (options.download is None):
        parser.error("give either INPUT or --download")
    elif options.network and (options.network == lpips.NETWORK) != (options.lin is not None):
        parser.error(f"--network {lpips.NETWORK} needs --lin, and no other network takes it")
    elif options.attention and options.network not in (None, NAFNET):
        parser.error(f"--attention is for {NAFNET} only")
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = options.input or download(DOWNLOADS[options.download], Path(folder))
            convert_to_jax(
                options.network,
                file,
                options.output,
                lin=options.lin,
                which=options.which,
                attention=options.attention,
            )


def convert_to_jax(
    network: str | None,
    source: Path,
    output: Path,
    *,
    lin: Path | None = None,
    which: str | None = None,
    attention: str | None = None,
) -> None:
    """Convert a PyTorch checkpoint to a `.safetensors` file of ours.

    Args:
        network: one of `from_torch.KNOWN`; None to detect it.
        source: a `.pth` or `.safetensors` file with PyTorch's names.
        output: the file to write.
        lin: the weights of LPIPS's layers, added to those of `source`; for `lpips.NETWORK`.
        which: `RAW` or `EMA` weights; None for the EMA weights if there are any, otherwise the raw ones.
        attention: of a NAFNet, "local" (None) or "global".

    Raises:
        InputError: a file is corrupt, unsafe, or not exactly this network.
    """
    if output.suffix != ".safetensors":
        raise InputError(f"{output}: expected a name ending in .safetensors.", code="output-suffix")
    if network is None:
        known = detect(source, read_tensors(source, None, which).tensors)
        network = known.network
        print(f"{source}: found {known.title}.")
        if (network == lpips.NETWORK) != (lin is not None):
            raise InputError(f"--lin: {lpips.NETWORK} needs it, and no other network takes it.", code="lpips-lin")
        if attention and network != NAFNET:
            raise InputError(f"--attention: {network} has none; it is for {NAFNET} only.", code="no-attention")
    if network in MODELS:
        converted = convert_network(source, network, which, attention)
        print("\n".join(converted.notes))
        variables, metadata = converted.variables, converted.metadata
    else:
        variables, metadata = _convert_part(network, source, lin, which)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_weights(output, variables, metadata)
    print(f"{output}: {len(shapes_of(variables))} tensors of {network}, SHA-256 {file_sha256(output)}")


def _convert_part(
    network: str, source: Path, lin: Path | None, which: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return variables and metadata of a network that does not restore images: an encoder, or a metric."""
    selection = read_tensors(source, network, which)
    print(selection.description)
    tensors = dict(selection.tensors)
    metadata = {
        "network": network,
        "source": source.name,
        "source_part": selection.label,
        "source_sha256": file_sha256(source),
    }
    if lin:
        tensors |= read_tensors(lin, network).tensors
        metadata |= {"lin": lin.name, "lin_sha256": file_sha256(lin)}
    variables = from_torch(network, tensors, expected_shapes(network))
    dropped = [name for name in DROPPED.get(network, ()) if name in tensors]
    if dropped:
        print(f"Dropped: {', '.join(dropped)} (the classifier).")
    return variables, metadata


def expected_shapes(network: str) -> Shapes:
    """Return our names and shapes of the tensors that a key of `torch_names.RULES` is converted to."""
    if network == lpips.NETWORK:
        return lpips.SHAPES
    expected = network_shapes(build_model("resnetencdec" if network == "resnet50" else network))
    if network == "resnet50":
        return {name: shape for name, shape in expected.items() if name.split("/")[1] == ENCODERS["resnetencdec"]}
    return expected


def convert_to_torch(source: Path, output: Path) -> None:
    """Convert a run or a `.safetensors` file of ours to a checkpoint for PyTorch's `load_state_dict(strict=True)`.

    Raises:
        InputError: the source is missing or corrupt, or the network has no PyTorch original.
    """
    if output.suffix not in (".pth", ".safetensors"):
        raise InputError(f"{output}: expected a name ending in .pth or .safetensors.", code="output-suffix")
    if source.is_file() and (name := read_metadata(source)["network"]) not in MODELS:  # an encoder, or a metric
        variables: Mapping[str, Any] = read_weights(source)[0]
        metadata = {"network": name, "source": f"{source} (SHA-256 {file_sha256(source)})"}
    else:
        network = load_network(source)
        name, variables = network.name, network.variables
        metadata = {"network": name, "source": network.description, "options": json.dumps(network.options)}
    if name not in (*RULES, NAFNET):
        raise InputError(f"{source}: holds {name}, which has no PyTorch original.", code="weights-without-original")
    if name == NAFNET:
        tensors = nafnet_from_torch.to_torch(json.loads(metadata["options"]), variables)
    else:
        tensors = to_torch(name, variables)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as temporary:
        if output.suffix == ".pth":
            save_with_torch(tensors, temporary)
        else:
            temporary.write_bytes(save(tensors, metadata=metadata))
    print(f"{output}: {len(tensors)} tensors of {name}, from {metadata['source']}")


def save_with_torch(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Write a state dict in PyTorch's own format."""
    torch = require("torch", f"{path.with_suffix('')}: writing PyTorch's own format, unlike .safetensors,")
    torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, path)


def download(url: str, folder: Path) -> Path:
    """Download a file whose name contains the start of its SHA-256, as in resnet50-11ad3fa6.pth, and verify it.

    Raises:
        InputError: the server cannot be reached, or the file is not the published one.
    """
    path = folder / url.rsplit("/", 1)[1]
    digits = re.fullmatch(r".*-([0-9a-f]{8,})\.pth", path.name)
    if digits is None:
        raise InputError(f"{url}: its name contains no hash to verify the file with.", code="download-without-hash")
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=size, unit="B", unit_scale=True, desc=path.name) as bar:
                while chunk := response.read(1 << 20):
                    digest.update(chunk)
                    file.write(chunk)
                    bar.update(len(chunk))
    except OSError as error:
        raise InputError(
            f"{url}: cannot be downloaded ({error}). Download it by other means and give the file as INPUT.",
            code="download-failed",
        ) from error
    if not digest.hexdigest().startswith(digits[1]):
        raise InputError(
            f"{url}: its SHA-256 is {digest.hexdigest()}, expected {digits[1]}... Try again.", code="download-corrupt"
        )
    return path
