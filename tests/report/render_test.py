"""The report shows the records' numbers in all formats, shows any name as text, and never mixes protocols."""

import csv
import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.files import write_json
from jaxdeblur.report import write_report
from jaxdeblur.report.sentences import METHODS
from jaxdeblur.report.tables import NONE
from tests.helpers.paths import ROOT
from tests.helpers.report_records import WHY, add_scoring, draw, image_record, write_evaluation, write_facts

NASTY = 'Straße "1" <script>alert(1)</script> | `x` [y](z) $a$ {{ 1 }} & _b'
TOOL = ROOT / "tools" / "make_report.py"
# By sequence: PSNR of the blurred input, and how much a good network gains.
IMAGES = [(NASTY, "1", 20.0, 1.5), (NASTY, "2", 22.0, 0.5), ("b", "é 'q'", 24.0, 1.25), ("c", "1", 30.0, 0.75)]


def write_run(folder, *, gain=1.0, resolutions=("256",), splits=("test", "validation"), facts=None, **protocol):
    """Write a run whose images gain `gain` times as much as those of `IMAGES`."""
    write_facts(folder, **(facts or {}))
    images = [image_record(s, f, psnr, psnr + gain * more) for s, f, psnr, more in IMAGES]
    drawn = draw(np.random.default_rng(0), 24, 32, 0.3 * gain)
    for split in splits:
        for resolution in resolutions:
            pictures = {(s, f): (("spread", why), *drawn) for (s, f, *_), why in zip(IMAGES, WHY, strict=True)}
            write_evaluation(folder, images, pictures, split=split, resolution=resolution, **protocol)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    transformnet = {"network": "transformnet", "parameters": 1677859}
    return [
        write_run(folder / "good", facts=transformnet),
        write_run(folder / NASTY.replace("/", "\u2215"), gain=-1.0, facts={"loss": "mae", "initial": "random"}),
    ]


@pytest.fixture(scope="module")
def output(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("output") / "new" / "report"
    assert write_report(runs, output) == output / "report.html"
    return output


class Reader(HTMLParser):
    """Collects tags with their attributes, the visible text, and the cells of tables by row."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.rows = [], "", []
        self._hidden, self._in_cell = 0, False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag in ("style", "script")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._hidden -= tag in ("style", "script")
        self._in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if not self._hidden:
            self.text += data
            if self._in_cell:
                self.rows[-1][-1] += data


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def markdown_rows(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_all_formats_have_the_numbers_of_the_records(runs, output):
    bad = runs[1].name
    # Worked by hand: inputs have 20, 22, 24 and 30 dB; gains of 1.5, 0.5, 1.25 and 0.75 have the mean 1.
    row = ["PSNR, mean over images (dB)", "24.00", "25.00 (+1.00)", "23.00 (-1.00)"]
    errors = [10 ** -(psnr / 10) for psnr in (21.5, 22.5, 25.25, 30.75)]
    pooled = -10 * np.log10(np.mean(errors))
    page = read(output / "report.html")
    for rows in (page.rows, markdown_rows(output / "report.md")):
        assert rows.count(row) == 2  # test and validation
        assert ["mean squared error (lower is better)", "0.00532", "0.00413 (-0.00119)", "0.00693 (+0.00160)"] in rows
        assert ["b", "1", "24.00", "25.25", "+1.25", "22.75", "-1.25"] in rows
    data = json.loads((output / "report.json").read_text())
    record = json.loads((runs[0] / "eval" / "test-256.json").read_text())
    assert data["groups"][0]["runs"][0]["summary"] == record["summary"]
    with (output / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {(r["table"], r["split"], r["run"], r["sequence"], r["metric"]): float(r["value"]) for r in rows}
    numbers = {key: pytest.approx(value) for key, value in numbers.items()}
    assert numbers["metrics", "test", "good", "", "psnr"] == 25
    assert numbers["metrics", "test", "blurred input", "", "psnr"] == 24
    assert numbers["metrics", "test", "good", "", "psnr_batch16"] == pooled
    assert numbers["sequence", "test", "good", NASTY, "psnr"] == 22
    assert numbers["gain", "test", bad, "", "psnr"] == -1
    assert numbers["pair", "test", "good", "", "psnr"] == 2
    assert numbers["published", "test", "TransformNet", "", "psnr_batch16"] == 26.26
    gain = record["summary"]["gain_psnr"]
    low, high = f"{gain['low']:+.2f}", f"{gain['high']:+.2f}"
    assert ["good", "+1.00", f"{low} to {high}", METHODS[gain["method"]], "4 of 4", "3"] in page.rows


def test_the_original_results_are_next_to_the_measured_ones(output):
    rows = markdown_rows(output / "report.md")
    heads, _, psnr, mse = rows[:4]
    table = {head: (psnr[i], mse[i]) for i, head in enumerate(heads)}
    assert [*table][1:5] == [
        "\\[1\\] DeepDeblur, published (full resolution: not comparable)",
        "ResnetEncDec, published",
        "TransformNet, published",
        "TransformNet, measured: good",
    ]
    assert [*table.values()][1:4] == [("28.93", "–"), ("24.98", "0.0033"), ("26.26", "0.00245")]  # noqa: RUF001
    # The error is pooled and then converted to dB; the mean PSNR is 25 dB.
    assert table["TransformNet, measured: good"] == ("23.84", "0.00413")
    assert table["blurred input, measured"] == ("22.74", "0.00532")
    text = (output / "report.md").read_text(encoding="utf-8")
    assert "measured / published: split rule official / original, number of images 4 / 611." in text
    assert "Restormer" in text


def test_runs_without_protocol_256_are_not_compared_with_the_original(tmp_path):
    write_report([write_run(tmp_path / "run", resolutions=("full",))], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "No run in this report was evaluated on a test split at 256x256" in text
    assert "26.26" in text
    assert "measured: run" not in text


def test_protocols_are_never_mixed(tmp_path):
    one = write_run(tmp_path / "one", resolutions=("256", "full"), splits=("test",))
    two = write_run(tmp_path / "two", splits=("test",), blur_variant="blur_gamma", gain=0.5)
    write_report([one, two], tmp_path / "out")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [[run["run"] for run in group["runs"]] for group in data["groups"]] == [["one"], ["one"], ["two"]]
    assert [group["pairs"] for group in data["groups"]] == [[], [], []]
    text = read(tmp_path / "out" / "report.html").text
    assert "The numbers measured here were obtained with 3 protocols." in text
    assert "numbers of different protocols cannot be compared" in text
    assert "blur variant blur_gamma / blur" in text
    assert "beats run" not in text


def test_the_page_needs_no_network_and_is_accessible(output):
    tags = read(output / "report.html").tags
    addresses = [attrs[key] for _, attrs in tags for key in ("src", "href", "xlink:href", "action") if key in attrs]
    assert [a for a in addresses if not a.startswith(("data:", "#"))] == []
    assert len(addresses) > 50
    page = (output / "report.html").read_text(encoding="utf-8")
    assert [*re.findall(r"url\((?!#)", page), *re.findall(r"@import|fetch\(|XMLHttp", page)] == []
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for tag, attrs in tags if tag == "svg")
    images = [attrs for tag, attrs in tags if tag == "img" and attrs.get("class") not in ("before", "after")]
    assert all(attrs["alt"] for attrs in images)
    assert all(attrs.get("aria-label") for tag, attrs in tags if tag == "input")
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_tick_labels_fit_into_the_plots(output):
    page = (output / "report.html").read_text(encoding="utf-8")
    plots = re.findall(r'<svg [^>]*viewBox="0 0 ([\d.]+) [\d.]+".*?</svg>', page, re.DOTALL)
    labels = re.findall(r'<text style="[^"]*text-anchor: middle[^"]*" x="([\d.]+)"[^>]*>([^<]*)</text>', page)
    assert len(labels) > 20
    width = max(map(float, plots))
    for x, label in labels:
        half = 3.5 * len(label)  # a digit at 10 points is at most 7 wide; longer texts are axis labels
        assert len(label) > 10 or half < float(x) < width - half, (x, label)


def test_names_are_escaped(runs, output):
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert [tag for tag, _ in read(output / "report.html").tags].count("script") == 1
    for name in (NASTY, runs[1].name, "é 'q'"):
        assert name in read(output / "report.html").text
    row = next(row for row in markdown_rows(output / "report.md") if row[0].startswith("Straße") and row[1] == "2")
    assert row[0] == 'Straße "1" &lt;script>alert(1)&lt;/script> \\| \\`x\\` \\[y\\](z) $a$ {{ 1 }} &amp; _b'
    assert len(row) == 7


def test_folder_names_need_not_be_utf8(tmp_path):
    run = write_run(tmp_path / os.fsdecode(b"run \xff"))
    command = [sys.executable, TOOL, run, "--output", run / "report"]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert done.stdout.endswith(rb"run \xff/report/report.html" + b"\n")
    for name in ("report.html", "report.md", "report.csv"):
        assert r"run \xff" in (run / "report" / name).read_text(encoding="utf-8")


def test_an_insignificant_gain_is_not_called_a_gain(tmp_path):
    write_facts(tmp_path / "run")
    images = [image_record(s, f, psnr, psnr + more - 1) for s, f, psnr, more in IMAGES]
    write_evaluation(tmp_path / "run", images, {})
    write_report([tmp_path / "run"], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "No significant gain of the network over the blurred input: +0.00 dB" in text
    assert "beats" not in text


def test_the_verdict_states_that_the_test_split_was_not_used(tmp_path):
    write_report([write_run(tmp_path / "run", splits=("validation",))], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "Not evaluated on the test split." in text
    assert (
        "selected on these images, so the score is optimistically biased. The network beats the blurred input" in text
    )


def test_using_the_test_split_for_two_checkpoints_gives_a_warning(tmp_path):
    run = write_run(tmp_path / "run", resolutions=("256", "full"))
    scoring = {"date": "2026-11-24", "resolution": "256", "weights_sha256": "0123abcd", "checkpoint_step": 3}
    warning = "2 checkpoints of run run were evaluated on the test split"
    add_scoring(run, scoring)
    write_report([run], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "evaluated 3 times: step 3 (weights 0123abcd) at resolution 256, full, 256." in text
    assert "Warning" not in text
    add_scoring(run, {**scoring, "weights_sha256": "4567", "checkpoint_step": None})
    write_report([run], tmp_path / "out")
    for file in ("report.md", "report.html"):
        assert warning in (tmp_path / "out" / file).read_text(encoding="utf-8")
    assert warning in json.loads((tmp_path / "out" / "report.json").read_text())["runs"][0]["warning"]


def test_runs_that_were_only_evaluated_have_no_learning_curves(tmp_path):
    runs = [write_run(tmp_path / "own"), write_run(tmp_path / "theirs", facts={"trained": False}, gain=0.5)]
    write_report(runs, tmp_path / "out")
    page = read(tmp_path / "out" / "report.html").text
    assert "Without learning curves, since their weights were evaluated but not trained: theirs." in page
    write_report(runs[1:], tmp_path / "out")
    assert "Training loss" not in read(tmp_path / "out" / "report.html").text


def test_all_training_data_is_named(tmp_path):
    run = write_run(tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    facts["mixture"] = {"data.mixture[0]": {"data_set": "made", "share": 0.25}}
    facts["pairs"]["data.mixture[0]"] = 4321
    write_json(run / "run.json", facts)
    write_report([run, write_run(tmp_path / "plain")], tmp_path / "out")
    rows = read(tmp_path / "out" / "report.html").rows
    assert ["mixed in", "0.25 of the examples from made (data.mixture[0])", NONE] in rows
    assert any(row[0] == "pairs" and row[1].endswith("4,321 data.mixture[0]") for row in rows)


def test_checkpoint_scores_are_shown(tmp_path):
    run = write_run(tmp_path / "run")
    counts = {"images": 4, "sequences": 3, "images_better": 3, "resamples": 0}
    gain = {"mean": 0.25, "low": -0.5, "high": 1.0, "method": "student_t", **counts}
    checkpoints = [{"step": step, "psnr": 25.0 + step / 1000, "gain_psnr": gain} for step in (1000, 2000)]
    write_json(run / "eval" / "checkpoints.json", {"protocol": {}, "checkpoints": checkpoints, "best_step": 2000})
    write_report([run], tmp_path / "out")
    for rows in (read(tmp_path / "out" / "report.html").rows, markdown_rows(tmp_path / "out" / "report.md")):
        assert ["2,000 (best)", "27.00", "+0.25", "-0.50 to +1.00"] in rows


def test_the_command_needs_no_jax_and_ends_with_a_clear_error(runs, tmp_path):
    code = (
        f"import sys; sys.modules['jax'] = None; sys.argv = ['make_report.py', *sys.argv[1:]]; "
        f"exec(compile(open({str(TOOL)!r}).read(), 'make_report.py', 'exec'))"
    )
    good = subprocess.run(
        [sys.executable, "-c", code, *map(str, runs), "--output", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "out" / "report.html").exists()
    bad = subprocess.run(
        [sys.executable, TOOL, tmp_path / "none", "--output", tmp_path], capture_output=True, text=True
    )
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: ")
    assert "none/run.json: cannot be read" in bad.stderr


def test_runs_of_one_protocol_must_have_scored_the_same_images(tmp_path):
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    path = two / "eval" / "test-256.json"
    record = json.loads(path.read_text())
    record["images"][3]["identity"]["psnr"] += 0.5
    write_json(path, record)
    with pytest.raises(InputError, match=r"c/1 is a different image in each.* 30\.000000 dB in one and 30\.500000 dB"):
        write_report([one, two], tmp_path / "out")
