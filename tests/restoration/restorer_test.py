"""Images of any size: tiles equal the whole, few programs serve many sizes, types and shapes stay."""

import itertools
import json
import os
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.images import arrays
from jaxdeblur.models import build_model, layers, options_of
from jaxdeblur.models.resnetencdec import ResnetEncDec
from jaxdeblur.restoration import restorer as restoration
from jaxdeblur.restoration import tiling
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.train_state import TrainState, init_variables
from jaxdeblur.weights.initial import network_shapes
from jaxdeblur.weights.safetensors import write_weights

SMALL = {
    "nafnet": {"width": 8, "encoder_blocks": (1,), "middle_blocks": 1, "decoder_blocks": (1,)},
    "transformnet": {"width": 4, "num_blocks": 1},
    "resnetencdec": {"width": 4, "stage_sizes": (1, 1, 1, 1)},
    "unet": {"width": 8, "num_levels": 2, "num_blocks": 1},
}
RNG = np.random.default_rng(0)


def random_network(name):
    """A network with random weights and statistics, whose output is neither flat nor saturated."""
    model, rng = build_model(name, **SMALL[name]), np.random.default_rng(1)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return 0.02 * noise if not leaf.any() else np.asarray(leaf)
        return 1 + 0.2 * np.abs(noise) if path[-1].key in ("scale", "var") else 0.1 * noise

    return model, jax.tree.map_with_path(draw, init_variables(model, jax.random.key(0)))


def smooth_image(height, width, dtype=np.uint8):
    small = RNG.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    image = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return image if dtype == np.uint8 else (image.astype(dtype) * 257 if dtype == np.uint16 else image / dtype(255))


@pytest.mark.parametrize("name", SMALL)
def test_tiles_equal_the_whole_image(name):
    """The overlap's outer three eighths, 72 pixels, cover what these small networks see."""
    model, variables = random_network(name)
    image = smooth_image(270, 420, np.float32)
    whole = Restorer(model, variables, tile=0)(image)
    tiled = Restorer(model, variables, tile=256, overlap=192)(image)
    assert whole.std() > 0.01
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


def test_a_part_that_knows_its_place_is_interpolated_as_in_the_whole():
    x = RNG.normal(size=(1, 40, 24, 2)).astype(np.float32)
    whole = layers.upsample_bilinear_2x(jnp.asarray(x))
    place = layers.TilePosition(*map(np.int32, (8, 4, 40, 24)))
    part = layers.upsample_bilinear_2x(jnp.asarray(x[:, 8:32, 4:20]), place)
    # Without the ends, whose neighbours the part does not hold.
    np.testing.assert_allclose(part[:, 2:-1, 2:-1], whole[:, 18:63, 10:39], atol=1e-5)
    everything = layers.upsample_bilinear_2x(jnp.asarray(x), layers.TilePosition(*map(np.int32, (0, 0, 40, 24))))
    np.testing.assert_allclose(everything, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(1024, 1024, 160), (1056, 256, 64), (4000, 1024, 160), (320, 288, 8)]
)
def test_weights_of_all_tiles_sum_to_one_without_a_jump(length, tile, overlap):
    starts = tiling._starts(length, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert all(start % tiling.MULTIPLE == 0 for start in starts)
    total = np.zeros(length)
    for start, weight in zip(starts, tiling.blending_weights(length, tile, starts, overlap), strict=True):
        total[start : start + tile] += weight
        assert np.abs(np.diff(weight)).max() < 4 / max(overlap // 4, 2)
        if start > 0:
            assert (weight[: 3 * overlap // 8] == 0).all()
        if start < length - tile:
            assert (weight[tile - 3 * overlap // 8 :] == 0).all()
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_few_programs_serve_many_sizes():
    """And the most common sizes of photographs cost little more than their own pixels."""
    sizes = RNG.integers(1, 3000, (2000, 2))
    shapes = {tiling.cut_image(*size, tile=None, overlap=tiling.OVERLAP).shape for size in sizes.tolist()}
    assert len(shapes) <= 48
    for height, width in ((720, 1280), (480, 640), (768, 1024), (256, 256), (800, 600)):
        shape = tiling.cut_image(height, width, tile=None, overlap=tiling.OVERLAP).shape
        assert height * width <= np.prod(shape) <= 1.7 * height * width


def test_every_pixel_is_in_a_tile():
    for height, width in ((1, 1), (1, 5000), (2000, 40), (1030, 1030), (5000, 3333)):
        cut = tiling.cut_image(height, width, tile=None, overlap=tiling.OVERLAP)
        for starts, side, padded, length in zip(
            (cut.tops, cut.lefts), cut.shape, cut.padded, (height, width), strict=True
        ):
            assert length <= padded == starts[-1] + side
            assert all(after - before <= side - cut.overlap for before, after in itertools.pairwise(starts))


@pytest.fixture(scope="module")
def unet():
    return random_network("unet")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("size", [(1, 1), (3, 70), (33, 65)])
def test_size_and_type_stay(unet, size, dtype):
    image = smooth_image(*size, dtype)
    found = Restorer(*unet)(image)
    assert (found.shape, found.dtype) == (image.shape, dtype)


def test_an_untouched_network_gives_the_image_back():
    """A UNet starts as the identity: what is read, cut, blended and rounded is the image, in every type and tiling."""
    model = build_model("unet", **SMALL["unet"])
    variables = init_variables(model, jax.random.key(0))
    for dtype in (np.uint8, np.uint16):
        image = smooth_image(150, 210, dtype)
        for options in ({}, {"tile": 64, "overlap": 32}, {"tile": 0}, {"self_ensemble": True}):
            np.testing.assert_array_equal(Restorer(model, variables, **options)(image), image)


def test_values_are_rounded_and_clipped():
    found = arrays.from_float(np.array([-0.2, 0.6 / 255, 254.4 / 255, 1.3], np.float32), np.dtype(np.uint8))
    np.testing.assert_array_equal(found, [0, 1, 254, 255])


def test_self_ensemble_is_the_mean_of_all_turns_and_mirrors(unet):
    """By hand, with the network itself; the image is not square and its sides are multiples of the network's."""
    model, variables = unet
    image = smooth_image(64, 96, np.float32)
    found = Restorer(model, variables, tile=0, self_ensemble=True)(image)
    total = 0
    for turns in range(4):
        for mirror in (1, -1):
            turned = jnp.rot90(image, turns)[:, ::mirror]
            total += np.rot90(model.apply(variables, turned[None], train=False)[0][:, ::mirror], -turns)
    np.testing.assert_allclose(found, np.clip(total / 8, 0, 1), atol=1e-6)
    assert np.abs(found - Restorer(model, variables, tile=0)(image)).max() > 1e-3


class Unpositioned(ResnetEncDec):
    """ResnetEncDec that treats every tile as a whole image."""

    needs_position: ClassVar[bool] = False


def test_a_network_that_is_not_told_its_place_restores_another_image():
    model, variables = random_network("resnetencdec")
    image = smooth_image(270, 420, np.float32)
    lost_model = Unpositioned(**options_of(model))
    told, lost = (Restorer(network, variables, tile=256, overlap=192)(image) for network in (model, lost_model))
    assert np.abs(told - lost).max() > 1e-5  # told, tiles differ from the whole image by less than 1e-6


def test_a_network_that_sees_the_whole_image_is_never_cut():
    """Tiles of its own choosing would be 1024 wide; those asked for are refused."""
    options = {**SMALL["nafnet"], "attention": "global", "half_resolution": False}
    model = build_model("nafnet", **options)
    seen = []

    class Noting(type(model)):
        def __call__(self, x, train):
            seen.append(x.shape)
            return x

    noting = Noting(**options)
    assert Restorer(noting, {})(np.zeros((40, 1400, 3), np.uint8)).shape == (40, 1400, 3)
    assert seen == [(1, 64, 1408, 3)]
    with pytest.raises(InputError, match="--tile: 256, but this network weighs its channels by means over the whole"):
        Restorer(model, {}, tile=256)


class Identity(nn.Module):
    """A network that changes nothing."""

    @nn.compact
    def __call__(self, x, train):
        return x


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (np.zeros((4, 4), np.uint8), "image-shape"),
        (np.zeros((4, 4, 4), np.uint8), "image-shape"),
        (np.zeros((0, 4, 3), np.uint8), "image-shape"),
        (np.zeros((4, 4, 3), int), "image-type"),
        (np.zeros((4, 4, 3), bool), "image-type"),
        ([[[0, 0, 0]]], "image-type"),
        (np.full((4, 4, 3), 255.0), "image-range"),
        (np.full((4, 4, 3), 1.01, np.float32), "image-range"),
        (np.full((4, 4, 3), -1.0), "image-range"),
        (np.full((4, 4, 3), np.nan), "image-range"),
        (np.full((4, 4, 3), np.inf, np.float16), "image-range"),
    ],
)
def test_other_arrays_are_refused(bad, code):
    with pytest.raises(InputError) as error:
        Restorer(Identity(), {})(bad)
    assert error.value.code == code


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_jax_are_restored_as_numpy_arrays(dtype):
    image = RNG.random((4, 4, 3)).astype(dtype)
    found = Restorer(Identity(), {})(jnp.asarray(image))
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, image, atol=1e-3 if dtype == np.float16 else 1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_that_were_rounded_are_restored(dtype):
    image = np.linspace(-1e-3, 1 + 1e-3, 48, dtype=dtype).reshape(4, 4, 3)
    found = Restorer(Identity(), {})(image)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.clip(image, 0, 1), atol=1e-3 if dtype == np.float16 else 1e-7)


@pytest.mark.parametrize("mode", ["F", "I", "HSV", "YCbCr", "LAB", "RGBX", "CMYK"])
def test_modes_of_pillow_without_one_reading_are_refused(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(restoration, "_restorer_of", lambda path: Restorer(Identity(), {}))
    with pytest.raises(InputError, match=r"\w+") as error:
        restoration.restore(Image.new(mode, (4, 4)), tmp_path)
    assert error.value.code == ("cmyk-without-profile" if mode == "CMYK" else "image-kind")
    assert "None" not in str(error.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_modes_of_pillow_that_are_restored(tmp_path, monkeypatch, mode):
    monkeypatch.setattr(restoration, "_restorer_of", lambda path: Restorer(Identity(), {}))
    image = Image.new(mode, (4, 4), 1)
    found = restoration.restore(image, tmp_path)
    np.testing.assert_array_equal(np.asarray(found.convert("RGB")), np.asarray(image.convert("RGB")))


TINY = {"width": 2, "num_levels": 1, "num_blocks": 0}


def adding(levels):
    """Variables of a UNet that adds this many levels of 255 to every colour."""
    shapes = network_shapes(build_model("unet", **TINY))
    flat = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    flat["params/output/bias"] += levels / 255
    return {"batch_stats": {}, **traverse_util.unflatten_dict(flat, sep="/")}


def test_restore_follows_a_file_of_weights(tmp_path):
    image, path = np.full((32, 32, 3), 100, np.uint8), tmp_path / "a.safetensors"
    for levels in (0, 10):
        write_weights(path, adding(levels), {"network": "unet"})
        os.utime(path, (1, 1))  # the time alone says nothing
        np.testing.assert_array_equal(restoration.restore(image, path), 100 + levels)


def test_restore_follows_the_best_checkpoint_of_a_run(tmp_path):
    """A run that goes on writes checkpoints; a new one that is worse changes nothing, a better one is used."""
    image = np.full((32, 32, 3), 100, np.uint8)
    (tmp_path / "config.json").write_text(json.dumps({"model": {"name": "unet", **TINY}}))
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_latest=1)
    restorers = []
    for step, psnr, levels, expected in ((1, 20.0, 0, 0), (2, 19.0, 5, 0), (3, 21.0, 9, 9)):
        state = TrainState.create(apply_fn=None, tx=optax.sgd(0.1), **jax.tree.map(jnp.asarray, adding(levels)))
        state = state.replace(step=jnp.asarray(step))
        checkpoints.save(state, {})
        checkpoints.record_validation(step, psnr)
        checkpoints.wait()
        np.testing.assert_array_equal(restoration.restore(image, tmp_path), 100 + expected)
        restorers.append(restoration._last.restorer)
    checkpoints.close()
    assert restorers[0] is restorers[1]  # nothing is compiled anew for the same weights
    assert restorers[1] is not restorers[2]


@pytest.mark.parametrize("self_ensemble", [False, True])
def test_several_images_at_once_are_each_restored(unet, self_ensemble):
    images = np.stack([smooth_image(40, 56), smooth_image(40, 56)[::-1]])
    restorer = Restorer(*unet, tile=32, overlap=0, self_ensemble=self_ensemble)
    found = restorer(images)
    assert (found[0] != found[1]).any()
    for image, result in zip(images, found, strict=True):
        assert np.abs(restorer(image).astype(int) - result).max() <= 1


@pytest.mark.parametrize(
    ("tile", "overlap"), [(128, 160), (160, 160), (100, 32), (-32, 0), (64, -1), (None, 1000), (256.0, 32), (64, 33)]
)
def test_tiles_that_cannot_be_cut_are_refused(tile, overlap):
    for size in ((40, 56), (1400, 1400)):
        with pytest.raises(InputError) as error:
            tiling.cut_image(*size, tile=tile, overlap=overlap)
        assert error.value.code == "tiles"
    with pytest.raises(InputError) as error:
        Restorer(Identity(), {}, tile=tile, overlap=overlap)
    assert error.value.code == "tiles"


@pytest.mark.parametrize("seed", range(20))
def test_any_good_tile_and_overlap_cover_every_pixel_once(seed):
    rng = np.random.default_rng(seed)
    tile = 32 * int(rng.integers(1, 40))
    overlap = int(rng.choice([0, 32, 64, 128, tile - 32, rng.integers(0, tile - 31)]))
    overlap = min(overlap, tile - 32)
    for height, width in (rng.integers(1, 3000, 2).tolist(), (40, 2000), (2000, 100)):
        cut = tiling.cut_image(height, width, tile=tile, overlap=overlap)
        for starts, side, padded in zip((cut.tops, cut.lefts), cut.shape, cut.padded, strict=True):
            total = np.zeros(padded)
            weights = tiling.blending_weights(padded, side, starts, overlap)
            for start, weight in zip(starts, weights, strict=True):
                total[start : start + side] += weight
            np.testing.assert_allclose(total, 1, atol=1e-5)
