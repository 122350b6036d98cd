"""Networks as ONNX files, checked by ONNX Runtime. Needs `onnx` and `onnxruntime` (pip install '.[export]')."""

from typing import Any

import jax
import numpy as np

from jaxdeblur import __version__
from jaxdeblur.errors import InputError
from jaxdeblur.export.function import restore_function
from jaxdeblur.runtime.optional_packages import require
from jaxdeblur.weights.load import TrainedNetwork
from jaxdeblur.weights.tensors import fingerprint

TOLERANCE = 1e-4  # of values in [0, 1]: a fortieth of an 8-bit level
CHECKED_SHAPES = ((2, 64, 96, 3), (1, 75, 53, 3))


def to_onnx(network: TrainedNetwork) -> bytes:
    """Return an ONNX file's content; its `metadata_props` describe the input and the weights.

    Raises:
        InputError: onnx or onnxruntime is not installed, or ONNX Runtime's output differs from the network's (code
            "onnx-differs").
    """
    require("onnx", "Writing ONNX")
    onnxruntime = require("onnxruntime", "Writing ONNX")
    from jaxdeblur.export.onnx_networks import make_model  # needs onnx

    metadata = {
        "network": network.name,
        "weights_sha256": fingerprint(network.variables),
        "jaxdeblur": __version__,
        "layout": "NHWC",
        "colour_order": "RGB",
        "value_range": "[0, 1]",
        "multiple_of_sides": f"{network.multiple}; other sides are padded and cropped inside",
        "least_side": str(network.multiple),
    }
    content = make_model(network.model, network.variables, metadata)
    _check(content, network, onnxruntime)
    return content


def _check(content: bytes, network: TrainedNetwork, onnxruntime: Any) -> None:
    """Compare ONNX Runtime with the network on the CPU, at two sizes."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    restore, cpu = jax.jit(restore_function(network)), jax.local_devices(backend="cpu")[0]
    for shape in CHECKED_SHAPES:
        image = np.random.default_rng(0).random(shape, np.float32)
        (output,) = session.run(None, {"image": image})
        difference = np.abs(output - np.asarray(restore(jax.device_put(image, cpu)))).max()
        if not difference <= TOLERANCE:  # NaN too
            raise InputError(
                f"With these weights, ONNX Runtime {onnxruntime.__version__} differs from {network.name} by "
                f"{difference:.1g} on noise of {shape[1]}x{shape[2]}, expected at most {TOLERANCE:.0e}. Check that all "
                "weights are finite; if they are, try another version of onnxruntime.",
                code="onnx-differs",
            )
