"""Random weights that depend on tensor names only: the same on any machine, in any framework. For parity tests."""

import math
import zlib

import numpy as np


def random_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 numbers that depend only on `name` (in PyTorch's state dict) and `shape`.

    Kernels preserve the variance of activations; BatchNorm's scales and running statistics differ between channels, so
    that mixing them up is detected.
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
