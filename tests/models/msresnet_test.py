"""MSResNet: its pyramid, its size, its receptive field, and PyTorch's outputs for the same weights (`golden/`)."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_image, random_tensor
from skimage.transform import pyramid_gaussian

from jaxdeblur.models import build_model
from jaxdeblur.models.borders import image_within
from jaxdeblur.models.network import COARSE_OUTPUTS
from jaxdeblur.models.pixels import depth_to_space, pixel_shuffle
from jaxdeblur.models.pyramid import gaussian_pyramid
from jaxdeblur.runs.train_state import count_parameters
from jaxdeblur.training.losses import mae, mean_over_scales, mse
from jaxdeblur.weights.tensors import shapes_of
from jaxdeblur.weights.torch_names import from_torch, to_torch
from tests.helpers.networks import abstract_variables, build_tiny, random_network
from tests.helpers.paths import ROOT


def test_it_has_the_published_parameters():
    shapes = shapes_of(abstract_variables(build_model("msresnet")))
    assert count_parameters(abstract_variables(build_model("msresnet"))["params"]) == 11_721_321
    assert len(shapes) == 244
    kernels = {name: shapes[f"params/{name}/kernel"] for name in ("scale0/conv0", "scale2/conv0", "up1")}
    assert kernels == {"scale0/conv0": (5, 5, 6, 64), "scale2/conv0": (5, 5, 3, 64), "up1": (5, 5, 3, 12)}


@pytest.mark.parametrize("size", [(32, 48), (4, 12)])
def test_the_pyramid_equals_scikit_images(size):
    """Also where the Gaussian is longer than the image."""
    image = random_image(*size, batch=1).astype(np.float64)
    theirs = list(pyramid_gaussian(image[0], max_layer=2, downscale=2, channel_axis=-1))
    with jax.enable_x64(True):
        ours = jax.jit(partial(gaussian_pyramid, num_levels=3))(image)
    assert [level.shape[1:] for level in ours] == [level.shape for level in theirs]
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our[0], their, atol=1e-14)


def test_the_pyramid_ends_where_the_image_does():
    """An image of 20x28 in an array of 32x32 whose remainder is noise."""
    array = random_image(32, 32)

    @jax.jit
    def both(array, height, width):
        with image_within(height, width, (32, 32)):
            found = gaussian_pyramid(array, 3)
        return found, gaussian_pyramid(array[:, :20, :28], 3)

    for inside, alone in zip(*both(array, 20, 28), strict=True):
        np.testing.assert_allclose(inside[:, : alone.shape[1], : alone.shape[2]], alone, atol=1e-6)


def test_pixels_are_shuffled_as_in_pytorch():
    """Channel c 4 + dy 2 + dx is the pixel (dy, dx) of channel c."""
    x = jnp.arange(2 * 3 * 8.0).reshape(1, 2, 3, 8)
    shuffled = pixel_shuffle(x)
    assert shuffled.shape == (1, 4, 6, 2)
    assert shuffled[0, 3, 4, 1] == x[0, 1, 2, 4 + 2]
    order = np.arange(8).reshape(2, 4).T.ravel()
    np.testing.assert_array_equal(shuffled, depth_to_space(x[..., order]))


def test_outputs_equal_pytorch():
    golden = np.load(ROOT / "tests" / "golden" / "msresnet.npz")
    options = json.loads(str(golden["options"]))
    model = build_model("msresnet", **options)
    shapes = json.loads(str(golden["shapes"]))
    tensors = {name: random_tensor(name, tuple(shape)) for name, shape in shapes.items()}
    variables = from_torch("msresnet", tensors, shapes_of(abstract_variables(model)))
    output, updates = jax.jit(partial(model.apply, train=True, mutable=[COARSE_OUTPUTS]))(variables, golden["image"])
    coarsest, middle = updates[COARSE_OUTPUTS]["images"]
    for name, found in (("fine", output), ("middle", middle), ("coarse", coarsest)):
        assert golden[name].std() > 0.03
        np.testing.assert_allclose(found, golden[name], rtol=0, atol=1e-5, err_msg=name)
    back = to_torch("msresnet", variables)
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[name], tensor) for name, tensor in tensors.items())


@pytest.fixture(scope="module")
def restored():
    """A small network's forward function, and its variables."""
    model, variables = random_network("msresnet")
    return jax.jit(partial(model.apply, variables, train=False))


def test_the_receptive_field_is_that_of_all_scales(restored):
    """With one block, 8 pixels per scale and 2 per upsampling, at strides 1, 2 and 4, and 12 for the pyramid."""
    radius = 8 + 2 * (2 + 8) + 4 * (2 + 8) + 12
    size, centre = 4 * radius, 2 * radius
    image = np.full((1, size, size, 3), 0.5, np.float32)
    changed = image.copy()
    changed[:, centre:, :] = random_image(size - centre, size, batch=1)
    difference = np.abs(restored(changed) - restored(image)).max((0, 2, 3))
    first = int(np.flatnonzero(difference)[0])
    assert radius - 8 <= centre - first <= radius


def test_evaluation_and_initialisation_store_no_coarse_outputs():
    model = build_tiny("msresnet")
    variables, image = abstract_variables(model), jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    assert variables.keys() == {"params", "batch_stats"}
    evaluated, trained = (
        jax.eval_shape(partial(model.apply, train=train, mutable=[COARSE_OUTPUTS]), variables, image)[1]
        for train in (False, True)
    )
    assert evaluated == {}
    assert [output.shape for output in trained[COARSE_OUTPUTS]["images"]] == [(1, 4, 4, 3), (1, 8, 8, 3)]


@pytest.mark.parametrize("loss", [mse, mae])
def test_the_loss_is_the_mean_over_scales(loss):
    """With scikit-image's pyramid as targets; the last two rows and column of 18x23 are reflected."""
    sharp = random_image(18, 23, batch=1)
    prediction = random_image(18, 23, batch=2)[1:]
    coarse = [random_image(5, 6, batch=1), random_image(10, 12, batch=1)]
    padded = np.pad(sharp[0], ((0, 2), (0, 1), (0, 0)), mode="reflect")
    targets = list(pyramid_gaussian(padded, max_layer=2, downscale=2, channel_axis=-1))
    values = [loss(prediction, sharp), loss(coarse[1], targets[1][None]), loss(coarse[0], targets[2][None])]
    found = jax.jit(partial(mean_over_scales, loss))(prediction, coarse, sharp)
    assert float(found) == pytest.approx(np.mean(values), rel=1e-5)
    assert float(mean_over_scales(loss, prediction, (), sharp)) == float(loss(prediction, sharp))
