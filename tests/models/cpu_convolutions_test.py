"""The fast convolutions against XLA's, values and gradients, and where they are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdeblur.models import build_model
from jaxdeblur.models.cpu import column_split, conv, im2col_gradients, polyphase, winograd

# Batch, height, width, channels in, channels out, kernel, stride, padding (None: kernel // 2).
CASES = {
    "3x3": (2, 16, 12, 5, 7, 3, 1, None),
    "3x3, more pixels than are laid out at a time": (2, 64, 40, 9, 13, 3, 1, None),
    "3x3 to fewer channels, where the gradient's windows move": (2, 64, 40, 13, 9, 3, 1, None),
    "3x3, fewer pixels than channels": (2, 5, 4, 9, 70, 3, 1, None),
    "3x3 to fewer channels, fewer pixels than channels": (2, 5, 4, 90, 70, 3, 1, None),
    "3x3 of stride 2, odd sides": (2, 15, 13, 5, 7, 3, 2, None),
    "1x1": (2, 16, 12, 5, 7, 1, 1, None),
    "1x1 of stride 2, even and odd side": (2, 8, 5, 4, 6, 1, 2, None),
    "2x2, padded on one side": (2, 8, 9, 5, 8, 2, 1, ((0, 1), (0, 1))),
    "9x9 of few channels": (2, 16, 12, 3, 9, 9, 1, None),
    "9x9 to few channels": (2, 16, 12, 9, 3, 9, 1, None),
    "9x9, odd side": (2, 15, 12, 3, 9, 9, 1, None),
    "3x3 to few channels, padded on one side": (2, 8, 9, 9, 3, 3, 1, ((1, 0), (0, 2))),
    "7x7 of stride 2": (2, 16, 12, 3, 9, 7, 2, None),
    "many channels": (1, 20, 16, 256, 128, 3, 1, None),
    "many channels, sides that tiles do not fill, other padding": (2, 13, 11, 128, 256, 3, 1, ((0, 2), (1, 0))),
    "some channels": (2, 8, 12, 128, 136, 3, 1, None),
    "some channels, sides that tiles do not fill, other padding": (2, 17, 9, 136, 128, 3, 1, ((0, 2), (1, 0))),
}


def both(case, dtype):
    """Return the output, alone and under differentiation, and both gradients, of the fast and the plain convolution."""
    batch, height, width, inputs, features, size, stride, padding = CASES[case]
    padding = padding or ((size // 2, size // 2),) * 2
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, height, width, inputs)), dtype)
    kernel = jnp.asarray(rng.normal(size=(size, size, inputs, features)), dtype)

    def run(fast):
        def convolve(x, kernel):
            with conv.use_fast_convolutions(fast):
                return conv.convolve(x, kernel, stride, padding)

        y, gradients = jax.vjp(convolve, x, kernel)
        return (convolve(x, kernel), y, *gradients(jnp.asarray(np.random.default_rng(1).normal(size=y.shape), dtype)))

    return [jax.jit(run, static_argnums=0)(fast) for fast in (True, False)]


# float64 shows that an algorithm is right; in float32 only Winograd's is much less accurate than the plain convolution.
IN_FLOAT32 = [case if "channels" in case else pytest.param(case, marks=pytest.mark.slow) for case in CASES]


@pytest.mark.parametrize("case", CASES)
def test_fast_convolutions_equal_the_plain_ones_in_float64(case):
    assert_equal_convolutions(case, "float64", 1e-13)


@pytest.mark.parametrize("case", IN_FLOAT32)
def test_fast_convolutions_equal_the_plain_ones_in_float32(case):
    assert_equal_convolutions(case, "float32", 1e-5)


def assert_equal_convolutions(case, dtype, bound):
    with jax.enable_x64(True):
        for fast, plain in zip(*both(case, dtype), strict=True):
            assert fast.dtype == plain.dtype == dtype
            scale = float(jnp.abs(plain).max())
            np.testing.assert_allclose(fast, plain, rtol=0, atol=bound * scale)


def winograd_by_tiles(x, kernel):
    """The textbook form, tile by tile: A [(G g G^T) * (B d B^T)] A^T, with padding 1."""
    batch, height, width, _ = x.shape
    transforms = {"b": winograd.INPUT_TRANSFORM, "g": winograd.KERNEL_TRANSFORM, "a": winograd.OUTPUT_TRANSFORM}
    filters = np.einsum("yi,xj,ijcd->yxcd", transforms["g"], transforms["g"], kernel)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    output = np.zeros((batch, height, width, kernel.shape[3]))
    for top in range(0, height, winograd.TILE):
        for left in range(0, width, winograd.TILE):
            patch = padded[:, top : top + winograd.PATCH, left : left + winograd.PATCH]
            transformed = np.einsum("yi,xj,bijc->byxc", transforms["b"], transforms["b"], patch)
            products = np.einsum("byxc,yxcd->byxd", transformed, filters)
            tile = np.einsum("iy,jx,byxd->bijd", transforms["a"], transforms["a"], products)
            output[:, top : top + winograd.TILE, left : left + winograd.TILE] = tile
    return output


def test_winograds_textbook_form_is_the_convolution_and_ours():
    """The first shows that the three matrices are right, the second that axes are not mixed up."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 8, 12, 3)), rng.normal(size=(3, 3, 3, 5))
    expected = winograd_by_tiles(x, kernel)
    padding = ((1, 1), (1, 1))
    with jax.enable_x64(True):
        np.testing.assert_allclose(conv._plain(x, kernel, stride=1, padding=padding), expected, atol=1e-12)
        ours = winograd.convolve(jnp.asarray(x), jnp.asarray(kernel), padding)
        np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if "channels, sides that tiles do not fill" in case])
def test_winograd_processes_large_images_in_blocks_of_tile_rows(case, monkeypatch):
    """Three rows at a time here; in one case the second block is not full."""
    batch, _, width, *channels = CASES[case][:5]
    monkeypatch.setattr(winograd, "BLOCK_BYTES", 3 * 4 * 36 * batch * -(-width // 4) * max(channels))
    for fast, plain in zip(*both(case, "float32"), strict=True):
        np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-5 * float(jnp.abs(plain).max()))


def test_the_cases_cover_every_algorithm():
    """Otherwise one could be wrong without any case showing it."""

    def shapes(case):
        batch, height, width, inputs, features, size, stride, padding = CASES[case]
        image = (batch, height, width, inputs)
        return image, (size, size, inputs, features), stride, padding or ((size // 2, size // 2),) * 2

    selected = {
        "winograd": [case for case in CASES if winograd.is_faster(*shapes(case)[:2], differentiated=True)],
        "winograd, alone": [case for case in CASES if winograd.is_faster(*shapes(case)[:2], differentiated=False)],
        "winograd, gradients": [case for case in CASES if winograd.gradients_are_faster(*shapes(case)[:2])],
        "columns": [case for case in CASES if column_split.is_faster(shapes(case)[1])],
        "phases": [case for case in CASES if polyphase.is_faster(shapes(case)[0], shapes(case)[1], shapes(case)[3])],
        "small": [case for case in CASES if im2col_gradients.is_small((*CASES[case][:3], CASES[case][4]))],
    }
    assert selected == {
        "winograd": [case for case in CASES if case.startswith("many channels")],
        "winograd, alone": [case for case in CASES if case.startswith(("many channels", "some channels"))],
        "winograd, gradients": [case for case in CASES if case.startswith(("many channels", "some channels"))],
        "columns": ["9x9 to few channels", "3x3 to few channels, padded on one side"],
        "phases": ["9x9 of few channels", "9x9 to few channels", "7x7 of stride 2"],
        "small": [case for case in CASES if "fewer pixels" in case],
    }


def lowered_text(fast, platform, dtype="float32"):
    """Return the lowered gradient of a network in training mode."""
    model = build_model("transformnet", width=4, num_blocks=1, dtype=dtype, cpu_fast_conv=fast)
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros(images.shape), train=True))

    def loss(params, images):
        y, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return y.mean()

    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    lowered = jax.jit(jax.grad(loss)).trace(variables["params"], images).lower(lowering_platforms=(platform,))
    return lowered.as_text()


def test_fast_convolutions_are_used_on_cpus_only():
    """GPUs get only plain convolutions, for which XLA calls the vendors' libraries."""

    def count(text):
        return {name: text.count(f"stablehlo.{name}") for name in ("convolution", "dot_general", "concatenate")}

    assert count(lowered_text(True, "cuda")) == count(lowered_text(False, "cuda")) == count(lowered_text(False, "cpu"))
    assert count(lowered_text(True, "cpu"))["concatenate"] > count(lowered_text(False, "cpu"))["concatenate"]


def test_half_precision_uses_plain_convolutions():
    assert "concatenate" not in lowered_text(True, "cpu", "bfloat16")
    assert "concatenate" in lowered_text(True, "cpu")


def test_the_switch_ends_with_its_block():
    """After an error too: what is traced later is fast."""
    with pytest.raises(RuntimeError), conv.use_fast_convolutions(False):
        raise RuntimeError
    assert "concatenate" in lowered_text(True, "cpu")
