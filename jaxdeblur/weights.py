"""Names of tensors: PyTorch's to ours, strictly; and what a set of weights is called. No torch needed.

Ours are slash-separated paths, `params/conv1/kernel` and `batch_stats/bn1/mean`. Kernels are (h, w, in, out).
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdeblur.errors import InputError, list_problems

Tensors = Mapping[str, np.ndarray]


def _convolution(tensor: np.ndarray) -> np.ndarray:
    return tensor.transpose(2, 3, 1, 0)  # (out, in, h, w) to (h, w, in, out)


def _transposed(tensor: np.ndarray) -> np.ndarray:
    return tensor.transpose(2, 3, 0, 1)  # (in, out, h, w) to (h, w, in, out)


def _same(tensor: np.ndarray) -> np.ndarray:
    return tensor


def _batch_norm(torch_name: str, our_name: str) -> list[tuple[str, str, Callable]]:
    return [
        (rf"{torch_name}\.weight", f"params/{our_name}/scale", _same),
        (rf"{torch_name}\.bias", f"params/{our_name}/bias", _same),
        (rf"{torch_name}\.running_mean", f"batch_stats/{our_name}/mean", _same),
        (rf"{torch_name}\.running_var", f"batch_stats/{our_name}/var", _same),
    ]


# One row per kind of layer: PyTorch's name, ours, and how the tensor is turned. Every PyTorch tensor must match
# exactly one row. `num_batches_tracked` counts training steps for a momentum that neither network uses.
IGNORED = r".*\.num_batches_tracked"
RULES = {
    "transformnet": [
        (r"conv([1236])\.weight", r"params/conv\1/kernel", _convolution),
        (r"conv([1236])\.bias", r"params/conv\1/bias", _same),
        (r"conv([45])\.weight", r"params/conv\1/kernel", _transposed),
        (r"res_blocks\.(\d+)\.conv([12])\.weight", r"params/res_block\1/conv\2/kernel", _convolution),
        *_batch_norm(r"bn([1-5])", r"bn\1"),
        *_batch_norm(r"res_blocks\.(\d+)\.bn([12])", r"res_block\1/bn\2"),
    ],
    "resnetencdec": [
        (r"bkbone\.conv1\.weight", r"params/backbone/conv1/kernel", _convolution),
        (r"bkbone\.layer(\d)\.(\d+)\.conv(\d)\.weight", r"params/backbone/layer\1_\2/conv\3/kernel", _convolution),
        (
            r"bkbone\.layer(\d)\.(\d+)\.downsample\.0\.weight",
            r"params/backbone/layer\1_\2/downsample_conv/kernel",
            _convolution,
        ),
        (r"up([123])\.up\.weight", r"params/up\1/up/kernel", _transposed),
        (r"up([123])\.up\.bias", r"params/up\1/up/bias", _same),
        (r"up(\d)\.conv\.double_conv\.0\.weight", r"params/up\1/conv/conv1/kernel", _convolution),
        (r"up(\d)\.conv\.double_conv\.0\.bias", r"params/up\1/conv/conv1/bias", _same),
        (r"up(\d)\.conv\.double_conv\.3\.weight", r"params/up\1/conv/conv2/kernel", _convolution),
        (r"up(\d)\.conv\.double_conv\.3\.bias", r"params/up\1/conv/conv2/bias", _same),
        (r"outc\.conv\.weight", r"params/outc/kernel", _convolution),
        (r"outc\.conv\.bias", r"params/outc/bias", _same),
        *_batch_norm(r"bkbone\.bn1", r"backbone/bn1"),
        *_batch_norm(r"bkbone\.layer(\d)\.(\d+)\.bn(\d)", r"backbone/layer\1_\2/bn\3"),
        *_batch_norm(r"bkbone\.layer(\d)\.(\d+)\.downsample\.1", r"backbone/layer\1_\2/downsample_bn"),
        *_batch_norm(r"up(\d)\.conv\.double_conv\.1", r"up\1/conv/bn1"),
        *_batch_norm(r"up(\d)\.conv\.double_conv\.4", r"up\1/conv/bn2"),
    ],
}


def from_torch(network: str, tensors: Tensors, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return flax variables, `params` and `batch_stats`, from the tensors of a PyTorch checkpoint.

    Args:
        network: a key of `RULES`.
        tensors: PyTorch's names and arrays.
        expected: our names and shapes, as `shapes_of` gives them.

    Raises:
        InputError: lists every tensor that is unknown, missing or of another shape.
    """
    converted, problems = {}, []
    for name, tensor in tensors.items():
        if re.fullmatch(IGNORED, name):
            continue
        rows = [(match, row) for row in RULES[network] if (match := re.fullmatch(row[0], name))]
        if len(rows) != 1:
            problems.append(f"{name} {tensor.shape}: not a tensor of {network}")
            continue
        match, (_, template, turn) = rows[0]
        ours = match.expand(template)
        value = turn(tensor)
        if ours not in expected:
            problems.append(f"{name} {tensor.shape}: this {network} has no {ours}")
        elif value.shape != tuple(expected[ours]):
            problems.append(f"{name} becomes {ours} of {value.shape}, expected {tuple(expected[ours])}")
        converted[ours] = value
    problems += [f"{name} {tuple(shape)}: missing" for name, shape in expected.items() if name not in converted]
    if problems:
        raise InputError(
            list_problems(
                f"These weights do not fit {network} ({len(problems)} problem(s)):",
                problems,
                "Check that the file holds this network, whole.",
            )
        )
    return traverse_util.unflatten_dict(converted, sep="/")


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
