"""A validated config as frozen dataclasses: parsed once, then passed down in parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from jaxdeblur.config.options import with_option_defaults
from jaxdeblur.config.tree import Tree, to_plain, with_defaults
from jaxdeblur.config.validate import check_tree
from jaxdeblur.data.augment import InputOptions
from jaxdeblur.data.mixture import MixtureOptions
from jaxdeblur.data.sources import DataOptions
from jaxdeblur.evaluation.options import EvaluationOptions
from jaxdeblur.models import build_model
from jaxdeblur.training.options import EncoderOptions, NamedOptions, StageOptions


@dataclass(frozen=True)
class ModelOptions:
    """The network: its `name` in `MODELS`, its options, and how it is computed (dtype, remat, cpu_fast_conv)."""

    name: str
    options: Mapping[str, Any]
    compute: Mapping[str, Any]

    def build(self) -> nn.Module:
        """Return the network."""
        return build_model(self.name, **self.options, **self.compute)


@dataclass(frozen=True)
class InitOptions:
    """Weights to start from: of the whole `network` or of its `encoder`; "" for random ones."""

    network: str
    encoder: str


@dataclass(frozen=True)
class LoadingOptions:
    """How training images are read; `batch_size` is over all devices, `cache_gib` in GiB of host memory."""

    batch_size: int
    epoch_images: int
    num_threads: int
    cache_gib: float


@dataclass(frozen=True)
class RunConfig:
    """A whole config. `tree` is the same as plain values, as config.json stores it."""

    seed: int
    compilation_cache: str
    profile_steps: int
    ema_decay: float
    model: ModelOptions
    init: InitOptions
    data: DataOptions
    inputs: InputOptions
    mixture: tuple[MixtureOptions, ...]
    loading: LoadingOptions
    stages: tuple[StageOptions, ...]
    evaluation: EvaluationOptions
    keep_latest: int
    log_every_steps: int
    tree: Tree = field(repr=False)


def parse_config(config: ConfigDict, *, num_devices: int = 1, training: bool = True) -> RunConfig:
    """Validate a config and return it as dataclasses. Fields that it lacks have their defaults.

    Args:
        config: of a recipe, or of a run (`saved_run.get_config`).
        num_devices: devices that share each batch.
        training: whether they share training batches too, or only those of evaluation.

    Raises:
        InputError: lists every problem.
    """
    tree = complete(to_plain(config))
    check_tree(tree, num_devices=num_devices, training=training)
    data = tree["data"]
    return RunConfig(
        **{name: tree[name] for name in ("seed", "compilation_cache", "profile_steps", "ema_decay")},
        model=ModelOptions(tree["model"]["name"], _options(tree["model"]), tree["compute"]),
        init=InitOptions(**tree["init"]),
        data=DataOptions(
            root=Path(data["root"]).expanduser(),
            blur_variant=data["blur_variant"],
            splits=data["splits"],
            validation_sequences=tuple(data["validation_sequences"]),
            skip_invalid=data["skip_invalid"],
        ),
        inputs=_parse_inputs(data),
        mixture=tuple(_parse_mixture(entry, data) for entry in data["mixture"]),
        loading=LoadingOptions(**{name: data[name] for name in LoadingOptions.__annotations__}),
        stages=tuple(parse_stage(stage) for stage in tree["stages"]),
        evaluation=EvaluationOptions(**{**tree["evaluation"], "protocols": tuple(tree["evaluation"]["protocols"])}),
        keep_latest=tree["checkpoint"]["keep_latest"],
        log_every_steps=tree["log"]["every_steps"],
        tree=tree,
    )


def complete(tree: Tree) -> Tree:
    """Return a config with the defaults of all fields and options that it lacks."""
    tree = with_defaults(tree)
    if "model" in tree:
        tree["model"] = with_option_defaults(tree["model"], "model")
    for stage in tree["stages"] if isinstance(tree.get("stages"), list) else ():
        if isinstance(stage, dict):
            stage |= {
                kind: with_option_defaults(stage[kind], kind) for kind in ("optimizer", "schedule") if kind in stage
            }
    return tree


def parse_stage(stage: Tree) -> StageOptions:
    """Return the options of one validated stage."""
    optimizer, schedule = stage["optimizer"], stage["schedule"]
    return StageOptions(
        **{name: stage[name] for name in ("epochs", "crop", "loss", "accumulate", "clip_norm")},
        encoder=EncoderOptions(**stage["encoder"]),
        optimizer=NamedOptions(optimizer["name"], _options(optimizer)),
        schedule=NamedOptions(schedule["name"], _options(schedule)),
    )


def _options(named: Tree) -> Tree:
    """Return options without their `name`; lists become tuples, because networks must be hashable."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in named.items() if key != "name"}


def _parse_inputs(data: Tree) -> InputOptions:
    return InputOptions(
        resize=data["resize"],
        resize_filter=data["resize_filter"],
        flip_and_rotate=data["flip_and_rotate"],
        zoom=tuple(data["crop_scale"] if data["resize"] else data["zoom"]),
        aspect_jitter=data["aspect_jitter"],
        permute_channels=data["permute_channels"],
        gain=tuple(data["gain"]),
    )


def _parse_mixture(entry: Tree, data: Tree) -> MixtureOptions:
    return MixtureOptions(
        root=Path(entry["root"]).expanduser(),
        share=entry["share"],
        blur_variant=entry["blur_variant"],
        inputs=_parse_inputs({**data, **entry}),
    )
