"""Trained networks as files that run without this package: StableHLO for JAX, ONNX for ONNX Runtime and others.

Both hold the weights and map (B, H, W, 3) float32 RGB in [0, 1] to the same shape, for every batch and every side from
the network's multiple up. They compute in float32, whatever the network was trained in. Sides that are no multiples are
padded and cropped inside, as the module does. The output is clipped to [0, 1]: what is not put through a sigmoid may
leave that range.
"""

from collections.abc import Callable

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jaxdeblur import __version__
from jaxdeblur.errors import InputError
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.weights.load import TrainedNetwork
from jaxdeblur.weights.tensors import fingerprint

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-4  # of values in [0, 1]: a fortieth of a step of 8 bits


def to_stablehlo(network: TrainedNetwork) -> bytes:
    """Return what `jax.export.deserialize` reads: one program for CPU, CUDA and TPU.

    Its `fun_name` is the network's name and the SHA-256 of its weights, its `in_avals` say what it takes.

    Raises:
        InputError: flatbuffers is not installed.
    """
    require("flatbuffers", "Writing StableHLO")
    restore = _restoring(network)
    restore.__name__ = f"{network.name}_{fingerprint(network.variables)}"
    least = [f"{side} >= {network.multiple}" for side in ("height", "width")]
    batch, height, width = jax.export.symbolic_shape("batch, height, width", constraints=least)
    image = jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    return bytes(jax.export.export(jax.jit(restore), platforms=PLATFORMS)(image).serialize())


def to_onnx(network: TrainedNetwork) -> bytes:
    """Return an ONNX file's content; its `metadata_props` say what goes in and where it comes from.

    Raises:
        InputError: onnx or onnxruntime is not installed, or ONNX Runtime puts out something else than the network.
    """
    require("onnx", "Writing ONNX")
    require("onnxruntime", "Writing ONNX")
    from jaxdeblur.export import onnx_networks

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
    content = onnx_networks.make_model(network.model, network.variables, network.multiple, facts)
    _check_onnx(content, network)
    return content


def _check_onnx(content: bytes, network: TrainedNetwork) -> None:
    """Compare ONNX Runtime with the network, with these weights, at two sizes and on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    restore, cpu = jax.jit(_restoring(network)), jax.local_devices(backend="cpu")[0]
    for shape in ((2, 64, 96, 3), (1, 75, 53, 3)):
        image = np.random.default_rng(0).random(shape, np.float32)
        (found,) = session.run(None, {"image": image})
        difference = np.abs(found - np.asarray(restore(jax.device_put(image, cpu)))).max()
        if not difference <= TOLERANCE:
            raise InputError(
                f"With these weights ONNX Runtime {onnxruntime.__version__} parts from {network.name} "
                f"by {difference:.1g} on noise of {shape[1]}x{shape[2]}, expected {TOLERANCE:.0e} at most. "
                "Check that all weights are finite; if they are, try another version of onnxruntime."
            )


def _restoring(network: TrainedNetwork) -> Callable[[jax.Array], jax.Array]:
    """Return what the files compute."""

    def restore(image: jax.Array) -> jax.Array:
        return jnp.clip(network.model.apply(network.variables, image, train=False), 0.0, 1.0)

    return restore


FORMATS = {"stablehlo": to_stablehlo, "onnx": to_onnx}
