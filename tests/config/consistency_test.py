"""Fields that contradict each other are reported."""

import pytest

from jaxdeblur.config.run_config import parse_config
from jaxdeblur.errors import InputError
from tests.helpers.configs import MIXTURE_ENTRY, TINY_RESNETENCDEC, refused


def test_validation_sequences_are_optional_with_splits_auto(tiny_config):
    tiny_config.data.validation_sequences = ()
    assert "data.validation_sequences: found []" in refused(tiny_config)
    tiny_config.data.splits = "auto"
    parse_config(tiny_config)


def test_batch_sizes_must_be_divisible_by_the_number_of_devices(tiny_config):
    tiny_config.data.batch_size = 6
    tiny_config.stages[1].accumulate = 3
    parse_config(tiny_config, num_devices=2)
    tiny_config.evaluation.batch_size = 2
    tiny_config.seed = -1
    with pytest.raises(InputError) as error:
        parse_config(tiny_config, num_devices=4)
    for message in (
        "The config has 4 problem(s)",
        "seed: found -1",
        "data.batch_size: found 6, which the 4 devices cannot share evenly; expected 4 or 8, or fewer devices",
        "data.batch_size / stages[1].accumulate: found 2, which the 4 devices cannot share evenly; expected 4, or",
        "evaluation.batch_size: found 2",
    ):
        assert message in str(error.value)
    with pytest.raises(InputError, match=r"has 2 problem"):  # scoring shares no training batch
        parse_config(tiny_config, num_devices=4, training=False)


def test_contradictory_fields_are_reported(tiny_config):
    config = tiny_config
    config.init.encoder = "weights/resnet50.safetensors"
    config.stages[0].encoder = {"frozen_epochs": 1, "lr_multiplier": 1.0}
    config.stages[1].encoder = {"frozen_epochs": 0, "lr_multiplier": 0.1}
    config.stages[0].accumulate = 3
    config.stages[0].schedule = {"name": "cosine", "learning_rate": 1.0, "warmup": 2, "unit": "epochs"}
    message = refused(config)
    assert "5 problem(s)" in message
    for line in (
        "init.encoder: found 'weights/resnet50.safetensors', but transformnet has no encoder; expected ''",
        "stages[0].encoder.frozen_epochs: found 1, but transformnet has no encoder; expected 0",
        "stages[1].encoder.lr_multiplier: found 0.1, but transformnet has no encoder; expected 1.0",
        "stages[0].accumulate: found 3, which does not divide data.batch_size, 2",
        "stages[0].schedule.warmup: found 2 epochs, but the stage has only 2",
    ):
        assert line in message
    config.model = TINY_RESNETENCDEC
    config.stages[0].encoder.frozen_epochs = 3
    config.stages[1].encoder.frozen_epochs = 1
    message = refused(config)
    assert "stages[0].encoder.frozen_epochs: found 3, but the stage has only 2 epochs" in message
    assert (
        "stages[1].encoder.lr_multiplier: found 0.1, but the encoder is frozen throughout the stage; expected 1.0"
        in message
    )
    assert "no encoder" not in message


def test_mixture_shares_must_sum_to_less_than_one(tiny_config):
    tiny_config.data.mixture = (MIXTURE_ENTRY, {**MIXTURE_ENTRY, "share": 0.25}, {**MIXTURE_ENTRY, "share": 0.25})
    assert "data.mixture: the shares sum up to 1, expected less than 1: data.root has the rest" in refused(tiny_config)
    tiny_config.data.mixture = tiny_config.data.mixture[:2]
    parse_config(tiny_config)
    tiny_config.data.mixture = ("root", "share")  # what the command line makes of a dict without a tuple around it
    assert "data.mixture: found ['root', 'share'], expected a tuple of dicts with root, share" in refused(tiny_config)


def test_contradictory_sizes_are_reported(tiny_config):
    config = tiny_config
    config.data.crop_scale = (0.5, 1.0)
    config.data.mixture = (
        {**MIXTURE_ENTRY, "resize": 0, "aspect_jitter": 1.1},
        {**MIXTURE_ENTRY, "share": 0.2, "zoom": (0.9, 1.0)},
        {**MIXTURE_ENTRY, "share": 0.2, "resize": 0, "crop_scale": (1.0, 2.0)},
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


def test_an_encoder_may_be_frozen_and_have_a_learning_rate_multiplier(tiny_config):
    tiny_config.model = TINY_RESNETENCDEC
    tiny_config.stages[0].encoder = {"frozen_epochs": 1, "lr_multiplier": 0.1}
    tiny_config.stages[1].encoder = {"frozen_epochs": 1, "lr_multiplier": 1.0}
    tiny_config.stages[0].accumulate = 2
    tiny_config.stages[1].schedule = {"name": "cosine", "learning_rate": 1.0, "warmup": 0, "unit": "epochs"}
    parse_config(tiny_config)
