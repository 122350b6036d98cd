"""Weights from a tensor's name alone: the same on any machine and in any framework. For goldens and parity tests."""

import math
import zlib

import numpy as np


def random_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 numbers that depend on `name` (of PyTorch's state dict) and `shape` only.

    Kernels keep the size of what passes through; BatchNorm's scales and running statistics differ from channel to
    channel, so that no two of them can be mixed up unseen.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        values = rng.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", "bias")):
        values = rng.normal(0, 0.1, shape)
    else:
        values = rng.normal(0, 1 / math.sqrt(math.prod(shape[1:])), shape)
    return values.astype(np.float32)


def random_image(height: int, width: int, batch: int = 2) -> np.ndarray:
    """Return (batch, height, width, 3) float32 noise in [0, 1)."""
    return np.random.default_rng([height, width]).random((batch, height, width, 3), dtype=np.float32)
