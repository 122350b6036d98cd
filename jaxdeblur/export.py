"""Trained networks as files that run without this package: StableHLO for JAX, ONNX for ONNX Runtime and others.

Both hold the weights and map (B, H, W, 3) float32 RGB in [0, 1] to the same shape, for every batch and every side from
the network's multiple up. They compute in float32, whatever the network was trained in. Sides that are no multiples are
padded and cropped inside, as the module does. The output is clipped to [0, 1]: UNet's may leave it, the others end in a
sigmoid anyway.
"""

import importlib

import jax
import jax.export
import jax.numpy as jnp

from jaxdeblur import __version__
from jaxdeblur.errors import InputError
from jaxdeblur.trained_network import TrainedNetwork
from jaxdeblur.weights import fingerprint

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(network: TrainedNetwork) -> bytes:
    """Return what `jax.export.deserialize` reads: one program for CPU, CUDA and TPU.

    Raises:
        InputError: flatbuffers is not installed.
    """
    _require("flatbuffers", "StableHLO")

    def restore(image: jax.Array) -> jax.Array:
        return jnp.clip(network.model.apply(network.variables, image, train=False), 0.0, 1.0)

    least = [f"{side} >= {network.multiple}" for side in ("height", "width")]
    batch, height, width = jax.export.symbolic_shape("batch, height, width", constraints=least)
    image = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    return bytes(jax.export.export(jax.jit(restore), platforms=PLATFORMS)(image).serialize())


def to_onnx(network: TrainedNetwork) -> bytes:
    """Return an ONNX file's content; its `metadata_props` say what goes in and where it comes from.

    Raises:
        InputError: onnx is not installed.
    """
    _require("onnx", "ONNX")
    from jaxdeblur import onnx_graph

    facts = {
        "network": network.name,
        "weights_sha256": fingerprint(network.variables),
        "jaxdeblur": __version__,
        "layout": "NHWC",
        "colour_order": "RGB",
        "value_range": "[0, 1]",
        "multiple_of_sides": f"{network.multiple}; other sides are padded and cropped inside",
        "least_side": str(network.multiple),
    }
    return onnx_graph.make_model(network.model, network.variables, network.multiple, facts)


def _require(module: str, what: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"Writing {what} needs {module}, which is not installed: pip install '.[export]'.") from error


FORMATS = {"stablehlo": to_stablehlo, "onnx": to_onnx}
