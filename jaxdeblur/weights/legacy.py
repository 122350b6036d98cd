"""Architectures of `.safetensors` files written before options were stored in the metadata."""

import re
from typing import Any

from jaxdeblur.models.heads import CORRECTION
from jaxdeblur.weights.tensors import Shapes

# The layer whose kernel has `width` output channels.
FIRST_LAYER = {"nafnet": "input", "transformnet": "conv1", "resnetencdec": "backbone/conv1", "unet": "down0"}


def infer_options(network: str, shapes: Shapes) -> dict[str, Any] | None:
    """Return the options, such as `width`, of the network with these tensors.

    Options introduced after they were stored keep their defaults.

    Returns:
        None if the first layer is missing, so that the tensors cannot be the network's.
    """
    kernel = shapes.get(f"params/{FIRST_LAYER[network]}/kernel", ()) if network in FIRST_LAYER else ()
    if len(kernel) != 4:
        return None
    infer = {"unet": _infer_unet, "nafnet": _infer_nafnet}.get(network, _infer_original)
    return {"width": kernel[3], **infer(network, shapes)}


def _count(shapes: Shapes, layer: str) -> int:
    """Return how many layers are called `layer` followed by a number."""
    return len({match[0] for name in shapes if (match := re.match(rf"params/{layer}\d+/", name))})


def _infer_unet(network: str, shapes: Shapes) -> dict[str, Any]:
    return {"num_levels": _count(shapes, "down"), "num_blocks": _count(shapes, "encoder0_")}


def _infer_nafnet(network: str, shapes: Shapes) -> dict[str, Any]:
    levels = range(_count(shapes, "down"))
    return {
        "encoder_blocks": tuple(_count(shapes, f"encoder{level}_") for level in levels),
        "middle_blocks": _count(shapes, "middle_"),
        "decoder_blocks": tuple(_count(shapes, f"decoder{level}_") for level in levels),
        "half_resolution": shapes["params/input/kernel"][2] == 12,  # RGB of four pixels, not of one
        "attention": "global" if "params/middle_0/attention/kernel" in shapes else "none",
    }


def _infer_original(network: str, shapes: Shapes) -> dict[str, Any]:
    """TransformNet and ResnetEncDec."""
    first_norm = FIRST_LAYER[network].replace("conv1", "bn1")
    options: dict[str, Any] = {
        "residual": f"params/{CORRECTION}/kernel" in shapes,
        "norm": "batch" if f"params/{first_norm}/scale" in shapes else "none",
    }
    if network == "transformnet":
        return {**options, "num_blocks": _count(shapes, "res_block")}
    return {**options, "stage_sizes": tuple(_count(shapes, f"backbone/layer{stage}_") for stage in (1, 2, 3, 4))}
