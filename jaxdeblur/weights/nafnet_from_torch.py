"""The published NAFNet's tensors (Chen et al. 2022, arXiv 2204.04676) to ours and back. No torch needed.

Its LayerNorms have a scale w and a shift b per channel, and each feeds a 1x1 convolution (kernel K, bias c); ours have
neither. On the way here they are folded into that convolution, kernel diag(w) K and bias c + b K, computed in float64
and rounded to float32. On the way back the norms are w = 1 and b = 0: the function is the same, and converting that
file again yields our tensors bit for bit. A file whose norms are already (1, 0) is reproduced bit for bit as well.

PyTorch's convolutions are (out, in, h, w). Width and depths are read from the tensors.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.weights.tensors import Tensors

# How the published network differs from our defaults; it was tested with local means.
PUBLISHED: Mapping[str, Any] = {
    "half_resolution": False,
    "attention": "local",
    "attention_box": 384,
    "padding": "zeros",
}
# Tensor names: what detects the network, and what belongs to it.
SIGNATURE = r"(encoders\.\d+|middle_blks|decoders\.\d+)\.\d+\.sca\.1\.weight"
_LAYER = r"(weight|bias)"
_BLOCK = rf"(beta|gamma|norm[12]\.{_LAYER}|conv[1-5]\.{_LAYER}|sca\.1\.{_LAYER})"
_NAMES = re.compile(
    rf"(intro|ending|downs\.\d+)\.{_LAYER}|ups\.\d+\.0\.weight|((en|de)coders\.\d+|middle_blks)\.\d+\.{_BLOCK}"
)

Convert = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _Layout:
    """Conversion of one kind of tensor to our layout, and back."""

    to_ours: Convert
    to_theirs: Convert


def _down_to_ours(kernel: np.ndarray) -> np.ndarray:
    """(out, C, 2, 2) of a strided convolution to (1, 1, 4 C, out), applied after `space_to_depth`."""
    return kernel.transpose(2, 3, 1, 0).reshape(1, 1, -1, kernel.shape[0])


def _down_to_theirs(kernel: np.ndarray) -> np.ndarray:
    return kernel.reshape(2, 2, -1, kernel.shape[3]).transpose(3, 2, 0, 1)


def _up_to_ours(kernel: np.ndarray) -> np.ndarray:
    """(4 c, in, 1, 1), output channels ordered (c, row, column), to (1, 1, in, 4 c) ordered (row, column, c)."""
    phases = kernel[:, :, 0, 0].reshape(-1, 2, 2, kernel.shape[1])  # (c, 2, 2, in)
    return phases.transpose(3, 1, 2, 0).reshape(1, 1, kernel.shape[1], -1)


def _up_to_theirs(kernel: np.ndarray) -> np.ndarray:
    phases = kernel[0, 0].reshape(kernel.shape[2], 2, 2, -1)  # (in, 2, 2, c)
    return phases.transpose(3, 1, 2, 0).reshape(-1, kernel.shape[2], 1, 1)


_SAME = _Layout(lambda tensor: tensor, lambda tensor: tensor)
_CONV = _Layout(lambda kernel: kernel.transpose(2, 3, 1, 0), lambda kernel: kernel.transpose(3, 2, 0, 1))
_CHANNELS = _Layout(lambda scale: scale.reshape(-1), lambda scale: scale.reshape(1, -1, 1, 1))
_DOWN = _Layout(_down_to_ours, _down_to_theirs)
_UP = _Layout(_up_to_ours, _up_to_theirs)


@dataclass(frozen=True)
class _Entry:
    """A tensor: its name and shape in PyTorch, our name, and its layout."""

    torch: str
    shape: tuple[int, ...]
    ours: str
    layout: _Layout = _SAME


def is_nafnet_name(name: str) -> bool:
    """Return whether NAFNets, of any depths, have a tensor of this name."""
    return _NAMES.fullmatch(name) is not None


def read_options(tensors: Tensors) -> dict[str, Any]:
    """Return the options of the network with these tensors, as published, with local means.

    Incomplete tensors give the smallest network that has all of them.
    """
    intro = tensors.get("intro.weight", tensors.get("intro.bias"))
    beta = tensors.get("encoders.0.0.beta")
    width = len(intro) if intro is not None else beta.size if beta is not None else 0

    def count(pattern: str) -> int:
        numbers = [int(match[1]) for name in tensors if (match := re.match(pattern, name))]
        return max(numbers, default=-1) + 1

    levels = max(count(r"encoders\.(\d+)\."), count(r"decoders\.(\d+)\."), count(r"downs\.(\d+)\."))
    return {
        "width": width,
        "encoder_blocks": tuple(count(rf"encoders\.{level}\.(\d+)\.") for level in range(levels)),
        "middle_blocks": count(r"middle_blks\.(\d+)\."),
        # Numbered from the lowest resolution in PyTorch, from the highest here.
        "decoder_blocks": tuple(count(rf"decoders\.{level}\.(\d+)\.") for level in reversed(range(levels))),
        **PUBLISHED,
    }


def from_torch(tensors: Tensors) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options and flax variables of a PyTorch state dict.

    Args:
        tensors: float32 arrays by PyTorch's names.

    Raises:
        InputError: lists every tensor that is missing, unknown, of another shape or not finite (code
            "checkpoint-does-not-fit").
    """
    options = read_options(tensors)
    expected = {entry.torch: entry.shape for entry in _entries(options)} | _norm_shapes(options)
    problems = [f"{name} {shape}: missing" for name, shape in expected.items() if name not in tensors]
    for name, tensor in tensors.items():
        if name not in expected:
            problems.append(f"{name} {tensor.shape}: not a tensor of this NAFNet")
        elif tensor.shape != expected[name]:
            problems.append(f"{name}: {tensor.shape}, expected {expected[name]}")
        elif not np.isfinite(tensor).all():
            problems.append(f"{name}: holds NaN or infinity")
    if problems:
        heading = f"These weights do not fit {describe(options)} ({len(problems)} problem(s)):"
        remedy = "Check that the file holds the whole network."
        raise InputError(list_problems(heading, problems, remedy), code="checkpoint-does-not-fit")
    folded = {**tensors}
    for block in _blocks(options):
        for norm, conv in (("norm1", "conv1"), ("norm2", "conv4")):
            kernel, bias = (f"{block}.{conv}.{kind}" for kind in ("weight", "bias"))
            scale, shift = tensors[f"{block}.{norm}.weight"], tensors[f"{block}.{norm}.bias"]
            folded[kernel], folded[bias] = _fold(scale, shift, tensors[kernel], tensors[bias])
    flat = {entry.ours: np.ascontiguousarray(entry.layout.to_ours(folded[entry.torch])) for entry in _entries(options)}
    return options, {"params": traverse_util.unflatten_dict(flat, sep="/")}


def to_torch(options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return PyTorch's state dict for `load_state_dict(strict=True)`.

    Args:
        options: of the network.
        variables: of the network.

    Raises:
        InputError: the published network has no such variant (code "weights-without-original").
    """
    if options["half_resolution"] or options["attention"] == "none":
        raise InputError(
            "The published NAFNet works at full resolution and has channel attention; found half_resolution="
            f"{options['half_resolution']}, attention={options['attention']!r}: this variant has no PyTorch original.",
            code="weights-without-original",
        )
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    converted = {}
    for entry in _entries(options):
        tensor = np.asarray(flat[entry.ours], np.float32)
        # A copy: arrays from a device may be read-only, and PyTorch writes into what it is given.
        converted[entry.torch] = np.array(entry.layout.to_theirs(tensor), order="C")
    for name, shape in _norm_shapes(options).items():
        converted[name] = np.full(shape, 1 if name.endswith("weight") else 0, np.float32)
    return converted


def describe(options: Mapping[str, Any]) -> str:
    """Return width and depths as text."""
    encoder, decoder = ("-".join(map(str, options[part])) for part in ("encoder_blocks", "decoder_blocks"))
    return f"NAFNet of width {options['width']}, blocks {encoder} / {options['middle_blocks']} / {decoder}"


def _fold(scale: np.ndarray, shift: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel (out, in, 1, 1) and bias of a 1x1 convolution that includes the norm before it."""
    exact = kernel.astype(np.float64)
    folded_bias = bias.astype(np.float64) + exact[:, :, 0, 0] @ shift.astype(np.float64)
    return (exact * scale.astype(np.float64)[:, None, None]).astype(np.float32), folded_bias.astype(np.float32)


def _parts(options: Mapping[str, Any]) -> list[tuple[str, str, int, int]]:
    """Return PyTorch's and our name, the channels and the number of blocks of each part of the network."""
    width, levels = options["width"], len(options["encoder_blocks"])
    parts = [
        (f"encoders.{level}", f"encoder{level}", width << level, blocks)
        for level, blocks in enumerate(options["encoder_blocks"])
    ]
    parts.append(("middle_blks", "middle", width << levels, options["middle_blocks"]))
    for level, blocks in enumerate(options["decoder_blocks"]):
        parts.append((f"decoders.{levels - 1 - level}", f"decoder{level}", width << level, blocks))
    return parts


def _blocks(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the channels of each block by PyTorch's name."""
    return {f"{name}.{i}": channels for name, _, channels, count in _parts(options) for i in range(count)}


def _norm_shapes(options: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        f"{block}.{norm}.{kind}": (channels,)
        for block, channels in _blocks(options).items()
        for norm in ("norm1", "norm2")
        for kind in ("weight", "bias")
    }


def _entries(options: Mapping[str, Any]) -> list[_Entry]:
    """Return all tensors but the norms'."""
    width, levels = options["width"], len(options["encoder_blocks"])
    entries = _conv("intro", "input", (width, 3, 3, 3)) + _conv("ending", "output", (3, width, 3, 3))
    for level in range(levels):
        channels = width << level
        entries += _conv(f"downs.{level}", f"down{level}", (2 * channels, channels, 2, 2), _DOWN)
        name, ours = f"ups.{levels - 1 - level}.0", f"up{level}"
        entries.append(_Entry(f"{name}.weight", (4 * channels, 2 * channels, 1, 1), f"{ours}/kernel", _UP))
    for part, our_part, channels, count in _parts(options):
        for i in range(count):
            entries += _block_entries(f"{part}.{i}", f"{our_part}_{i}", channels)
    return entries


def _block_entries(block: str, ours: str, channels: int) -> list[_Entry]:
    layers = {
        "conv1": ("expand1", 2 * channels, channels, 1),
        "conv2": ("depthwise", 2 * channels, 1, 3),
        "sca.1": ("attention", channels, channels, 1),
        "conv3": ("project1", channels, channels, 1),
        "conv4": ("expand2", 2 * channels, channels, 1),
        "conv5": ("project2", channels, channels, 1),
    }
    entries = []
    for name, (our_name, outputs, inputs, size) in layers.items():
        entries += _conv(f"{block}.{name}", f"{ours}/{our_name}", (outputs, inputs, size, size))
    for name, our_name in (("beta", "project1"), ("gamma", "project2")):
        entries.append(_Entry(f"{block}.{name}", (1, channels, 1, 1), f"{ours}/{our_name}/scale", _CHANNELS))
    return entries


def _conv(name: str, ours: str, shape: tuple[int, ...], layout: _Layout = _CONV) -> list[_Entry]:
    return [
        _Entry(f"{name}.weight", shape, f"{ours}/kernel", layout),
        _Entry(f"{name}.bias", shape[:1], f"{ours}/bias"),
    ]
