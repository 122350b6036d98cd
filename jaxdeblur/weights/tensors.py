"""Trees of weights: names, shapes and a fingerprint. Names are slash-separated paths, as `params/conv1/kernel`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdeblur.errors import InputError, list_problems

Tensors = Mapping[str, np.ndarray]


Shapes = Mapping[str, tuple[int, ...]]


def check_fit(path: Path, variables: Mapping[str, Any], expected: Shapes) -> None:
    """Refuse weights that are not exactly the expected ones.

    Raises:
        InputError: lists every tensor that is missing, unexpected or of another shape.
    """
    found = shapes_of(variables)
    problems = [f"{name} {shape}: missing" for name, shape in expected.items() if name not in found]
    problems += [f"{name} {shape}: unexpected" for name, shape in found.items() if name not in expected]
    problems += [
        f"{name}: {found[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if problems:
        heading = f"{path}: these weights do not fit the network of the config ({len(problems)} problem(s)):"
        raise InputError(
            list_problems(heading, problems, "Check the config's model, or choose other weights.", len(problems))
        )


def shapes_of(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return our names and shapes of a tree of arrays or of `jax.eval_shape`'s stand-ins."""
    return {name: tuple(leaf.shape) for name, leaf in traverse_util.flatten_dict(variables, sep="/").items()}


def fingerprint(variables: Mapping[str, Any]) -> str:
    """Return the SHA-256 of weights: over name, type, shape and bytes of every tensor, in the order of names.

    It depends on the numbers alone, not on the file or folder that holds them.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(traverse_util.flatten_dict(variables, sep="/").items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
