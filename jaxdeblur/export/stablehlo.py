"""Networks as serialised StableHLO programs, for JAX."""

import jax
import jax.export
import jax.numpy as jnp

from jaxdeblur.export.function import restore_function
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.weights.load import TrainedNetwork
from jaxdeblur.weights.tensors import fingerprint

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(network: TrainedNetwork) -> bytes:
    """Return a program for CPU, CUDA and TPU, to be read by `jax.export.deserialize`.

    Its `fun_name` is the network's name and its weights' SHA-256; its `in_avals` describe the input.

    Raises:
        InputError: flatbuffers is not installed.
    """
    require("flatbuffers", "Writing StableHLO")
    restore = restore_function(network)
    restore.__name__ = f"{network.name}_{fingerprint(network.variables)}"
    constraints = [f"{side} >= {network.multiple}" for side in ("height", "width")]
    batch, height, width = jax.export.symbolic_shape("batch, height, width", constraints=constraints)
    image = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    return bytes(jax.export.export(jax.jit(restore), platforms=PLATFORMS)(image).serialize())
