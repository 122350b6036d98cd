"""Training: it learns, resumes exactly, uses every device, and aborts with an error message."""

import dataclasses
import os
import shutil
import signal
from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.errors import InputError
from jaxdeblur.experiment.setup import open_run
from jaxdeblur.experiment.workflows import train_and_evaluate
from jaxdeblur.files import read_json
from jaxdeblur.models import build_model
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.checksums import find_corruption
from jaxdeblur.runs.metric_log import read_metrics
from jaxdeblur.runs.train_state import create_train_state, init_variables
from jaxdeblur.runtime.sharding import abstract, batch_sharding, replicated
from jaxdeblur.training import loop as train_module
from jaxdeblur.training import run as run_module
from jaxdeblur.training.loop import restore_or_create
from jaxdeblur.training.run import ScoredRun
from jaxdeblur.training.step import make_train_step
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.tensors import fingerprint
from tests.helpers.configs import PLAIN_STAGE, plan
from tests.helpers.images import replace_unseen, write_pairs
from tests.helpers.runs import log_without_clock, start

STAGES = [
    {**PLAIN_STAGE, "crop": 32, "schedule": {"name": "constant", "learning_rate": 0.01}},
    {
        **PLAIN_STAGE,
        "epochs": 3,
        "loss": "mae",
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "schedule": {"name": "constant", "learning_rate": 0.5},
    },
]
MODEL = build_model("transformnet", width=4, num_blocks=1)


def test_a_stopped_and_resumed_run_ends_bitwise_like_an_uninterrupted_one(tiny_config, tmp_path):
    """Stopped inside an epoch and between two lines of the log, at the change of stage, and after it."""
    finished, whole, _ = start(tiny_config, tmp_path / "whole")
    assert finished
    for steps, reached in ((5, 5), (1, 6), (1, 7), (10**9, 9)):
        finished, weights, run = start(tiny_config, tmp_path / "parts", steps)
        assert run.checkpoints.latest_step == reached
    assert finished
    assert weights == whole
    log = log_without_clock(tmp_path / "whole")
    assert log_without_clock(tmp_path / "parts") == log
    assert [line["step"] for line in log if "train/loss" in line] == [2, 4, 6, 8, 9]
    assert [line["step"] for line in log if "validation/psnr" in line] == [3, 6, 9]
    assert [line["stage"] for line in log if "train/loss" in line] == [0, 0, 0, 1, 1]
    rates = [line["train/learning_rate"] for line in log if "train/loss" in line]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-2, 1e-2])
    assert run.total_steps == 9


def test_a_run_with_mixture_and_augmentation_resumes_exactly_and_only_on_the_same_images(tiny_config, tmp_path):
    """Its record names all sources; other images in one of them are refused; validation is the main source's alone."""
    mixed = tmp_path / "mixed"
    for sequence in ("scene_m", "scene_n"):
        write_pairs(mixed, "train", sequence, 2, side=40)
    shutil.copytree(tmp_path / "GOPRO_Large" / "train" / "scene_v", mixed / "train" / "seen")
    entry = {"root": str(mixed), "share": 0.5, "resize": 16, "crop_scale": (1.0, 1.5)}
    tiny_config.data.mixture = (entry,)
    tiny_config.data.crop_scale = (1.0, 2.0)
    tiny_config.data.permute_channels = True
    tiny_config.data.gain = (0.5, 1.5)
    _, whole, run = start(tiny_config, tmp_path / "whole")
    for steps in (4, 3, 10**9):
        _, parts, _ = start(tiny_config, tmp_path / "parts", steps)
    assert parts == whole
    assert log_without_clock(tmp_path / "parts") == log_without_clock(tmp_path / "whole")
    facts = read_json(tmp_path / "parts" / "run.json")
    assert facts["mixture"] == {"data.mixture[0]": {"data_set": "mixed", "share": 0.5}}
    assert facts["pairs"] == {"train": 6, "validation": 3, "test": 5, "data.mixture[0]": 4}
    assert {sequence for sequence, _ in run.mixture[0].source.names} == {"scene_m", "scene_n"}
    assert run.mixture[0].options.flip_and_rotate
    assert {sequence for sequence, _ in run.evaluator.protocols[0].sources["validation"].names} == {"scene_v"}
    batch = next(run.train_batches(run.stages[0], first_step=3))
    alone = dataclasses.replace(run, mixture=())
    assert (next(alone.train_batches(run.stages[0], first_step=3))["blur"] != batch["blur"]).any()
    shutil.rmtree(mixed / "train" / "scene_n")
    with pytest.raises(InputError, match=r"training pairs of data.mixture\[0\]: '"):
        open_run(tiny_config, tmp_path / "parts")
    tiny_config.data.mixture = ({**entry, "root": str(tmp_path / "nowhere")},)
    tiny_config.data.root = str(tmp_path / "neither")
    with pytest.raises(InputError, match=r"(?s)neither is not a f.*data.mixture\[0\].root: .*nowhere is not a folder"):
        open_run(tiny_config, tmp_path / "parts")


def test_the_ema_is_validated_saved_and_resumed(tiny_config, tmp_path):
    """Through stops inside epochs of two stages, bit for bit; the best checkpoint holds what was scored."""
    tiny_config.ema_decay = 0.8
    tiny_config.model = {"name": "unet", "width": 4, "num_levels": 2, "num_blocks": 1}
    _, whole, run = start(tiny_config, tmp_path / "whole")
    for steps in (5, 2, 10**9):
        _, parts, _ = start(tiny_config, tmp_path / "parts", steps)
    assert parts == whole
    log = log_without_clock(tmp_path / "whole")
    assert log_without_clock(tmp_path / "parts") == log
    scores = {line["step"]: line["validation/psnr"] for line in log if "validation/psnr" in line}
    best = load_network(tmp_path / "whole").variables
    step = run.checkpoints.best_step
    assert step == max(scores, key=lambda step: (scores[step], step))
    assert run.validate(best).summary.psnr == pytest.approx(scores[step], abs=1e-5)
    stage = run.stages[0 if step <= 6 else 1]
    create = partial(create_train_state, run.model, stage.tx, ema=True)
    state = run.checkpoints.restore(step, abstract(lambda: create(jax.random.key(0)), run.mesh))
    assert fingerprint(jax.device_get(state.variables)) == fingerprint(best)
    assert fingerprint(jax.device_get(state.params)) != fingerprint(best["params"])
    raw = {"params": state.params, "batch_stats": state.batch_stats}
    assert run.validate(raw).summary.psnr != pytest.approx(scores[step], abs=1e-5)


def test_the_seed_determines_initial_weights_and_batches(tiny_config, tmp_path, monkeypatch):
    """The weights before any step, and the seed that batches are drawn with."""
    seeds = []
    make = run_module.make_train_batches
    monkeypatch.setattr(run_module, "make_train_batches", lambda *a, **k: seeds.append(a[2].seed) or make(*a, **k))
    first, _ = restore_or_create(open_run(tiny_config, tmp_path / "first"))
    tiny_config.seed = 7
    start(tiny_config, tmp_path / "second", 1)
    second, _ = restore_or_create(open_run(tiny_config, tmp_path / "third"))
    assert seeds == [7]
    assert fingerprint(jax.device_get(first.variables)) != fingerprint(jax.device_get(second.variables))


def test_stages_are_consecutive():
    first, second = plan(STAGES, 4)
    assert (first.first_step, first.end_step, second.first_step, second.end_step) == (0, 8, 8, 20)
    assert (first.crop, second.crop) == (32, 0)
    assert second.learning_rate(8) == pytest.approx(0.5)


def test_each_stage_trains_on_its_crop_size(tiny_config, tmp_path):
    run = open_run(tiny_config, tmp_path / "run")
    shapes = [next(run.train_batches(stage, first_step=0))["blur"].shape for stage in run.stages]
    assert shapes == [(2, 16, 16, 3), (2, 8, 8, 3)]


def mesh_of(devices):
    return jax.make_mesh((devices,), ("data",), devices=jax.devices()[:devices], axis_types=(AxisType.Auto,))


def train_on(devices, steps, batch, stage):
    """Return the losses, and the parameters and statistics after `steps` of a stage."""
    mesh, stage = mesh_of(devices), plan(STAGES, 100)[stage]
    create = jax.jit(lambda key: create_train_state(MODEL, stage.tx, key), out_shardings=replicated(mesh))
    state, step, losses = create(jax.random.key(0)), make_train_step(stage, mesh), []
    for _ in range(steps):
        state, loss, _ = step(state, jax.device_put(batch, batch_sharding(mesh)))
        losses.append(float(loss))
    return losses, jax.device_get(state.variables)


@pytest.fixture(scope="module")
def batch():
    """Four images whose means differ much: BatchNorm over half of them would give other numbers."""
    rng = np.random.default_rng(0)
    sharp = np.stack([rng.integers(60 * i, 60 * i + 70, (16, 16, 3)) for i in range(4)]).astype(np.uint8)
    return {"blur": sharp // 2, "sharp": sharp}


def test_two_devices_compute_the_same_as_one(batch):
    """With SGD: Adam amplifies rounding errors of gradients that are zero, such as those of biases before BatchNorm."""
    one, two = (train_on(devices, 3, batch, stage=1) for devices in (1, 2))
    assert two[0] == pytest.approx(one[0], rel=1e-5)
    for ours, theirs in zip(jax.tree.leaves(one[1]), jax.tree.leaves(two[1]), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-4)


def test_training_overfits_one_batch(batch):
    losses, _ = train_on(2, 40, batch, stage=0)
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize(("stage", "loss"), [(0, np.square), (1, np.abs)], ids=["mse", "mae"])
def test_loss_and_batch_norm_statistics_of_a_step_match_numpy(batch, stage, loss):
    """The loss that the stage names, on images divided by 255; statistics a tenth of the way to the batch's."""
    losses, after = train_on(1, 1, batch, stage)
    variables = jax.jit(lambda key: init_variables(MODEL, key))(jax.random.key(0))
    blur, sharp = batch["blur"] / np.float32(255), batch["sharp"] / np.float32(255)
    forward = jax.jit(lambda x: MODEL.apply(variables, x, train=True, mutable=["batch_stats"])[0])
    assert losses == pytest.approx([np.mean(loss(np.asarray(forward(blur)) - sharp))], rel=1e-5)
    first = variables["params"]["conv1"]
    dimensions = ("NHWC", "HWIO", "NHWC")
    features = jax.lax.conv_general_dilated(
        blur, first["kernel"], (1, 1), ((4, 4), (4, 4)), dimension_numbers=dimensions
    )
    statistics = after["batch_stats"]["bn1"]
    np.testing.assert_allclose(statistics["mean"], 0.1 * features.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * features.var(axis=(0, 1, 2)), rtol=1e-4)


def test_crops_and_schedules_that_do_not_fit_the_data_are_reported_together(tiny_config, tmp_path):
    """Six training pairs of 16x16: both crops, and a warm-up as long as its stage."""
    schedule = {"name": "cosine", "learning_rate": 1e-3, "warmup": 6, "unit": "steps"}
    tiny_config.stages[0].schedule = schedule
    tiny_config.stages[0].crop, tiny_config.stages[1].crop = 17, 18
    with pytest.raises(InputError) as error:
        open_run(tiny_config, tmp_path / "run")
    for message in (
        "stages[0].crop: 17 is larger than data.resize, 16",
        "stages[1].crop: 18 is larger",
        "stages[0].schedule.warmup: 6 steps, but its stage has only 6 steps",
    ):
        assert message in str(error.value)


def test_a_non_finite_loss_aborts_the_run(tiny_config, tmp_path):
    tiny_config.stages[1].schedule.learning_rate = 1e38
    with pytest.raises(InputError, match=r"The loss is (nan|inf) at step [89] \(stages\[1\], learning rate 1e\+38\)"):
        start(tiny_config, tmp_path / "run")
    saved = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == [3, 6]


def test_a_non_finite_validation_aborts_the_run_and_keeps_the_best_checkpoint(tiny_config, tmp_path):
    """The loss of an epoch's last step and the weights after it are finite; the network's output is not."""
    tiny_config.stages[0].epochs = 1
    tiny_config.stages[1].schedule.learning_rate = 1e38
    tiny_config.data.batch_size = 6  # one step an epoch
    with pytest.raises(InputError, match=r"no longer finite after step 2 \(stages\[1\], learning rate 1e\+38\)"):
        start(tiny_config, tmp_path / "run")
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", keep_latest=2, read_only=True)
    assert checkpoints.best_step == 1
    assert checkpoints.validation_psnr(2) is None
    log = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in log if "validation/psnr" in line] == [1]


def test_a_corrupt_validation_image_loses_no_step(tiny_config, tmp_path, tiny_gopro):
    """The epoch's steps are saved; with the image fixed, the next start validates it first."""
    path = tiny_gopro / "train" / "scene_v" / "blur" / "000002.png"
    open_folder(tiny_gopro / "train", "blur", skip_invalid=False)  # so the cached scan calls it valid
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    replace_unseen(path, content)
    with pytest.raises(InputError, match=r"scene_v/blur/000002.png: cannot be read"):
        start(tiny_config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert start(tiny_config, tmp_path / "run")[1] == start(tiny_config, tmp_path / "whole")[1]
    assert log_without_clock(tmp_path / "run") == log_without_clock(tmp_path / "whole")


def test_a_corrupt_training_image_aborts_the_run_with_all_steps_saved(tiny_config, tmp_path, tiny_gopro):
    path = tiny_gopro / "train" / "scene_a" / "blur" / "000002.png"
    open_folder(tiny_gopro / "train", "blur", skip_invalid=False)  # so the cached scan calls it valid
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    replace_unseen(path, content)
    with pytest.raises(InputError, match=r"scene_a/blur/000002.png: cannot be read"):
        start(tiny_config, tmp_path / "run")
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert start(tiny_config, tmp_path / "run")[1] == start(tiny_config, tmp_path / "whole")[1]
    assert log_without_clock(tmp_path / "run") == log_without_clock(tmp_path / "whole")


def test_an_epoch_is_saved_before_its_validation(tiny_config, tmp_path, monkeypatch):
    """Validation runs out of memory at two starts in a row; the newest checkpoint is intact before each validation."""
    _, whole, _ = start(tiny_config, tmp_path / "whole")
    validate, newest_checkpoints = ScoredRun.validate, []

    def run_out_of_memory(run, variables):
        folder = run.checkpoints.folder
        newest = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        newest_checkpoints.append((newest, find_corruption(folder / str(newest))))
        if len(newest_checkpoints) < 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return validate(run, variables)

    monkeypatch.setattr(ScoredRun, "validate", run_out_of_memory)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
            start(tiny_config, tmp_path / "run")
    finished, weights, run = start(tiny_config, tmp_path / "run")
    assert (finished, weights) == (True, whole)
    assert newest_checkpoints == [(3, ""), (3, ""), (3, ""), (6, ""), (9, "")]
    assert log_without_clock(tmp_path / "run") == log_without_clock(tmp_path / "whole")
    assert run.checkpoints.validation_psnr(9) is not None


def test_a_stop_during_the_last_validation_stops_the_run(tiny_config, tmp_path, monkeypatch, capsys):
    """A real SIGINT; the test split is not scored until the command is rerun."""
    validate = ScoredRun.validate

    def interrupted(run, variables):
        if run.checkpoints.latest_step == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return validate(run, variables)

    monkeypatch.setattr(ScoredRun, "validate", interrupted)
    train_and_evaluate(tiny_config, tmp_path / "run")
    assert "Stopped; everything is saved" in capsys.readouterr().err
    assert not (tmp_path / "run" / "eval").exists()
    monkeypatch.setattr(ScoredRun, "validate", validate)
    train_and_evaluate(tiny_config, tmp_path / "run")
    assert (tmp_path / "run" / "eval" / "test-16.json").exists()
    scored = [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "validation/psnr" in line]
    assert scored == [3, 6, 9]


def test_an_extended_run_ends_bitwise_like_one_planned_at_that_length(tiny_config, tmp_path):
    """With a schedule that does not depend on the length; extended by a stage, then by epochs."""
    first, second = tiny_config.stages
    tiny_config.stages = (first,)
    assert start(tiny_config, tmp_path / "run")[0]
    tiny_config.stages = (first, second)
    start(tiny_config, tmp_path / "run")
    second.epochs = 2
    finished, weights, run = start(tiny_config, tmp_path / "run")
    assert (finished, run.checkpoints.latest_step) == (True, 12)
    assert weights == start(tiny_config, tmp_path / "whole")[1]
    logs = [log_without_clock(tmp_path / name) for name in ("run", "whole")]
    scores, expected = ([line for line in log if "validation/psnr" in line] for log in logs)
    assert [line["step"] for line in scores] == [3, 6, 9, 12]
    assert scores == expected


def test_the_flops_of_all_micro_batches_are_counted(monkeypatch):
    """XLA counts a loop's body once: of four micro-batches, a step's FLOPs without optimizer would be a quarter."""
    options = {}
    monkeypatch.setattr(train_module, "compile_program", lambda function, *arguments, **more: options.update(more))
    model = build_model("unet", width=4, num_levels=1, num_blocks=1)
    flops = {}
    for count in (1, 4):
        (stage,) = plan([{**STAGES[0], "accumulate": count}], 100)
        mesh = mesh_of(1)
        state = abstract(lambda tx=stage.tx: create_train_state(model, tx, jax.random.key(0)), mesh)
        batch = {key: jax.ShapeDtypeStruct((8, 16, 16, 3), np.uint8) for key in ("blur", "sharp")}
        step = make_train_step(stage, mesh)
        train_module.compile_step(model, stage, mesh, state, batch)
        counted = options["without_loop"] or step
        flops[count] = [function.lower(state, batch).cost_analysis()["flops"] for function in (step, counted)]
    assert flops[4][0] < 0.5 * flops[1][0]  # XLA's count of the loop
    assert flops[4][1] == flops[1][1]
