"""PyTorch's tensors to ours and back, strictly: every tensor must match exactly one rule. No torch needed.

Our tensors are float32 and named by slash-separated paths, as `params/conv1/kernel` and `batch_stats/bn1/mean`; kernels
are (h, w, in, out).
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.weights.tensors import Shapes, Tensors

# Axes of PyTorch's tensor in our order. Its convolutions are (out, in, h, w), transposed ones (in, out, h, w).
CONV, TRANSPOSED_CONV, SAME = (2, 3, 1, 0), (2, 3, 0, 1), None


class Rule(NamedTuple):
    r"""How one kind of tensor is named and laid out.

    Attributes:
        torch: regular expression of PyTorch's name; its groups match numbers, and dots are escaped.
        ours: template of our name, with \1, \2, ... for the groups, in order.
        axes: permutation from PyTorch's axes to ours; None: none.
    """

    torch: str
    ours: str
    axes: tuple[int, ...] | None = SAME


def _conv(torch: str, ours: str) -> list[Rule]:
    return [
        Rule(rf"{torch}\.weight", rf"params/{ours}/kernel", CONV),
        Rule(rf"{torch}\.bias", rf"params/{ours}/bias"),
    ]


def _batch_norm(torch: str, ours: str) -> list[Rule]:
    return [
        Rule(rf"{torch}\.weight", rf"params/{ours}/scale"),
        Rule(rf"{torch}\.bias", rf"params/{ours}/bias"),
        Rule(rf"{torch}\.running_mean", rf"batch_stats/{ours}/mean"),
        Rule(rf"{torch}\.running_var", rf"batch_stats/{ours}/var"),
    ]


def _resnet(prefix: str) -> list[Rule]:
    block, our_block = rf"{prefix}layer(\d+)\.(\d+)", r"backbone/layer\1_\2"
    return [
        Rule(rf"{prefix}conv1\.weight", r"params/backbone/conv1/kernel", CONV),
        *_batch_norm(rf"{prefix}bn1", r"backbone/bn1"),
        Rule(rf"{block}\.conv(\d+)\.weight", rf"params/{our_block}/conv\3/kernel", CONV),
        *_batch_norm(rf"{block}\.bn(\d+)", rf"{our_block}/bn\3"),
        Rule(rf"{block}\.downsample\.0\.weight", rf"params/{our_block}/downsample_conv/kernel", CONV),
        *_batch_norm(rf"{block}\.downsample\.1", rf"{our_block}/downsample_bn"),
    ]


RULES: dict[str, list[Rule]] = {
    "transformnet": [
        *_conv(r"conv([1236])", r"conv\1"),
        Rule(r"conv([45])\.weight", r"params/conv\1/kernel", TRANSPOSED_CONV),
        *_batch_norm(r"bn(\d+)", r"bn\1"),
        Rule(r"res_blocks\.(\d+)\.conv(\d+)\.weight", r"params/res_block\1/conv\2/kernel", CONV),
        *_batch_norm(r"res_blocks\.(\d+)\.bn(\d+)", r"res_block\1/bn\2"),
    ],
    "resnetencdec": [
        *_resnet(r"bkbone\."),
        Rule(r"up(\d+)\.up\.weight", r"params/up\1/up/kernel", TRANSPOSED_CONV),
        Rule(r"up(\d+)\.up\.bias", r"params/up\1/up/bias"),
        *_conv(r"up(\d+)\.conv\.double_conv\.0", r"up\1/conv/conv1"),
        *_batch_norm(r"up(\d+)\.conv\.double_conv\.1", r"up\1/conv/bn1"),
        *_conv(r"up(\d+)\.conv\.double_conv\.3", r"up\1/conv/conv2"),
        *_batch_norm(r"up(\d+)\.conv\.double_conv\.4", r"up\1/conv/bn2"),
        *_conv(r"outc\.conv", r"outc"),
    ],
    # DeepDeblur's; index 0 of conv_end_models has no tensors.
    "msresnet": [
        *_conv(r"body_models\.(\d+)\.body\.(\d+)", r"scale\1/conv\2"),
        *_conv(r"body_models\.(\d+)\.body\.(\d+)\.body\.0", r"scale\1/block\2/conv1"),
        *_conv(r"body_models\.(\d+)\.body\.(\d+)\.body\.2", r"scale\1/block\2/conv2"),
        *_conv(r"conv_end_models\.(\d+)\.uppath\.0", r"up\1"),
    ],
    # torchvision's ResNet-50: the encoder of resnetencdec.
    "resnet50": _resnet(""),
    # The features of torchvision's AlexNet, and the weights of LPIPS's layers.
    "lpips_alex": [
        *_conv(r"features\.0", r"conv1"),
        *_conv(r"features\.3", r"conv2"),
        *_conv(r"features\.6", r"conv3"),
        *_conv(r"features\.8", r"conv4"),
        *_conv(r"features\.10", r"conv5"),
        Rule(r"lin(\d+)\.model\.1\.weight", r"params/lin\1/kernel", CONV),
    ],
}

# Counts training steps for a momentum that none of these networks uses; written as 0 on the way back.
STEP_COUNTER = "num_batches_tracked"
# The classifiers of torchvision's networks: the only tensors that are dropped.
DROPPED = {
    "resnet50": ("fc.weight", "fc.bias"),
    "lpips_alex": tuple(f"classifier.{i}.{kind}" for i in (1, 4, 6) for kind in ("weight", "bias")),
}


def invert(rule: Rule) -> Rule:
    r"""Return the rule with the roles of the two names swapped: `torch` is our regular expression, `ours` a template.

    r"bn(\d+)\.bias" to r"params/bn\1/bias" becomes r"params/bn(\d+)/bias" to "bn\1.bias".
    """
    groups = re.findall(r"\(.+?\)", rule.torch)
    pattern = re.sub(r"\\(\d)", lambda number: groups[int(number[1]) - 1], rule.ours)
    numbers = iter(range(1, len(groups) + 1))
    template = re.sub(r"\(.+?\)", lambda _: rf"\{next(numbers)}", rule.torch).replace(r"\.", ".")
    return Rule(pattern, template, None if rule.axes is None else tuple(np.argsort(rule.axes).tolist()))


INVERSE_RULES = {network: [invert(rule) for rule in rules] for network, rules in RULES.items()}


def _matches(name: str, rules: list[Rule]) -> list[tuple[str, Rule]]:
    """Return the name's translation by every rule that matches it."""
    found = ((re.fullmatch(rule.torch, name), rule) for rule in rules)
    return [(match.expand(rule.ours), rule) for match, rule in found if match]


def _transpose(tensor: np.ndarray, rule: Rule) -> np.ndarray:
    if rule.axes is None or tensor.ndim != len(rule.axes):  # a wrong number of axes is reported with the shape
        return tensor
    return np.ascontiguousarray(tensor.transpose(rule.axes))


def from_torch(network: str, tensors: Tensors, expected: Shapes) -> dict[str, Any]:
    """Return flax variables, `params` and `batch_stats`, of a PyTorch state dict.

    Args:
        network: a key of `RULES`.
        tensors: float32 arrays by PyTorch's names.
        expected: our names and shapes.

    Raises:
        InputError: lists every tensor that is unknown, missing, of another shape or not finite (code
            "checkpoint-does-not-fit").
    """
    converted, problems = {}, []
    for name, tensor in tensors.items():
        if name.endswith(STEP_COUNTER) or name in DROPPED.get(network, ()):
            continue
        matches = _matches(name, RULES[network])
        if len(matches) != 1:
            problems.append(f"{name} {tensor.shape}: not a tensor of {network}")
            continue
        our_name, rule = matches[0]
        if our_name not in expected:
            problems.append(f"{name} {tensor.shape}: this {network} has no {our_name}")
            continue
        converted[our_name] = _transpose(tensor, rule)
        shape = tuple(expected[our_name])
        if converted[our_name].shape != shape:
            problems.append(f"{name} becomes {our_name} of {converted[our_name].shape}, expected {shape}")
        elif not np.isfinite(tensor).all():
            problems.append(f"{name}: holds NaN or infinity")
    problems += [
        f"{torch_name(network, name)} ({name}) {tuple(shape)}: missing"
        for name, shape in expected.items()
        if name not in converted
    ]
    if problems:
        heading = f"These weights do not fit {network} ({len(problems)} problem(s)):"
        remedy = "Check that the file holds the whole network."
        raise InputError(list_problems(heading, problems, remedy, shown=None), code="checkpoint-does-not-fit")
    return traverse_util.unflatten_dict(converted, sep="/")


def is_torch_name(network: str, name: str) -> bool:
    """Return whether PyTorch's network, including its classifier, has a tensor of this name."""
    return name in DROPPED.get(network, ()) or bool(_matches(name, RULES[network]))


def torch_name(network: str, name: str) -> str:
    """Return PyTorch's name of one of our tensors.

    Raises:
        KeyError: the network has no such tensor.
    """
    for match, _ in _matches(name, INVERSE_RULES[network]):
        return match
    raise KeyError(f"{network} has no tensor {name}")


def to_torch(network: str, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return PyTorch's state dict, including step counters of zero, for `load_state_dict(strict=True)`.

    Raises:
        InputError: lists every tensor that is not the network's (code "weights-without-original").
    """
    converted, problems = {}, []
    for name, leaf in traverse_util.flatten_dict(variables, sep="/").items():
        matches = _matches(name, INVERSE_RULES[network])
        if len(matches) != 1:
            problems.append(f"{name}: not a tensor of {network}")
            continue
        their_name, rule = matches[0]
        # A copy: arrays from a device may be read-only, and PyTorch writes into what it is given.
        converted[their_name] = np.array(_transpose(np.asarray(leaf, np.float32), rule), order="C")
        if their_name.endswith("running_var"):
            converted[their_name.replace("running_var", STEP_COUNTER)] = np.zeros((), np.int64)
    if problems:
        heading = f"These weights are not those of PyTorch's {network} ({len(problems)} problem(s)):"
        remedy = "Check which network they belong to; variants of a network have no PyTorch original."
        raise InputError(list_problems(heading, problems, remedy, shown=None), code="weights-without-original")
    return converted
