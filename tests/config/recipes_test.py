"""The shipped recipes: every variant is valid, and the values that the documentation states."""

import runpy

import pytest

from jaxdeblur.config.recipes import list_variants, load_recipe, recipe_folder
from jaxdeblur.config.run_config import parse_config
from jaxdeblur.training.stages import plan_stages
from tests.helpers.paths import ROOT

ORIGINALS = ("resnetencdec", "transformnet")


@pytest.mark.parametrize("path", sorted(recipe_folder().glob("*.py")), ids=lambda path: path.stem)
def test_every_variant_of_every_shipped_recipe_is_valid(path):
    get_config = runpy.run_path(str(path))["get_config"]
    for variant in list_variants(path):
        parse_config(get_config(variant))
    with pytest.raises(ValueError, match=r"has the variants default, smoke.*'nonsense'"):
        get_config("nonsense")


def test_default_variants_follow_the_original_project():
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


def test_docs_state_the_crops_of_the_photographs_variants():
    message = (ROOT / "docs" / "recipes.md").read_text()
    crops = {}
    for name in ("nafnet", "resnetencdec", "transformnet"):
        config = load_recipe(f"{name}_photographs")
        crops.setdefault(config.stages[0].crop, []).append(name)
    assert crops == {192: ["nafnet"], 128: ["resnetencdec", "transformnet"]}
    assert "192x192 for NAFNet, 128x128 for the other two" in message


def test_msresnets_recipe_is_deepdeblurs():
    config = parse_config(load_recipe("msresnet"))
    (stage,) = config.stages
    assert (stage.epochs, stage.crop, stage.loss, config.loading.batch_size) == (1000, 256, "mae", 16)
    assert (config.data.blur_variant, config.inputs.flip_and_rotate) == ("blur_gamma", True)
    assert (config.inputs.resize, config.inputs.permute_channels) == (0, True)
    (planned,) = plan_stages([stage], steps_per_epoch=10)
    rates = [planned.learning_rate(10 * epoch) for epoch in (0, 499, 500, 749, 750, 899, 900, 999)]
    expected = [1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5, 2.5e-5, 1.25e-5, 1.25e-5]
    assert rates == pytest.approx(expected, rel=1e-5)
