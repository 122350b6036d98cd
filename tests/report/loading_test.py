"""Missing and invalid records are named, with the field and the remedy; two runs are compared in one line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.files import write_json
from jaxdeblur.report import compare_runs
from jaxdeblur.report.loading import name_runs, read_runs
from tests.helpers.paths import ROOT
from tests.helpers.report_records import image_record, write_evaluation, write_facts

PICTURE = {("a", "1"): (("spread",), *[np.zeros((8, 8, 3), np.uint8)] * 3)}


def write_run(folder, gains, *, sequences=4, **protocol):
    """Write a run of two images per sequence, with one gain per sequence."""
    write_facts(folder)
    images = [
        image_record(chr(97 + i // 2), f"{i % 2 + 1}", 24.0 + i, 24.0 + i + gains[i // 2]) for i in range(2 * sequences)
    ]
    write_evaluation(folder, images, PICTURE, **protocol)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("whole") / "run", [1.0, 1.0, 1.0, 1.0])


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_a_complete_run_is_read(run):
    [record] = read_runs([run])
    assert (record.name, record.trained, record.evaluations[0].name) == ("run", True, "test-256")
    assert list(record.evaluations[0].images)[:3] == [("a", "1"), ("a", "2"), ("b", "1")]


@pytest.mark.parametrize("lost", ["run.json", "config.json", "metrics.jsonl", "eval/test_history.json"])
def test_a_missing_file_is_named(run, lost):
    (run / lost).unlink()
    with pytest.raises(InputError, match=re.escape(str(run / lost))):
        read_runs([run])


def test_a_run_without_evaluations_is_named(run):
    (run / "eval" / "test-256.json").unlink()
    with pytest.raises(InputError, match=r"run/eval: no test-\*\.json and no validation.*--mode evaluate") as error:
        read_runs([run])
    assert error.value.code == "record-missing"


@pytest.mark.parametrize(
    "field",
    [
        *("protocol.split_rule", "protocol.date", "protocol.weights", "summary.mae", "summary.identity.ssim_matlab"),
        *("summary.gain_psnr.method", "speed.images_per_s", "images.0.ssim", "images.7.identity.mae", "samples.0.why"),
        *("samples.0.files.sharp", "images"),
    ],
)
def test_a_missing_field_is_named_with_the_remedy(run, field):
    path = run / "eval" / "test-256.json"
    record = json.loads(path.read_text())
    *parents, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    tree = record
    for parent in parents:
        tree = tree[parent]
    del tree[last]
    write_json(path, record)
    name = re.sub(r"\.(\d)\.", r"[\1].", field)
    with pytest.raises(InputError) as error:
        read_runs([run])
    assert str(path) in str(error.value)
    assert f"  - {name}: missing" in str(error.value)
    assert "--mode evaluate" in str(error.value)


def test_all_missing_and_mistyped_fields_of_a_file_are_named_at_once(run):
    facts = json.loads((run / "run.json").read_text())
    del facts["jax"], facts["pairs"]
    write_json(run / "run.json", {**facts, "parameters": "many", "network": None})
    with pytest.raises(InputError) as error:
        read_runs([run])
    for problem in ("jax: missing", "pairs: missing", "parameters: is a string, expected an integer"):
        assert problem in str(error.value)
    assert "network: is null, expected a string" in str(error.value)


def test_ssim_may_be_null_for_small_images_but_ssim_matlab_may_not(run):
    path = run / "eval" / "test-256.json"
    record = json.loads(path.read_text())
    record["images"][0]["ssim"] = record["summary"]["ssim"] = None
    write_json(path, record)
    read_runs([run])
    record["images"][0]["ssim_matlab"] = None
    write_json(path, record)
    with pytest.raises(InputError, match=r"images\[0\]\.ssim_matlab: is null, expected a number"):
        read_runs([run])


def test_an_image_scored_twice_is_refused(run):
    path = run / "eval" / "test-256.json"
    record = json.loads(path.read_text())
    record["images"][1]["frame"] = "1"
    write_json(path, record)
    with pytest.raises(InputError, match=r"1 duplicate image\(s\)"):
        read_runs([run])


def test_runs_are_named_by_as_much_of_their_path_as_needed(tmp_path):
    folders = [tmp_path / "x" / "best", tmp_path / "y" / "best", tmp_path / "y" / "other\nname"]
    assert name_runs(folders) == ["x/best", "y/best", "y/other name"]
    with pytest.raises(InputError) as error:
        name_runs([tmp_path, tmp_path / "x" / ".."])
    assert error.value.code == "run-given-twice"


# Four sequences of two images each. Gains of B over A of 1, 2, 3 and 4 dB have the mean 2.5 dB and the standard error
# sqrt(5 / 3) / 2 = 0.6455 dB over sequences; Student's t with 3 degrees of freedom reaches 3.1824 of them, 2.054 dB.
# Gains of -1, 2, -3 and 4 have the mean 0.5 and the standard error sqrt(29 / 3) / 2 = 1.5546: the reach is 4.947 dB.
@pytest.mark.parametrize(
    ("gains", "answer"),
    [
        ([1, 2, 3, 4], "Run b beats run a: +2.50 dB, 95% interval +0.45 to +4.55 over 4 sequences; better on 8 of 8"),
        (
            [-1, -2, -3, -4],
            "Run a beats run b: +2.50 dB, 95% interval +0.45 to +4.55 over 4 sequences; better on 8 of 8",
        ),
        (
            [-1, 2, -3, 4],
            "No significant gain of run b over run a: +0.50 dB, 95% interval -4.45 to +5.45 over 4 sequences",
        ),
    ],
    ids=["better", "worse", "chance"],
)
def test_two_runs_are_compared_in_one_line(tmp_path, gains, answer):
    runs = [write_run(tmp_path / "a", [0.5] * 4), write_run(tmp_path / "b", [0.5 + gain for gain in gains])]
    line = compare_runs(runs)
    assert line.startswith(answer)
    assert line.endswith("(test images at 256x256 (bicubic); interval: Student's t over sequences)")
    assert "\n" not in line


def test_runs_of_different_protocols_or_images_are_not_compared(tmp_path):
    one = write_run(tmp_path / "a", [1] * 4)
    other = write_run(tmp_path / "b", [2] * 4, blur_variant="blur_gamma", resize_filter="lanczos")
    fewer = write_run(tmp_path / "c", [2] * 3, sequences=3, number_of_images=8)
    full = write_run(tmp_path / "d", [2] * 4, resolution="full")
    with pytest.raises(InputError) as error:
        compare_runs([one, other])
    assert error.value.code == "protocols-differ"
    assert "  - blur variant blur / blur_gamma\n  - resize filter bicubic / lanczos\n" in str(error.value)
    with pytest.raises(InputError, match=r"did not score the same images(.|\n)*d/1: missing in c \(test-256\)"):
        compare_runs([one, fewer])
    with pytest.raises(InputError, match="scored by different protocols: a has test-256; d has test-full"):
        compare_runs([one, full])
    with pytest.raises(InputError, match=r"d has no eval/test-256\.json, only test-full"):
        compare_runs([one, full], "test-256")


def test_an_ambiguous_protocol_must_be_chosen(tmp_path):
    runs = [write_run(tmp_path / name, [gain] * 4) for name, gain in (("a", 1), ("b", 2))]
    images = [image_record("a", f"{i}", 25.0, 26.0) for i in range(2)]
    for run in runs:
        write_evaluation(run, images, {}, split="validation")
    assert compare_runs(runs).startswith("Run b beats run a: +1.00 dB")
    assert compare_runs(runs, "validation-256").startswith("Run a against run b: +0.00 dB; no interval")
    for run in runs:
        write_evaluation(run, images, {}, resolution="full")
    with pytest.raises(InputError, match="Choose one of test-256, test-full, validation-256"):
        compare_runs(runs)
    assert compare_runs(runs, "test-256").startswith("Run b beats run a: +1.00 dB")


def test_the_command_compares(tmp_path):
    runs = [write_run(tmp_path / name, [gain] * 4) for name, gain in (("a", 1), ("b", 2))]
    command = [sys.executable, ROOT / "tools" / "make_report.py", "--compare", *runs]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Run b beats run a: +1.00 dB")
    assert result.stdout.count("\n") == 1
    refused = subprocess.run([*command, "--protocol", "test-99"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: --protocol: ")
    assert "Traceback" not in refused.stderr
