"""PyTorch checkpoints of networks that we know: which one a file holds, and its conversion to ours.

The network is detected from the tensors' names. To add one: its rules in `torch_names` (or a module like
`nafnet_from_torch`), and a line in `KNOWN`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load_file

from jaxdeblur.errors import InputError
from jaxdeblur.files import file_sha256
from jaxdeblur.models import MODELS, build_model, options_of
from jaxdeblur.weights import nafnet_from_torch
from jaxdeblur.weights.tensors import Tensors, network_shapes
from jaxdeblur.weights.torch_checkpoints import Selection, select_tensors
from jaxdeblur.weights.torch_files import read_torch_file
from jaxdeblur.weights.torch_names import RULES, from_torch, is_torch_name

NAFNET = "nafnet"


@dataclass(frozen=True)
class Known:
    """A network that others published.

    Attributes:
        network: its name here.
        title: for messages.
        signature: regular expressions of tensor names that only this network has; every one must match a name.
    """

    network: str
    title: str
    signature: tuple[str, ...]


# In the order of detection.
KNOWN = (
    Known("transformnet", "the original's TransformNet", (r"res_blocks\.\d+\.conv1\.weight", r"conv6\.\w+")),
    Known("resnetencdec", "the original's ResnetEncDec", (r"bkbone\.layer\d\.\d+\.conv1\.weight", r"up\d\.conv\..+")),
    Known("resnet50", "ResNet-50 (torchvision)", (r"layer1\.\d+\.conv3\.weight", r"layer3\.5\.conv\d\.weight")),
    Known("msresnet", "MSResNet (DeepDeblur)", (r"body_models\.\d+\.body\.\d+\.body\.\d+\.weight",)),
    Known(NAFNET, "NAFNet", (nafnet_from_torch.SIGNATURE,)),
    Known("lpips_alex", "LPIPS's AlexNet (torchvision)", (r"features\.0\.weight", r"features\.10\.weight")),
)
# Relatives that restore nothing here, by signature.
REFUSED = {r"body\.\d+\.(module\.)?blk\.conv1\.weight": "NAFSSR, which enlarges stereo images instead of deblurring"}
# SHA-256 of files as published.
PUBLISHED_FILES = {
    "329d3ab4077b8d6b7ff61de376e483714667960bf85be027bf4335cda701196f": "NAFNet-GoPro-width64.pth",
}
SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")  # of PyTorch's own format
_SIDD_BLOCKS = ((2, 2, 4, 8), 12, (2, 2, 2, 2))


@dataclass(frozen=True)
class Converted:
    """A network from a PyTorch checkpoint.

    Attributes:
        network: a key of `MODELS`.
        options: of the network.
        variables: `params` and `batch_stats`, float32.
        notes: for the user: what the file holds, and how far it suits deblurring.
        metadata: of the `.safetensors` to write.
    """

    network: str
    options: dict[str, Any]
    variables: dict[str, Any]
    notes: tuple[str, ...]
    metadata: dict[str, str]


def holds_torch_names(path: Path) -> bool:
    """Return whether a file is in PyTorch's format, or a `.safetensors` with PyTorch's names of a known network."""
    if path.suffix != ".safetensors":
        return path.suffix in SUFFIXES
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except (OSError, safetensors.SafetensorError):
        return False
    if "fingerprint" in metadata or any(name.startswith("params/") for name in names):  # ours
        return False
    selected = {name: _NamedShape() for name in names}
    names = list(select_tensors(path, selected, is_any_name).tensors) if names else []
    return _find_known(names) is not None or _find_refused(names) is not None


class _NamedShape:
    """Counts as a tensor for `select_tensors` without being read."""

    shape = (1,)


def is_any_name(name: str) -> bool:
    """Return whether a network in `KNOWN` has a tensor of this name."""
    return any(is_name_of(known.network, name) for known in KNOWN)


def is_name_of(network: str, name: str) -> bool:
    """Return whether a network has a tensor of this name."""
    return nafnet_from_torch.is_nafnet_name(name) if network == NAFNET else is_torch_name(network, name)


def detect(path: Path, names: Iterable[str]) -> Known:
    """Return the network that a file's tensors, by PyTorch's names, belong to.

    Raises:
        InputError: it is none of `KNOWN` (code "checkpoint-unknown-network"), or one for another task
            ("checkpoint-other-task").
    """
    names = list(names)
    if known := _find_known(names):
        return known
    if refused := _find_refused(names):
        raise InputError(f"{path}: holds {refused}. Expected {_titles()}.", code="checkpoint-other-task")
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    raise InputError(
        f"{path}: holds no network known here; its tensors are {shown}. Looked for {_titles()}.",
        code="checkpoint-unknown-network",
    )


def _find_known(names: list[str]) -> Known | None:
    def matches(known: Known) -> bool:
        return all(any(re.fullmatch(pattern, name) for name in names) for pattern in known.signature)

    return next((known for known in KNOWN if matches(known)), None)


def _find_refused(names: list[str]) -> str | None:
    found = (title for pattern, title in REFUSED.items() if any(re.fullmatch(pattern, name) for name in names))
    return next(found, None)


def _titles() -> str:
    return ", ".join(known.title for known in KNOWN)


def read_tensors(source: Path, network: str | None, which: str | None = None) -> Selection:
    """Return a network's tensors in a checkpoint by PyTorch's names, as float32.

    Args:
        source: a file in PyTorch's format, or a `.safetensors` with its names.
        network: None for any in `KNOWN`.
        which: see `select_tensors`.

    Raises:
        InputError: the file is corrupt or unsafe, or does not hold such weights.
    """
    if source.suffix == ".safetensors":
        try:
            checkpoint: Mapping[str, Any] = load_file(source)
        except Exception as error:
            raise InputError(
                f"{source}: cannot be read as safetensors ({error}).", code="checkpoint-damaged"
            ) from error
    else:
        checkpoint = read_torch_file(source)
    is_known = partial(is_name_of, network) if network else is_any_name
    selection = select_tensors(source, checkpoint, is_known, which)
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in selection.tensors.items()}
    return replace(selection, tensors=tensors)


def convert_network(
    source: Path, network: str | None = None, which: str | None = None, attention: str | None = None
) -> Converted:
    """Convert a network from a PyTorch checkpoint.

    Args:
        source: see `read_tensors`.
        network: a key of `MODELS`; None to detect it.
        which: see `select_tensors`.
        attention: of a NAFNet, "local" or "global"; None as published, "local".

    Raises:
        InputError: see `read_tensors`; or the file holds another network or no whole one (codes
            "checkpoint-does-not-fit", "checkpoint-unknown-network", "checkpoint-other-task",
            "weights-restore-nothing").
    """
    selection = read_tensors(source, network, which)
    network = network or detect(source, selection.tensors).network
    if network not in MODELS:
        raise InputError(
            f"{source}: holds {network}, which does not restore images. Expected one of {', '.join(MODELS)}.",
            code="weights-restore-nothing",
        )
    options, variables = _convert_tensors(network, selection.tensors)
    if attention and network == NAFNET:
        options["attention"] = attention
    digest = file_sha256(source)
    notes = (selection.description, *_describe(source, network, options, selection.tensors, digest))
    metadata = {
        "network": network,
        "options": json.dumps(options),
        "source": source.name,
        "source_part": selection.label,
        "source_sha256": digest,
    }
    return Converted(network, options, variables, notes, metadata)


def _convert_tensors(network: str, tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    if network == NAFNET:
        return nafnet_from_torch.from_torch(tensors)
    if network not in RULES:
        raise InputError(f"{network} has no PyTorch original.", code="weights-without-original")
    model = build_model(network)
    return options_of(model), from_torch(network, tensors, network_shapes(model))


def _describe(source: Path, network: str, options: Mapping[str, Any], tensors: Tensors, digest: str) -> list[str]:
    """Return notes on a file, for the user."""
    title = next(known.title for known in KNOWN if known.network == network)
    if network == NAFNET:
        title = nafnet_from_torch.describe(options)
    notes = [f"{source}: {title}, {sum(tensor.size for tensor in tensors.values()):,} values"]
    if digest in PUBLISHED_FILES:
        notes.append(f"{source}: its SHA-256 is that of the published {PUBLISHED_FILES[digest]}.")
    if network == NAFNET:
        notes += _warn_of_other_tasks(source, options)
    if _are_half_precision(tensors):
        notes.append(
            f"{source}: Warning: all values are in half precision; scores published for the float32 file may not hold."
        )
    return notes


def _warn_of_other_tasks(source: Path, options: Mapping[str, Any]) -> list[str]:
    blocks = (options["encoder_blocks"], options["middle_blocks"], options["decoder_blocks"])
    if blocks == _SIDD_BLOCKS:
        task = "its depths are those of the networks for SIDD: it was trained to remove noise, not motion blur."
    elif "reds" in source.name.lower():
        task = "by its name, it was trained on REDS with JPEG artefacts, not for motion blur as in GOPRO."
    elif "sidd" in source.name.lower():
        task = "by its name, it was trained on SIDD: to remove noise, not motion blur."
    else:
        return []
    return [f"{source}: Warning: {task}"]


def _are_half_precision(tensors: Tensors) -> bool:
    """Return whether every value is representable in float16, or every one in bfloat16."""

    def fits_float16(tensor: np.ndarray) -> bool:
        with np.errstate(over="ignore"):
            return bool(np.array_equal(tensor, tensor.astype(np.float16)))

    def fits_bfloat16(tensor: np.ndarray) -> bool:
        return not (np.ascontiguousarray(tensor).view(np.uint32) & 0xFFFF).any()

    return all(map(fits_float16, tensors.values())) or all(map(fits_bfloat16, tensors.values()))
