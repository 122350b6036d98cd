"""Evaluation and restoration pad as the networks do, whatever the size, with few programs and no copies."""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxdeblur.evaluation.scoring import Measures, evaluate
from jaxdeblur.models import build_model
from jaxdeblur.restoration import tiling
from jaxdeblur.restoration.predictor import OWN_SHAPES, Predictor
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.restoration.tiled_network import TiledNetwork
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.runtime.sharding import create_mesh
from tests.restoration.restorer_test import SMALL, random_network, smooth_image

RNG = np.random.default_rng(0)


def apply(model, variables, images):
    """What the network makes of images, padding by itself."""
    return np.asarray(jax.jit(partial(model.apply, train=False))(variables, images))


@pytest.mark.parametrize("size", [(97, 131), pytest.param((180, 320), marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SMALL)
def test_a_restored_image_is_the_networks_own(name, size):
    """The arrays of the restorer's programs are larger; the borders tell."""
    model, variables = random_network(name)
    image = smooth_image(*size, np.float32)
    expected = np.clip(apply(model, variables, image[None])[0], 0, 1)
    assert expected.std() > 0.01
    found = Restorer(model, variables)(image)
    np.testing.assert_allclose(found, expected, atol=3e-6)


@pytest.mark.parametrize("name", ["transformnet", "resnetencdec"])
def test_tiles_of_an_image_of_any_size_are_the_networks_own(name):
    """ResnetEncDec moves its maps by a row at these sides, which tiles of even sides do not by themselves."""
    model, variables = random_network(name)
    image = smooth_image(270, 420, np.float32)
    found = Restorer(model, variables, tile=256, overlap=192)(image)
    np.testing.assert_allclose(found, np.clip(apply(model, variables, image[None])[0], 0, 1), atol=1e-6)


@pytest.mark.parametrize("name", ["unet", "resnetencdec"])
def test_an_evaluated_image_is_the_networks_own(name):
    """Bit by bit where its size has programs of its own, beyond that to rounding; two devices, an odd batch."""
    model, variables = random_network(name)
    mesh = create_mesh(jax.local_devices())
    network = TiledNetwork(model, tile=None, overlap=tiling.OVERLAP, devices=mesh, own_shapes=OWN_SHAPES)
    variables, images = network.put(variables), np.stack([smooth_image(45, 70) for _ in range(3)])
    found = network.predict(variables, images, batch_size=2)
    np.testing.assert_allclose(found, apply(model, variables, images / np.float32(255)), atol=2e-6)
    assert (network.num_programs, network.pixels) == (2, 3 * 48 * 72)


def test_a_mean_over_the_whole_image_is_one_over_the_image_alone():
    model = build_model("nafnet", **{**SMALL["nafnet"], "attention": "global"})
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(scale=0.05, size=leaf.shape).astype(np.float32),
        init_variables(model, jax.random.key(0)),
    )
    image = smooth_image(97, 131, np.float32)
    restorer = Restorer(model, variables)
    np.testing.assert_allclose(restorer(image), np.clip(apply(model, variables, image[None])[0], 0, 1), atol=3e-6)


class Identity(nn.Module):
    """A network that changes nothing."""

    multiple = 4

    @nn.compact
    def __call__(self, x, train):
        return x


def score(sizes, *, batch_size, devices=1):
    """Score black images of these sizes; return the predictor and the records."""
    predict = Predictor(Identity(), create_mesh(jax.local_devices()[:devices]), batch_size=batch_size)
    pairs = [
        {"blur": RNG.integers(0, 256, (*size, 3), np.uint8), "sequence": "s", "frame": str(i)}
        for i, size in enumerate(sizes)
    ]
    result = evaluate(
        predict,
        {},
        [{**pair, "sharp": pair["blur"]} for pair in pairs],
        num_pairs=len(pairs),
        batch_size=batch_size,
        sample_count=0,
        measures=Measures(similarity=False, lpips=None),
        num_threads=2,
    )
    assert [image["frame"] for image in result.images] == [str(i) for i in range(len(sizes))]
    assert all(image["psnr"] > 99 for image in result.images)
    return predict._network, result


def test_alternating_sizes_cost_no_copies():
    network, _ = score([(48, 64), (64, 48)] * 6, batch_size=4)
    assert network.pixels == 12 * 48 * 64
    assert network.num_programs == 2


def test_a_split_of_one_size_is_taken_in_batches_and_ends_without_copies():
    network, _ = score([(32, 48)] * 11, batch_size=4)
    assert network.pixels == 11 * 32 * 48
    assert sorted(shape[0] for _, shape, _ in network._programs) == [1, 4]


def test_many_sizes_take_few_programs_and_few_more_pixels():
    sizes = [(int(height), int(width)) for height, width in RNG.integers(100, 300, (60, 2))]
    network, _ = score(sizes, batch_size=8, devices=2)
    assert len(set(sizes)) > 50
    possible = sum(max(shape) <= 384 for shape in tiling.WHOLE_SHAPES)
    assert network.num_programs <= OWN_SHAPES + possible < 20
    assert network.pixels < 2.5 * sum(height * width for height, width in sizes)


def test_full_frames_are_not_in_memory_at_once():
    network, _ = score([(720, 1280)] * 3, batch_size=3)
    assert [shape for _, shape, _ in network._programs] == [(1, 720, 1280, 3)]
    network, _ = score([(1100, 1300)], batch_size=3)
    assert all(np.prod(shape[:3]) <= tiling.WHOLE_PIXELS for _, shape, _ in network._programs)
