"""Crops, error maps and curves show the recorded values, compared with positions and values worked out by hand."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.report import image_strips, plots
from jaxdeblur.report.grouping import group_runs
from jaxdeblur.report.loading import read_runs
from tests.helpers.report_records import image_record, write_evaluation, write_facts

SIZE = (80, 120)  # height, width; crops have a fifth of the shorter side


def make_group(folder, predictions, *, why=("spread",), size=SIZE, names=("1",)):
    """Return a group: the sharp image is black, the input has a patch of level 100 at the top left."""
    sharp = np.zeros((*size, 3), np.uint8)
    blur = sharp.copy()
    blur[:16, :16] = 100
    for i, prediction in enumerate(predictions):
        run = folder / f"run{i}"
        write_facts(run)
        own = names[i] if isinstance(names[i % len(names)], tuple) else names
        pairs = {("s", name): (why, blur, prediction, sharp) for name in own}
        write_evaluation(run, [image_record("s", name, 20.0, 21.0 + i) for name in "123"], pairs)
    return group_runs(read_runs(sorted(folder.iterdir())))[0]


def image(size=SIZE, **patch):
    """Return a black image with a 16x16 patch of a level at (left, top)."""
    array = np.zeros((*size, 3), np.uint8)
    for place, level in patch.items():
        left, top = map(int, place[1:].split("_"))
        array[top : top + 16, left : left + 16] = level
    return array


def decode(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))


def test_a_strip_shows_the_files_and_the_windows_that_differ_most(tmp_path):
    group = make_group(tmp_path, [image(_50_30=200), image(_90_60=40)])
    [strip] = image_strips.common_strips(group)
    assert (strip.size, strip.reduced, strip.sequence, strip.frame) == ((120, 80), False, "s", "1")
    # The networks differ by 200 levels at (50, 30); the input differs from the sharp image at (0, 0).
    assert strip.windows == [(50, 30, 16), (0, 0, 16)]
    assert [column.name for column in strip.columns] == ["blurred input", "run0", "run1", "sharp"]
    assert [column.psnr for column in strip.columns] == [20.0, 21.0, 22.0, None]
    file = tmp_path / "run1" / "eval" / "test-256" / "000-prediction.png"
    assert base64.b64decode(strip.columns[2].whole.split(",")[1]) == file.read_bytes()
    assert [decode(column.crops[0]).mean() for column in strip.columns] == [0, 200, 0, 0]
    assert [decode(column.crops[1]).mean() for column in strip.columns] == [100, 0, 0, 0]
    assert {decode(crop).shape for column in strip.columns for crop in column.crops} == {(16, 16, 3)}


def test_with_one_network_the_crop_is_where_it_changed_the_input_most(tmp_path):
    [strip] = image_strips.common_strips(make_group(tmp_path, [image(_0_0=100, _90_60=40)]))
    # It changed (90, 60) alone; the input is wrong at (0, 0).
    assert strip.windows == [(90, 60, 16), (0, 0, 16)]


def test_windows_do_not_overlap(tmp_path):
    [strip] = image_strips.common_strips(make_group(tmp_path, [image()]))
    (left, top, side), (other_left, other_top, _) = strip.windows
    assert (left, top, side) == (0, 0, 16)
    assert other_left >= side or other_top >= side


def test_an_error_map_has_the_colours_of_its_scale(tmp_path):
    [strip] = image_strips.common_strips(make_group(tmp_path, [image(_0_0=50)]))
    assert strip.scale == 100  # levels of 100 in 256 of 9600 pixels, which is more than 1%
    blur, prediction = (decode(column.error) for column in strip.columns[:2])
    assert strip.columns[2].error is None
    inferno = {0: (0, 0, 4), 255: (252, 255, 164)}  # ends of the published map
    assert tuple(blur[0, 0]) == inferno[255]
    assert tuple(blur[70, 100]) == inferno[0]
    middle = tuple(prediction[0, 0])
    assert middle not in inferno.values()
    assert inferno[0] < middle < inferno[255]
    assert "rgb(0 0 4)" in image_strips.color_bar()


def test_large_images_are_downscaled_but_their_crops_are_not(tmp_path):
    size = (360, 1280)
    group = make_group(tmp_path, [image(size, _700_200=250)], size=size)
    [strip] = image_strips.common_strips(group)
    assert strip.reduced
    assert strip.columns[1].whole.startswith("data:image/jpeg;")
    assert decode(strip.columns[1].whole).shape == (180, 640, 3)
    left, top, side = strip.windows[0]
    assert (side, decode(strip.columns[1].crops[0]).shape) == (72, (72, 72, 3))
    assert left <= 700 <= left + side - 16
    assert top <= 200 <= top + side - 16
    assert decode(strip.columns[1].crops[0]).max() == 250


def test_only_samples_of_all_runs_are_common(tmp_path):
    group = make_group(tmp_path, [image(), image()], names=(("1", "2"), ("2", "3")))
    assert [strip.frame for strip in image_strips.common_strips(group)] == ["2"]
    assert [strip.frame for strip in image_strips.extreme_strips(group.entries[0])] == []


def test_best_median_and_worst_are_those_of_the_record(tmp_path):
    group = make_group(tmp_path, [image()], why=("worst", "best"))
    strips = image_strips.extreme_strips(group.entries[0])
    assert [(strip.why, len(strip.columns)) for strip in strips] == [("best PSNR gain", 3), ("worst PSNR gain", 3)]
    assert image_strips.common_strips(group) == []


def test_a_missing_image_or_one_of_a_different_size_is_named(tmp_path):
    group = make_group(tmp_path, [image()])
    path = tmp_path / "run0" / "eval" / "test-256" / "000-sharp.png"
    Image.new("RGB", (120, 79)).save(path)
    with pytest.raises(InputError, match=r"s/1 differ in size \(120x80, 120x80, 120x79\)"):
        image_strips.common_strips(group)
    path.unlink()
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}: cannot be read"):
        image_strips.common_strips(group)


def lines(svg, color, *, dashed=""):
    """Return the points (x, y) of the lines of one colour, without clip paths and markers."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none;{dashed}[^"]*stroke: var\({color}\)', svg)
    return [np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path), float) for path in paths]


def test_curves_show_the_logged_values(tmp_path):
    log = [{"train/loss": 1.0}, {"train/loss": 0.1, "validation/psnr": 22.0, "validation/identity_psnr": 21.0}]
    log += [{"train/loss": 0.01}, {"validation/psnr": 24.0, "validation/identity_psnr": 21.0}]
    write_facts(tmp_path / "run", log=log)
    write_evaluation(tmp_path / "run", [image_record("s", "1", 20.0, 21.0)], {})
    runs = read_runs([tmp_path / "run"])
    loss, _, psnr, psnr_by_hours = plots.learning_curves(runs, {"run": 0})
    [points] = lines(loss.svg, "--s0")
    # Steps 1, 2, 3 are evenly spaced, and so are the losses on their logarithmic axis, which points up.
    assert np.diff(points[:, 0]) == pytest.approx(np.full(2, np.diff(points[:, 0])[0]), rel=1e-4)
    assert np.diff(points[:, 1]) == pytest.approx(np.full(2, np.diff(points[:, 1])[0]), rel=1e-4)
    assert points[0, 1] < points[-1, 1]
    [network], [identity] = lines(psnr.svg, "--s0"), lines(psnr.svg, "--ink", dashed=" stroke-dasharray")
    assert network[0, 1] > network[1, 1]
    assert identity[0, 1] == identity[1, 1] > network[0, 1]
    # 22, 24 and the input's 21 dB: the first lies at a third of the way from the last to the second.
    assert (identity[0, 1] - network[0, 1]) / (identity[0, 1] - network[1, 1]) == pytest.approx(1 / 3, rel=1e-3)
    assert "run: from 22 to 24" in psnr.svg
    assert "hours of training" in psnr_by_hours.svg


def test_losses_below_zero_have_a_linear_axis(tmp_path):
    write_facts(tmp_path / "run", log=[{"train/loss": -20.0}, {"train/loss": -24.0}, {"train/loss": -26.0}])
    write_evaluation(tmp_path / "run", [image_record("s", "1", 20.0, 21.0)], {})
    [points] = lines(plots.learning_curves(read_runs([tmp_path / "run"]), {"run": 0})[0].svg, "--s0")
    assert (points[1, 1] - points[0, 1]) / (points[2, 1] - points[0, 1]) == pytest.approx(4 / 6, rel=1e-3)


def test_long_curves_are_means_of_neighbours(tmp_path):
    write_facts(tmp_path / "run", log=[{"train/loss": 1.0 + i % 2} for i in range(600)])
    write_evaluation(tmp_path / "run", [image_record("s", "1", 20.0, 21.0)], {})
    svg = plots.learning_curves(read_runs([tmp_path / "run"]), {"run": 0})[0].svg
    [points] = lines(svg, "--s0")
    assert np.ptp(points[:, 1]) == pytest.approx(0, abs=1e-3)  # means of 1 and 2 are 1.5 throughout
    assert "var(--s0)" in svg


def test_plots_use_the_colours_of_the_page(tmp_path):
    group = make_group(tmp_path, [image(), image()])
    for plot in plots.gain_plots(group, {"run0": 0, "run1": 1}, "x"):
        assert set(re.findall(r"#[0-9a-f]{6}\b", plot.svg)) <= {"#ffffff"}
        assert {"var(--ink)", "var(--s0)", "var(--s1)"} <= set(re.findall(r"var\([^)]*\)", plot.svg))
        assert 'role="img" aria-label="' in plot.svg
