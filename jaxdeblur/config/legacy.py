"""Config fields that have been renamed: config.json of runs started before is translated when it is read."""

import copy
import re
from typing import Any

from jaxdeblur.config.tree import Tree

# Old name -> new name. In `data` they hold for the entries of `data.mixture`, too.
RENAMED = {
    "start.network": "init.network",
    "start.encoder": "init.encoder",
    "compute.fast": "compute.cpu_fast_conv",
    "data.blur": "data.blur_variant",
    "data.keep_gib": "data.cache_gib",
    "data.skip_bad": "data.skip_invalid",
    "data.stretch": "data.aspect_jitter",
    "data.flip_and_turn": "data.flip_and_rotate",
}
RENAMED_IN_STAGES = {"encoder.rate": "encoder.lr_multiplier"}
# `data.rescale` was two things in one: a window of the frame with `data.resize`, a scale of the frame without.
RESCALE = "rescale"


def translate(tree: Tree) -> Tree:
    """Return a config with today's field names. One with today's names is returned unchanged."""
    tree = copy.deepcopy(tree)
    for old, new in RENAMED.items():
        _move(tree, old, new)
    if isinstance(start := tree.get("start"), dict) and not start:
        del tree["start"]
    if isinstance(data := tree.get("data"), dict):
        _split_rescale(data)
        for entry in data.get("mixture") or ():
            for old, new in RENAMED.items():
                if old.startswith("data.") and isinstance(entry, dict):
                    _move(entry, old.removeprefix("data."), new.removeprefix("data."))
            _split_rescale(entry)
    for stage in tree.get("stages") or ():
        for old, new in RENAMED_IN_STAGES.items():
            _move(stage, old, new)
    return tree


def new_name(path: str) -> str | None:
    """Return today's name of a field such as `data.stretch` or `stages[0].encoder.rate`; None if it was never one."""
    path = re.sub(r"^data\.mixture\[\d+\]\.", "data.", re.sub(r"^stages\[\d+\]\.", "", path))
    if path == f"data.{RESCALE}":
        return "data.crop_scale (with data.resize) or data.zoom (without)"
    return RENAMED.get(path) or RENAMED_IN_STAGES.get(path)


def _split_rescale(data: Any) -> None:
    if isinstance(data, dict) and RESCALE in data:
        data["crop_scale" if data.get("resize") else "zoom"] = data.pop(RESCALE)


def _move(tree: Any, old: str, new: str) -> None:
    *parents, leaf = old.split(".")
    node = tree
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or leaf not in node:
        return
    value = node.pop(leaf)
    *parents, leaf = new.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
    node[leaf] = value
