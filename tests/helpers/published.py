"""State dicts of the published NAFNet, made with NumPy only."""

import numpy as np
from random_weights import random_tensor

TINY_BLOCKS = ((1, 2), 1, (2, 1))


def nafnet_tensors(width=4, blocks=TINY_BLOCKS):
    """Return random tensors by PyTorch's names, written from the published description; blocks: encoder from the
    highest resolution on, middle, decoder from the lowest on.
    """
    encoder, middle, decoder = blocks
    levels = len(encoder)
    shapes = {"intro.weight": (width, 3, 3, 3), "intro.bias": (width,)}
    for level, count in enumerate(encoder):
        shapes |= _blocks(f"encoders.{level}", width * 2**level, count)
        channels = width * 2**level
        shapes |= {f"downs.{level}.weight": (2 * channels, channels, 2, 2), f"downs.{level}.bias": (2 * channels,)}
    shapes |= _blocks("middle_blks", width * 2**levels, middle)
    for level, count in enumerate(decoder):
        channels = width * 2 ** (levels - level)
        shapes[f"ups.{level}.0.weight"] = (2 * channels, channels, 1, 1)
        shapes |= _blocks(f"decoders.{level}", channels // 2, count)
    shapes |= {"ending.weight": (3, width, 3, 3), "ending.bias": (3,)}
    return {name: random_tensor(name, shape) for name, shape in shapes.items()}


def _blocks(part, channels, count):
    shapes = {}
    for i in range(count):
        block = f"{part}.{i}"
        shapes |= {f"{block}.{scale}": (1, channels, 1, 1) for scale in ("beta", "gamma")}
        shapes |= {f"{block}.{norm}.{kind}": (channels,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
        for layer, outputs, inputs, size in (
            ("conv1", 2 * channels, channels, 1),
            ("conv2", 2 * channels, 1, 3),
            ("conv3", channels, channels, 1),
            ("conv4", 2 * channels, channels, 1),
            ("conv5", channels, channels, 1),
            ("sca.1", channels, channels, 1),
        ):
            shapes |= {f"{block}.{layer}.weight": (outputs, inputs, size, size), f"{block}.{layer}.bias": (outputs,)}
    return shapes


def without_affine(tensors):
    """Return the tensors with norms of scale 1 and shift 0."""
    return {
        name: np.full_like(tensor, 1 if name.endswith("weight") else 0) if ".norm" in name else tensor
        for name, tensor in tensors.items()
    }
