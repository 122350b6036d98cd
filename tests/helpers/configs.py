"""Configs that train in seconds."""

from pathlib import Path

from ml_collections import ConfigDict


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
            "start": {"network": "", "encoder": ""},
            "data": {
                "root": str(root),
                "blur": "blur",
                "splits": "official",
                "validation_sequences": ("scene_v",),
                "skip_bad": False,
                "resize": 16,
                "resize_filter": "bicubic",
                "rescale": (1.0, 1.0),
                "stretch": 1.0,
                "flip_and_turn": True,
                "permute_channels": False,
                "gain": (1.0, 1.0),
                "mixture": (),
                "batch_size": 2,
                "epoch_images": 0,
                "num_threads": 2,
                "keep_gib": 0.0,
            },
            "stages": (
                ConfigDict(
                    {
                        "epochs": 2,
                        "crop": 0,
                        "loss": "mse",
                        "accumulate": 1,
                        "clip_norm": 0.0,
                        "encoder": {"frozen_epochs": 0, "rate": 1.0},
                        "optimizer": {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8},
                        "schedule": {"name": "constant", "learning_rate": 1e-3},
                    }
                ),
                ConfigDict(
                    {
                        "epochs": 1,
                        "crop": 8,
                        "loss": "mae",
                        "accumulate": 1,
                        "clip_norm": 0.0,
                        "encoder": {"frozen_epochs": 0, "rate": 1.0},
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
