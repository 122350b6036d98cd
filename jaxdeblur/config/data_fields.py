"""The fields of `data` that hold more than one value, and where fields of `data` contradict each other."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[[Any], str | None]

# What an entry of `data.mixture` holds beside its share: fields that `data` has too, under the same checks.
SHARED_FIELDS = ("root", "blur", "resize", "rescale", "stretch")


def check_factors(value: Any) -> str | None:
    """Return what is wrong with a range of factors; None if nothing is."""
    numbers = value if isinstance(value, (tuple, list)) else ()
    good = [isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers]
    if len(numbers) == 2 and all(good) and 0 < numbers[0] <= numbers[1] < math.inf:
        return None
    return "expected a tuple of two numbers above 0, the least factor and the greatest, as (1.0, 2.0)"


def check_mixture(data: Mapping[str, Any], fields: Mapping[str, Check]) -> list[str]:
    """Return what is wrong with the entries of `data.mixture`.

    Args:
        data: the fields of `data`, as plain lists and dicts.
        fields: the checks of all fields of the config, by dotted name.
    """
    if "mixture" not in data:
        return ["data.mixture: missing"]
    entries = data["mixture"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        keys = "root, share, blur, resize, rescale and stretch"
        return [f"data.mixture: found {entries!r}, expected a tuple of dicts with {keys}; () for none"]
    checks = {"share": _check_share, **{key: fields[f"data.{key}"] for key in SHARED_FIELDS}}
    problems = []
    for i, entry in enumerate(entries):
        name = f"data.mixture[{i}]"
        problems += [f"{name}.{key}: unknown field" for key in entry if key not in checks]
        problems += [f"{name}.{key}: missing" for key in checks if key not in entry]
        found = {key: check(entry[key]) for key, check in checks.items() if key in entry}
        problems += [f"{name}.{key}: found {entry[key]!r}, {words}" for key, words in found.items() if words]
    shares = [entry.get("share") for entry in entries]
    if not any(map(_check_share, shares)) and sum(shares) >= 1:
        problems.append(
            f"data.mixture: the shares sum up to {sum(shares):g}, expected less than 1: data.root has the rest"
        )
    return problems


def check_rescaling(data: Mapping[str, Any], stages: Sequence[Any], fields: Mapping[str, Check]) -> list[str]:
    """Return where the sizes that fields ask for contradict each other; a wrong field contradicts nothing.

    Args:
        data: the fields of `data`, as plain lists and dicts.
        stages: the stages, as plain dicts.
        fields: the checks of all fields of the config, by dotted name.
    """
    entries = data["mixture"] if isinstance(data.get("mixture"), list) else []
    parts = {"data": data, **{f"data.mixture[{i}]": entry for i, entry in enumerate(entries)}}
    problems = []
    for name, part in parts.items():
        keys = ("resize", "rescale", "stretch")
        if not isinstance(part, dict) or any(key not in part or fields[f"data.{key}"](part[key]) for key in keys):
            continue
        resize, rescale, stretch = (part[key] for key in keys)
        if resize and rescale[0] < 1:
            problems.append(
                f"{name}.rescale: found {rescale!r}, but a window that {name}.resize squeezes cannot be larger than "
                "the frame; expected a least factor of at least 1, which is the whole frame"
            )
        if not resize and (rescale != [1, 1] or stretch != 1):
            problems += [
                f"stages[{i}].crop: found 0, but {name}.rescale and {name}.stretch make frames of many sizes; "
                f"expected a crop, or {name}.resize"
                for i, stage in enumerate(stages)
                if isinstance(stage, dict) and stage.get("crop") == 0
            ]
    return problems


def _check_share(value: Any) -> str | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1
    return None if good else "expected a number above 0 and below 1"
