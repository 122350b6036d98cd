"""A training step, compared with NumPy: what each option of a stage changes, and what it does not."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.transform import pyramid_gaussian

from jaxdeblur.errors import InputError
from jaxdeblur.models import ENCODERS, build_model
from jaxdeblur.models.layers import BatchNorm, conv
from jaxdeblur.models.network import COARSE_OUTPUTS
from jaxdeblur.runs.train_state import create_train_state, enter_stage, init_variables
from jaxdeblur.runtime.sharding import batch_sharding, create_mesh, replicated
from jaxdeblur.training.step import make_train_step
from tests.helpers.configs import PLAIN_STAGE, plan

STAGE = {
    **PLAIN_STAGE,
    "epochs": 1,
    "optimizer": {"name": "sgd", "momentum": 0.0},
    "schedule": {"name": "constant", "learning_rate": 0.5},
}
ADAM = {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8}
RNG = np.random.default_rng(0)
# Four images whose means differ much: the statistics of any two of them are far from those of another two.
SHARP = np.stack([RNG.integers(60 * i, 60 * i + 70, (16, 16, 3)) for i in range(4)]).astype(np.uint8)
BATCH = {"blur": SHARP // 2, "sharp": SHARP}


class Encoder(nn.Module):
    """A minimal encoder: a convolution and BatchNorm."""

    @nn.compact
    def __call__(self, x, train):
        x = conv(4, 3, use_bias=False, name="conv1")(x)
        return nn.relu(BatchNorm(use_running_average=not train, name="bn1")(x))


class EncoderDecoder(nn.Module):
    """The smallest network with an encoder, which compiles in a second; the real one takes half a minute."""

    @nn.compact
    def __call__(self, x, train):
        x = Encoder(name=ENCODERS["resnetencdec"])(x, train)
        return nn.sigmoid(conv(3, 3, use_bias=True, name="decoder")(x))


UNET = build_model("unet", width=4, num_levels=2, num_blocks=1)


def take_steps(model, count, stage, *, ema_decay=0.0, **options):
    """Return the losses, states and histograms on the host of steps on one batch over two devices; states from 0 on."""
    mesh = create_mesh()
    (planned,) = plan([stage], 2, ema_decay=ema_decay, **options)
    create = partial(create_train_state, model, planned.tx, ema=ema_decay > 0)
    state = jax.jit(create, out_shardings=replicated(mesh))(jax.random.key(0))
    batch = jax.device_put(BATCH, batch_sharding(mesh))
    losses, states, histograms, step = [], [jax.device_get(state)], [], make_train_step(planned, mesh)
    for _ in range(count):
        state, loss, counts = step(state, batch)
        losses.append(float(loss))
        states.append(jax.device_get(state))
        histograms.append(jax.device_get(counts))
    return losses, states, histograms


@pytest.fixture(scope="module")
def plain():
    """Four steps of the UNet without any option."""
    return take_steps(UNET, 4, STAGE)


def assert_close(ours, theirs, **tolerance):
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(our, their, **tolerance)


def assert_equal(ours, theirs):
    assert_close(ours, theirs, rtol=0, atol=0)


def extremes(*trees):
    """Return least and largest values of all tensors, (tensors, 2)."""
    return [(leaf.min(), leaf.max()) for leaf in jax.tree.leaves(trees)]


def test_histograms_are_counted_in_the_last_step_of_an_epoch(plain):
    """An epoch is two steps. With SGD of rate 0.5 the gradient is twice the step back."""
    _, states, histograms = plain
    assert [step.counts.any() for step in histograms] == [False, True, False, True]
    back = jax.tree.map(lambda before, after: 2 * (before - after), states[1].params, states[2].params)
    actual = np.stack([histograms[1].low, histograms[1].high], axis=1)
    np.testing.assert_allclose(actual, extremes(back, states[2].params), atol=1e-6)


def test_histograms_are_of_gradients_before_clipping():
    _, _, histograms = take_steps(UNET, 2, {**STAGE, "clip_norm": 1e-3})
    gradients = histograms[1].high[: histograms[1].high.size // 2]
    assert np.abs(gradients).max() > 2e-3


def test_accumulation_equals_the_whole_batch_without_batch_norm(plain):
    """Without BatchNorm, to rounding."""
    losses, states, _ = take_steps(UNET, 2, {**STAGE, "accumulate": 2})
    assert losses == pytest.approx(plain[0][:2], rel=1e-6)
    assert losses[1] != pytest.approx(losses[0], rel=1e-3)  # the first step moved the weights
    assert_close(states[2].params, plain[1][2].params, rtol=0, atol=1e-6)
    assert states[2].step == 2


def test_the_loss_of_a_multi_scale_network_is_the_mean_over_scales():
    """With gradient accumulation; scikit-image's pyramids are the targets, and every parameter is updated."""
    model = build_model("msresnet", width=4, num_blocks=1)
    losses, states, _ = take_steps(model, 1, {**STAGE, "loss": "mae", "accumulate": 2})
    blur, sharp = (BATCH[name] / np.float32(255) for name in ("blur", "sharp"))
    forward = jax.jit(partial(model.apply, train=True, mutable=[COARSE_OUTPUTS]))
    prediction, updates = forward({"params": states[0].params}, blur)
    outputs = [prediction, *reversed(updates[COARSE_OUTPUTS]["images"])]
    pyramids = (pyramid_gaussian(image, max_layer=2, downscale=2, channel_axis=-1) for image in sharp)
    targets = [np.stack(images) for images in zip(*pyramids, strict=True)]
    expected = [np.abs(output - target).mean() for output, target in zip(outputs, targets, strict=True)]
    assert max(expected) > 1.01 * min(expected)
    assert losses == pytest.approx([np.mean(expected)], rel=1e-5)
    assert all(
        np.any(new != old)
        for new, old in zip(jax.tree.leaves(states[1].params), jax.tree.leaves(states[0].params), strict=True)
    )


def test_batch_norm_normalizes_each_micro_batch_separately():
    """Unlike the whole batch: statistics of images 0 and 2, then of 1 and 3. Loss and gradients are means."""
    model, mean, expected = EncoderDecoder(), np.zeros(4), []
    losses, (before, after), _ = take_steps(model, 1, {**STAGE, "loss": "psnr", "accumulate": 2})
    forward = jax.jit(lambda x: model.apply(before.variables, x, train=True, mutable=["batch_stats"])[0])
    for part in (SHARP[0::2], SHARP[1::2]):
        blur, sharp = (part // 2) / np.float32(255), part / np.float32(255)
        expected += [10 * np.log10(np.mean(np.square(d))) for d in np.asarray(forward(blur)) - sharp]
        kernel = before.params["backbone"]["conv1"]["kernel"]
        dimensions = ("NHWC", "HWIO", "NHWC")
        features = jax.lax.conv_general_dilated(blur, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=dimensions)
        mean = 0.9 * mean + 0.1 * np.asarray(features).mean(axis=(0, 1, 2))
    assert losses == pytest.approx([np.mean(expected)], rel=1e-5)
    np.testing.assert_allclose(after.batch_stats["backbone"]["bn1"]["mean"], mean, rtol=1e-4, atol=1e-6)


def test_the_ema_matches_numpy(plain):
    """mean = 0.75 mean + 0.25 new, from the initial weights on; it is evaluated, and it does not affect the steps."""
    _, states, _ = take_steps(UNET, 4, STAGE, ema_decay=0.75)
    mean = jax.tree.map(np.float64, states[0].params)
    assert_equal(states[0].ema_params, states[0].params)
    for state, other in zip(states[1:], plain[1][1:], strict=True):
        mean = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * np.float64(new), mean, state.params)
        assert_close(state.ema_params, mean, rtol=1e-5, atol=1e-8)
        assert state.variables["params"] is state.ema_params
        assert_equal(state.params, other.params)
    moved = [
        np.abs(a - b).max() for a, b in zip(jax.tree.leaves(mean), jax.tree.leaves(states[-1].params), strict=True)
    ]
    assert max(moved) > 1e-4
    assert plain[1][0].ema_params is None
    assert enter_stage(states[-1], plan([STAGE], 2)[0].tx).ema_params is states[-1].ema_params


def test_gradients_are_clipped_by_their_global_norm(plain):
    """One SGD step is the rate times the gradient; clipped, it points the same way and has the given norm."""

    def gradient(states):
        pairs = zip(jax.tree.leaves(states[0].params), jax.tree.leaves(states[1].params), strict=True)
        return np.concatenate([(before - after).ravel() / 0.5 for before, after in pairs])

    whole = gradient(plain[1])
    small, loose = (gradient(take_steps(UNET, 1, {**STAGE, "clip_norm": norm})[1]) for norm in (1e-3, 1e3))
    norm = np.linalg.norm(whole)
    assert norm > 0.01
    assert np.linalg.norm(small) == pytest.approx(1e-3, rel=1e-3)
    np.testing.assert_allclose(small, whole * 1e-3 / norm, atol=1e-7)
    np.testing.assert_array_equal(loose, whole)


def test_a_frozen_encoder_is_unchanged_and_then_trains_with_its_multiplier():
    """Frozen in the first of two epochs of two steps: parameters and moments stay equal; BatchNorm is updated."""
    stage = {
        **STAGE,
        "epochs": 2,
        "optimizer": ADAM,
        "encoder": {"frozen_epochs": 1, "lr_multiplier": 0.5},
        "clip_norm": 100.0,
    }
    stage["schedule"] = {"name": "step", "learning_rate": 1e-3, "factor": 0.1, "every": 1, "unit": "epochs"}
    _, states, _ = take_steps(EncoderDecoder(), 3, stage, ema_decay=0.5, encoder="backbone")
    start, _, frozen, moved = states
    encoder = [state.params["backbone"] for state in states]
    assert_equal(encoder[2], encoder[0])
    assert_equal(frozen.ema_params["backbone"], encoder[0])
    _, partition, _ = frozen.opt_state
    assert_equal(partition.inner_states["encoder"], start.opt_state[1].inner_states["encoder"])
    old, new = (state.batch_stats["backbone"]["bn1"]["mean"] for state in (start, frozen))
    assert (np.abs(new - old) > 1e-4).all()
    decoder = [state.params["decoder"]["kernel"] for state in states]
    assert np.abs(decoder[1] - decoder[0]).max() == pytest.approx(1e-3, rel=0.01)  # Adam's first step is the rate
    # The third step is Adam's first for the encoder: its rate times the schedule's, which by now is a tenth.
    steps = np.abs(encoder[3]["conv1"]["kernel"] - encoder[2]["conv1"]["kernel"])
    assert np.median(steps) == pytest.approx(0.5 * 1e-4, rel=0.01)
    assert moved.opt_state[1].inner_states["encoder"].inner_state[0].count == 1
    assert moved.opt_state[1].inner_states["rest"].inner_state.count == 3


def test_the_encoders_first_step_is_scaled_by_its_multiplier():
    model, part = EncoderDecoder(), {**STAGE, "encoder": {"frozen_epochs": 0, "lr_multiplier": 0.25}}
    (_, (start, scaled), _), (_, (_, unscaled), _) = (
        take_steps(model, 1, s, encoder="backbone") for s in (part, STAGE)
    )
    steps = jax.tree.map(lambda old, new: new - old, start.params, scaled.params)
    whole = jax.tree.map(lambda old, new: new - old, start.params, unscaled.params)
    assert_close(steps["decoder"], whole["decoder"], rtol=1e-6, atol=0)
    assert_close(steps["backbone"], jax.tree.map(lambda leaf: 0.25 * leaf, whole["backbone"]), rtol=1e-2, atol=1e-7)
    assert np.abs(whole["backbone"]["conv1"]["kernel"]).max() > 1e-4


def test_every_registered_encoder_is_a_top_level_parameter_of_its_network():
    """A network whose encoder had another name would train unfrozen."""
    for network, name in ENCODERS.items():
        shapes = jax.eval_shape(lambda key, net=network: init_variables(build_model(net), key), jax.random.key(0))
        assert name in shapes["params"]
        assert len(shapes["params"]) > 1


@pytest.mark.parametrize("network", ["transformnet", "resnetencdec", "unet", "nafnet", "msresnet"])
def test_all_state_is_float32_with_bfloat16_activations(network):
    """Parameters, their average, BatchNorm's statistics, Adam's moments, the loss: after a step of the real program."""
    model, mesh = build_model(network, dtype="bfloat16"), create_mesh()
    (stage,) = plan([{**STAGE, "optimizer": ADAM, "accumulate": 2}], 2, ema_decay=0.9)
    state = jax.eval_shape(lambda: create_train_state(model, stage.tx, jax.random.key(0), ema=True))
    images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.uint8)
    after, loss, _ = jax.eval_shape(make_train_step(stage, mesh), state, {"blur": images, "sharp": images})
    assert loss.dtype == np.float32
    for tree in (state, after):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree) if leaf.ndim} == {np.dtype(np.float32)}


def test_schedules_that_do_not_fit_are_named_with_their_stages():
    cosine = {"name": "cosine", "learning_rate": 1.0, "warmup": 5, "unit": "steps"}
    stages = [{**STAGE, "schedule": cosine}, STAGE, {**STAGE, "epochs": 2, "schedule": {**cosine, "unit": "epochs"}}]
    with pytest.raises(InputError) as error:
        plan(stages, 4)
    assert "stages[0].schedule.warmup: 5 steps, but its stage has only 4 steps" in str(error.value)
    assert "stages[2].schedule.warmup: 5 epochs are 20 steps, but its stage has only 8 steps" in str(error.value)
    assert "stages[1]" not in str(error.value)
