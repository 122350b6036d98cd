"""What a report states about each run besides its scores: how it was trained and evaluated."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdeblur.report.grouping import Entry, Group
from jaxdeblur.report.loading import Run
from jaxdeblur.report.sentences import describe_resolution, describe_test_history
from jaxdeblur.report.tables import NONE, Table
from jaxdeblur.runs.records import MixturePart

_VERSIONS = ("code_version", "python", "jax", "flax", "optax")


def run_facts(run: Run) -> dict[str, Any]:
    """Return the facts of one run by their label; None for those that do not apply."""
    facts = run.facts
    last = run.log[-1] if run.log else None
    return {
        "network": facts.network,
        "parameters": facts.parameters,
        "initial weights": facts.initial_weights,
        "trained here": "yes" if run.trained else "no, only evaluated",
        "data": facts.data_set,
        "mixed in": _describe_mixture(facts.mixture),
        "pairs": ", ".join(f"{number:,} {split}" for split, number in facts.pairs.items()),
        "skipped pairs": _describe_skipped(facts.pairs_skipped),
        "training steps": last["step"] if last else None,
        "training epochs": last["epoch"] if last else None,
        "training hours": round(last["wall_s"] / 3600, 3) if last else None,
        "seed": run.config.get("seed"),
        "devices": facts.devices,
        **{name.replace("_", " "): getattr(facts, name) for name in _VERSIONS},
        "command": shlex.join(facts.command),
        "use of the test split": describe_test_history(run),
        "folder": str(run.folder),
    }


def facts_table(runs: Sequence[Run]) -> Table:
    """Return the facts of all runs, one column each."""
    columns = [run_facts(run) for run in runs]
    rows = [[label, *(_text(facts[label]) for facts in columns)] for label in columns[0]]
    return Table("The runs", ["", *(run.name for run in runs)], rows)


def evaluation_facts(entry: Entry) -> dict[str, Any]:
    """Return what was evaluated, with which weights and at what speed, by label."""
    protocol, speed = entry.evaluation.protocol, entry.evaluation.speed
    return {
        "images": f"{protocol.number_of_images:,} {protocol.split}, {describe_resolution(protocol)}",
        "skipped pairs": protocol.pairs_skipped,
        "weights": protocol.weights,
        "checkpoint step": protocol.checkpoint_step,
        "images/s": round(speed.images_per_s, 3),
        "GFLOPs per image": None if speed.flops_per_image is None else round(speed.flops_per_image / 1e9, 2),
        "devices": speed.devices,
        "code version": protocol.code_version,
        "date": protocol.date,
        "SHA-256 of the weights": protocol.weights_sha256,
    }


def evaluations_table(groups: Sequence[Group]) -> Table:
    """Return the facts of every evaluation, one row each."""
    entries = [entry for group in groups for entry in group.entries]
    facts = [evaluation_facts(entry) for entry in entries]
    rows = [[entry.run.name, *map(_text, cells.values())] for entry, cells in zip(entries, facts, strict=True)]
    notes = ["FLOPs are the compiler's count for one image; a multiply-add counts as two."]
    return Table("Evaluations", ["run", *facts[0]], rows, notes)


def _describe_mixture(mixture: Mapping[str, MixturePart]) -> str | None:
    parts = [f"{part.share:g} of the examples from {part.data_set} ({name})" for name, part in mixture.items()]
    return "; ".join(parts) or None


def _describe_skipped(skipped: Mapping[str, int] | int | None) -> str | int | None:
    if isinstance(skipped, Mapping):
        return ", ".join(f"{number:,} {split}" for split, number in skipped.items() if number) or 0
    return skipped


def _text(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else str(value)
