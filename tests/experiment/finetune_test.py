"""Recipes that start from the shipped network: they are for its architecture, and run on any layout of pairs."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from flax import traverse_util

from jaxdeblur.config.recipes import load_recipe
from jaxdeblur.data.sources import DataOptions, open_sources
from jaxdeblur.models import build_model, options_of
from jaxdeblur.weights.pretrained.catalogue import SHIPPED, find_shipped
from jaxdeblur.weights.safetensors import options_in, read_metadata, write_weights
from jaxdeblur.weights.tensors import network_shapes
from tests.helpers.images import save_noise

# The recipe with a tiny network and short crops.
TINY = {"width": 4, "encoder_blocks": (0, 1), "middle_blocks": 1, "decoder_blocks": (1, 0)}


def configs():
    return {name: load_recipe(name) for name in ("demo", "nafnet_finetune")}


@pytest.mark.parametrize("name", ["demo", "nafnet_finetune"])
def test_fine_tuning_recipes_match_the_shipped_network(name):
    config = configs()[name]
    shipped = find_shipped(config.init.network)
    assert shipped is next(network for network in SHIPPED if network.is_default)
    model = config.model.to_dict()
    assert model["name"] == shipped.network
    options = options_of(build_model(**model))
    shapes = network_shapes(build_model(**model))
    assert sum(map(math.prod, shapes.values())) == shipped.parameters
    if shipped.file.is_file():
        assert json.loads(json.dumps(options)) == options_in(shipped.file, read_metadata(shipped.file))


def layouts(folder):
    """GOPRO_Large's layout, training pairs alone, and pairs without splits, in this order, each of 200x200 pixels."""
    names = {
        "gopro": ("train/a/{}/1", "train/a/{}/2", "train/b/{}/1", "train/b/{}/2", "test/t/{}/1"),
        "alone": ("train/a/{}/1", "train/b/{}/1", "train/c/{}/1"),
        "plain": tuple(f"{{}}/{i}" for i in range(5)),
    }
    for layout, pairs in names.items():
        for pair in pairs:
            for variant in ("blur", "sharp"):
                save_noise(folder / layout / f"{pair.format(variant)}.png", (200, 200))
    return [folder / layout for layout in names]


def test_the_fine_tuning_recipe_opens_pairs_in_any_layout(tmp_path):
    data = configs()["nafnet_finetune"].data
    crop = configs()["nafnet_finetune"].stages[0].crop
    counts = []
    for root in layouts(tmp_path):
        options = DataOptions(root, data.blur_variant, data.splits, data.validation_sequences, data.skip_invalid)
        sources = open_sources(options, resize=data.resize, resize_filter=data.resize_filter, crop=crop)
        counts.append({split: len(source) for split, source in sources.items()})
    assert counts == [
        {"train": 2, "validation": 2, "test": 1},
        {"train": 1, "test": 1, "validation": 1},
        {"train": 3, "test": 1, "validation": 1},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("layout", [0, 2])
def test_fine_tuning_from_the_command_line(layout, tmp_path):
    """The command of docs/training.md, with a tiny network and few steps."""
    root = layouts(tmp_path)[layout]
    shapes = network_shapes(build_model("nafnet", **TINY))
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    options = json.dumps(options_of(build_model("nafnet", **TINY)))
    weights = tmp_path / "tiny.safetensors"
    write_weights(weights, traverse_util.unflatten_dict(tensors, sep="/"), {"network": "nafnet", "options": options})
    arguments = ["train", "nafnet", "--init", str(weights), "--data", str(root), "--variant", "finetune"]
    arguments += [f"--config.model.{name}={value}" for name, value in TINY.items()]
    arguments += [
        "--config.data.epoch_images=4",
        "--config.data.batch_size=2",
        "--config.evaluation.batch_size=2",  # tests run on two devices
        "--config.stages[0].epochs=1",
        "--config.stages[0].schedule.warmup=0",
    ]
    command = [sys.executable, "-c", "from jaxdeblur.cli import main; main()", *arguments, f"--workdir={tmp_path}/run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "run" / "eval" / "test-full.json").read_text())
    assert scores["protocol"]["split_rule"] == "auto"
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "whole network from" in facts["initial_weights"]
