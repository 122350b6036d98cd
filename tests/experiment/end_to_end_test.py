"""The commands as a user types them: train, stop, resume, evaluate, and their error messages."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.gopro.archive import SEQUENCES
from jaxdeblur.data.gopro.builder import GoproLarge
from jaxdeblur.evaluation.metrics import image_metrics
from jaxdeblur.experiment.setup import open_run
from jaxdeblur.runs.metric_log import read_metrics
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.tensors import fingerprint
from tests.helpers.commands import assert_clear_error, command, environment, run, tiny
from tests.helpers.images import save_noise, save_pair, write_pairs
from tests.helpers.paths import ROOT

# Of the first stage; long enough to be interrupted. The second one has an epoch, each epoch three steps.
EPOCHS = 10
STEPS = 3 * (EPOCHS + 1)


def test_train_stop_resume_evaluate(tiny_gopro, tmp_path):
    """Ctrl-C stops cleanly; the same command resumes; the records hold what docs/run_folder.md promises."""
    workdir = tmp_path / "run"
    arguments = tiny(tiny_gopro, workdir, f"--config.stages[0].epochs={EPOCHS}")
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment(2))
    deadline = time.monotonic() + 300
    while len(read_metrics(workdir / "metrics.jsonl")) < 10:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stderr = process.communicate(timeout=300)[1]
    assert process.returncode == 0, stderr
    assert "Run the same command again to resume." in stderr
    stopped_at = read_metrics(workdir / "metrics.jsonl")[-1]["step"]
    assert stopped_at < STEPS
    assert not (workdir / "eval").exists()

    resumed = run(*arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert f"Resuming after step {stopped_at} of {STEPS}." in resumed.stderr
    trained = [line["step"] for line in read_metrics(workdir / "metrics.jsonl") if "train/loss" in line]
    assert trained == list(range(1, STEPS + 1))
    check_run_folder(workdir, tiny_gopro)

    untouched = (workdir / "eval" / "test-16.json").stat().st_mtime_ns
    assert run(*arguments).returncode == 0
    assert (workdir / "eval" / "test-16.json").stat().st_mtime_ns == untouched  # the test split is scored once
    assert run(*arguments, "--mode", "evaluate").returncode == 0
    assert (workdir / "eval" / "test-16.json").stat().st_mtime_ns > untouched

    check_init_from(workdir, arguments, tmp_path)

    other = run(*arguments, "--config.stages[0].schedule.learning_rate=0.5")
    assert_clear_error(other, "stages[0].schedule.learning_rate: 0.001 before, 0.5 now", "Choose another --workdir")


def check_init_from(workdir, arguments, tmp_path):
    """--init_from takes the best weights of a run; the records say where they come from."""
    sha256 = json.loads((workdir / "eval" / "test-16.json").read_text())["protocol"]["weights_sha256"]
    network = load_network(workdir)
    assert network.name == "transformnet"
    assert fingerprint(network.variables) == sha256
    assert sha256 in network.description
    second = [*arguments, "--workdir", tmp_path / "second", "--init_from", workdir]
    result = run(*second, "--config.stages[0].epochs=1", "--config.stages[1].epochs=1")
    assert result.returncode == 0, result.stderr
    assert f"Initial weights: whole network from {workdir}" in result.stderr
    facts = json.loads((tmp_path / "second" / "run.json").read_text())
    assert sha256 in facts["initial_weights"]
    assert sha256 in (tmp_path / "second" / "report" / "report.html").read_text()
    before, after = (
        read_metrics(folder / "metrics.jsonl")[0]["train/loss"] for folder in (workdir, tmp_path / "second")
    )
    assert after < before  # the same images at step 1, seen by trained weights


def check_run_folder(workdir, root):
    """The run folder is an interface: other programs rely on these files and fields."""
    assert json.loads((workdir / "config.json").read_text())["stages"][0]["epochs"] == EPOCHS
    assert json.loads((workdir / "run.json").read_text())["pairs"] == {"train": 6, "validation": 3, "test": 5}
    record = json.loads((workdir / "eval" / "test-16.json").read_text())
    assert record["protocol"]["number_of_images"] == 5
    assert len(record["protocol"]["weights_sha256"]) == 64
    assert [image["sequence"] for image in record["images"]] == ["scene_t"] * 3 + ["scene_u"] * 2
    blur, sharp = (
        Image.open(root / "test" / "scene_t" / name / "000002.png").resize((16, 16), Image.Resampling.BICUBIC)
        for name in ("blur", "sharp")
    )
    expected = image_metrics(np.asarray(blur) / 255, np.asarray(sharp))
    assert record["images"][1]["identity"]["psnr"] == pytest.approx(expected.psnr)
    assert (workdir / "eval" / "validation-16.json").exists()
    best = max(read_metrics(workdir / "metrics.jsonl"), key=lambda line: line.get("validation/psnr", 0))
    assert record["protocol"]["checkpoint_step"] == best["step"]
    validation = json.loads((workdir / "eval" / "validation-16.json").read_text())["summary"]
    assert validation["psnr"] == pytest.approx(best["validation/psnr"], abs=1e-4)
    for name in ("report.html", "report.md", "report.json"):
        assert (workdir / "report" / name).stat().st_size > 500


def test_user_errors_exit_with_a_message_and_no_traceback(tiny_gopro, tmp_path):
    workdir = tmp_path / "run"
    cases = [
        (
            ["--config", "configs/transformnet.py", "--workdir", workdir, "--config.data.root=/nowhere"],
            "/nowhere is not a folder",
        ),
        (tiny(tiny_gopro, workdir, "--config.data.sise=3"), "no such field in the config: "),
        (tiny(tiny_gopro, workdir, "--config.data.resize=big"), "--config.data.resize=big"),
        (tiny(tiny_gopro, workdir, "--config.data.blur_variant=blurred"), "expected one of blur, blur_gamma"),
        (tiny(tiny_gopro, workdir, "--mode", "evaluate"), "holds no run"),
        (["--config", "configs/none.py"], "configs/none.py"),
        (["--config", "configs/transformnet.py:none"], "has the variants default, smoke"),
        ([], "--config is missing"),
        (["configs/transformnet.py"], "is not a flag"),
    ]
    processes = [
        (subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True), message)
        for arguments, message in cases
    ]
    for process, message in processes:
        stderr = process.communicate(timeout=300)[1]
        assert_clear_error(subprocess.CompletedProcess([], process.returncode, "", stderr), "error: ", message)
    assert not workdir.exists()


@pytest.mark.slow
@pytest.mark.parametrize("network", ["transformnet", "resnetencdec", "nafnet", "unet"])
def test_smoke_variants_train_and_report_on_real_frames(real_gopro, tmp_path, network):
    """From the folder's files, and from what is prepared from a zip of them."""
    root, data_set = real_gopro, real_gopro.name
    if network == "transformnet":
        archive = shutil.make_archive(tmp_path / "GOPRO_Large", "zip", real_gopro)
        options = ["--source", archive, "--output", tmp_path / "data", "--blur", "blur", "--frames", "256", "--partial"]
        subprocess.run([sys.executable, ROOT / "tools" / "prepare_gopro.py", *options], check=True, timeout=600)
        root, data_set = tmp_path / "data", "gopro_large (a part)"
    workdir = tmp_path / network
    result = run("--config", f"configs/{network}.py:smoke", "--workdir", workdir, f"--config.data.root={root}")
    assert result.returncode == 0, result.stderr
    record = json.loads((workdir / "eval" / "test-256.json").read_text())
    assert record["protocol"]["data_set"] == data_set
    assert len(record["images"]) >= 3
    report = (workdir / "report" / "report.html").read_text()
    assert f"{record['summary']['identity']['psnr']:.2f}" in report


def test_all_kinds_of_data_are_selected_by_data_root_alone(tiny_config, tmp_path):
    """GOPRO_Large in folders or prepared, own pairs and synthetic pairs need no other field than data.root."""
    gopro, own = tmp_path / "part" / "GOPRO_Large", tmp_path / "own"
    for split, sequence in (("train", 0), ("train", 15), ("test", 0)):
        write_pairs(gopro, split, SEQUENCES[split][sequence], 3)
    for split in ("train", "validation", "test"):
        for frame in ("1.jpg", "2.webp", "3.TIFF"):
            save_pair(own / split, frame)
    GoproLarge(config="blur_tiles", data_dir=tmp_path / "prepared", source=gopro, partial=True).download_and_prepare()
    for name in ("a", "b", "c"):
        save_noise(tmp_path / "photos" / f"{name}.png", (90, 80))
    tool = [sys.executable, ROOT / "tools" / "synthesize_blur.py", "photos", "--input", tmp_path / "photos"]
    options = ["--output", tmp_path / "synthetic", "--exposures", "3", "--side", "32", "--travel", "2", "4"]
    subprocess.run([*tool, *options], check=True, timeout=300)
    tiny_config.data.validation_sequences = ("GOPR0477_11_00",)
    roots = {
        "GOPRO_Large": gopro,
        "gopro_large (a part)": tmp_path / "prepared",
        "own": own,
        "synthetic": tmp_path / "synthetic",
    }
    for data_set, root in roots.items():
        tiny_config.data.root = str(root)
        opened = open_run(tiny_config, tmp_path / "runs" / data_set)
        splits = opened.evaluator.protocols[0].sources
        assert [len(opened.source), *map(len, splits.values())] == [3, 3, 3]
        assert opened.evaluator.data_set == data_set
        assert next(opened.train_batches(opened.stages[0], first_step=0))["sharp"].shape == (2, 16, 16, 3)
