"""PyTorch's tensors to ours and back, strictly: every tensor matches exactly one rule. No torch needed.

Ours are slash-separated paths, as `params/conv1/kernel` and `batch_stats/bn1/mean`, float32; kernels
are (h, w, in, out).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.weights.tensors import Shapes, Tensors

# How a tensor is turned, as axes of PyTorch's: a convolution's (out, in, h, w) and a transposed one's (in, out, h, w)
# become (h, w, in, out).
CONVOLUTION, TRANSPOSED, SAME = (2, 3, 1, 0), (2, 3, 0, 1), None


def _batch_norm(torch_name: str, our_name: str) -> list[tuple]:
    return [
        (f"{torch_name}.weight", f"params/{our_name}/scale", SAME),
        (f"{torch_name}.bias", f"params/{our_name}/bias", SAME),
        (f"{torch_name}.running_mean", f"batch_stats/{our_name}/mean", SAME),
        (f"{torch_name}.running_var", f"batch_stats/{our_name}/var", SAME),
    ]


def _encoder(prefix: str) -> list[tuple]:
    layer, ours = f"{prefix}layer{{#}}.{{#}}", "backbone/layer{#}_{#}"
    return [
        (f"{prefix}conv1.weight", "params/backbone/conv1/kernel", CONVOLUTION),
        *_batch_norm(f"{prefix}bn1", "backbone/bn1"),
        (f"{layer}.conv{{#}}.weight", f"params/{ours}/conv{{#}}/kernel", CONVOLUTION),
        *_batch_norm(f"{layer}.bn{{#}}", f"{ours}/bn{{#}}"),
        (f"{layer}.downsample.0.weight", f"params/{ours}/downsample_conv/kernel", CONVOLUTION),
        *_batch_norm(f"{layer}.downsample.1", f"{ours}/downsample_bn"),
    ]


# One row per kind of layer: PyTorch's name, ours, and the turn. {#} stands for any number, {1236} for one of these
# digits; they follow each other in the same order on both sides. Every tensor must match exactly one row.
RULES: dict[str, list[tuple]] = {
    "transformnet": [
        ("conv{1236}.weight", "params/conv{1236}/kernel", CONVOLUTION),
        ("conv{1236}.bias", "params/conv{1236}/bias", SAME),
        ("conv{45}.weight", "params/conv{45}/kernel", TRANSPOSED),
        *_batch_norm("bn{#}", "bn{#}"),
        ("res_blocks.{#}.conv{#}.weight", "params/res_block{#}/conv{#}/kernel", CONVOLUTION),
        *_batch_norm("res_blocks.{#}.bn{#}", "res_block{#}/bn{#}"),
    ],
    "resnetencdec": [
        *_encoder("bkbone."),
        ("up{#}.up.weight", "params/up{#}/up/kernel", TRANSPOSED),
        ("up{#}.up.bias", "params/up{#}/up/bias", SAME),
        ("up{#}.conv.double_conv.0.weight", "params/up{#}/conv/conv1/kernel", CONVOLUTION),
        ("up{#}.conv.double_conv.0.bias", "params/up{#}/conv/conv1/bias", SAME),
        *_batch_norm("up{#}.conv.double_conv.1", "up{#}/conv/bn1"),
        ("up{#}.conv.double_conv.3.weight", "params/up{#}/conv/conv2/kernel", CONVOLUTION),
        ("up{#}.conv.double_conv.3.bias", "params/up{#}/conv/conv2/bias", SAME),
        *_batch_norm("up{#}.conv.double_conv.4", "up{#}/conv/bn2"),
        ("outc.conv.weight", "params/outc/kernel", CONVOLUTION),
        ("outc.conv.bias", "params/outc/bias", SAME),
    ],
    "resnet50": _encoder(""),  # torchvision's: the encoder of resnetencdec
    "lpips_alex": [  # the features of torchvision's AlexNet, and the weights of LPIPS's layers
        *(
            row
            for torch, ours in (("0", "conv1"), ("3", "conv2"), ("6", "conv3"), ("8", "conv4"), ("10", "conv5"))
            for row in (
                (f"features.{torch}.weight", f"params/{ours}/kernel", CONVOLUTION),
                (f"features.{torch}.bias", f"params/{ours}/bias", SAME),
            )
        ),
        ("lin{#}.model.1.weight", "params/lin{#}/kernel", CONVOLUTION),
    ],
}


# Counts training steps for a momentum that none of these networks uses; written as 0 on the way back.
STEP_COUNTER = "num_batches_tracked"


# The classifiers of torchvision's networks, the one thing that is left out.
DROPPED = {
    "resnet50": ("fc.weight", "fc.bias"),
    "lpips_alex": tuple(f"classifier.{i}.{kind}" for i in (1, 4, 6) for kind in ("weight", "bias")),
}


def _compile(template: str) -> re.Pattern:
    """Return the pattern of a name in `RULES`."""
    pieces = re.split(r"\{(.+?)\}", template)
    groups = {1: lambda piece: r"(\d+)" if piece == "#" else f"([{piece}])", 0: re.escape}
    return re.compile("".join(groups[i % 2](piece) for i, piece in enumerate(pieces)))


def _rename(name: str, source: str, target: str) -> str | None:
    """Return `name` as `target` writes it if it has the form of `source`."""
    match = _compile(source).fullmatch(name)
    if match is None:
        return None
    numbers = iter(match.groups())
    return re.sub(r"\{.+?\}", lambda _: next(numbers), target)


def from_torch(network: str, tensors: Tensors, expected: Shapes) -> dict[str, Any]:
    """Return flax variables, `params` and `batch_stats`, from the tensors of a PyTorch checkpoint.

    Args:
        network: a key of `RULES`.
        tensors: PyTorch's names and float32 arrays.
        expected: our names and shapes, as `shapes_of` gives them.

    Raises:
        InputError: lists every tensor that is unknown, missing, of another shape or not finite.
    """
    converted, problems = {}, []
    for name, tensor in tensors.items():
        if name.endswith(STEP_COUNTER) or name in DROPPED.get(network, ()):
            continue
        found = [(ours, turn) for torch, our, turn in RULES[network] if (ours := _rename(name, torch, our))]
        if len(found) != 1:
            problems.append(f"{name} {tensor.shape}: not a tensor of {network}")
            continue
        ours, turn = found[0]
        if ours not in expected:
            problems.append(f"{name} {tensor.shape}: this {network} has no {ours}")
            continue
        if turn is not None and tensor.ndim == len(turn):
            tensor = np.ascontiguousarray(tensor.transpose(turn))
        converted[ours] = tensor
        if tensor.shape != tuple(expected[ours]):
            problems.append(f"{name} becomes {ours} of {tensor.shape}, expected {tuple(expected[ours])}")
        elif not np.isfinite(tensor).all():
            problems.append(f"{name}: holds NaN or infinite numbers")
    problems += [
        f"{torch_name(network, name)} ({name}) {tuple(shape)}: missing"
        for name, shape in expected.items()
        if name not in converted
    ]
    if problems:
        heading = f"These weights do not fit {network} ({len(problems)} problem(s)):"
        raise InputError(
            list_problems(heading, problems, "Check that the file holds this network, whole.", len(problems))
        )
    return traverse_util.unflatten_dict(converted, sep="/")


def is_torch_name(network: str, name: str) -> bool:
    """Return whether PyTorch's network has a tensor of this name, its classifier included."""
    return name in DROPPED.get(network, ()) or any(_rename(name, torch, ours) for torch, ours, _ in RULES[network])


def torch_name(network: str, name: str) -> str:
    """Return PyTorch's name of one of our tensors.

    Raises:
        KeyError: the network has no such tensor.
    """
    for torch, ours, _ in RULES[network]:
        if found := _rename(name, ours, torch):
            return found
    raise KeyError(f"{network} has no tensor {name}")


def to_torch(network: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return PyTorch's tensors, step counters of zero included, so that `load_state_dict(strict=True)` takes them.

    Raises:
        InputError: lists every tensor that the network does not have.
    """
    converted, problems = {}, []
    for name, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        found = [(theirs, turn) for torch, our, turn in RULES[network] if (theirs := _rename(name, our, torch))]
        if len(found) != 1:
            problems.append(f"{name}: not a tensor of {network}")
            continue
        theirs, turn = found[0]
        tensor = np.asarray(leaf, np.float32)
        # A copy of its own: what comes off a device may be read-only, and PyTorch writes into what it is given.
        converted[theirs] = np.array(tensor if turn is None else tensor.transpose(np.argsort(turn)), order="C")
        if theirs.endswith("running_var"):
            converted[theirs.replace("running_var", STEP_COUNTER)] = np.zeros((), np.int64)
    if problems:
        heading = f"These weights are not those of {network} ({len(problems)} problem(s)):"
        raise InputError(list_problems(heading, problems, "Check which network they belong to.", shown=None))
    return converted
