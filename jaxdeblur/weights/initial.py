"""What a run starts from: random weights, an encoder's, or a whole network's from a file or another run."""

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import file_sha256
from jaxdeblur.models import ENCODERS, build_model
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.weights.pretrained.catalogue import resolve_weights
from jaxdeblur.weights.safetensors import options_in, read_metadata, read_weights
from jaxdeblur.weights.tensors import Shapes, check_fit, fingerprint, shapes_of


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """Tensors to start from, by our names, and what the log, the checkpoints and the report say of them."""

    tensors: dict[str, Any]
    description: str


def read_initial_weights(
    network: str, start: dict[str, str], expected: Shapes, options: Mapping[str, Any] | None = None
) -> InitialWeights:
    """Return what a run starts from.

    Args:
        network: the config's `model.name`.
        start: the config's `start`: `network`, a path or the name of a shipped network, and `encoder`, a path; empty
            for random weights.
        expected: names and shapes of the whole network.
        options: the other fields of the config's `model`, to name those that differ from the network's to start from;
            None: only tensors are compared.

    Raises:
        InputError: a file is missing (the message tells how to make it), does not fit, or is asked for in vain.
    """
    if start["network"]:
        path = resolve_weights(start["network"])
        check_architecture(path, network, options or {})
        variables, _, origin = load_network(path)
        check_fit(path, variables, expected)
        return InitialWeights(traverse_util.flatten_dict(variables, sep="/"), f"whole network from {origin}")
    encoder = {name: shape for name, shape in expected.items() if name.split("/")[1] == ENCODERS.get(network)}
    if not start["encoder"]:
        words = "random; encoder not pretrained" if encoder else "random"
        return InitialWeights({}, words)
    if not encoder:
        raise InputError(f"start.encoder: {network} has no encoder to fill. Set start.encoder to ''.")
    path = Path(start["encoder"]).expanduser()
    if not path.is_file():
        raise InputError(
            f"start.encoder: {path} is missing. Make it once from torchvision's ResNet-50:\n"
            f"  python tools/convert_weights.py to-jax --network resnet50 --download resnet50 {path}\n"
            "or train from random weights: --config.start.encoder=''"
        )
    variables, metadata = read_weights(path)
    check_fit(path, variables, encoder)
    words = f"encoder pretrained, from {path} ({metadata['network']}, SHA-256 {file_sha256(path)}); the rest random"
    return InitialWeights(traverse_util.flatten_dict(variables, sep="/"), words)


def check_architecture(path: Path, network: str, options: Mapping[str, Any]) -> None:
    """Refuse weights of another architecture than the config's; options that the weights do not state may differ.

    Args:
        path: a run's folder or a `.safetensors`.
        network: the config's `model.name`.
        options: the other fields of the config's `model`.

    Raises:
        InputError: the fields that differ; or there is no such run or file.
    """
    name = _read_model(path)["name"] if path.is_dir() else read_metadata(path)["network"]
    stated = (stored_options(path) or {}) if name == network else {}
    wanted = json.loads(json.dumps(dict(options)))
    found = [("model.name", name, network)]
    found += [(f"model.{key}", stated[key], wanted[key]) for key in wanted if key in stated]
    problems = [
        f"{field}: the weights have {theirs!r}, the config {ours!r}" for field, theirs, ours in found if theirs != ours
    ]
    if problems:
        raise InputError(
            list_problems(
                f"{path}: these weights are of another architecture than the config's model:",
                problems,
                "Set these fields as the weights have them (--config.model.width=24), or start from other weights.",
                len(problems),
            ),
            code="other-architecture",
        )


def load_network(path: Path) -> tuple[dict[str, Any], str, str]:
    """Return a network's variables, its name, and words on their origin, from a run's folder or a `.safetensors`.

    Of a run it is the checkpoint that was best on validation.

    Raises:
        InputError: there is no such run or file.
    """
    if not path.is_dir():
        variables, metadata = read_weights(path)
        return variables, metadata["network"], f"{path} (SHA-256 {file_sha256(path)})"
    model = _read_model(path)
    network = build_model(**model)
    like = jax.eval_shape(lambda key: init_variables(network, key), jax.random.key(0))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like)
    with _orbax_silent():
        checkpoints = Checkpoints(path / "checkpoints", keep_latest=1, read_only=True)
        best = checkpoints.restore_best(like)
        if best is None:
            words = "has no validated checkpoint. Train it first, for an epoch at least."
            raise InputError(f"{path}: {words}", code="no-validated-checkpoint")
        step, variables = best[0], jax.device_get(best[1])
    return variables, model["name"], f"{path}, step {step} (weights' SHA-256 {fingerprint(variables)})"


def stored_options(path: Path) -> dict[str, Any] | None:
    """Return the options, such as `width`, that a run's config or a file's metadata state of the whole network.

    None for a file that was written before they were stored, and for one that holds no whole network.

    Raises:
        InputError: there is no such run or file, or it states nothing usable.
    """
    if not path.is_dir():
        return options_in(path, read_metadata(path))
    return {key: value for key, value in _read_model(path).items() if key != "name"}


@contextmanager
def _orbax_silent() -> Iterator[None]:
    """Keep orbax from warning that a run opened for reading is read-only; its exceptions reach us anyway."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _read_model(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / "config.json").read_text())["model"]
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{run}: no folder of a run (no config.json that names a model).") from error


def fill(variables: dict[str, Any], weights: InitialWeights) -> dict[str, Any]:
    """Return the variables with the tensors to start from in place of the random ones."""
    flat = traverse_util.flatten_dict(variables, sep="/")
    return traverse_util.unflatten_dict({**flat, **weights.tensors}, sep="/")


def network_shapes(model: Any) -> Shapes:
    """Return names and shapes of all that a network holds."""
    return shapes_of(jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0)))
