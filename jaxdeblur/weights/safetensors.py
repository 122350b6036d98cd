"""Weights: PyTorch's tensors to ours and back, strictly, and the file they are kept in. No torch needed.

Ours are slash-separated paths, `params/conv1/kernel` and `batch_stats/bn1/mean`, float32; kernels are (h, w, in, out).
A file of weights is one `.safetensors` with these names, stored as float32 or float16. Its metadata give the network,
the format version, the fingerprint of the tensors and, for whole networks, the options as JSON; older files, written
before the format had a version, lack the last three.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from flax import traverse_util
from numpy.typing import DTypeLike
from safetensors.numpy import load_file, save_file

from jaxdeblur import __version__
from jaxdeblur.errors import InputError
from jaxdeblur.files import atomic_write
from jaxdeblur.weights.tensors import fingerprint

FORMAT = 1  # of the files that `write_weights` writes; raised when older readers would misread them


def write_weights(
    path: Path, variables: Mapping[str, Any], metadata: Mapping[str, str], *, dtype: DTypeLike = np.float32
) -> None:
    """Write `.safetensors` in one piece: a reader sees the whole file or none.

    Args:
        path: the file.
        variables: `params` and `batch_stats`.
        metadata: of the file; format version, fingerprint and the version of this package are added.
        dtype: of the stored tensors, float32 or float16; they are read back as float32.

    Raises:
        InputError: a tensor exceeds the range of float16.
    """
    tensors = {}
    for name, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        with np.errstate(over="ignore"):
            tensors[name] = np.ascontiguousarray(leaf, dtype)
        if not np.isfinite(tensors[name]).all() and np.isfinite(leaf).all():
            raise InputError(
                f"{name}: holds values beyond {np.finfo(dtype).max:g}, the range of {np.dtype(dtype).name}. Store "
                "these weights as float32.",
                code="weights-out-of-range",
            )
    as_read = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    added = {"format": str(FORMAT), "fingerprint": fingerprint(as_read), "jaxdeblur": __version__}
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, metadata={**metadata, **added})


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file that `write_weights` wrote; the tensors are not read.

    Raises:
        InputError: no such file, damaged, of another origin, or of a newer format.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors ({error}).", code="weights-unreadable") from error
    if "network" not in metadata:
        raise InputError(
            f"{path}: no weights of ours (no `network` in its metadata). Convert it first.", code="weights-foreign"
        )
    found = metadata.get("format", "0")  # 0: written before the format had a version
    if not found.isdecimal() or int(found) > FORMAT:
        raise InputError(
            f"{path}: its format is {found!r}, expected at most {FORMAT}. Read it with a newer version of jaxdeblur.",
            code="weights-newer-format",
        )
    return metadata


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the variables, float32, and the metadata of a file that `write_weights` wrote.

    Raises:
        InputError: no such file, damaged, of another origin, or of a newer format.
    """
    metadata = read_metadata(path)
    tensors = {
        name: tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
        for name, tensor in load_file(path).items()
    }
    expected = metadata.get("fingerprint")
    if expected is not None and fingerprint(tensors) != expected:
        raise InputError(
            f"{path}: damaged: the SHA-256 of its tensors is {fingerprint(tensors)}, expected {expected}. Fetch the "
            "file again.",
            code="weights-damaged",
        )
    return traverse_util.unflatten_dict(tensors, sep="/"), metadata


def options_in(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the network's options, such as `width`, that a file's metadata state; None where they state none.

    Raises:
        InputError: they are no JSON object.
    """
    text = metadata.get("options")
    if text is None:
        return None
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise InputError(
            f'{path}: `options` in its metadata is {text!r}, expected a JSON object such as {{"width": 24}}.',
            code="weights-bad-options",
        )
    return options
