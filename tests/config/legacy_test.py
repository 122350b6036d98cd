"""Configs with the field names of earlier versions."""

from jaxdeblur.config.legacy import new_name, translate
from jaxdeblur.config.tree import flatten, with_defaults
from tests.helpers.configs import refused

OLD = {
    "seed": 3,
    "model": {"name": "transformnet", "width": 4, "num_blocks": 1, "residual": False, "norm": "batch"},
    "compute": {"dtype": "float32", "remat": False, "fast": False},
    "start": {"network": "n", "encoder": ""},
    "data": {
        "blur": "blur_gamma",
        "skip_bad": True,
        "keep_gib": 2.0,
        "resize": 0,
        "rescale": [0.5, 1.0],
        "stretch": 1.5,
        "flip_and_turn": True,
        "mixture": [{"root": "m", "share": 0.5, "blur": "blur", "resize": 16, "rescale": [1.0, 2.0], "stretch": 2.0}],
    },
    "stages": [{"epochs": 1, "crop": 8, "encoder": {"frozen_epochs": 1, "rate": 0.5}}],
}


def test_renamed_fields_of_existing_runs_are_translated():
    new = flatten(translate(OLD))
    assert {key: new[key] for key in new if not key.startswith("model.")} == {
        "seed": 3,
        "compute.dtype": "float32",
        "compute.remat": False,
        "compute.cpu_fast_conv": False,
        "init.network": "n",
        "init.encoder": "",
        "data.blur_variant": "blur_gamma",
        "data.skip_invalid": True,
        "data.cache_gib": 2.0,
        "data.resize": 0,
        "data.zoom": [0.5, 1.0],
        "data.aspect_jitter": 1.5,
        "data.flip_and_rotate": True,
        "data.mixture[0].root": "m",
        "data.mixture[0].share": 0.5,
        "data.mixture[0].blur_variant": "blur",
        "data.mixture[0].resize": 16,
        "data.mixture[0].crop_scale": [1.0, 2.0],
        "data.mixture[0].aspect_jitter": 2.0,
        "stages[0].epochs": 1,
        "stages[0].crop": 8,
        "stages[0].encoder.frozen_epochs": 1,
        "stages[0].encoder.lr_multiplier": 0.5,
    }
    assert translate(translate(OLD)) == translate(OLD)
    assert not [key for key in flatten(with_defaults(translate(OLD))) if new_name(key)]


def test_an_old_field_name_is_refused_with_the_new_one(tiny_config):
    tiny_config.data.stretch = 1.0
    tiny_config.stages[0].encoder = {"frozen_epochs": 0, "rate": 1.0}
    message = refused(tiny_config)
    assert "data.stretch: unknown field; it is now data.aspect_jitter" in message
    assert "stages[0].encoder.rate: unknown field; it is now encoder.lr_multiplier" in message
