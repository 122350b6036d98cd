"""Validates a whole config and reports all problems at once, before anything is loaded or compiled."""

from collections.abc import Mapping
from typing import Any

from jaxdeblur.config.consistency import check_consistency, check_devices
from jaxdeblur.config.fields import FIELDS, MIXTURE_FIELDS, STAGE_FIELDS, Field
from jaxdeblur.config.legacy import new_name
from jaxdeblur.config.options import check_options
from jaxdeblur.config.tree import Tree, flatten
from jaxdeblur.errors import InputError, list_problems


def check_tree(tree: Tree, *, num_devices: int = 1, training: bool = True) -> None:
    """Refuse a config with unknown, missing, invalid or contradictory fields.

    Args:
        tree: the config with its defaults; see `with_defaults`.
        num_devices: devices that share each batch.
        training: whether they share training batches too, or only those of evaluation.

    Raises:
        InputError: lists every problem (code "config").
    """
    problems = [f"{name}: missing" for name in ("model", "stages") if name not in tree]
    problems += _check_top(tree)
    problems += _check_mixture(tree.get("data"))
    if "model" in tree:
        problems += check_options(tree["model"], "model", "model")
    if "stages" in tree:
        problems += _check_stages(tree["stages"])
    problems += check_consistency(tree)
    problems += check_devices(tree, num_devices, training=training)
    if problems:
        remedy = "Fix the config file, or set the field on the command line, as in --config.data.batch_size=8."
        heading = f"The config has {len(problems)} problem(s):"
        raise InputError(list_problems(heading, problems, remedy), code="config")


def _check_top(tree: Tree) -> list[str]:
    rest = {key: value for key, value in tree.items() if key not in ("model", "stages")}
    if isinstance(rest.get("data"), dict):
        rest["data"] = {key: value for key, value in rest["data"].items() if key != "mixture"}
    return _check_fields(flatten(rest), FIELDS, "")


def _check_mixture(data: Any) -> list[str]:
    entries = data.get("mixture", []) if isinstance(data, dict) else []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        keys = ", ".join(MIXTURE_FIELDS)
        return [f"data.mixture: found {entries!r}, expected a tuple of dicts with {keys}; () for none"]
    return [
        problem
        for i, entry in enumerate(entries)
        for problem in _check_fields(entry, MIXTURE_FIELDS, f"data.mixture[{i}].")
    ]


def _check_stages(stages: Any) -> list[str]:
    if not isinstance(stages, list) or not stages:
        return ["stages: empty; expected at least one stage"]
    problems = []
    for i, stage in enumerate(stages):
        if not isinstance(stage, dict):
            problems.append(f"stages[{i}]: found {stage!r}, expected a ConfigDict")
            continue
        rest = {key: value for key, value in stage.items() if key not in ("optimizer", "schedule")}
        problems += _check_fields(flatten(rest), STAGE_FIELDS, f"stages[{i}].")
        for kind in ("optimizer", "schedule"):
            problems += check_options(stage.get(kind), kind, f"stages[{i}].{kind}")
    return problems


def _check_fields(values: Mapping[str, Any], fields: Mapping[str, Field], prefix: str) -> list[str]:
    problems = []
    for key in values:
        if key not in fields:
            renamed = new_name(f"{prefix}{key}")
            problems.append(f"{prefix}{key}: unknown field" + (f"; it is now {renamed}" if renamed else ""))
    problems += [f"{prefix}{key}: missing" for key in fields if key not in values]
    for key, field in fields.items():
        if key in values and (complaint := field.check(values[key])):
            problems.append(f"{prefix}{key}: found {values[key]!r}, {complaint}")
    return problems
