"""Each rearrangement and resampling of pixels against its plain definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeblur.models import pixels

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("height", "width"), [(1, 2), (2, 3), (5, 8)])
def test_upsampling_is_linear_with_aligned_corners(height, width):
    """Compared with NumPy's interpolation at evenly spaced points from the first to the last pixel."""
    x = RNG.normal(size=(height, width)).astype(np.float32)
    rows = np.array([np.interp(np.linspace(0, width - 1, 2 * width), range(width), row) for row in x])
    both = np.array([np.interp(np.linspace(0, height - 1, 2 * height), range(height), column) for column in rows.T]).T
    upsampled = jax.jit(pixels.upsample_bilinear_2x)(x[None, :, :, None])
    np.testing.assert_allclose(upsampled[0, :, :, 0], both, atol=1e-5)


def test_a_tile_is_upsampled_as_in_the_whole_image():
    """Except for its first and last rows and columns, whose neighbours it lacks."""
    x = RNG.normal(size=(1, 12, 10, 2)).astype(np.float32)
    upsample = jax.jit(pixels.upsample_bilinear_2x)
    whole = upsample(x)
    tile = upsample(x[:, 3:9, 2:7], pixels.TilePosition(3, 2, 12, 10))
    np.testing.assert_allclose(tile[:, 1:-1, 1:-1], whole[:, 7:17, 5:13], atol=1e-6)


def test_depth_to_space_orders_phases_by_row_then_column():
    x = jnp.arange(8.0).reshape(1, 1, 1, 8)  # four phases of two channels
    expected = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]]], np.float32)
    np.testing.assert_array_equal(pixels.depth_to_space(x)[0], expected)


def test_space_to_depth_inverts_depth_to_space():
    x = RNG.normal(size=(2, 3, 4, 8)).astype(np.float32)
    np.testing.assert_array_equal(pixels.space_to_depth(pixels.depth_to_space(x)), x)


def test_fit_to_crops_the_first_row_and_pads_the_last():
    """As F.pad with [d // 2, d - d // 2]: (-1, 0) for a difference of -1, (0, 1) for 1."""
    x = jnp.arange(1.0, 7.0).reshape(1, 3, 2, 1)
    np.testing.assert_array_equal(pixels.fit_to(x, 2, 3)[0, :, :, 0], [[3, 4, 0], [5, 6, 0]])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 18), (19, 16)])
def test_other_sizes_are_reflected_and_cropped(height, width):
    x = RNG.normal(size=(1, height, width, 3)).astype(np.float32)
    inputs = []

    def network(padded):
        inputs.append(np.asarray(padded))
        return padded + 1

    np.testing.assert_allclose(pixels.at_multiple_of(4, network, x), x + 1, rtol=1e-6)
    expected = np.pad(x, ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(inputs[0], expected)


def test_images_too_small_to_reflect_are_refused():
    with pytest.raises(ValueError, match="1x16 is too small"):
        pixels.at_multiple_of(4, lambda x: x, jnp.zeros((1, 1, 16, 3)))
