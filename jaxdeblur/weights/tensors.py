"""Names, shapes and fingerprints of a network's tensors. Names are slash-separated paths, as `params/conv1/kernel`."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.runs.train_state import init_variables

Tensors = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


def check_fit(path: Path, variables: Mapping[str, Any], expected: Shapes) -> None:
    """Require exactly the expected tensors.

    Raises:
        InputError: lists every tensor that is missing, unexpected or of another shape (code "weights-do-not-fit").
    """
    actual = shapes_of(variables)
    problems = [f"{name} {shape}: missing" for name, shape in expected.items() if name not in actual]
    problems += [f"{name} {shape}: unexpected" for name, shape in actual.items() if name not in expected]
    problems += [
        f"{name}: {actual[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in actual and actual[name] != shape
    ]
    if problems:
        heading = f"{path}: these weights do not fit the network of the config ({len(problems)} problem(s)):"
        raise InputError(
            list_problems(heading, problems, "Check the config's model, or choose other weights.", shown=None),
            code="weights-do-not-fit",
        )


def shapes_of(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a tree of arrays or `jax.ShapeDtypeStruct`s."""
    return {name: tuple(leaf.shape) for name, leaf in traverse_util.flatten_dict(variables, sep="/").items()}


def network_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of a network's parameters and running statistics."""
    return shapes_of(jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0)))


def fingerprint(variables: Mapping[str, Any]) -> str:
    """Return the SHA-256 over name, type, shape and bytes of every tensor, sorted by name.

    It depends on the weights only, not on the file or folder that holds them.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(traverse_util.flatten_dict(variables, sep="/").items()):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
