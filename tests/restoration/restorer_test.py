"""`Restorer` and `restore`: any size and type, self-ensemble, and weights that change on disk."""

import json
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.images import arrays
from jaxdeblur.models import build_model, pixels
from jaxdeblur.restoration import restorer as restoration
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.train_state import TrainState, init_variables
from jaxdeblur.weights.safetensors import write_weights
from jaxdeblur.weights.tensors import network_shapes
from tests.helpers.images import smooth_image
from tests.helpers.networks import SMALL, Identity, random_network

RNG = np.random.default_rng(0)


def test_upsampling_a_tile_at_its_position_equals_the_whole():
    x = RNG.normal(size=(1, 40, 24, 2)).astype(np.float32)
    upsample = jax.jit(pixels.upsample_bilinear_2x)
    whole = upsample(jnp.asarray(x))
    position = pixels.TilePosition(*map(np.int32, (8, 4, 40, 24)))
    tile = upsample(jnp.asarray(x[:, 8:32, 4:20]), position)
    # Except the ends, whose neighbours are outside the tile.
    np.testing.assert_allclose(tile[:, 2:-1, 2:-1], whole[:, 18:63, 10:39], atol=1e-5)
    everything = upsample(jnp.asarray(x), pixels.TilePosition(*map(np.int32, (0, 0, 40, 24))))
    np.testing.assert_allclose(everything, whole, atol=1e-5)


@pytest.fixture(scope="module")
def unet():
    return random_network("unet")


@pytest.fixture(scope="module")
def unet_restorer(unet):
    return Restorer(*unet)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("size", [(1, 1), (3, 70), (33, 65)])
def test_size_and_type_are_kept(unet_restorer, size, dtype):
    image = smooth_image(*size, dtype)
    restored = unet_restorer(image)
    assert (restored.shape, restored.dtype) == (image.shape, dtype)


@pytest.mark.parametrize("options", [{}, {"tile": 64, "overlap": 32}, {"tile": 0}, {"self_ensemble": True}])
def test_an_untrained_unet_returns_the_image(options):
    """It starts as the identity, so reading, cutting, blending and rounding change nothing, in any type or tiling."""
    model = build_model("unet", **SMALL["unet"])
    restorer = Restorer(model, init_variables(model, jax.random.key(0)), **options)
    for dtype in (np.uint8, np.uint16):
        image = smooth_image(70, 100, dtype)
        np.testing.assert_array_equal(restorer(image), image)


def test_values_are_clipped_and_rounded():
    levels = arrays.from_float(np.array([-0.2, 0.6 / 255, 254.4 / 255, 1.3], np.float32), np.dtype(np.uint8))
    np.testing.assert_array_equal(levels, [0, 1, 254, 255])


def test_self_ensemble_is_the_mean_over_flips_and_rotations(unet):
    """Computed with the network itself; the image is not square, and its sides are multiples of the network's."""
    model, variables = unet
    apply = jax.jit(partial(model.apply, train=False))
    image = smooth_image(64, 96, np.float32)
    restored = Restorer(model, variables, tile=0, self_ensemble=True)(image)
    total = 0
    for turns in range(4):
        for mirror in (1, -1):
            oriented = np.rot90(image, turns)[:, ::mirror]
            total += np.rot90(apply(variables, oriented[None])[0][:, ::mirror], -turns)
    np.testing.assert_allclose(restored, np.clip(total / 8, 0, 1), atol=1e-6)
    assert np.abs(restored - Restorer(model, variables, tile=0)(image)).max() > 1e-3


def test_a_network_with_global_means_is_never_tiled():
    """By default tiles would be 1024 wide; explicit ones are refused."""
    options = {**SMALL["nafnet"], "attention": "global", "half_resolution": False}
    model = build_model("nafnet", **options)
    shapes = []

    class Recording(type(model)):
        def __call__(self, x, train):
            shapes.append(x.shape)
            return x

    assert Restorer(Recording(**options), {})(np.zeros((40, 1400, 3), np.uint8)).shape == (40, 1400, 3)
    assert shapes == [(1, 64, 1408, 3)]
    with pytest.raises(InputError) as error:
        Restorer(model, {}, tile=256)
    assert error.value.code == "tiles"


@pytest.mark.parametrize(
    ("image", "code"),
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
def test_other_arrays_are_refused(image, code):
    with pytest.raises(InputError) as error:
        Restorer(Identity(), {})(image)
    assert error.value.code == code


@pytest.fixture(scope="module")
def identity():
    return Restorer(Identity(), {})


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_jax_arrays_are_restored_like_numpy_arrays(identity, dtype):
    image = RNG.random((4, 4, 3)).astype(dtype)
    restored = identity(jnp.asarray(image))
    assert isinstance(restored, np.ndarray)
    np.testing.assert_allclose(restored, image, atol=1e-3 if dtype == np.float16 else 1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_beyond_the_range_by_rounding_are_clipped(identity, dtype):
    image = np.linspace(-1e-3, 1 + 1e-3, 48, dtype=dtype).reshape(4, 4, 3)
    restored = identity(image)
    assert restored.dtype == dtype
    np.testing.assert_allclose(restored, np.clip(image, 0, 1), atol=1e-3 if dtype == np.float16 else 1e-7)


# A UNet without blocks, whose output bias is what it adds.
TINY = {"width": 2, "num_levels": 1, "num_blocks": 0}


def variables_adding(levels):
    """Return variables of a UNet that adds this many levels of 255 to every channel."""
    shapes = network_shapes(build_model("unet", **TINY))
    flat = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    flat["params/output/bias"] += levels / 255
    return {"batch_stats": {}, **traverse_util.unflatten_dict(flat, sep="/")}


@pytest.fixture(scope="module")
def identity_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "identity.safetensors"
    write_weights(path, variables_adding(0), {"network": "unet", "model": json.dumps(TINY)})
    return path


@pytest.mark.parametrize("mode", ["F", "I", "HSV", "YCbCr", "LAB", "RGBX", "CMYK"])
def test_ambiguous_pillow_modes_are_refused(identity_weights, mode):
    with pytest.raises(InputError) as error:
        restoration.restore(Image.new(mode, (4, 4)), identity_weights)
    assert error.value.code == ("cmyk-without-profile" if mode == "CMYK" else "image-kind")
    assert "None" not in str(error.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pillow_images_are_restored(identity_weights, mode):
    image = Image.new(mode, (4, 4), 1)
    restored = restoration.restore(image, identity_weights)
    np.testing.assert_array_equal(np.asarray(restored.convert("RGB")), np.asarray(image.convert("RGB")))


def test_restore_reloads_a_weights_file_that_changed(tmp_path):
    image, path = np.full((32, 32, 3), 100, np.uint8), tmp_path / "a.safetensors"
    for levels in (0, 10):
        write_weights(path, variables_adding(levels), {"network": "unet"})
        os.utime(path, (1, 1))  # the modification time alone does not tell
        np.testing.assert_array_equal(restoration.restore(image, path), 100 + levels)


def test_restore_follows_the_best_checkpoint_of_a_run(tmp_path):
    """A new checkpoint that is worse changes nothing, a better one is used."""
    image = np.full((32, 32, 3), 100, np.uint8)
    (tmp_path / "config.json").write_text(json.dumps({"model": {"name": "unet", **TINY}}))
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_latest=1)
    restorers = []
    for step, psnr, levels, expected in ((1, 20.0, 0, 0), (2, 19.0, 5, 0), (3, 21.0, 9, 9)):
        variables = jax.tree.map(jnp.asarray, variables_adding(levels))
        state = TrainState.create(apply_fn=None, tx=optax.sgd(0.1), **variables)
        state = state.replace(step=jnp.asarray(step))
        checkpoints.save(state, {})
        checkpoints.record_validation(step, psnr)
        checkpoints.wait()
        np.testing.assert_array_equal(restoration.restore(image, tmp_path), 100 + expected)
        restorers.append(restoration._last.restorer)
    checkpoints.close()
    assert restorers[0] is restorers[1]  # the same weights are not compiled twice
    assert restorers[1] is not restorers[2]


@pytest.mark.parametrize("self_ensemble", [False, True])
def test_a_batch_equals_its_images(unet, self_ensemble):
    images = np.stack([smooth_image(40, 56), smooth_image(40, 56)[::-1]])
    restorer = Restorer(*unet, tile=32, overlap=0, self_ensemble=self_ensemble)
    batch = restorer(images)
    assert (batch[0] != batch[1]).any()
    for image, restored in zip(images, batch, strict=True):
        assert np.abs(restorer(image).astype(int) - restored).max() <= 1


@pytest.mark.parametrize(("tile", "overlap"), [(128, 160), (100, 32), (64, -1)])
def test_invalid_tiles_are_refused(tile, overlap):
    with pytest.raises(InputError) as error:
        Restorer(Identity(), {}, tile=tile, overlap=overlap)
    assert error.value.code == "tiles"
