"""Selects a network's tensors from a PyTorch checkpoint, whichever training code saved it. No torch needed.

A checkpoint is a tree of dictionaries. Networks are stored under keys such as `state_dict`, `params_ema` or `netG`, and
tensor names may be prefixed with `module.` (DataParallel), `_orig_mod.` (torch.compile), `model.` (Lightning) or
`generator.` (GANs), in any order. Raw weights and their exponential moving average (EMA) may both be present.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError

Tensors = dict[str, Any]
RAW, EMA = "raw", "ema"
# Keys and prefixes of a network, in lower case. With one of `AVERAGES` before or after them, as in `params_ema`, or
# replaced by one, as in `ema`, they denote its EMA.
WRAPPERS = frozenset(
    (
        *("state_dict", "model_state_dict", "model_state", "current_model_state", "params", "weights"),
        *("model", "net", "network", "module", "_orig_mod"),
        *("generator", "generator_state_dict", "g", "g_state_dict", "netg", "net_g"),
    )
)
AVERAGES = ("ema", "shadow")
# Lightning's WeightAveraging and MMEngine's EMAHook swap the two when saving: where the first key is present, the
# second holds the raw weights and `state_dict` their average.
SWAPPED = (("averaging_state", "current_model_state"), ("message_hub", "ema_state_dict"))
RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclasses.dataclass(frozen=True)
class Group:
    """One network's tensors in a checkpoint.

    Attributes:
        label: its location, as `params_ema`, or `state_dict.generator.*` for tensors with a prefix.
        kind: `RAW` or `EMA`.
        tensors: by name without prefixes.
    """

    label: str
    kind: str
    tensors: Tensors


@dataclasses.dataclass(frozen=True)
class Selection:
    """The tensors selected from a checkpoint.

    Attributes:
        tensors: by name without prefixes.
        label: of their group.
        description: one line for the user: what was selected, and what was not.
    """

    tensors: Tensors
    label: str
    description: str


def select_tensors(
    path: Path, checkpoint: Mapping[str, Any], is_known: Callable[[str], bool], which: str | None = None
) -> Selection:
    """Select the tensors of a network.

    Args:
        path: the checkpoint's file, for messages.
        checkpoint: nested dictionaries; whatever has a `shape` is a tensor.
        is_known: whether the network has a tensor of this name.
        which: `RAW` or `EMA`; None for the EMA weights if there are any, otherwise the raw ones.

    Raises:
        InputError: there are no tensors or no such weights, or the choice is ambiguous.
    """
    groups, unused = _find_groups(checkpoint, is_known)
    if not groups:
        keys = ", ".join(sorted(map(str, checkpoint))[:10]) or "nothing"
        raise InputError(
            f"{path}: holds no network's tensors, only: {keys}. Save model.state_dict().",
            code="checkpoint-without-tensors",
        )
    kind = which or (EMA if any(group.kind == EMA for group in groups) else RAW)
    if which is None and kind == RAW and (unread := _unread_averages(checkpoint)):
        raise InputError(
            f"{path}: holds EMA weights in an unsupported format, {unread}. Use --which raw for the raw weights.",
            code="checkpoint-unreadable-ema",
        )
    candidates = [group for group in groups if group.kind == kind]
    if not candidates:
        labels = ", ".join(group.label for group in groups)
        raise InputError(f"{path}: holds no {kind} weights, only: {labels}.", code=f"checkpoint-no-{kind}")
    if len(candidates) > 1:
        labels = ", ".join(group.label for group in candidates)
        raise InputError(
            f"{path}: holds several networks: {labels}. Save the one to convert to a separate file.",
            code="checkpoint-ambiguous",
        )
    return _describe(path, candidates[0], [group for group in groups if group.kind != kind], unused)


def _describe(path: Path, group: Group, others: list[Group], unused: Iterable[str]) -> Selection:
    tensors, notes = group.tensors, []
    if group.kind == EMA and len(others) == 1:
        tensors = _fill_statistics(group.tensors, others[0].tensors)
        if tensors.keys() != group.tensors.keys():
            notes.append(f"running statistics from {others[0].label}")
    if others:
        notes.append(f"--which {others[0].kind} takes {', '.join(other.label for other in others)}")
    if labels := list(dict.fromkeys(unused)):
        notes.append(f"not used: {', '.join(labels)}")
    summary = f"{path}: {len(tensors)} tensors taken from {group.label}{', the EMA weights' * (group.kind == EMA)}"
    return Selection(tensors, group.label, "; ".join([summary, *notes]))


def _fill_statistics(averaged: Tensors, raw: Tensors) -> Tensors:
    """Add the raw weights' BatchNorm statistics to an average if it lacks nothing else."""
    missing = raw.keys() - averaged.keys()
    if not all(name.endswith(RUNNING_STATISTICS) for name in missing):
        return averaged
    return averaged | {name: raw[name] for name in raw if name in missing}


def _find_groups(checkpoint: Mapping[str, Any], is_known: Callable[[str], bool]) -> tuple[list[Group], list[str]]:
    """Return the groups with tensors of the network, and the names of everything else with tensors.

    If there are none, the largest other group is returned: the conversion reports what is wrong with it.
    """
    groups: list[Group] = []
    unknown: list[Group] = []
    unused: list[str] = []
    kinds = _swapped_kinds(checkpoint)
    for keys, mapping in _wrapped_mappings(checkpoint):
        known, rest = _group_tensors(keys, mapping, is_known, kinds)
        groups += known
        unknown += [rest] if rest else []
        skipped = (key for key, value in mapping.items() if not _is_wrapper(key) and not _is_tensor(value))
        unused += [".".join((*keys, str(key))) for key in skipped if _holds_tensors(mapping[key])]
    if not groups and unknown:
        return [max(unknown, key=lambda group: len(group.tensors))], []
    return groups, [group.label for group in unknown] + unused


def _wrapped_mappings(mapping: Mapping[str, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the mapping and all mappings reached through wrappers only, each with its path of keys."""
    yield keys, mapping
    for key, value in mapping.items():
        if isinstance(value, Mapping) and _is_wrapper(key):
            yield from _wrapped_mappings(value, (*keys, key))


def _group_tensors(
    keys: tuple[str, ...], mapping: Mapping[str, Any], is_known: Callable[[str], bool], kinds: Mapping[str, str]
) -> tuple[list[Group], Group | None]:
    """Return a mapping's tensors that belong to the network, one group per prefix, and a group of the others.

    A prefix is the network's if any of the network's names follows it; all tensors with that prefix are then its.
    """
    prefixes = {name: _prefix(name) for name, value in mapping.items() if isinstance(name, str) and _is_tensor(value)}
    owners = {prefix for name, prefix in prefixes.items() if is_known(_without(prefix, name))}
    members: dict[tuple[str, ...], list[str]] = {}
    rest: list[str] = []
    for name, prefix in prefixes.items():
        owner = max((owner for owner in owners if prefix[: len(owner)] == owner), key=len, default=None)
        (rest if owner is None else members.setdefault(owner, [])).append(name)
    if not owners:
        shared = _common_prefix(prefixes.values())
        has_tensors = any(_holds_tensors(mapping[name]) for name in rest)
        return [], _make_group(keys, shared, mapping, rest, kinds) if has_tensors else None
    groups = [_make_group(keys, prefix, mapping, names, kinds) for prefix, names in members.items()]
    parts = dict.fromkeys(".".join((*keys, name.split(".")[0])) for name in rest if _holds_tensors(mapping[name]))
    return groups, Group(", ".join(parts), RAW, {}) if parts else None


def _make_group(
    keys: tuple[str, ...],
    prefix: tuple[str, ...],
    mapping: Mapping[str, Any],
    names: Iterable[str],
    kinds: Mapping[str, str],
) -> Group:
    path = (*keys, *prefix)
    average = any(map(_is_average, path))
    kind = kinds.get(path[0] if path else "", EMA if average else RAW)
    label = ".".join((*path, "*") if prefix else path) or "the top level"
    return Group(label, kind, {_without(prefix, name): mapping[name] for name in names})


def _swapped_kinds(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return the kinds of weights stored under swapped keys."""
    for marker, raw_key in SWAPPED:
        if marker in checkpoint and raw_key in checkpoint:
            return {"state_dict": EMA, raw_key: RAW}
    return {}


def _unread_averages(checkpoint: Mapping[str, Any]) -> str:
    """Return the keys under which a checkpoint stores averages; empty if there are none."""
    paths = []
    for keys, mapping in _wrapped_mappings(checkpoint):
        for name, value in mapping.items():
            path = (*keys, *(_prefix(name) if _is_tensor(value) else (name,)))
            if any(map(_is_average, path)) and _holds_tensors(value):
                paths.append(".".join(map(str, path)))
    return ", ".join(dict.fromkeys(paths))


def _prefix(name: Any) -> tuple[str, ...]:
    """Return the wrappers that a tensor's name starts with."""
    parts = str(name).split(".")
    count = 0
    while count < len(parts) - 1 and _is_wrapper(parts[count]):
        count += 1
    return tuple(parts[:count])


def _common_prefix(prefixes: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    shared: list[str] = []
    for parts in zip(*prefixes, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return tuple(shared)


def _without(prefix: tuple[str, ...], name: str) -> str:
    return name.removeprefix("".join(f"{part}." for part in prefix))


def _is_wrapper(key: Any) -> bool:
    if not isinstance(key, str) or not key:
        return False
    rest = "_".join(part for part in key.lower().split("_") if part not in AVERAGES)
    return rest in WRAPPERS or not rest


def _is_average(key: Any) -> bool:
    return _is_wrapper(key) and any(part in AVERAGES for part in key.lower().split("_"))


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape")


def _holds_tensors(value: Any) -> bool:
    """Return whether a value contains a tensor of at least one dimension; counters have none."""
    if _is_tensor(value):
        return len(value.shape) > 0
    if isinstance(value, Mapping):
        return any(map(_holds_tensors, value.values()))
    return isinstance(value, list | tuple) and any(map(_holds_tensors, value))
