"""Trained networks as they are used: whole, with the options that are stored beside their weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.models import MODELS, build_model
from jaxdeblur.models.heads import CORRECTION
from jaxdeblur.weights.initial import load_network, network_shapes, stored_options
from jaxdeblur.weights.tensors import Shapes, shapes_of


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network: its name in `MODELS`, module and variables, and the multiple that it pads sides to."""

    name: str
    model: nn.Module
    variables: Mapping[str, Any]
    multiple: int


def read_network(path: Path) -> TrainedNetwork:
    """Return the network of a run's folder (its best checkpoint) or of a `.safetensors`.

    Raises:
        InputError: there is no such run or file, or it holds something else than one of our networks, whole.
    """
    variables, name, _ = load_network(path)
    if name not in MODELS:
        raise InputError(
            f"{path}: holds {name}, which restores no images. Expected one of {', '.join(MODELS)}.",
            code="weights-restore-nothing",
        )
    found = shapes_of(variables)
    options = stored_options(path)
    if options is None:
        options = _infer_options(name, found)
    try:
        expected = network_shapes(build_model(name, **options)) if options is not None else {}
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: states options that {name} cannot be built with ({error}). Use the version of jaxdeblur that "
            "wrote it, or a newer one.",
            code="weights-bad-options",
        ) from error
    if found != expected:
        others = [f"{tensor} {shape}: not expected" for tensor, shape in found.items() if expected.get(tensor) != shape]
        others += [f"{tensor} {shape}: missing" for tensor, shape in expected.items() if found.get(tensor) != shape]
        raise InputError(
            list_problems(
                f"{path}: names {name} as its network, but its tensors are no {name}'s ({len(others)} problem(s)):",
                others,
                "Choose other weights, or convert them again.",
            ),
            code="weights-do-not-fit",
        )
    model = build_model(name, **options)
    return TrainedNetwork(name, model, variables, model.multiple)


def _infer_options(network: str, shapes: Shapes) -> dict[str, Any] | None:
    """Return the options, such as `width`, of the network that has these shapes; None where they do not tell.

    For files that were written before the options were stored. An option that came later has its default there.
    """

    def count(layer: str) -> int:
        return len({match[0] for name in shapes if (match := re.match(rf"params/{layer}\d+/", name))})

    first = {"nafnet": "input", "transformnet": "conv1", "resnetencdec": "backbone/conv1", "unet": "down0"}[network]
    kernel = shapes.get(f"params/{first}/kernel", ())
    if len(kernel) != 4:
        return None
    width = kernel[3]
    if network == "unet":
        return {"width": width, "num_levels": count("down"), "num_blocks": count("encoder0_")}
    if network == "nafnet":
        levels = range(count("down"))
        return {
            "width": width,
            **{
                f"{part}_blocks": tuple(count(f"{part}{level}_") for level in levels) for part in ("encoder", "decoder")
            },
            "middle_blocks": count("middle_"),
            "half_resolution": kernel[2] == 12,  # of four pixels' colours, or of one's
            "attention": "global" if "params/middle_0/attention/kernel" in shapes else "none",
        }
    norm = first.replace("conv1", "bn1")
    options = {
        "width": width,
        "residual": f"params/{CORRECTION}/kernel" in shapes,
        "norm": "batch" if f"params/{norm}/scale" in shapes else "none",
    }
    if network == "transformnet":
        return {**options, "num_blocks": count("res_block")}
    return {**options, "stage_sizes": tuple(count(f"backbone/layer{stage}_") for stage in (1, 2, 3, 4))}
