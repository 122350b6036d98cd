"""Configs that train in seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from jaxdeblur.config.run_config import parse_config, parse_stage
from jaxdeblur.errors import InputError
from jaxdeblur.training.options import NamedOptions
from jaxdeblur.training.stages import Stage, plan_stages

TINY_RESNETENCDEC = {
    "name": "resnetencdec",
    "width": 4,
    "stage_sizes": (1, 1, 1, 1),
    "residual": False,
    "norm": "batch",
}
TINY_NAFNET = {
    "name": "nafnet",
    "width": 4,
    "encoder_blocks": (1, 2),
    "middle_blocks": 1,
    "decoder_blocks": (1, 1),
    "half_resolution": True,
    "attention": "none",
}
MIXTURE_ENTRY = {
    "root": "made",
    "share": 0.5,
    "blur_variant": "blur",
    "resize": 16,
    "crop_scale": (1.0, 1.0),
    "aspect_jitter": 1.0,
}


def named(**options: Any) -> NamedOptions:
    """Return the options of an optimizer or schedule, as `named(name="sgd", momentum=0.0)`."""
    return NamedOptions(options.pop("name"), options)


def plan(stages: Sequence[dict], steps_per_epoch: int, **options: Any) -> list[Stage]:
    """Return stages planned from plain dicts, as config.json has them."""
    return plan_stages([parse_stage(stage) for stage in stages], steps_per_epoch, **options)


PLAIN_STAGE = {
    "epochs": 2,
    "crop": 0,
    "loss": "mse",
    "accumulate": 1,
    "clip_norm": 0.0,
    "encoder": {"frozen_epochs": 0, "lr_multiplier": 1.0},
    "optimizer": {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8},
    "schedule": {"name": "constant", "learning_rate": 1e-3},
}


def make_tiny_config(root: Path) -> ConfigDict:
    """Return a config of two stages that trains in seconds: 2 + 1 epochs of 3 steps."""
    return ConfigDict(
        {
            "seed": 0,
            "compilation_cache": "",
            "profile_steps": 0,
            "model": {"name": "transformnet", "width": 4, "num_blocks": 1, "residual": False, "norm": "batch"},
            "compute": {"dtype": "float32", "remat": False, "cpu_fast_conv": True},
            "ema_decay": 0.0,
            "init": {"network": "", "encoder": ""},
            "data": {
                "root": str(root),
                "blur_variant": "blur",
                "splits": "official",
                "validation_sequences": ("scene_v",),
                "skip_invalid": False,
                "resize": 16,
                "resize_filter": "bicubic",
                "crop_scale": (1.0, 1.0),
                "zoom": (1.0, 1.0),
                "aspect_jitter": 1.0,
                "flip_and_rotate": True,
                "permute_channels": False,
                "gain": (1.0, 1.0),
                "mixture": (),
                "batch_size": 2,
                "epoch_images": 0,
                "num_threads": 2,
                "cache_gib": 0.0,
            },
            "stages": (
                ConfigDict(PLAIN_STAGE),
                ConfigDict(
                    {
                        **PLAIN_STAGE,
                        "epochs": 1,
                        "crop": 8,
                        "loss": "mae",
                        "optimizer": {"name": "sgd", "momentum": 0.0},
                        "schedule": {"name": "constant", "learning_rate": 1e-2},
                    }
                ),
            ),
            "evaluation": {"protocols": ("16",), "lpips": "", "batch_size": 4, "sample_count": 2},
            "checkpoint": {"keep_latest": 2},
            "log": {"every_steps": 2},
        }
    )


def refused(config: ConfigDict) -> str:
    """Return the message with which a config is refused."""
    with pytest.raises(InputError) as error:
        parse_config(config)
    return str(error.value)
