"""Files of weights: `.safetensors` with one tensor per variable.

Tensors are named by slash-separated paths, as `params/conv1/kernel` and `batch_stats/bn1/mean`, and stored as float32
or float16; kernels are (h, w, in, out). The metadata hold the network's name, the format version, the tensors'
fingerprint and, for whole networks, the options as JSON. Files written before the format had a version lack the last
three.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from flax import traverse_util
from numpy.typing import DTypeLike
from safetensors.numpy import load_file, save

from jaxdeblur import __version__
from jaxdeblur.errors import InputError
from jaxdeblur.files import atomic_write
from jaxdeblur.weights.tensors import fingerprint

FORMAT = 1  # written by `write_weights`; increased when older readers would misread the file


def write_weights(
    path: Path, variables: Mapping[str, Any], metadata: Mapping[str, str], *, dtype: DTypeLike = np.float32
) -> None:
    """Write a file atomically.

    Args:
        path: the file.
        variables: `params` and `batch_stats`.
        metadata: of the file; the format version, the fingerprint and this package's version are added.
        dtype: of the stored tensors, float32 or float16; they are read back as float32.

    Raises:
        InputError: a tensor exceeds the range of float16 (code "weights-out-of-range").
    """
    tensors = {}
    for name, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        with np.errstate(over="ignore"):
            tensors[name] = np.ascontiguousarray(leaf, dtype)
        if not np.isfinite(tensors[name]).all() and np.isfinite(leaf).all():
            raise InputError(
                f"{name}: has values beyond {np.finfo(dtype).max:g}, the range of {np.dtype(dtype).name}. Store these "
                "weights as float32.",
                code="weights-out-of-range",
            )
    as_read = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    added = {"format": str(FORMAT), "fingerprint": fingerprint(as_read), "jaxdeblur": __version__}
    with atomic_write(path) as temporary:
        # Not save_file, which makes the file readable by its owner only.
        temporary.write_bytes(save(tensors, metadata={**metadata, **added}))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file written by `write_weights`, without reading the tensors.

    Raises:
        InputError: there is no such file, or it is corrupt, of another origin or of a newer format.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors ({error}).", code="weights-unreadable") from error
    if "network" not in metadata:
        raise InputError(
            f"{path}: was not written by jaxdeblur (no `network` in its metadata). Convert it first.",
            code="weights-foreign",
        )
    version = metadata.get("format", "0")  # 0: written before the format had a version
    if not version.isdecimal() or int(version) > FORMAT:
        raise InputError(
            f"{path}: has format version {version!r}, expected at most {FORMAT}. Use a newer version of jaxdeblur.",
            code="weights-newer-format",
        )
    return metadata


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the variables, float32, and the metadata of a file written by `write_weights`.

    Raises:
        InputError: there is no such file, or it is corrupt, of another origin or of a newer format.
    """
    metadata = read_metadata(path)
    tensors = {
        name: tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor
        for name, tensor in load_file(path).items()
    }
    expected = metadata.get("fingerprint")
    if expected is not None and fingerprint(tensors) != expected:
        raise InputError(
            f"{path}: is corrupt: the SHA-256 of its tensors is {fingerprint(tensors)}, expected {expected}. Copy or "
            "download it again.",
            code="weights-damaged",
        )
    return traverse_util.unflatten_dict(tensors, sep="/"), metadata


def options_in(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the network's options, such as `width`, stored in a file's metadata; None if there are none.

    Raises:
        InputError: they are not a JSON object (code "weights-bad-options").
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
            f'{path}: `options` in its metadata are {text!r}, expected a JSON object such as {{"width": 24}}.',
            code="weights-bad-options",
        )
    return options
