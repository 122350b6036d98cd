"""Runs and weight files are evaluated by named protocols, and each use of the test split is logged."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdeblur.config.run_config import parse_config
from jaxdeblur.config.saved_run import get_config
from jaxdeblur.errors import InputError
from jaxdeblur.evaluation.metrics import image_metrics
from jaxdeblur.experiment.setup import open_evaluation
from jaxdeblur.experiment.workflows import evaluate_run, evaluate_weights, train_and_evaluate
from jaxdeblur.runs.records import to_json
from jaxdeblur.runtime.sharding import replicated
from jaxdeblur.weights.load import load_network
from jaxdeblur.weights.safetensors import write_weights
from tests.helpers.configs import make_tiny_config
from tests.helpers.images import save_pair, write_pairs


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the data's folder, a trained run's folder and its config; test images have 32x32 and 40x40 pixels."""
    folder = tmp_path_factory.mktemp("evaluated")
    root = folder / "GOPRO_Large"
    for split, sequence, frames in (("train", "scene_a", 6), ("train", "scene_v", 3), ("test", "scene_t", 3)):
        write_pairs(root, split, sequence, frames)
    write_pairs(root, "test", "scene_u", 4, side=40)
    config = make_tiny_config(root)
    config.evaluation.protocols = ("16", "full")
    config.checkpoint.keep_latest = 3
    train_and_evaluate(config, folder / "run")
    return root, folder / "run", config


def copy(run, tmp_path):
    """Return a copy of a run, under the same name, that a test may modify."""
    return shutil.copytree(run, tmp_path / run.name)


def read(run, name):
    return json.loads((run / "eval" / name).read_text())


def test_training_ends_by_scoring_each_protocol_once_on_test(trained):
    _, run, _ = trained
    names = {path.name for path in (run / "eval").glob("*.json")}
    assert names == {f"{s}-{p}.json" for s in ("test", "validation") for p in ("16", "full")} | {"test_history.json"}
    history = read(run, "test_history.json")
    protocol = read(run, "test-16.json")["protocol"]
    assert [entry["resolution"] for entry in history] == ["16", "full"]
    assert {entry["weights_sha256"] for entry in history} == {protocol["weights_sha256"]}
    assert history[0]["date"] == protocol["date"]
    assert protocol["weights"] == f"run run, step {protocol['checkpoint_step']}"


def test_full_is_the_original_frame_and_16_the_resized_one(trained):
    root, run, _ = trained
    for name, size in (("test-full.json", None), ("test-16.json", (16, 16))):
        images = read(run, name)["images"]
        assert len(images) == 7
        for image in images:
            folder = root / "test" / image["sequence"]
            blur, sharp = (Image.open(folder / kind / f"{image['frame']}.png") for kind in ("blur", "sharp"))
            if size:
                blur, sharp = (photo.resize(size, Image.Resampling.BICUBIC) for photo in (blur, sharp))
            expected = image_metrics(np.asarray(blur) / 255, np.asarray(sharp))
            assert image["identity"] == to_json(expected)
            assert image["ssim"] is not None
            assert image["lpips"] is None


def test_samples_include_the_best_median_and_worst_image(trained):
    record = read(trained[1], "test-full.json")
    gains = {(i["sequence"], i["frame"]): i["psnr"] - i["identity"]["psnr"] for i in record["images"]}
    ordered = sorted(gains, key=gains.get)
    why = {}
    for sample in record["samples"]:
        for reason in sample["why"]:
            why.setdefault(reason, []).append((sample["sequence"], sample["frame"]))
    assert why["best"] == [ordered[-1]]
    assert why["worst"] == [ordered[0]]
    assert why["median"] == [ordered[3]]
    assert why["spread"] == [("scene_t", "000001"), ("scene_u", "000004")]
    assert len({(sample["sequence"], sample["frame"]) for sample in record["samples"]}) == len(record["samples"])
    sample = next(sample for sample in record["samples"] if "worst" in sample["why"])
    saved = {key: np.asarray(Image.open(trained[1] / "eval" / file)) for key, file in sample["files"].items()}
    actual = image_metrics(saved["prediction"] / 255, saved["sharp"]).psnr_uint8
    worst = next(i for i in record["images"] if (i["sequence"], i["frame"]) == ordered[0])
    assert actual == pytest.approx(worst["psnr_uint8"], abs=1e-6)


def test_throughput_is_recorded(trained):
    speed = read(trained[1], "test-16.json")["speed"]
    assert speed["images_per_s"] > 0
    assert speed["flops_per_image"] > 16 * 16 * 9 * 9 * 3 * 4  # the first convolution alone
    assert speed["devices"].startswith("2 x ")


def test_all_checkpoints_are_scored_on_validation_and_only_the_best_on_test(trained, tmp_path):
    _, run, config = trained
    run = copy(run, tmp_path)
    evaluate_run(config, run, "all")
    actual = read(run, "checkpoints.json")
    assert [row["step"] for row in actual["checkpoints"]] == [3, 6, 9]
    scores = {row["step"]: row["psnr"] for row in actual["checkpoints"]}
    assert actual["best_step"] == max(scores, key=scores.get)
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = {line["step"]: line["validation/psnr"] for line in log if "validation/psnr" in line}
    assert scores == pytest.approx(logged, abs=1e-6)
    history = read(run, "test_history.json")
    assert {entry["checkpoint_step"] for entry in history[2:]} == {actual["best_step"]}
    assert len(history) == 4


def test_scoring_another_checkpoint_on_test_is_logged(trained, tmp_path):
    _, run, config = trained
    run = copy(run, tmp_path)
    best = read(run, "test-16.json")["protocol"]["checkpoint_step"]
    other = next(step for step in (3, 6, 9) if step != best)
    evaluate_run(config, run, str(other))
    assert read(run, "test-16.json")["protocol"]["checkpoint_step"] == other
    steps = [entry["checkpoint_step"] for entry in read(run, "test_history.json")]
    assert steps == [best, best, other, other]
    with pytest.raises(InputError, match=r"--checkpoints: 5, but .* has the checkpoints of steps 3, 6, 9"):
        evaluate_run(config, run, "5")


def test_a_run_is_scored_without_its_training_pairs(trained, tmp_path, capsys):
    """With corrupt training pairs next to the held-out sequences; then with the test split alone."""
    root, run, config = trained
    run, config = copy(run, tmp_path), get_config(str(run))
    before = {name: (run / name).read_bytes() for name in ("config.json", "run.json", "metrics.jsonl")}
    data = shutil.copytree(root, tmp_path / "GOPRO_Large")
    (data / "train" / "scene_a" / "blur" / "000001.png").write_bytes(b"corrupt")
    config.data.root = str(data)
    config.evaluation.protocols = ("full",)
    expected = {split: read(run, f"{split}-full.json") for split in ("validation", "test")}
    shutil.rmtree(run / "eval")
    evaluate_run(config, run, "best")
    for split, record in expected.items():
        actual = read(run, f"{split}-full.json")
        assert actual["images"] == record["images"]
        assert actual["protocol"]["weights_sha256"] == record["protocol"]["weights_sha256"]
    assert "no validation pairs" not in capsys.readouterr().err
    shutil.rmtree(data / "train")
    shutil.rmtree(run / "eval")
    evaluate_run(config, run, "best")
    assert [path.name for path in (run / "eval").glob("*-full.json")] == ["test-full.json"]
    assert "no validation pairs" in capsys.readouterr().err
    with pytest.raises(InputError) as error:
        evaluate_run(config, run, "all")
    assert error.value.code == "no-validation-pairs"
    assert {name: (run / name).read_bytes() for name in before} == before


def test_a_run_is_not_scored_with_another_config(trained, tmp_path):
    _, run, config = trained
    config = config.copy_and_resolve_references()
    config.compute.remat = True
    config.data.blur_variant = "blur_gamma"
    with pytest.raises(InputError, match=r"data.blur_variant: 'blur' in the run, 'blur_gamma' given") as error:
        evaluate_run(config, run, "best")
    assert error.value.code == "run-differs"
    assert "remat" not in str(error.value)


def test_a_weight_file_scores_like_its_run(trained, tmp_path):
    """And like the run's folder; neither needs training pairs, and a trained run's folder is never written to."""
    root, run, config = trained
    network = load_network(run)
    file = tmp_path / "network.safetensors"
    write_weights(file, network.variables, {"network": network.name, "source": "a test"})
    for name, path in (("file", file), ("run", run)):
        evaluate_weights(config, tmp_path / name, path)
        ours, theirs = read(tmp_path / name, "test-full.json"), read(run, "test-full.json")
        assert ours["images"] == theirs["images"]
        assert ours["protocol"]["weights_sha256"] == theirs["protocol"]["weights_sha256"]
        facts = json.loads((tmp_path / name / "run.json").read_text())
        assert (facts["trained"], "train" in facts["pairs"]) == (False, False)
    with pytest.raises(InputError, match="holds a trained run"):
        evaluate_weights(config, run, file)
    other = make_tiny_config(root)
    other.model.width = 8
    with pytest.raises(InputError, match=r"network.safetensors"):
        evaluate_weights(other, tmp_path / "other", file)


def test_all_pairs_are_scored_if_there_are_no_splits(trained, tmp_path):
    _, run, config = trained
    for frame in ("1.png", "2.png", "3.png"):
        save_pair(tmp_path / "mine", frame)
    config = config.copy_and_resolve_references()
    config.data.root, config.data.splits = str(tmp_path / "mine"), "none"
    evaluate_weights(config, tmp_path / "scores", run)
    record = read(tmp_path / "scores", "test-full.json")
    assert record["protocol"]["number_of_images"] == 3
    assert record["summary"]["identity"]["psnr"] == 100  # both images of a pair are equal
    assert not list((tmp_path / "scores" / "eval").glob("validation*"))
    with pytest.raises(InputError, match=r"data.splits: 'none' leaves no training pairs"):
        train_and_evaluate(config, tmp_path / "run")


@pytest.mark.parametrize(("batch_size", "devices"), [(2, 2), (7, 1), (1, 1)])
def test_scores_do_not_depend_on_batch_size_or_devices(trained, monkeypatch, batch_size, devices):
    _, run, config = trained
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:devices])
    config = config.copy_and_resolve_references()
    config.evaluation.batch_size = batch_size
    parsed = parse_config(config)
    evaluator = open_evaluation(parsed, parsed.model.build())
    variables = jax.device_put(load_network(run).variables, replicated(evaluator.local_mesh))
    images = evaluator.score(evaluator.protocols[1], "test", variables).images
    for ours, theirs in zip(images, read(run, "test-full.json")["images"], strict=True):
        assert to_json(ours.identity) == theirs["identity"]
        assert {key: getattr(ours, key) for key in ("psnr", "ssim", "mse")} == pytest.approx(
            {key: theirs[key] for key in ("psnr", "ssim", "mse")}, rel=1e-6
        )


def test_reading_a_run_logs_nothing(trained, caplog):
    """Orbax would warn that a folder opened for reading is read-only."""
    load_network(trained[1])
    assert not caplog.records
    logging.getLogger("absl").warning("still logged")
    assert len(caplog.records) == 1
