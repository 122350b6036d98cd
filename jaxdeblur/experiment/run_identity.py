"""What identifies a run: its network and its data, on which all processes agree before the folder is claimed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdeblur.config.fields import flatten, to_plain
from jaxdeblur.data.mixture import Part
from jaxdeblur.data.pair_source import PairSource
from jaxdeblur.experiment.config_changes import ROOTS
from jaxdeblur.experiment.run_folder import claim_run_folder
from jaxdeblur.runs.environment import code_version
from jaxdeblur.runs.lock import RunLock
from jaxdeblur.runtime import processes
from jaxdeblur.weights.tensors import Shapes

# What a run adds to its network's name, by a field of `model` and its value.
VARIANTS = {("residual", True): "residual", ("norm", "none"): "without BatchNorm"}


def data_facts(data_set: str, sources: dict[str, PairSource], mixture: Sequence[Part] = ()) -> dict[str, Any]:
    """Return what the run folder keeps of the data; what is mixed in goes by its field, as `data.mixture[0]`."""
    mixed = {part.field: {"data_set": part.data_set, "share": part.share} for part in mixture}
    sources = {**sources, **{part.field: part.source for part in mixture}}
    return {
        "data_set": data_set,
        "mixture": mixed,
        "data_sha256": {split: source.fingerprint() for split, source in sources.items()},
        "pairs": {split: len(source) for split, source in sources.items()},
        "pairs_skipped": {split: len(source.skipped) for split, source in sources.items()},
    }


def network_facts(config: ConfigDict, shapes: Shapes) -> dict[str, Any]:
    """Return what the run folder keeps of the network; a variant is not called as the published network is."""
    parameters = sum(math.prod(shape) for name, shape in shapes.items() if name.startswith("params/"))
    chosen = config.model.to_dict()
    words = [words for (field, value), words in VARIANTS.items() if chosen.get(field) == value]
    name = f"{config.model.name} ({', '.join(words)})" if words else config.model.name
    batch_norm = any(name.startswith("batch_stats/") for name in shapes)
    return {"network": name, "parameters": parameters, "batch_norm": batch_norm}


def claim_folder(workdir: Path, config: ConfigDict, facts: dict[str, Any], *, has_checkpoint: bool) -> RunLock | None:
    """Make or open the run's folder, once all processes are known to mean the same run; return its lock in the primary.

    Raises:
        InputError: they differ, another process owns the run, or the folder holds something else.
    """
    agree(workdir, config, facts)
    locks: list[RunLock] = []  # not the result of an exchange, which is sent to the other processes
    processes.on_primary(lambda: locks.append(claim_run_folder(workdir, config, facts, has_checkpoint=has_checkpoint)))
    return locks[0] if locks else None


def agree(workdir: Path, config: ConfigDict, facts: dict[str, Any]) -> None:
    """Refuse processes that mean different runs.

    Raises:
        InputError: lists what differs.
    """
    # Where the data lies and how it is read may differ between machines; what is in it may not.
    known = flatten({**to_plain(config), **facts})
    own = ("data.num_threads", "data.keep_gib")
    shared = {key: known[key] for key in known if key not in own and not ROOTS.fullmatch(key)}
    processes.check_agreement({**shared, "--workdir": str(workdir.absolute()), "code_version": code_version()})
