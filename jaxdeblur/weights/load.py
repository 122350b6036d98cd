"""Loading a trained network: architecture and weights, from a run's folder, a `.safetensors` or a PyTorch file."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from jaxdeblur.console import say
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.files import file_sha256, user_cache_folder
from jaxdeblur.models import MODELS, Network, build_model, options_of
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.weights.from_torch import convert_network, holds_torch_names
from jaxdeblur.weights.legacy import infer_options
from jaxdeblur.weights.safetensors import options_in, read_metadata, read_weights, write_weights
from jaxdeblur.weights.tensors import Shapes, fingerprint, network_shapes, shapes_of

# Version of the conversion of PyTorch's files; increased when it changes, so that cached files are converted again.
CONVERSION = 1


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights.

    Attributes:
        name: a key of `MODELS`.
        model: the module.
        variables: `params` and `batch_stats`, float32 on the host.
        description: where the weights come from, for logs and reports: path, step and SHA-256.
        is_from_torch: they were read from a file with PyTorch's names, so no config describes them.
    """

    name: str
    model: Network
    variables: Mapping[str, Any]
    description: str
    is_from_torch: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The architecture, such as `width`, as `build_model` takes it."""
        return options_of(self.model)

    @property
    def multiple(self) -> int:
        """Height and width are padded internally to a multiple of this."""
        return self.model.multiple


def load_network(path: Path, *, dtype: str | None = None) -> TrainedNetwork:
    """Load the network of a run (its best checkpoint on validation), of a `.safetensors` file or of a PyTorch file.

    A PyTorch file of a known network (`from_torch.KNOWN`) is converted once and cached by its SHA-256 in the user's
    cache folder; what it holds is printed. Reading PyTorch's own format needs PyTorch, the cached conversion does not.

    Args:
        path: a run's folder, or a file.
        dtype: compute type of the module; None: that of its input.

    Raises:
        InputError: there is no such run or file, it is corrupt, or it does not hold a whole image-restoring network.
    """
    network = _load_run(path) if path.is_dir() else _load_file(path)
    if dtype is None:
        return network
    return replace(network, model=network.model.clone(dtype=dtype))


def _load_file(path: Path) -> TrainedNetwork:
    return _load_torch(path) if path.is_file() and holds_torch_names(path) else _load_safetensors(path)


def _load_torch(path: Path) -> TrainedNetwork:
    digest, folder = file_sha256(path), user_cache_folder()
    cached = None if folder is None else folder / "converted" / f"{digest}-{CONVERSION}.safetensors"
    if cached and cached.is_file():
        with suppress(InputError):  # a corrupt file is converted again
            network = _load_safetensors(cached)
            _say_all(path, json.loads(read_metadata(cached)["notes"]))
            return replace(network, description=f"{path} (SHA-256 {digest})", is_from_torch=True)
    converted = convert_network(path)
    notes = [note.removeprefix(f"{path}: ") for note in converted.notes]
    _say_all(path, notes)
    if cached:
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_weights(cached, converted.variables, {**converted.metadata, "notes": json.dumps(notes)})
        except OSError as error:
            say(f"{cached}: the converted weights cannot be cached ({error.strerror}).")
    model = _build(path, converted.network, converted.options)
    return TrainedNetwork(converted.network, model, converted.variables, f"{path} (SHA-256 {digest})", True)


def _say_all(path: Path, notes: Sequence[str]) -> None:
    for note in notes:
        say(f"{path}: {note}")


def _load_safetensors(path: Path) -> TrainedNetwork:
    metadata = read_metadata(path)
    name, options = metadata["network"], options_in(path, metadata)
    _require_network(path, name)
    variables, _ = read_weights(path)
    actual = shapes_of(variables)
    if options is None:
        options = infer_options(name, actual)
    model = None if options is None else _build(path, name, options)
    expected = {} if model is None else network_shapes(model)
    if model is None or actual != expected:
        raise _wrong_tensors(path, name, actual, expected)
    return TrainedNetwork(name, model, variables, f"{path} (SHA-256 {file_sha256(path)})")


def _load_run(path: Path) -> TrainedNetwork:
    try:
        options = json.loads((path / "config.json").read_text())["model"]
        name = options.pop("name")
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not a run's folder (no config.json with a model).", code="not-a-run") from error
    _require_network(path, name)
    model = _build(path, name, options)
    abstract = jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), abstract)
    with _orbax_silenced():
        checkpoints = Checkpoints(path / "checkpoints", keep_latest=1, read_only=True)
        best = checkpoints.restore_best(abstract)
        if best is None:
            raise InputError(
                f"{path}: has no validated checkpoint. Train it for at least one epoch first.",
                code="no-validated-checkpoint",
            )
        step, variables = best[0], jax.device_get(best[1])
    description = f"{path}, step {step} (weights' SHA-256 {fingerprint(variables)})"
    return TrainedNetwork(name, model, variables, description)


def _require_network(path: Path, name: str) -> None:
    if name not in MODELS:
        raise InputError(
            f"{path}: holds {name}, which does not restore images. Expected one of {', '.join(MODELS)}.",
            code="weights-restore-nothing",
        )


def _build(path: Path, name: str, options: Mapping[str, Any]) -> Network:
    try:
        model = build_model(name, **options)
        network_shapes(model)  # a field's value may be impossible too
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: has options that {name} cannot be built with ({error}). Use the version of jaxdeblur that wrote "
            "it, or a newer one.",
            code="weights-bad-options",
        ) from error
    return model


def _wrong_tensors(path: Path, name: str, actual: Shapes, expected: Shapes) -> InputError:
    problems = [f"{tensor} {shape}: unexpected" for tensor, shape in actual.items() if expected.get(tensor) != shape]
    problems += [f"{tensor} {shape}: missing" for tensor, shape in expected.items() if actual.get(tensor) != shape]
    heading = (
        f"{path}: its metadata names {name}, but its tensors are not those of {name} ({len(problems)} problem(s)):"
    )
    remedy = "Choose other weights, or rerun the conversion."
    return InputError(list_problems(heading, problems, remedy), code="weights-do-not-fit")


@contextmanager
def _orbax_silenced() -> Iterator[None]:
    """Suppress orbax's warning that a run opened for reading is read-only; exceptions are still raised."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
