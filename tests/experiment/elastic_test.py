"""A run resumes on other numbers of devices and processes, with the same images at each step and the same losses."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from jaxdeblur.runs.metric_log import read_metrics
from tests.helpers.commands import command, run, tiny
from tests.helpers.images import write_pairs
from tests.helpers.paths import ROOT
from tests.helpers.processes import finish, launch, wait_for_lines

# Largest relative differences from one device over 120 steps: the same sums, added in another order. Scores differ more
# than losses: Adam amplifies rounding errors of gradients that are zero, such as those of biases before BatchNorm. In
# training the batch's mean cancels such a bias exactly; in scoring the running mean, which lags behind, does not.
LOSS_TOLERANCE, SCORE_TOLERANCE = 1e-5, 1e-3
# One step of SGD with learning rate 1 and no momentum: the change of a parameter is minus its gradient.
STEP = """
import sys
import jax, numpy as np
from jaxdeblur.models import build_model
from jaxdeblur.runs.train_state import create_train_state
from jaxdeblur.runtime.sharding import batch_sharding, create_mesh, replicated, to_devices
from jaxdeblur.training.step import make_train_step
from tests.helpers.configs import plan

constant, sgd = {"name": "constant", "learning_rate": 1.0}, {"name": "sgd", "momentum": 0.0}
stage = {"epochs": 1, "crop": 0, "loss": "mse", "optimizer": sgd, "schedule": constant}
stage |= {"accumulate": 1, "clip_norm": 0.0, "encoder": {"frozen_epochs": 0, "lr_multiplier": 1.0}}
mesh, stage = create_mesh(), plan([stage], 1)[0]
model = build_model("transformnet", width=4, num_blocks=1)
make = lambda key: create_train_state(model, stage.tx, key)
state = jax.jit(make, out_shardings=replicated(mesh))(jax.random.key(0))
before = jax.device_get(state.params)
rng = np.random.default_rng(0)
sharp = np.stack([rng.integers(30 * i, 30 * i + 40, (16, 16, 3)) for i in range(8)]).astype(np.uint8)
batch = to_devices({"blur": sharp // 2, "sharp": sharp}, batch_sharding(mesh))
state, loss, _ = make_train_step(stage, mesh)(state, batch)
gradient = jax.tree.map(lambda a, b: a - b, before, jax.device_get(state.params))
leaves = {f"gradient{i}": leaf for i, leaf in enumerate(jax.tree.leaves(gradient))}
leaves |= {f"statistic{i}": leaf for i, leaf in enumerate(jax.tree.leaves(jax.device_get(state.batch_stats)))}
np.savez(sys.argv[1], devices=jax.device_count(), loss=float(loss), **leaves)
"""


def on_devices(count):
    return {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}


def test_one_image_on_each_of_eight_devices_equals_eight_images_on_one(tmp_path):
    """Loss, gradients and BatchNorm's statistics; over one image alone the statistics would be quite different."""
    results = {}
    for devices in (1, 8):
        path = tmp_path / f"{devices}.npz"
        subprocess.run([sys.executable, "-c", STEP, path], cwd=ROOT, env=on_devices(devices), check=True, timeout=300)
        results[devices] = dict(np.load(path))
    one, eight = results[1], results[8]
    assert (int(one.pop("devices")), int(eight.pop("devices"))) == (1, 8)
    largest = max(np.abs(leaf).max() for name, leaf in one.items() if name.startswith("gradient"))
    for name, expected in one.items():
        # Some gradients are zero up to rounding, such as those of biases before BatchNorm.
        atol = 1e-5 * largest if name.startswith("gradient") else 0.0
        np.testing.assert_allclose(eight[name], expected, rtol=1e-4, atol=atol, err_msg=name)


def stop_after(workdir, lines, processes):
    """Let the run write some more lines, then stop it as a user would."""
    before = len(read_metrics(workdir / "metrics.jsonl"))
    wait_for_lines(workdir, before + lines, processes)
    processes[0].send_signal(signal.SIGTERM)
    results = finish(processes)
    assert [status for status, _ in results] == [0] * len(processes), results
    assert "Run the same command again to resume." in results[0][1]


def scores(workdir):
    record = json.loads((workdir / "eval" / "test-16.json").read_text())
    return record["protocol"]["checkpoint_step"], [image["psnr"] for image in record["images"]]


@pytest.mark.slow
def test_a_run_resumes_on_other_numbers_of_devices_and_processes(tmp_path):
    """1 device, 4 devices, 2 processes of 1 device, 2 processes of 2, 1 device: equal to 1 device throughout."""
    root = tmp_path / "GOPRO_Large"
    for split, sequence, frames in (("train", "scene_a", 12), ("train", "scene_v", 3), ("test", "scene_t", 5)):
        write_pairs(root, split, sequence, frames)
    flags = ["--config.data.batch_size=4", "--config.evaluation.batch_size=4"]
    flags += ["--config.stages[0].epochs=20", "--config.stages[1].epochs=20"]
    flags += ["--config.stages[1].schedule.learning_rate=0.001"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    reference = subprocess.Popen(
        command(*tiny(root, whole, *flags)), cwd=ROOT, env=on_devices(1), stderr=subprocess.PIPE, text=True
    )
    for devices in (1, 4):
        process = subprocess.Popen(
            command(*tiny(root, parts, *flags)), cwd=ROOT, env=on_devices(devices), stderr=subprocess.PIPE, text=True
        )
        stop_after(parts, 20, [process])
    stop_after(parts, 45, launch(root, parts, *flags))  # across the change of stage
    stop_after(parts, 20, launch(root, parts, *flags, environment=lambda index: on_devices(2)))
    last = run(*tiny(root, parts, *flags), devices=1)
    assert last.returncode == 0, last.stderr
    assert finish([reference])[0][0] == 0
    expected, actual = (read_metrics(workdir / "metrics.jsonl") for workdir in (whole, parts))
    differences = {}
    tolerances = {"train/loss": LOSS_TOLERANCE, "validation/psnr": SCORE_TOLERANCE, "validation/mse": SCORE_TOLERANCE}
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key in ("step", "stage", "epoch", "train/learning_rate"):
            assert ours.get(key) == theirs.get(key)
        for key in tolerances:
            if key in theirs:
                difference = abs(ours[key] - theirs[key]) / abs(theirs[key])
                differences[key] = max(differences.get(key, 0.0), difference)
    print(differences)
    assert all(differences[key] < tolerance for key, tolerance in tolerances.items())
    (ours, our_scores), (theirs, their_scores) = scores(parts), scores(whole)
    assert ours == theirs
    assert our_scores == pytest.approx(their_scores, rel=SCORE_TOLERANCE)
