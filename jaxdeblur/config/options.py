"""Options of networks, optimizers and schedules: the keyword arguments of what `name` names."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

from jaxdeblur.config.value_checks import Check, boolean, increasing_integers, integers, number, one_of
from jaxdeblur.models import MODELS
from jaxdeblur.models.heads import Norm
from jaxdeblur.models.nafnet import Attention
from jaxdeblur.models.pixels import Padding
from jaxdeblur.training.learning_rate import SCHEDULES, Unit
from jaxdeblur.training.optimizer import OPTIMIZERS

TABLES: dict[str, Mapping[str, Callable[..., Any]]] = {"model": MODELS, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}

# By the annotation of the argument.
CHECKS: dict[Any, Check] = {
    int: number(int, 1),
    float: number(float, 0),
    bool: boolean,
    Attention: one_of(lambda: get_args(Attention)),
    Padding: one_of(lambda: get_args(Padding)),
    Norm: one_of(lambda: get_args(Norm)),
    Unit: one_of(lambda: get_args(Unit)),
    tuple[int, int, int, int]: integers(4, 4, 1, "four integers"),
    # Blocks per level, 0 for none. With more than four levels, tiles could not start at multiples of 32.
    tuple[int, ...]: integers(1, 4, 0, "one to four integers"),
}
# By the name of the argument, where its annotation says too little.
CHECKS_BY_NAME: dict[str, Check] = {
    **{name: number(float, 0, 1) for name in ("b1", "b2", "momentum", "factor")},
    "warmup": number(int, 0),
    "at": increasing_integers,
}
# Arguments that are not options: set by flax, by `compute`, or by the stage's length.
NOT_OPTIONS = ("parent", "name", "total_steps", "steps_per_epoch", "dtype", "remat", "cpu_fast_conv")


def with_option_defaults(options: Any, kind: str) -> Any:
    """Return options in which those that are missing have their argument's default, if it has one."""
    if not isinstance(options, dict) or options.get("name") not in TABLES[kind]:
        return options
    parameters = inspect.signature(TABLES[kind][options["name"]]).parameters
    defaults = {
        key: list(p.default) if isinstance(p.default, tuple) else p.default
        for key, p in parameters.items()
        if key not in NOT_OPTIONS and p.default is not inspect.Parameter.empty
    }
    return {**options, **{key: value for key, value in defaults.items() if key not in options}}


def check_options(options: Any, kind: str, prefix: str) -> list[str]:
    """Return what is wrong with `options`.

    Args:
        options: `name` and its options.
        kind: a key of `TABLES`.
        prefix: what messages call them, as `stages[0].optimizer`.
    """
    table = TABLES[kind]
    if not isinstance(options, dict) or options.get("name") not in table:
        actual = options.get("name") if isinstance(options, dict) else options
        return [f"{prefix}.name: found {actual!r}, expected one of {', '.join(table)}"]
    name = options["name"]
    parameters = inspect.signature(table[name]).parameters
    known = {key: p.annotation for key, p in parameters.items() if key not in NOT_OPTIONS}
    problems = [f"{prefix}.{key}: unknown for {name}" for key in options if key not in (*known, "name")]
    problems += [f"{prefix}.{key}: missing for {name}" for key in known if key not in options]
    for key in known.keys() & options.keys():
        check = CHECKS_BY_NAME.get(key) or CHECKS[known[key]]
        if complaint := check(options[key]):
            problems.append(f"{prefix}.{key}: found {options[key]!r}, {complaint}")
    return problems
