"""The report says what the records say, in all three forms, shows any name as text, and names what is missing."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from jaxdeblur import evaluate
from jaxdeblur.data.pipeline import InputOptions
from jaxdeblur.errors import InputError
from jaxdeblur.files import write_json
from jaxdeblur.metric_log import MetricLog
from jaxdeblur.report import _curves, collect, verdict, write_report

NASTY = 'Straße "1" <script>alert(1)</script> | x'


def write_run(folder, *, better=0.05):
    """A run of a network that removes a part of the error: records as training writes them, without training."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    write_json(folder / "config.json", {"seed": 0})
    facts = {"network": "unet", "parameters": 1234567, "initial_weights": "random", "pairs": {"test": 6}}
    write_json(folder / "run.json", {**facts, "command": ["main.py", "--config", "x"], "data_sha256": {}})
    log = MetricLog(folder, resume_step=0)
    for step in (1, 2, 3):
        log.scalars(step, 0, step, {"train/loss": 1 / step})
        log.scalars(step, 0, step, {"validation/psnr": 20.0 + step, "validation/identity_psnr": 21.0})
    log.close()
    options = InputOptions(resize=8, resize_filter="bicubic", flip_and_turn=False)
    for split in ("validation", "test"):
        pairs = [
            {
                "sharp": np.full((8, 8, 3), 100, np.uint8),
                "blur": (100 + rng.integers(10, 30, (8, 8, 3))).astype(np.uint8),
                "sequence": NASTY if i < 3 else "b",
                "frame": f"{i}",
            }
            for i in range(6)
        ]
        result = evaluate.evaluate(
            lambda _, blur: blur / 255 - better, None, pairs, num_pairs=6, batch_size=4, sample_count=2
        )
        protocol = evaluate.make_protocol(
            options,
            data_set="d",
            splits="official",
            num_skipped=0,
            split=split,
            blur="blur",
            num_images=6,
            weights_sha256="0123",
            checkpoint_step=3,
        )
        evaluate.write_evaluation(evaluate.evaluation_path(folder / "eval", protocol), protocol, result)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report") / "my run")


@pytest.fixture(scope="module")
def page(run):
    return write_report(run, run / "report").read_text()


class Reader(HTMLParser):
    """Collects tags, their addresses and the text that a person sees."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text, self._hidden = [], [], "", 0

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._hidden += tag == "style"
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href", "action")]

    def handle_endtag(self, tag):
        self._hidden -= tag == "style"

    def handle_data(self, data):
        if not self._hidden:
            self.text += data


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def test_all_three_forms_give_the_records_numbers(run, page):
    record = json.loads((run / "eval" / "test-8.json").read_text())
    summary = record["summary"]
    markdown = (run / "report" / "report.md").read_text()
    data = json.loads((run / "report" / "report.json").read_text())
    assert data["evaluations"][0]["summary"] == {key: value for key, value in summary.items() if key != "gain_psnr"}
    text = read(page).text
    for number in (
        f"{summary['psnr']:.2f}",
        f"{summary['psnr_uint8']:.2f}",
        f"{summary['psnr_batch16']:.2f}",
        f"{summary['identity']['psnr']:.2f}",
        f"{summary['psnr'] - summary['identity']['psnr']:+.2f}",
        f"{summary['mse']:.5f}",
        f"{summary['identity']['mse']:.5f}",
    ):
        assert number in text
        assert number in markdown
    sample = record["images"][0]
    assert f"blurred input, {sample['identity']['psnr']:.2f} dBnetwork, {sample['psnr']:.2f} dB" in text
    assert "1,234,567 parameters" in text
    assert "initial weights: random" in text


def test_the_page_is_whole_without_a_network(run, page):
    reader = read(page)
    inside = [address for address in reader.addresses if address.startswith(("data:", "#"))]
    assert inside == reader.addresses
    assert "script" not in reader.tags
    assert "link" not in reader.tags
    assert reader.tags.count("img") == 2 * 2 * 3
    assert reader.tags.count("svg") == 2
    images = [base64.b64decode(a.split(",")[1]) for a in reader.addresses if a.startswith("data:image/png")]
    names = ("blur", "prediction", "sharp")
    assert images[:3] == [(run / "eval" / "test-8" / f"000-{name}.png").read_bytes() for name in names]


def test_names_are_shown_not_run(run, page):
    assert "<script>alert" not in page
    assert NASTY in read(page).text
    row = next(line for line in (run / "report" / "report.md").read_text().splitlines() if "Straße" in line)
    assert "<script>" not in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 5


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.3, "The network beats the blurred input"),
        (-0.1, 0.3, "No gain over the blurred input is shown"),
        (-0.3, -0.1, "The network is worse than the blurred input"),
        (None, None, "one sequence gives no interval"),
    ],
)
def test_a_gain_that_could_be_chance_is_not_called_one(low, high, words):
    gain = {"mean": 0.1, "low": low, "high": high, "images": 9, "images_better": 6, "sequences": 3}
    assert words in verdict(gain, {"split": "test"})


def test_sequences_are_averaged_apart(run):
    images = json.loads((run / "eval" / "test-8.json").read_text())["images"]
    rows = {row["sequence"]: row for row in collect(run)["evaluations"][0]["sequences"]}
    for name in (NASTY, "b"):
        own = [image["psnr"] for image in images if image["sequence"] == name]
        assert rows[name]["images"] == 3
        assert rows[name]["psnr"] == pytest.approx(np.mean(own))


@pytest.mark.parametrize("lost", ["run.json", "metrics.jsonl", "eval/test-8.json", "eval/test-8/000-sharp.png"])
def test_a_missing_record_is_named(tmp_path, lost):
    run = write_run(tmp_path / "run")
    (run / lost).unlink()
    with pytest.raises(InputError) as error:
        write_report(run, tmp_path / "report")
    assert str(run) in str(error.value)
    assert Path(lost).name.removesuffix("-8.json") in str(error.value)


def test_the_command_needs_no_jax_and_ends_with_a_clear_error(run, tmp_path):
    tool = Path(__file__).parent.parent / "tools" / "make_report.py"
    code = (
        f"import sys; sys.modules['jax'] = None; sys.argv = ['make_report.py', *sys.argv[1:]]; "
        f"exec(compile(open({str(tool)!r}).read(), 'make_report.py', 'exec'))"
    )
    good = subprocess.run(
        [sys.executable, "-c", code, str(run), "--output", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "out" / "report.html").exists()
    bad = subprocess.run(
        [sys.executable, tool, tmp_path / "none", "--output", tmp_path], capture_output=True, text=True
    )
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: ")
    assert "none/run.json: cannot be read" in bad.stderr


def test_curves_show_the_logs_numbers():
    log = [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "validation/psnr": 22.0, "validation/identity_psnr": 21.0},
        {"step": 4, "validation/psnr": 24.0, "validation/identity_psnr": 21.0},
    ]
    loss, psnr = (figure.axes[0] for figure in _curves(log))
    assert [line.get_xydata().tolist() for line in loss.lines] == [[[1, 0.5]]]
    assert {line.get_label(): line.get_ydata().tolist() for line in psnr.lines} == {
        "network": [22, 24],
        "blurred input": [21, 21],
    }
    assert _curves([{"step": 1}])[0].axes[0].lines[:] == []
