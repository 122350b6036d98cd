"""NAFNet with the published options: PyTorch's outputs, padding and local means, and tiles of large images."""

import jax
import numpy as np
import pytest
from random_weights import random_image

from jaxdeblur.errors import InputError
from jaxdeblur.models import build_model
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.weights import nafnet_from_torch
from tests.helpers.images import smooth_image
from tests.helpers.paths import GOLDEN
from tests.helpers.published import nafnet_tensors

BOX = 16


@pytest.fixture(scope="module")
def published():
    """Options and variables of a small network with random tensors."""
    options, variables = nafnet_from_torch.from_torch(nafnet_tensors())
    return {**options, "attention_box": BOX}, variables


def apply(model, variables, images):
    return np.asarray(jax.jit(lambda variables, x: model.apply(variables, x, train=False))(variables, images))


@pytest.mark.parametrize("attention", ["global", "local"])
@pytest.mark.parametrize("size", [(24, 32), (37, 50)])
def test_outputs_equal_pytorchs(published, attention, size):
    options, variables = published
    expected = np.load(GOLDEN / "nafnet.npz")[f"{attention}-{size[0]}x{size[1]}"]
    output = apply(build_model("nafnet", **{**options, "attention": attention}), variables, random_image(*size, 1))
    np.testing.assert_allclose(output, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_boxes_that_cover_the_image_are_global(published):
    options, variables = published
    image = random_image(37, 50, 1)
    covering = build_model("nafnet", **{**options, "attention_box": 384})
    outputs = apply(covering, variables, image)
    np.testing.assert_array_equal(outputs, apply(covering.clone(attention="global"), variables, image))
    local = apply(build_model("nafnet", **options), variables, image)
    assert np.abs(outputs - local).max() > 1e-2


@pytest.mark.parametrize("attention", ["none", "global", "local"])
def test_restored_images_are_padded_with_zeros(published, attention):
    """The restorer pads images itself, into arrays that are larger than the network's multiple."""
    options, variables = published
    model = build_model("nafnet", **{**options, "attention": attention})
    image = smooth_image(37, 51, np.float32)
    expected = np.clip(apply(model, variables, image[None])[0], 0, 1)
    reflected = np.clip(apply(model.clone(padding="reflect"), variables, image[None])[0], 0, 1)
    assert np.abs(reflected - expected).max() > 1e-3
    np.testing.assert_allclose(Restorer(model, variables)(image), expected, atol=1e-4)


def test_tiles_with_local_means_are_close_to_the_whole_image(published):
    """Within 0.1% of the network's change; with four blocks per path and boxes of 16 pixels, the overlap of 64 is
    four boxes. Tiles without local means would be equal.
    """
    options, variables = published
    model = build_model("nafnet", **options)
    image = smooth_image(130, 170, np.float32)
    whole = apply(model, variables, image[None])[0]
    tiled = Restorer(model, variables, tile=96, overlap=64)(image)
    change = np.sqrt(np.mean(np.square(np.clip(whole, 0, 1) - image)))
    difference = np.sqrt(np.mean(np.square(tiled - np.clip(whole, 0, 1))))
    assert difference < 1e-3 * change


def test_tiles_must_overlap_by_a_box(published):
    options, variables = published
    model = build_model("nafnet", **{**options, "attention_box": 96})
    with pytest.raises(InputError, match="--overlap: 64, expected at least 96") as error:
        Restorer(model, variables, tile=192, overlap=64)
    assert error.value.code == "tiles"
