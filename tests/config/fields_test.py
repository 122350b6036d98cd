"""Configs: the shipped ones are whole, and every mistake is named, all at once."""

import runpy

import pytest

from jaxdeblur.config.fields import FIELDS
from jaxdeblur.config.legacy import new_name, translate
from jaxdeblur.config.recipes import list_variants, load_recipe, recipe_folder
from jaxdeblur.config.run_config import parse_config
from jaxdeblur.config.tree import flatten, to_config_dict, to_plain, with_defaults
from jaxdeblur.errors import InputError
from tests.helpers.paths import ROOT

ORIGINALS = ("resnetencdec", "transformnet")
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


@pytest.mark.parametrize("path", sorted(recipe_folder().glob("*.py")), ids=lambda path: path.stem)
def test_shipped_configs_are_whole_in_every_variant(path):
    get_config = runpy.run_path(str(path))["get_config"]
    for variant in list_variants(path):
        parse_config(get_config(variant))
    with pytest.raises(ValueError, match=r"has the variants default, smoke.*'nonsense'"):
        get_config("nonsense")


def test_defaults_are_the_originals_recipe():
    """Whole frames squeezed to 256x256, MSE, Adam 1e-3 for 350 epochs; TransformNet then SGD 1e-4 for 200."""
    adam = {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8}
    for name in ORIGINALS:
        config = load_recipe(name)
        assert (config.model.residual, config.model.norm) == (False, "batch")
        assert (config.data.resize, config.data.resize_filter, config.data.splits) == (256, "bicubic", "official")
        assert {stage.crop for stage in config.stages} == {0}
        assert not config.data.flip_and_rotate
        assert (config.data.crop_scale, config.data.aspect_jitter, config.data.gain) == ((1.0, 1.0), 1.0, (1.0, 1.0))
        assert (config.data.permute_channels, config.data.mixture) == (False, ())
        first = config.stages[0].to_dict()
        assert (first["epochs"], first["loss"], first["optimizer"]) == (350, "mse", adam)
        assert first["schedule"] == {"name": "constant", "learning_rate": 1e-3}
        assert (config.compute.dtype, config.compute.remat, config.ema_decay) == ("float32", False, 0.0)
        for stage in config.stages:
            assert (stage.accumulate, stage.clip_norm) == (1, 0.0)
            assert stage.encoder.to_dict() == {"frozen_epochs": 0, "lr_multiplier": 1.0}
        rest = [stage.to_dict() for stage in config.stages[1:]]
        if name == "transformnet":
            assert [stage["epochs"] for stage in rest] == [200]
            assert rest[0]["optimizer"] == {"name": "sgd", "momentum": 0.0}
            assert rest[0]["schedule"] == {"name": "constant", "learning_rate": 1e-4}
        else:
            assert rest == []


def test_every_problem_is_named_at_once(tiny_config):
    config = tiny_config
    config.data.colour = "red"
    config.data.blur_variant = "blurred"
    with config.ignore_type():
        config.data.batch_size = "eight"
    config.data.validation_sequences = ()
    config.seed = True
    config.model.width = 0
    config.model.depth = 3
    config.stages[0].loss = "l2"
    config.stages[0].epochs = 0
    config.stages[1].optimizer.name = "sgdd"
    del config.stages[1].schedule.learning_rate
    with pytest.raises(InputError) as error:
        parse_config(config)
    for words in (
        "11 problem(s)",
        "data.colour: unknown field",
        "data.blur_variant: found 'blurred', expected one of blur, blur_gamma",
        "data.batch_size: found 'eight', expected an integer of at least 1",
        "data.validation_sequences: found [], expected a tuple of names",
        "seed: found True, expected an integer",
        "model.width: found 0, expected an integer of at least 1",
        "model.depth: unknown for transformnet",
        "stages[0].loss: found 'l2', expected one of mse, mae, charbonnier, psnr",
        "stages[0].epochs: found 0",
        "stages[1].optimizer.name: found 'sgdd', expected one of adam, sgd",
        "stages[1].schedule.learning_rate: missing for constant",
    ):
        assert words in str(error.value)


def test_missing_parts_are_named(tiny_config):
    del tiny_config.model
    tiny_config.stages = ()
    with pytest.raises(InputError, match=r"(?s)model: missing.*stages: empty"):
        parse_config(tiny_config)


def test_options_are_checked_by_their_type(tiny_config):
    tiny_config.model = {**TINY_RESNETENCDEC, "stage_sizes": (1, 1.5)}
    with pytest.raises(InputError, match=r"model.stage_sizes: found \[1, 1.5\], expected a tuple of four integers"):
        parse_config(tiny_config)


def test_recommended_recipes_start_as_the_identity_and_have_no_batchnorm():
    for name in ("nafnet", "resnetencdec", "transformnet", "unet"):
        config = runpy.run_path(str(recipe_folder() / f"{name}.py"))["get_config"]("recommended")
        if name in ORIGINALS:
            assert (config.model.residual, config.model.norm, config.init.encoder) == (True, "none", "")
        assert (config.data.resize, config.data.flip_and_rotate) == (256, True)
        assert config.ema_decay > 0
        (stage,) = config.stages
        assert (stage.crop, stage.loss, stage.clip_norm, stage.schedule.name) == (128, "charbonnier", 1.0, "cosine")
        # As long on any data, and so half an hour; UNet's is the default recipe, as its file and docs/training.md say.
        assert bool(config.data.epoch_images) == (name != "unet")


def test_the_document_states_the_crops_of_the_recipes_for_photographs():
    words = (ROOT / "docs" / "recipes.md").read_text()
    crops = {}
    for name in ("nafnet", "resnetencdec", "transformnet"):
        config = load_recipe(f"{name}_photographs")
        crops.setdefault(config.stages[0].crop, []).append(name)
    assert crops == {192: ["nafnet"], 128: ["resnetencdec", "transformnet"]}
    assert "192x192 for NAFNet, 128x128 for the other two" in words


def test_options_of_networks_are_checked_by_value_and_against_each_other(tiny_config):
    config = tiny_config
    with config.ignore_type():
        config.model.residual = 1
    config.model.norm = "group"
    words = refused(config)
    assert "model.residual: found 1, expected True or False" in words
    assert "model.norm: found 'group', expected one of batch, none" in words
    config.model = {**TINY_RESNETENCDEC, "norm": "none"}
    parse_config(config)
    config.init.encoder = "weights/resnet50.safetensors"
    assert "init.encoder: found 'weights/resnet50.safetensors', but model.norm is 'none'" in refused(config)
    config.init.encoder = ""
    config.model = {**TINY_NAFNET, "encoder_blocks": (1, 1, 1), "attention": "nearby", "half_resolution": "yes"}
    words = refused(config)
    assert "model.decoder_blocks: found 2 levels, but model.encoder_blocks has 3" in words
    assert "model.attention: found 'nearby', expected one of none, global, local" in words
    assert "model.half_resolution: found 'yes', expected True or False" in words
    config.model = {**TINY_NAFNET, "encoder_blocks": (1,) * 5, "decoder_blocks": (-1, 1)}
    words = refused(config)
    assert (
        "model.encoder_blocks: found [1, 1, 1, 1, 1], expected a tuple of one to four integers of at least 0" in words
    )
    assert "model.decoder_blocks: found [-1, 1], expected a tuple of one to four integers of at least 0" in words
    config.model = TINY_NAFNET
    parse_config(config)


def test_validation_sequences_may_be_left_out_where_they_are_drawn(tiny_config):
    tiny_config.data.validation_sequences = ()
    assert "data.validation_sequences: found []" in refused(tiny_config)
    tiny_config.data.splits = "auto"
    parse_config(tiny_config)


def test_a_level_may_have_no_blocks(tiny_config):
    """Only where the number of blocks is given by level; an encoder's stage of ResNet needs its blocks."""
    tiny_config.model = {**TINY_NAFNET, "encoder_blocks": (0, 2), "decoder_blocks": (1, 0)}
    parse_config(tiny_config)
    tiny_config.model = {**TINY_RESNETENCDEC, "stage_sizes": (1, 0, 1, 1)}
    assert "model.stage_sizes: found [1, 0, 1, 1], expected a tuple of four integers of at least 1" in refused(
        tiny_config
    )


def test_values_that_would_fail_later_are_refused_now(tiny_config):
    tiny_config.data.resize = 2
    tiny_config.data.num_threads = 100_000
    tiny_config.stages[0].optimizer.b1 = 1.0
    tiny_config.stages = (*tiny_config.stages, 3)
    with pytest.raises(InputError) as error:
        parse_config(tiny_config)
    for words in (
        "data.resize: found 2, expected an integer of at least 16",
        "data.num_threads: found 100000, expected an integer of at least 1 and below 1025",
        "stages[0].optimizer.b1: found 1.0, expected a number of at least 0 and below 1",
        "stages[2]: found 3, expected a ConfigDict",
    ):
        assert words in str(error.value)
    with pytest.raises(InputError, match=r"returns a dict, expected an ml_collections.ConfigDict"):
        parse_config({})


def test_batches_that_devices_cannot_share_are_refused_with_all_else(tiny_config):
    tiny_config.data.batch_size = 6
    tiny_config.stages[1].accumulate = 3
    parse_config(tiny_config, num_devices=2)
    tiny_config.evaluation.batch_size = 2
    tiny_config.seed = -1
    with pytest.raises(InputError) as error:
        parse_config(tiny_config, num_devices=4)
    for words in (
        "The config has 4 problem(s)",
        "seed: found -1",
        "data.batch_size: found 6, which the 4 devices cannot share evenly; expected 4 or 8, or fewer devices",
        "data.batch_size / stages[1].accumulate: found 2, which the 4 devices cannot share evenly; expected 4, or",
        "evaluation.batch_size: found 2",
    ):
        assert words in str(error.value)
    with pytest.raises(InputError, match=r"has 2 problem"):  # scoring shares no training batch
        parse_config(tiny_config, num_devices=4, training=False)


def refused(config):
    with pytest.raises(InputError) as error:
        parse_config(config)
    return str(error.value)


def test_options_of_training_are_checked_by_type_and_range(tiny_config):
    config = tiny_config
    with config.ignore_type():
        config.compute.remat = 1
        config.stages[0].accumulate = 1.5
        config.stages[1].encoder = 3
    config.compute.dtype = "float16"
    config.ema_decay = 1.0
    config.stages[0].clip_norm = -1.0
    config.stages[0].encoder.frozen_epochs = -1
    config.stages[0].schedule = {"name": "cosine", "learning_rate": 1.0, "warmup": -1, "unit": "hours"}
    config.stages[1].schedule = {"name": "step", "learning_rate": 1.0, "factor": 10.0, "every": 0, "warmup": 3}
    words = refused(config)
    assert "15 problem(s)" in words
    for line in (
        "compute.dtype: found 'float16', expected one of float32, bfloat16",
        "compute.remat: found 1, expected True or False",
        "ema_decay: found 1.0, expected a number of at least 0 and below 1",
        "stages[0].accumulate: found 1.5, expected an integer of at least 1",
        "stages[0].clip_norm: found -1.0, expected a number of at least 0",
        "stages[0].encoder.frozen_epochs: found -1, expected an integer of at least 0",
        "stages[0].schedule.warmup: found -1, expected an integer of at least 0",
        "stages[0].schedule.unit: found 'hours', expected one of steps, epochs",
        "stages[1].encoder: unknown field",
        "stages[1].schedule.factor: found 10.0, expected a number of at least 0 and below 1",
        "stages[1].schedule.every: found 0, expected an integer of at least 1",
        "stages[1].schedule.unit: missing for step",
        "stages[1].schedule.warmup: unknown for step",
    ):
        assert line in words


def test_fields_that_contradict_each_other_are_named(tiny_config):
    config = tiny_config
    config.init.encoder = "weights/resnet50.safetensors"
    config.stages[0].encoder = {"frozen_epochs": 1, "lr_multiplier": 1.0}
    config.stages[1].encoder = {"frozen_epochs": 0, "lr_multiplier": 0.1}
    config.stages[0].accumulate = 3
    config.stages[0].schedule = {"name": "cosine", "learning_rate": 1.0, "warmup": 2, "unit": "epochs"}
    words = refused(config)
    assert "5 problem(s)" in words
    for line in (
        "init.encoder: found 'weights/resnet50.safetensors', but transformnet has no encoder; expected ''",
        "stages[0].encoder.frozen_epochs: found 1, but transformnet has no encoder; expected 0",
        "stages[1].encoder.lr_multiplier: found 0.1, but transformnet has no encoder; expected 1.0",
        "stages[0].accumulate: found 3, which does not divide data.batch_size, 2",
        "stages[0].schedule.warmup: found 2 epochs, but the stage has only 2",
    ):
        assert line in words
    config.model = TINY_RESNETENCDEC
    config.stages[0].encoder.frozen_epochs = 3
    config.stages[1].encoder.frozen_epochs = 1
    words = refused(config)
    assert "stages[0].encoder.frozen_epochs: found 3, but the stage has only 2 epochs" in words
    assert (
        "stages[1].encoder.lr_multiplier: found 0.1, but the encoder is frozen throughout the stage; expected 1.0"
        in words
    )
    assert "no encoder" not in words


ENTRY = {
    "root": "made",
    "share": 0.5,
    "blur_variant": "blur",
    "resize": 16,
    "crop_scale": (1.0, 1.0),
    "aspect_jitter": 1.0,
}


def test_variety_is_checked_with_all_else(tiny_config):
    config = tiny_config
    config.data.crop_scale = (2.0, 1.0)
    config.data.aspect_jitter = 0.5
    config.data.gain = (0.0, 1.0)
    with config.ignore_type():
        config.data.permute_channels = 1
    broken = {**ENTRY, "share": 1.0, "resize": 2, "crop_scale": (1.0,), "roof": "made"}
    del broken["root"]
    config.data.mixture = (ENTRY, broken)
    config.seed = -1
    words = refused(config)
    assert "10 problem(s)" in words
    for line in (
        "data.crop_scale: found [2.0, 1.0], expected a tuple of two numbers above 0, the smallest factor",
        "data.aspect_jitter: found 0.5, expected a number of at least 1",
        "data.gain: found [0.0, 1.0], expected a tuple of two numbers above 0",
        "data.permute_channels: found 1, expected True or False",
        "data.mixture[1].roof: unknown field",
        "data.mixture[1].root: missing",
        "data.mixture[1].share: found 1.0, expected a number above 0 and below 1",
        "data.mixture[1].resize: found 2, expected an integer of at least 16",
        "data.mixture[1].crop_scale: found [1.0], expected a tuple of two numbers",
        "seed: found -1",
    ):
        assert line in words


def test_shares_leave_something_to_the_main_source(tiny_config):
    tiny_config.data.mixture = (ENTRY, {**ENTRY, "share": 0.25}, {**ENTRY, "share": 0.25})
    assert "data.mixture: the shares sum up to 1, expected less than 1: data.root has the rest" in refused(tiny_config)
    tiny_config.data.mixture = tiny_config.data.mixture[:2]
    parse_config(tiny_config)
    tiny_config.data.mixture = ("root", "share")  # what the command line makes of a dict without a tuple around it
    assert "data.mixture: found ['root', 'share'], expected a tuple of dicts with root, share" in refused(tiny_config)


def test_contradictory_sizes_are_reported(tiny_config):
    config = tiny_config
    config.data.crop_scale = (0.5, 1.0)
    config.data.mixture = (
        {**ENTRY, "resize": 0, "aspect_jitter": 1.1},
        {**ENTRY, "share": 0.2, "zoom": (0.9, 1.0)},
        {**ENTRY, "share": 0.2, "resize": 0, "crop_scale": (1.0, 2.0)},
    )
    message = refused(config)
    assert "4 problem(s)" in message
    for line in (
        "data.crop_scale: found [0.5, 1.0], but a window cannot be larger than the frame",
        "stages[0].crop: found 0, but data.mixture[0].zoom and data.mixture[0].aspect_jitter make frames of many sizes",
        "data.mixture[1].zoom: found [0.9, 1.0], but frames are resized to 16 pixels; use data.mixture[1].crop_scale",
        "data.mixture[2].crop_scale: found [1.0, 2.0], but frames are not resized; use data.mixture[2].zoom",
    ):
        assert line in message
    config.data.mixture = ()
    config.data.update(resize=0, crop_scale=(1.0, 1.0), zoom=(0.5, 1.0))
    assert "stages[0].crop: found 0, but data.zoom and data.aspect_jitter make" in refused(config)
    config.stages[0].crop = 16
    parse_config(config)


def test_missing_fields_have_their_defaults(tiny_config):
    """Entries of the mixture inherit the fields of `data`."""
    expected = parse_config(tiny_config)
    tree = to_plain(tiny_config)
    del tree["data"]["skip_invalid"], tree["log"]["every_steps"], tree["stages"][0]["encoder"], tree["compute"]
    del tree["checkpoint"]
    tree["data"]["mixture"] = [{"root": "other", "share": 0.5}]
    parsed = parse_config(to_config_dict(tree))
    assert parsed.stages == expected.stages
    assert (parsed.data, parsed.model, parsed.keep_latest) == (expected.data, expected.model, 2)
    assert parsed.log_every_steps == FIELDS["log.every_steps"].default == 10
    assert parsed.mixture[0].inputs == expected.inputs


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


def test_an_encoder_may_be_frozen_and_have_its_rate(tiny_config):
    tiny_config.model = TINY_RESNETENCDEC
    tiny_config.stages[0].encoder = {"frozen_epochs": 1, "lr_multiplier": 0.1}
    tiny_config.stages[1].encoder = {"frozen_epochs": 1, "lr_multiplier": 1.0}
    tiny_config.stages[0].accumulate = 2
    tiny_config.stages[1].schedule = {"name": "cosine", "learning_rate": 1.0, "warmup": 0, "unit": "epochs"}
    parse_config(tiny_config)
