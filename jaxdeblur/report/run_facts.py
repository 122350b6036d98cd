"""What a report says of each run beside its scores: what it is, how it was made and what was scored."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdeblur.report.grouping import Entry, Group
from jaxdeblur.report.loading import Run
from jaxdeblur.report.sentences import say_resolution, say_test_history
from jaxdeblur.report.tables import NONE, Table

_VERSIONS = ("code_version", "python", "jax", "flax", "optax")


def run_facts(run: Run) -> dict[str, Any]:
    """Return the facts of one run, by what they are called; None where there is none."""
    facts = run.facts
    last = run.log[-1] if run.log else None
    return {
        "network": facts["network"],
        "parameters": facts["parameters"],
        "initial weights": facts["initial_weights"],
        "trained here": "yes" if run.trained else "no: weights that were only evaluated",
        "data": facts["data_set"],
        "mixed in": _mixed(facts.get("mixture", {})),
        "pairs": ", ".join(f"{number:,} {split}" for split, number in facts["pairs"].items()),
        "pairs left out": facts.get("pairs_skipped"),
        "training steps": last["step"] if last else None,
        "training epochs": last["epoch"] if last else None,
        "training hours": round(last["wall_s"] / 3600, 3) if last else None,
        "seed": run.config.get("seed"),
        "devices": facts["devices"],
        **{key.replace("_", " "): facts[key] for key in _VERSIONS},
        "command": shlex.join(facts["command"]),
        "scorings of the test split": say_test_history(run),
        "folder": str(run.folder),
    }


def facts_table(runs: Sequence[Run]) -> Table:
    """Return the facts of all runs, a column each."""
    columns = [run_facts(run) for run in runs]
    rows = [[key, *(_text(facts[key]) for facts in columns)] for key in columns[0]]
    return Table("The runs", ["", *(run.name for run in runs)], rows)


def scoring_facts(entry: Entry) -> dict[str, Any]:
    """Return what was scored in one evaluation, with what, how fast."""
    protocol, speed = entry.evaluation.protocol, entry.evaluation.speed
    return {
        "images": f"{protocol['number_of_images']:,} {protocol['split']}, {say_resolution(protocol)}",
        "pairs left out": protocol["pairs_skipped"],
        "weights": protocol["weights"],
        "checkpoint's step": protocol["checkpoint_step"],
        "images/s": round(speed["images_per_s"], 3),
        "GFLOPs per image": None if speed["flops_per_image"] is None else round(speed["flops_per_image"] / 1e9, 2),
        "devices": speed["devices"],
        "code version": protocol["code_version"],
        "date": protocol["date"],
        "SHA-256 of the weights": protocol["weights_sha256"],
    }


def scorings_table(groups: Sequence[Group]) -> Table:
    """Return what was scored in every evaluation, a row each."""
    entries = [entry for group in groups for entry in group.entries]
    facts = [scoring_facts(entry) for entry in entries]
    rows = [[entry.run.name, *map(_text, own.values())] for entry, own in zip(entries, facts, strict=True)]
    notes = ["FLOPs are the compiler's count for one image, a multiplication and an addition being two."]
    return Table("What was scored", ["run", *facts[0]], rows, notes)


def _mixed(mixture: Mapping[str, Any]) -> str | None:
    parts = [f"{part['share']:g} of the examples from {part['data_set']} ({name})" for name, part in mixture.items()]
    return "; ".join(parts) or None


def _text(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else str(value)
