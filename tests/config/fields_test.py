"""All invalid, unknown and missing fields of a config are reported at once."""

import pytest

from jaxdeblur.config.fields import FIELDS
from jaxdeblur.config.run_config import parse_config
from jaxdeblur.config.tree import to_config_dict, to_plain
from jaxdeblur.errors import InputError
from tests.helpers.configs import MIXTURE_ENTRY, TINY_NAFNET, TINY_RESNETENCDEC, refused


def test_all_problems_are_listed_in_one_message(tiny_config):
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
    for message in (
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
        assert message in str(error.value)


def test_a_missing_model_and_empty_stages_are_reported(tiny_config):
    del tiny_config.model
    tiny_config.stages = ()
    with pytest.raises(InputError, match=r"(?s)model: missing.*stages: empty"):
        parse_config(tiny_config)


def test_model_options_are_checked_by_annotation(tiny_config):
    tiny_config.model = {**TINY_RESNETENCDEC, "stage_sizes": (1, 1.5)}
    with pytest.raises(InputError, match=r"model.stage_sizes: found \[1, 1.5\], expected a tuple of four integers"):
        parse_config(tiny_config)


def test_model_options_are_checked_by_value_and_for_consistency(tiny_config):
    config = tiny_config
    with config.ignore_type():
        config.model.residual = 1
    config.model.norm = "group"
    message = refused(config)
    assert "model.residual: found 1, expected True or False" in message
    assert "model.norm: found 'group', expected one of batch, none" in message
    config.model = {**TINY_RESNETENCDEC, "norm": "none"}
    parse_config(config)
    config.init.encoder = "weights/resnet50.safetensors"
    assert "init.encoder: found 'weights/resnet50.safetensors', but model.norm is 'none'" in refused(config)
    config.init.encoder = ""
    config.model = {**TINY_NAFNET, "encoder_blocks": (1, 1, 1), "attention": "nearby", "half_resolution": "yes"}
    message = refused(config)
    assert "model.decoder_blocks: found 2 levels, but model.encoder_blocks has 3" in message
    assert "model.attention: found 'nearby', expected one of none, global, local" in message
    assert "model.half_resolution: found 'yes', expected True or False" in message
    config.model = {**TINY_NAFNET, "encoder_blocks": (1,) * 5, "decoder_blocks": (-1, 1)}
    message = refused(config)
    assert (
        "model.encoder_blocks: found [1, 1, 1, 1, 1], expected a tuple of one to four integers of at least 0" in message
    )
    assert "model.decoder_blocks: found [-1, 1], expected a tuple of one to four integers of at least 0" in message
    config.model = TINY_NAFNET
    parse_config(config)


def test_a_nafnet_level_may_have_zero_blocks_but_a_resnet_stage_may_not(tiny_config):
    """Only where the number of blocks is given by level; an encoder's stage of ResNet needs its blocks."""
    tiny_config.model = {**TINY_NAFNET, "encoder_blocks": (0, 2), "decoder_blocks": (1, 0)}
    parse_config(tiny_config)
    tiny_config.model = {**TINY_RESNETENCDEC, "stage_sizes": (1, 0, 1, 1)}
    assert "model.stage_sizes: found [1, 0, 1, 1], expected a tuple of four integers of at least 1" in refused(
        tiny_config
    )


def test_out_of_range_values_are_refused(tiny_config):
    tiny_config.data.resize = 2
    tiny_config.data.num_threads = 100_000
    tiny_config.stages[0].optimizer.b1 = 1.0
    tiny_config.stages = (*tiny_config.stages, 3)
    with pytest.raises(InputError) as error:
        parse_config(tiny_config)
    for message in (
        "data.resize: found 2, expected an integer of at least 16",
        "data.num_threads: found 100000, expected an integer of at least 1 and below 1025",
        "stages[0].optimizer.b1: found 1.0, expected a number of at least 0 and below 1",
        "stages[2]: found 3, expected a ConfigDict",
    ):
        assert message in str(error.value)
    with pytest.raises(InputError, match=r"returns a dict, expected an ml_collections.ConfigDict"):
        parse_config({})


def test_training_options_are_checked_by_type_and_range(tiny_config):
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
    message = refused(config)
    assert "15 problem(s)" in message
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
        assert line in message


@pytest.mark.parametrize("at", [[], [0], [3, 3], [3, 2], [1.5], 3])
def test_milestones_increase(at, tiny_config):
    schedule = {"name": "milestones", "learning_rate": 1.0, "factor": 0.5, "at": at, "unit": "epochs"}
    tiny_config.stages[0].schedule = schedule
    assert "stages[0].schedule.at: found" in refused(tiny_config)
    tiny_config.stages[0].schedule = {**schedule, "at": [2, 5, 9, 10, 11]}
    parse_config(tiny_config)


def test_augmentation_and_mixture_fields_are_checked(tiny_config):
    config = tiny_config
    config.data.crop_scale = (2.0, 1.0)
    config.data.aspect_jitter = 0.5
    config.data.gain = (0.0, 1.0)
    with config.ignore_type():
        config.data.permute_channels = 1
    broken = {**MIXTURE_ENTRY, "share": 1.0, "resize": 2, "crop_scale": (1.0,), "roof": "made"}
    del broken["root"]
    config.data.mixture = (MIXTURE_ENTRY, broken)
    config.seed = -1
    message = refused(config)
    assert "10 problem(s)" in message
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
        assert line in message


def test_missing_fields_get_their_defaults(tiny_config):
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
