"""What identifies a run: its network and its data. All processes agree on them before the folder is claimed."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from jaxdeblur.config.run_config import ModelOptions, RunConfig
from jaxdeblur.config.tree import flatten
from jaxdeblur.data.mixture import Part
from jaxdeblur.data.sources import PairSource
from jaxdeblur.experiment.config_changes import DATA_ROOT
from jaxdeblur.experiment.run_folder import claim_run_folder
from jaxdeblur.runs.environment import code_version
from jaxdeblur.runs.lock import RunLock
from jaxdeblur.runtime import processes
from jaxdeblur.weights.tensors import Shapes

# Model options, by field and value, that make a network differ from the published one of its name.
VARIANTS = {("residual", True): "residual", ("norm", "none"): "without BatchNorm"}


class MixtureFacts(TypedDict):
    """The data set of a mixture's entry, and its share of every batch."""

    data_set: str
    share: float


class DataFacts(TypedDict):
    """What run.json records of the data, by split and, for the mixture, by field, as `data.mixture[0]`."""

    data_set: str
    mixture: dict[str, MixtureFacts]
    data_sha256: dict[str, str]
    pairs: dict[str, int]
    pairs_skipped: dict[str, int]


class NetworkFacts(TypedDict):
    """What run.json records of the network; `parameters` is the number of trainable ones."""

    network: str
    parameters: int
    batch_norm: bool


def data_facts(data_set: str, sources: dict[str, PairSource], mixture: Sequence[Part] = ()) -> DataFacts:
    """Return the facts of the sources of all splits and of the mixture."""
    mixed: dict[str, MixtureFacts] = {part.field: {"data_set": part.data_set, "share": part.share} for part in mixture}
    sources = {**sources, **{part.field: part.source for part in mixture}}
    return {
        "data_set": data_set,
        "mixture": mixed,
        "data_sha256": {split: source.fingerprint() for split, source in sources.items()},
        "pairs": {split: len(source) for split, source in sources.items()},
        "pairs_skipped": {split: len(source.skipped) for split, source in sources.items()},
    }


def network_facts(model: ModelOptions, shapes: Shapes) -> NetworkFacts:
    """Return the facts of the network; its name states how it differs from the published one."""
    parameters = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("params/"))
    variants = [name for (field, value), name in VARIANTS.items() if model.options.get(field) == value]
    name = f"{model.name} ({', '.join(variants)})" if variants else model.name
    batch_norm = any(name.startswith("batch_stats/") for name in shapes)
    return {"network": name, "parameters": parameters, "batch_norm": batch_norm}


def claim_folder_in_primary(
    workdir: Path, config: RunConfig, facts: dict[str, Any], *, has_checkpoint: bool
) -> RunLock | None:
    """Create or open the run's folder after all processes agree on the run; return its lock in the primary process.

    Raises:
        InputError: the processes differ, another process owns the run, or the folder holds something else.
    """
    check_agreement(workdir, config, facts)
    locks: list[RunLock] = []  # not a result of on_primary, which is sent to the other processes
    processes.on_primary(
        lambda: locks.append(claim_run_folder(workdir, config.tree, facts, has_checkpoint=has_checkpoint))
    )
    return locks[0] if locks else None


def check_agreement(workdir: Path, config: RunConfig, facts: Mapping[str, Any]) -> None:
    """Refuse processes that were started for different runs.

    Raises:
        InputError: lists the differences.
    """
    # The data folder and how it is read may differ between machines; its content may not.
    known = flatten({**config.tree, **facts})
    per_machine = ("data.num_threads", "data.cache_gib")
    shared = {key: known[key] for key in known if key not in per_machine and not DATA_ROOT.fullmatch(key)}
    processes.check_agreement({**shared, "--workdir": str(workdir.absolute()), "code_version": code_version()})
