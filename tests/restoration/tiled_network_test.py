"""Evaluation and restoration pad like the networks do, for any image size, with few programs and no wasted work."""

from functools import partial
from typing import ClassVar

import jax
import numpy as np
import pytest

from jaxdeblur.evaluation.scoring import ScoringOptions, evaluate
from jaxdeblur.models import build_model, options_of
from jaxdeblur.models.resnetencdec import ResnetEncDec
from jaxdeblur.restoration import tiling
from jaxdeblur.restoration.predictor import MAX_EXACT_SIZES, Predictor
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.restoration.tiled_network import TiledNetwork
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.runtime.sharding import create_mesh
from tests.helpers.images import smooth_image
from tests.helpers.networks import SMALL, Identity, random_network

RNG = np.random.default_rng(0)


def apply(model, variables, images):
    """Apply the network itself, which pads the images."""
    return np.asarray(jax.jit(partial(model.apply, train=False))(variables, images))


@pytest.mark.parametrize("size", [(97, 131), pytest.param((180, 320), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SMALL)
def test_a_restored_image_equals_the_networks_output(name, size):
    """The restorer's programs have larger arrays, which would show at the borders."""
    model, variables = random_network(name)
    image = smooth_image(*size, np.float32)
    expected = np.clip(apply(model, variables, image[None])[0], 0, 1)
    assert expected.std() > 0.01
    restored = Restorer(model, variables)(image)
    np.testing.assert_allclose(restored, expected, atol=3e-6)


# Image size and tiling: three eighths of the overlap cover what the small network sees around a pixel.
TILINGS = {
    "msresnet": ((258, 290), {"tile": 256, "overlap": 224}),
    "nafnet": ((130, 170), {"tile": 96, "overlap": 64}),
    "transformnet": ((130, 170), {"tile": 96, "overlap": 64}),
    "resnetencdec": ((202, 330), {"tile": 192, "overlap": 128}),
    "unet": ((130, 170), {"tile": 96, "overlap": 64}),
}


class Unpositioned(ResnetEncDec):
    """ResnetEncDec that treats every tile as a whole image."""

    needs_position: ClassVar[bool] = False


@pytest.mark.parametrize("name", SMALL)
def test_tiles_equal_the_networks_output(name):
    """ResnetEncDec shifts its feature maps by a row at this size, which tiles with even sides do not.

    MSResNet's receptive field of 80 pixels (with one block per scale) needs most of a tile: a smaller overlap shows.
    """
    model, variables = random_network(name)
    size, options = TILINGS[name]
    image = smooth_image(*size, np.float32)
    expected = np.clip(apply(model, variables, image[None])[0], 0, 1)
    restored = Restorer(model, variables, **options)(image)
    assert expected.std() > 0.01
    np.testing.assert_allclose(restored, expected, atol=3e-6)
    if name == "msresnet":
        inexact = Restorer(model, variables, **{**options, "overlap": 32})(image)
        assert np.abs(inexact - expected).max() > 1e-5
    if name == "resnetencdec":
        unpositioned = Restorer(Unpositioned(**options_of(model)), variables, **options)(image)
        assert np.abs(unpositioned - expected).max() > 1e-5


@pytest.mark.parametrize("name", ["unet", "resnetencdec"])
def test_an_evaluated_image_equals_the_networks_output(name):
    """With two devices and an odd number of images."""
    model, variables = random_network(name)
    mesh = create_mesh(jax.local_devices())
    network = TiledNetwork(model, tile=None, overlap=tiling.OVERLAP, devices=mesh, max_exact_sizes=MAX_EXACT_SIZES)
    variables, images = network.put(variables), np.stack([smooth_image(45, 70, seed=seed) for seed in range(3)])
    predictions = network.predict(variables, images, batch_size=2)
    np.testing.assert_allclose(predictions, apply(model, variables, images / np.float32(255)), atol=2e-6)
    assert (network.num_programs, network.pixels) == (2, 3 * 48 * 72)


def test_global_means_exclude_padding():
    model = build_model("nafnet", **{**SMALL["nafnet"], "attention": "global"})
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: rng.normal(scale=0.1, size=leaf.shape).astype(np.float32),
        jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0)),
    )
    image = smooth_image(49, 67, np.float32)
    expected = np.clip(apply(model, variables, image[None])[0], 0, 1)
    assert expected.std() > 0.01
    np.testing.assert_allclose(Restorer(model, variables)(image), expected, atol=3e-6)


def score(sizes, *, batch_size, devices=1):
    """Score random images of these sizes with the identity; return the network and the result."""
    predict = Predictor(Identity(), create_mesh(jax.local_devices()[:devices]), batch_size=batch_size)
    pairs = [
        {"blur": RNG.integers(0, 256, (*size, 3), np.uint8), "sequence": "s", "frame": str(i)}
        for i, size in enumerate(sizes)
    ]
    result = evaluate(
        predict,
        {},
        [{**pair, "sharp": pair["blur"]} for pair in pairs],
        ScoringOptions(batch_size, num_threads=2, similarity=False),
    )
    assert [image.frame for image in result.images] == [str(i) for i in range(len(sizes))]
    assert all(image.psnr > 99 for image in result.images)
    return predict._network


def test_alternating_sizes_are_not_padded_to_batches():
    network = score([(48, 64), (64, 48)] * 6, batch_size=4)
    assert network.pixels == 12 * 48 * 64
    assert network.num_programs == 2


def test_images_of_one_size_are_batched_without_padding_the_last_batch():
    network = score([(32, 48)] * 11, batch_size=4)
    assert network.pixels == 11 * 32 * 48
    assert sorted(shape[0] for _, shape, _ in network._programs) == [1, 4]


def test_many_sizes_take_few_programs_and_little_padding():
    sizes = [(int(height), int(width)) for height, width in RNG.integers(100, 300, (60, 2))]
    network = score(sizes, batch_size=8, devices=2)
    assert len(set(sizes)) > 50
    possible = sum(max(shape) <= 384 for shape in tiling.WHOLE_SHAPES)
    assert network.num_programs <= MAX_EXACT_SIZES + possible < 20
    assert network.pixels < 2.5 * sum(height * width for height, width in sizes)


def test_batches_of_large_frames_are_limited():
    network = score([(720, 1280)] * 3, batch_size=3)
    assert [shape for _, shape, _ in network._programs] == [(1, 720, 1280, 3)]
    network = score([(1100, 1300)], batch_size=3)
    assert all(np.prod(shape[:3]) <= tiling.WHOLE_PIXELS for _, shape, _ in network._programs)
