"""Configs as trees of plain values: conversion, flattening and defaults."""

import copy
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxdeblur.config.fields import FIELDS, MIXTURE_FIELDS, REQUIRED, STAGE_FIELDS, Field
from jaxdeblur.errors import InputError

Tree = dict[str, Any]


def to_plain(config: ConfigDict) -> Tree:
    """Return a config as plain dicts, lists and scalars, as JSON would store it.

    Raises:
        InputError: it is not a ConfigDict.
    """
    if not isinstance(config, ConfigDict):
        actual = type(config).__name__
        raise InputError(
            f"The config file's get_config returns a {actual}, expected an ml_collections.ConfigDict.",
            code="config-type",
        )
    return json.loads(config.to_json_best_effort())


def to_config_dict(tree: Mapping[str, Any]) -> ConfigDict:
    """Return a plain tree as a ConfigDict: tuples instead of lists, and each stage a ConfigDict."""
    config = ConfigDict({key: _with_tuples(value) for key, value in tree.items() if key != "stages"})
    if "stages" in tree:
        config.stages = tuple(
            ConfigDict(_with_tuples(stage)) if isinstance(stage, Mapping) else stage for stage in tree["stages"]
        )
    return config


def _with_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, (list, tuple)) else value


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts, and of lists of dicts, by dotted path, as `stages[0].loss`."""
    if isinstance(tree, dict):
        pairs = [(f"{prefix}.{key}" if prefix else key, value) for key, value in tree.items()]
    elif isinstance(tree, (list, tuple)) and tree and all(isinstance(item, dict) for item in tree):
        pairs = [(f"{prefix}[{i}]", item) for i, item in enumerate(tree)]
    else:
        return {prefix: tree}
    return {path: leaf for key, value in pairs for path, leaf in flatten(value, key).items()}


def with_defaults(tree: Tree) -> Tree:
    """Return a config in which every field that is missing has its default; entries of `data.mixture` inherit `data`.

    So a field that is added later does not invalidate existing runs. What has the wrong type is left for the checks.
    """
    tree = copy.deepcopy(tree)
    _fill(tree, FIELDS)
    if isinstance(data := tree["data"], dict):
        entries = data.setdefault("mixture", [])
        inherited = {
            name: field if field.default is REQUIRED else dataclasses.replace(field, default=data[name])
            for name, field in MIXTURE_FIELDS.items()
        }
        for entry in entries if isinstance(entries, list) else ():
            _fill(entry, inherited)
    for stage in tree["stages"] if isinstance(tree.get("stages"), list) else ():
        _fill(stage, STAGE_FIELDS)
    return tree


def _fill(tree: Any, fields: Mapping[str, Field]) -> None:
    for name, field in fields.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else node
        if isinstance(node, dict) and field.default is not REQUIRED and leaf not in node:
            default = field.default
            node[leaf] = list(default) if isinstance(default, tuple) else default
