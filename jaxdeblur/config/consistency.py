"""Fields that are valid on their own and contradict each other. Fields that are invalid are reported elsewhere."""

import math
from collections.abc import Iterator
from typing import Any

from jaxdeblur.config.fields import FIELDS, MIXTURE_FIELDS, STAGE_FIELDS
from jaxdeblur.config.options import CHECKS_BY_NAME
from jaxdeblur.config.tree import Tree, flatten
from jaxdeblur.config.value_checks import number, share
from jaxdeblur.models import ENCODERS, MODELS

_count = number(int, 1)


def check_consistency(tree: Tree) -> list[str]:
    """Return the contradictions in a config."""
    stages = tree.get("stages")
    stages = stages if isinstance(stages, list) else []
    flat = flatten({key: value for key, value in tree.items() if key != "stages"})
    problems = [*_check_network(flat), *_check_splits(flat), *_check_shares(tree), *_check_sizes(tree, stages)]
    no_encoder = _why_no_encoder(flat.get("model.name"))
    batch_size: Any = flat.get("data.batch_size")
    batch_size = 0 if FIELDS["data.batch_size"].check(batch_size) else batch_size
    for i, stage in enumerate(stages):
        if isinstance(stage, dict):
            problems += [f"stages[{i}].{problem}" for problem in _check_stage(flatten(stage), no_encoder, batch_size)]
    return problems


def check_devices(tree: Tree, num_devices: int, *, training: bool) -> list[str]:
    """Return the batches that `num_devices` devices cannot share evenly."""
    flat = flatten(tree)
    batches: dict[str, Any] = {"evaluation.batch_size": flat.get("evaluation.batch_size")}
    if training:
        whole: Any = flat.get("data.batch_size")
        batches["data.batch_size"] = whole
        fields = [f"stages[{i}].accumulate" for i in range(len(tree.get("stages") or ()))]
        parts: dict[str, Any] = {field: flat.get(field) for field in fields}
        if not any(map(_count, (whole, *parts.values()))):
            batches |= {f"data.batch_size / {field}": whole // n for field, n in parts.items() if n > 1}
    problems = []
    for field, size in batches.items():
        if not _count(size) and size % num_devices:
            nearest = [n for n in (size // num_devices * num_devices, -(-size // num_devices) * num_devices) if n]
            problems.append(
                f"{field}: found {size}, which the {num_devices} devices cannot share evenly; expected "
                f"{' or '.join(map(str, nearest))}, or fewer devices (CUDA_VISIBLE_DEVICES)"
            )
    return problems


def _why_no_encoder(network: Any) -> str:
    return f"{network} has no encoder" if network in MODELS and network not in ENCODERS else ""


def _check_network(flat: Tree) -> Iterator[str]:
    encoder, no_encoder = flat.get("init.encoder"), _why_no_encoder(flat.get("model.name"))
    if encoder and no_encoder:
        yield f"init.encoder: found {encoder!r}, but {no_encoder}; expected ''"
    elif encoder and flat.get("model.norm") == "none":
        yield (
            f"init.encoder: found {encoder!r}, but model.norm is 'none', and a pretrained ResNet-50 has BatchNorm; "
            "expected ''"
        )
    down, up = (flat.get(f"model.{part}_blocks") for part in ("encoder", "decoder"))
    if isinstance(down, list) and isinstance(up, list) and len(down) != len(up):
        yield f"model.decoder_blocks: found {len(up)} levels, but model.encoder_blocks has {len(down)}"


def _check_splits(flat: Tree) -> Iterator[str]:
    if flat.get("data.validation_sequences") == [] and flat.get("data.splits") != "auto":
        yield (
            "data.validation_sequences: found [], expected a tuple of names with at least one, or data.splits 'auto', "
            "which draws them"
        )


def _check_shares(tree: Tree) -> Iterator[str]:
    data = tree.get("data")
    entries = data.get("mixture") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return
    shares = [entry.get("share") for entry in entries]
    if not any(map(share, shares)) and sum(shares) >= 1:
        yield f"data.mixture: the shares sum up to {sum(shares):g}, expected less than 1: data.root has the rest"


def _check_sizes(tree: Tree, stages: list[Any]) -> Iterator[str]:
    """Yield contradictions between `resize`, `crop_scale`, `zoom`, `aspect_jitter` and `crop`."""
    data: Any = tree.get("data")
    data = data if isinstance(data, dict) else {}
    entries: Any = data.get("mixture")
    entries = entries if isinstance(entries, list) else []
    for name, part in {"data": data, **{f"data.mixture[{i}]": entry for i, entry in enumerate(entries)}}.items():
        keys = ("resize", "crop_scale", "zoom", "aspect_jitter")
        if not isinstance(part, dict) or any(key not in part or MIXTURE_FIELDS[key].check(part[key]) for key in keys):
            continue
        resize, crop_scale, zoom, aspect_jitter = (part[key] for key in keys)
        if resize and list(zoom) != [1, 1]:
            yield f"{name}.zoom: found {zoom!r}, but frames are resized to {resize} pixels; use {name}.crop_scale"
        if not resize and list(crop_scale) != [1, 1]:
            yield f"{name}.crop_scale: found {crop_scale!r}, but frames are not resized; use {name}.zoom"
        if resize and crop_scale[0] < 1:
            yield (
                f"{name}.crop_scale: found {crop_scale!r}, but a window cannot be larger than the frame; expected a "
                "smallest factor of at least 1, which is the whole frame"
            )
        if not resize and (list(zoom) != [1, 1] or aspect_jitter != 1):
            for i, stage in enumerate(stages):
                if isinstance(stage, dict) and stage.get("crop") == 0:
                    yield (
                        f"stages[{i}].crop: found 0, but {name}.zoom and {name}.aspect_jitter make frames of many "
                        f"sizes; expected a crop, or {name}.resize"
                    )


def _check_stage(stage: Tree, no_encoder: str, batch_size: int) -> Iterator[str]:
    checks = {name: field.check for name, field in STAGE_FIELDS.items()}
    checks["schedule.warmup"] = CHECKS_BY_NAME["warmup"]
    valid = {key: stage[key] for key, check in checks.items() if key in stage and not check(stage[key])}
    epochs = valid.get("epochs", math.inf)
    frozen, multiplier = valid.get("encoder.frozen_epochs", 0), valid.get("encoder.lr_multiplier", 1.0)
    accumulate, warmup = valid.get("accumulate", 1), valid.get("schedule.warmup", 0)
    if no_encoder and frozen:
        yield f"encoder.frozen_epochs: found {frozen}, but {no_encoder}; expected 0"
    if no_encoder and multiplier != 1.0:
        yield f"encoder.lr_multiplier: found {multiplier}, but {no_encoder}; expected 1.0"
    if frozen > epochs:
        yield f"encoder.frozen_epochs: found {frozen}, but the stage has only {epochs} epochs"
    if frozen == epochs and multiplier != 1.0:
        yield f"encoder.lr_multiplier: found {multiplier}, but the encoder is frozen throughout the stage; expected 1.0"
    if batch_size % accumulate:
        yield f"accumulate: found {accumulate}, which does not divide data.batch_size, {batch_size}"
    if stage.get("schedule.unit") == "epochs" and warmup >= epochs:
        yield f"schedule.warmup: found {warmup} epochs, but the stage has only {epochs}"
