"""What a run starts from: random weights, a pretrained encoder, or a whole network from a file or another run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax import traverse_util

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import file_sha256
from jaxdeblur.models import ENCODERS
from jaxdeblur.weights.load import TrainedNetwork, load_network
from jaxdeblur.weights.pretrained.catalogue import resolve_weights
from jaxdeblur.weights.safetensors import read_weights
from jaxdeblur.weights.tensors import Shapes, check_fit


@dataclass(frozen=True)
class InitialWeights:
    """Tensors to start from.

    Attributes:
        tensors: by name, as `params/conv1/kernel`; those left out are initialised randomly.
        description: for the log, the checkpoints and the report.
    """

    tensors: dict[str, Any]
    description: str


def read_initial_weights(
    network: str, start: Mapping[str, str], expected: Shapes, options: Mapping[str, Any] | None = None
) -> InitialWeights:
    """Read what a run starts from.

    Args:
        network: the config's `model.name`.
        start: the config's `network`, a path or the name of a shipped network, and `encoder`, a path; both empty for
            random weights.
        expected: names and shapes of the whole network.
        options: the other fields of the config's `model`, so that a mismatch is reported by field; None: only tensors
            are compared.

    Raises:
        InputError: a file is missing (the message tells how to create it), does not fit, or an encoder was given but
            the network has none.
    """
    if start["network"]:
        return _read_network(resolve_weights(start["network"]), network, expected, options or {})
    encoder = {name: shape for name, shape in expected.items() if name.split("/")[1] == ENCODERS.get(network)}
    if not start["encoder"]:
        return InitialWeights({}, "random; encoder not pretrained" if encoder else "random")
    if not encoder:
        raise InputError(
            f"init.encoder: found {start['encoder']!r}, but {network} has no encoder. Set init.encoder to ''.",
            code="no-encoder",
        )
    return _read_encoder(Path(start["encoder"]).expanduser(), encoder)


def _read_network(path: Path, name: str, expected: Shapes, options: Mapping[str, Any]) -> InitialWeights:
    trained = load_network(path)
    _check_architecture(path, trained, name, options)
    check_fit(path, trained.variables, expected)
    tensors = traverse_util.flatten_dict(trained.variables, sep="/")
    return InitialWeights(tensors, f"whole network from {trained.description}")


def _read_encoder(path: Path, expected: Shapes) -> InitialWeights:
    if not path.is_file():
        raise InputError(
            f"init.encoder: {path} is missing. Create it once from torchvision's ResNet-50:\n"
            f"  python tools/convert_weights.py to-jax --network resnet50 --download resnet50 {path}\n"
            "or train from random weights: --config.init.encoder=''",
            code="encoder-missing",
        )
    variables, metadata = read_weights(path)
    check_fit(path, variables, expected)
    return InitialWeights(
        traverse_util.flatten_dict(variables, sep="/"),
        f"encoder pretrained, from {path} ({metadata['network']}, SHA-256 {file_sha256(path)}); the rest random",
    )


def _check_architecture(path: Path, trained: TrainedNetwork, name: str, options: Mapping[str, Any]) -> None:
    """Require the config's architecture.

    Args:
        path: of the weights, for the message.
        trained: the weights' network.
        name: the config's `model.name`.
        options: the other fields of the config's `model`.

    Raises:
        InputError: lists the fields that differ (code "other-architecture").
    """
    theirs = json.loads(json.dumps(trained.options)) if trained.name == name else {}
    ours = json.loads(json.dumps(dict(options)))
    fields = [("model.name", trained.name, name)]
    fields += [(f"model.{key}", theirs[key], ours[key]) for key in ours if key in theirs]
    problems = [
        f"{field}: the weights have {their!r}, the config {our!r}" for field, their, our in fields if their != our
    ]
    if problems:
        raise InputError(
            list_problems(
                f"{path}: these weights have another architecture than the config's model:",
                problems,
                "Set these fields to the weights' values (--config.model.width=24), or start from other weights.",
                shown=None,
            ),
            code="other-architecture",
        )


def fill(variables: dict[str, Any], weights: InitialWeights) -> dict[str, Any]:
    """Return the variables with random tensors replaced by those to start from."""
    flat = traverse_util.flatten_dict(variables, sep="/")
    return traverse_util.unflatten_dict({**flat, **weights.tensors}, sep="/")
