"""What a config must hold: every field, its type and its range, checked before anything is loaded or compiled."""

import inspect
import json
import math
from collections.abc import Callable
from typing import Any, get_args

from ml_collections import ConfigDict

from jaxdeblur.config.data_fields import check_factors, check_mixture, check_rescaling
from jaxdeblur.data.folder_layout import BLUR_VARIANTS
from jaxdeblur.data.splits import SPLIT_RULES
from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.images.decode import RESIZE_FILTERS
from jaxdeblur.models import COMPUTE_DTYPES, ENCODERS, MODELS
from jaxdeblur.models.heads import Norm
from jaxdeblur.models.nafnet import Attention
from jaxdeblur.training.losses import LOSSES
from jaxdeblur.training.optimizer import OPTIMIZERS, SCHEDULES, Unit

Check = Callable[[Any], str | None]


def _number(kind: type, least: float, below: float = math.inf) -> Check:
    def check(value: Any) -> str | None:
        allowed = (int, float) if kind is float else (int,)
        if isinstance(value, bool) or not isinstance(value, allowed) or not least <= value < below:
            limit = f" and below {below}" if below < math.inf else ""
            return f"expected a{'n integer' if kind is int else ' number'} of at least {least}{limit}"
        return None

    return check


def _one_of(names: Any) -> Check:
    return lambda value: None if value in tuple(names) else f"expected one of {', '.join(names)}"


def _type(kind: type, words: str) -> Check:
    return lambda value: None if isinstance(value, kind) else f"expected {words}"


def _names(value: Any) -> str | None:
    is_list = isinstance(value, (tuple, list)) and all(isinstance(name, str) for name in value)
    return None if is_list else "expected a tuple of names"


def _protocols(value: Any) -> str | None:
    names = value if isinstance(value, (tuple, list)) else ()
    good = [name == "full" or (isinstance(name, str) and name.isdecimal() and int(name) >= 16) for name in names]
    if names and all(good) and len({*names}) == len(names):
        return None
    return "expected a tuple of names, each once: 'full', or the side to resize to, of at least 16, as '256'"


def _integers(shortest: int, longest: int, least: int, words: str) -> Check:
    def check(value: Any) -> str | None:
        is_list = isinstance(value, (tuple, list)) and shortest <= len(value) <= longest
        good = is_list and not any(_number(int, least)(item) for item in value)
        return None if good else f"expected a tuple of {words} of at least {least}"

    return check


def _side(least: int) -> Check:
    def check(value: Any) -> str | None:
        return None if value == 0 and not isinstance(value, bool) else _number(int, least)(value)

    return check


FIELDS: dict[str, Check] = {
    "seed": _number(int, 0),
    "compute.dtype": _one_of(COMPUTE_DTYPES),
    "compute.remat": _type(bool, "True or False"),
    "compute.cpu_fast_conv": _type(bool, "True or False"),
    "ema_decay": _number(float, 0, 1),
    "start.network": _type(str, "a shipped network's name, a path, or '' for none"),
    "start.encoder": _type(str, "a path, or '' for none"),
    "compilation_cache": _type(str, "a path, or '' for the usual place"),
    "profile_steps": _number(int, 0),
    "data.root": _type(str, "a path"),
    "data.blur": _one_of(BLUR_VARIANTS),
    "data.splits": _one_of(SPLIT_RULES),
    "data.validation_sequences": _names,
    "data.skip_bad": _type(bool, "True or False"),
    "data.resize": _side(16),
    "data.resize_filter": _one_of(RESIZE_FILTERS),
    "data.rescale": check_factors,
    "data.stretch": _number(float, 1),
    "data.flip_and_turn": _type(bool, "True or False"),
    "data.permute_channels": _type(bool, "True or False"),
    "data.gain": check_factors,
    "data.batch_size": _number(int, 1),
    "data.epoch_images": _number(int, 0),
    "data.num_threads": _number(int, 1, 1025),
    "data.keep_gib": _number(float, 0),
    "evaluation.protocols": _protocols,
    "evaluation.lpips": _type(str, "a path, or '' for none"),
    "evaluation.batch_size": _number(int, 1),
    "evaluation.sample_count": _number(int, 1),
    "checkpoint.keep_latest": _number(int, 1),
    "log.every_steps": _number(int, 1),
}
STAGE_FIELDS: dict[str, Check] = {
    "epochs": _number(int, 1),
    "crop": _side(8),
    "loss": _one_of(LOSSES),
    "accumulate": _number(int, 1),
    "clip_norm": _number(float, 0),
    "encoder.frozen_epochs": _number(int, 0),
    "encoder.rate": _number(float, 0),
}

# Options of networks, optimizers and schedules are the keyword arguments of what they name; this goes by annotation.
OPTION_CHECKS: dict[Any, Check] = {
    int: _number(int, 1),
    float: _number(float, 0),
    bool: _type(bool, "True or False"),
    **{names: _one_of(get_args(names)) for names in (Attention, Norm, Unit)},
    tuple[int, int, int, int]: _integers(4, 4, 1, "four integers"),
    # Blocks by level, 0 for none: with more levels, or more halvings, tiles could not begin at multiples of 32.
    tuple[int, ...]: _integers(1, 4, 0, "one to four integers"),
}
NAMED_CHECKS = {
    **{name: _number(float, 0, 1) for name in ("b1", "b2", "momentum", "factor")},
    "warmup": _number(int, 0),
}
# What these take besides: set by flax, by the place of a stage in the run, and by `compute`.
NOT_OPTIONS = ("parent", "name", "total_steps", "steps_per_epoch", "dtype", "remat", "cpu_fast_conv")


def check_config(config: ConfigDict, *, num_devices: int = 1, training: bool = True) -> None:
    """Refuse a config with unknown, missing or wrong fields.

    Args:
        config: the whole config.
        num_devices: devices that share each batch.
        training: whether they share training batches, too, or only those of evaluation.

    Raises:
        InputError: lists every problem.
    """
    tree = to_plain(config)
    named = [name for name in ("model", "stages") if name not in tree]
    problems = [f"{name}: missing" for name in named]
    data = tree["data"] if isinstance(tree.get("data"), dict) else {}
    apart = {"data": {key: value for key, value in data.items() if key != "mixture"}}
    flat = flatten({key: value for key, value in (tree | apart).items() if key not in ("model", "stages")})
    problems += _check_fields(flat, FIELDS, "") + check_mixture(data, FIELDS)
    if "model" in tree:
        problems += _check_options(tree["model"], MODELS, "model")
    stages = tree.get("stages", [])
    if "stages" in tree and not stages:
        problems.append("stages: empty; expected at least one stage")
    for i, stage in enumerate(stages):
        if not isinstance(stage, dict):
            problems.append(f"stages[{i}]: found {stage!r}, expected a ConfigDict")
            continue
        rest = {key: value for key, value in stage.items() if key not in ("optimizer", "schedule")}
        problems += _check_fields(flatten(rest), STAGE_FIELDS, f"stages[{i}].")
        for key, table in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            problems += _check_options(stage.get(key), table, f"stages[{i}].{key}")
    problems += _check_together(tree)
    problems += check_rescaling(data, stages, FIELDS)
    problems += _check_shares(tree, num_devices, training=training)
    if problems:
        remedy = "Mend the config file, or set the field on the command line, as in --config.data.batch_size=8."
        raise InputError(list_problems(f"The config has {len(problems)} problem(s):", problems, remedy))


def to_plain(config: ConfigDict) -> dict:
    """Return a config as plain dicts, lists and scalars, as JSON would give it back.

    Raises:
        InputError: it is no ConfigDict.
    """
    if not isinstance(config, ConfigDict):
        found = type(config).__name__
        raise InputError(f"The config file's get_config returns a {found}, expected an ml_collections.ConfigDict.")
    return json.loads(config.to_json_best_effort())


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dicts, and of lists of dicts, by dotted path."""
    if isinstance(tree, dict):
        pairs = [(f"{prefix}.{key}" if prefix else key, value) for key, value in tree.items()]
    elif isinstance(tree, list) and tree and all(isinstance(item, dict) for item in tree):
        pairs = [(f"{prefix}[{i}]", item) for i, item in enumerate(tree)]
    else:
        return {prefix: tree}
    return {path: leaf for key, value in pairs for path, leaf in flatten(value, key).items()}


def _check_fields(values: dict[str, Any], fields: dict[str, Check], prefix: str) -> list[str]:
    problems = [f"{prefix}{key}: unknown field" for key in values if key not in fields]
    problems += [f"{prefix}{key}: missing" for key in fields if key not in values]
    for key, check in fields.items():
        if key in values and (complaint := check(values[key])):
            problems.append(f"{prefix}{key}: found {values[key]!r}, {complaint}")
    return problems


def _check_together(tree: dict) -> list[str]:
    """Return where fields that are right by themselves contradict each other."""
    flat = flatten({key: value for key, value in tree.items() if key != "stages"})
    network, batch_size = flat.get("model.name"), flat.get("data.batch_size")
    without_encoder = f"{network} has no encoder" if network in MODELS and network not in ENCODERS else ""
    if FIELDS["data.batch_size"](batch_size):
        batch_size = 0
    problems = []
    if without_encoder and flat.get("start.encoder"):
        problems.append(f"start.encoder: found {flat['start.encoder']!r}, but {without_encoder}; expected ''")
    elif flat.get("model.norm") == "none" and flat.get("start.encoder"):
        words = "but model.norm is 'none', and a pretrained ResNet-50 has BatchNorm; expected ''"
        problems.append(f"start.encoder: found {flat['start.encoder']!r}, {words}")
    if flat.get("data.validation_sequences") == [] and flat.get("data.splits") != "auto":
        words = "expected a tuple of names with at least one, or data.splits 'auto', which draws them"
        problems.append(f"data.validation_sequences: found [], {words}")
    down, up = (flat.get(f"model.{part}_blocks") for part in ("encoder", "decoder"))
    if isinstance(down, list) and isinstance(up, list) and len(down) != len(up):
        problems.append(f"model.decoder_blocks: found {len(up)} levels, but model.encoder_blocks has {len(down)}")
    for i, stage in enumerate(tree.get("stages", [])):
        if isinstance(stage, dict):
            found = _check_stage_together(flatten(stage), without_encoder, batch_size)
            problems += [f"stages[{i}].{problem}" for problem in found]
    return problems


def _check_shares(tree: dict, num_devices: int, *, training: bool) -> list[str]:
    """Return the batches that devices cannot share evenly; a wrong field, which is named elsewhere, is no batch."""
    flat = flatten(tree)
    batches = {"evaluation.batch_size": flat.get("evaluation.batch_size")}
    if training:
        whole = batches["data.batch_size"] = flat.get("data.batch_size")
        parts = {
            f"stages[{i}].accumulate": flat.get(f"stages[{i}].accumulate") for i in range(len(tree.get("stages", [])))
        }
        good = not any(map(_number(int, 1), (whole, *parts.values())))
        batches |= {f"data.batch_size / {name}": whole // part for name, part in parts.items() if good and part > 1}
    problems = []
    for name, size in batches.items():
        if not _number(int, 1)(size) and size % num_devices:
            nearest = [str(n) for n in (size // num_devices * num_devices, -(-size // num_devices) * num_devices) if n]
            problems.append(
                f"{name}: found {size}, which the {num_devices} devices cannot share evenly; expected "
                f"{' or '.join(nearest)}, or fewer devices (CUDA_VISIBLE_DEVICES)"
            )
    return problems


def _check_stage_together(stage: dict[str, Any], without_encoder: str, batch_size: int) -> list[str]:
    """Return the contradictions in a stage; a wrong field, which is named elsewhere, contradicts nothing."""
    checks = {**STAGE_FIELDS, "schedule.warmup": NAMED_CHECKS["warmup"]}
    good = {key: stage[key] for key, check in checks.items() if key in stage and not check(stage[key])}
    epochs = good.get("epochs", math.inf)
    frozen, rate = good.get("encoder.frozen_epochs", 0), good.get("encoder.rate", 1.0)
    accumulate, warmup = good.get("accumulate", 1), good.get("schedule.warmup", 0)
    problems = []
    if without_encoder and frozen:
        problems.append(f"encoder.frozen_epochs: found {frozen}, but {without_encoder}; expected 0")
    if without_encoder and rate != 1.0:
        problems.append(f"encoder.rate: found {rate}, but {without_encoder}; expected 1.0")
    if frozen > epochs:
        problems.append(f"encoder.frozen_epochs: found {frozen}, but the stage has only {epochs} epochs")
    if frozen == epochs and rate != 1.0:
        problems.append(f"encoder.rate: found {rate}, but the encoder is frozen all the stage long; expected 1.0")
    if batch_size % accumulate:
        problems.append(f"accumulate: found {accumulate}, which does not divide data.batch_size, {batch_size}")
    if stage.get("schedule.unit") == "epochs" and warmup >= epochs:
        problems.append(f"schedule.warmup: found {warmup} epochs, but the stage has only {epochs}")
    return problems


def _check_options(options: Any, table: dict[str, Callable], prefix: str) -> list[str]:
    """Check `name` against a table, and the other keys against the keyword arguments of what it names."""
    if not isinstance(options, dict) or options.get("name") not in table:
        found = options.get("name") if isinstance(options, dict) else options
        return [f"{prefix}.name: found {found!r}, expected one of {', '.join(table)}"]
    parameters = inspect.signature(table[options["name"]]).parameters
    known = {key: p.annotation for key, p in parameters.items() if key not in NOT_OPTIONS}
    problems = [f"{prefix}.{key}: unknown for {options['name']}" for key in options if key not in (*known, "name")]
    problems += [f"{prefix}.{key}: missing for {options['name']}" for key in known if key not in options]
    for key in known.keys() & options.keys():
        check = NAMED_CHECKS.get(key) or OPTION_CHECKS[known[key]]
        if complaint := check(options[key]):
            problems.append(f"{prefix}.{key}: found {options[key]!r}, {complaint}")
    return problems
