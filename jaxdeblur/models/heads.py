"""What TransformNet and ResnetEncDec share where they part from their originals: no BatchNorm, a correction put out.

Without BatchNorm nothing evens out the size of what passes through, so the first weights do: He et al.'s (2015, arXiv
1502.01852) before a ReLU, and zero in the last convolution of each residual branch, so that each block starts as the
identity however many there are (Fixup, Zhang et al. 2019, arXiv 1901.09321). Convolutions then have biases throughout.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax
from flax.linen.initializers import Initializer
from jax.typing import DTypeLike

from jaxdeblur.models.layers import PYTORCH_INIT, BatchNorm

Norm = Literal["batch", "none"]
# The last layer of a network that adds what it puts out to its input. By this name weights alone tell such a network.
CORRECTION = "correction"

zeros = nn.initializers.zeros
he_normal = nn.initializers.he_normal()
# A transposed convolution of stride 2 sees a quarter of its kernel's taps at each output: four times the variance. The
# first is for one that a ReLU follows, the second keeps the size of what passes through.
he_normal_transposed = nn.initializers.variance_scaling(8, "fan_in", "normal")
lecun_normal_transposed = nn.initializers.variance_scaling(4, "fan_in", "normal")


def make_norm(norm: Norm, train: bool, dtype: DTypeLike | None) -> Callable[..., Callable[[jax.Array], jax.Array]]:
    """Return what makes a normalising layer from its `name`: BatchNorm, or a function that leaves all as it is.

    Raises:
        ValueError: `norm` is neither.
    """
    if norm == "batch":
        return partial(BatchNorm, use_running_average=not train, dtype=dtype)
    if norm == "none":
        return lambda name: lambda x: x
    raise ValueError(f"norm is {norm!r}, expected 'batch' or 'none'")


def output_options(residual: bool, name: str) -> dict[str, str | Initializer]:
    """Return `name` and `kernel_init` of a network's last layer, `name` being the original's."""
    return {"name": CORRECTION, "kernel_init": zeros} if residual else {"name": name, "kernel_init": PYTORCH_INIT}


def put_out(image: jax.Array, x: jax.Array, residual: bool) -> jax.Array:
    """Return the restored image from the last layer's `x`: a correction of `image`, unclipped, or through a sigmoid."""
    x = x.astype(image.dtype)
    return image + x if residual else nn.sigmoid(x)
