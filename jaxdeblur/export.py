"""Trained networks as files that run without this package: StableHLO for JAX, ONNX for ONNX Runtime and others.

Both hold the weights and map (B, H, W, 3) float32 RGB in [0, 1] to the same shape, for every batch and every side from
the network's multiple up. They compute in float32, whatever the network was trained in. Sides that are no multiples are
padded and cropped inside, as the module does. The output is clipped to [0, 1]: UNet's may leave it, the others end in a
sigmoid anyway.
"""

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp

from jaxdeblur import __version__
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.initial_weights import load_network, network_shapes
from jaxdeblur.models import MODELS, build_model
from jaxdeblur.weights import Shapes, fingerprint, shapes_of

PLATFORMS = ("cpu", "cuda", "tpu")


@dataclass(frozen=True)
class Network:
    """A trained network: its name in `MODELS`, module and variables, and the multiple that it pads sides to."""

    name: str
    model: nn.Module
    variables: Mapping[str, Any]
    multiple: int


def read_network(path: Path) -> Network:
    """Return the network of a run's folder (its best checkpoint) or of a `.safetensors`; its shapes tell its widths.

    Raises:
        InputError: there is no such run or file, or it holds something else than one of our networks, whole.
    """
    variables, name, _ = load_network(path)
    if name not in MODELS:
        raise InputError(f"{path}: holds {name}, which restores no images. Expected one of {', '.join(MODELS)}.")
    found = shapes_of(variables)
    options = read_options(name, found)
    expected = network_shapes(build_model(name, **options)) if options else {}
    if found != expected:
        others = [f"{tensor} {shape}: not expected" for tensor, shape in found.items() if expected.get(tensor) != shape]
        others += [f"{tensor} {shape}: missing" for tensor, shape in expected.items() if found.get(tensor) != shape]
        raise InputError(
            list_problems(
                f"{path}: names {name} as its network, but its tensors are no {name}'s ({len(others)} problem(s)):",
                others,
                "Choose other weights, or convert them again.",
            )
        )
    multiple = 2 ** options["num_levels"] if name == "unet" else 4
    return Network(name, build_model(name, **options), variables, multiple)


def read_options(network: str, shapes: Shapes) -> dict[str, Any]:
    """Return the attributes, such as `width`, of the network that has these shapes; none where a layer is missing."""

    def count(layer: str) -> int:
        return len({match[0] for name in shapes if (match := re.match(rf"params/{layer}\d+/", name))})

    first = {"transformnet": "conv1", "resnetencdec": "backbone/conv1", "unet": "down0"}[network]
    if f"params/{first}/kernel" not in shapes:
        return {}
    width = shapes[f"params/{first}/kernel"][-1]
    if network == "transformnet":
        return {"width": width, "num_blocks": count("res_block")}
    if network == "resnetencdec":
        return {"width": width, "stage_sizes": tuple(count(f"backbone/layer{stage}_") for stage in (1, 2, 3, 4))}
    return {"width": width, "num_levels": count("down"), "num_blocks": count("encoder0_")}


def to_stablehlo(network: Network) -> bytes:
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


def to_onnx(network: Network) -> bytes:
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
