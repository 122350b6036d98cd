"""The tool end to end: both commands, their output and their errors."""

import json
import os
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.data.sources import DataOptions, open_sources
from jaxdeblur.images.decode import read_image
from tests.helpers.frame_videos import CLIP, write_video
from tests.helpers.paths import ROOT

TOOL = ROOT / "tools" / "synthesize_blur.py"
QUICK = ("--time_samples", "5", "--travel", "2", "4", "--region_travel", "2", "4")


def run(kind, folder, *arguments, output="made"):
    """Run the tool on folder/input and return the completed process."""
    command = [sys.executable, TOOL, kind, "--input", folder / "input", "--output", folder / output, *arguments]
    environment = os.environ | {"PYTHONPATH": str(TOOL.parent.parent)}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=120)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder whose `input` holds five photos of smooth noise in two sizes; p1 and p2 are equal."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    (folder / "input" / "trip").mkdir(parents=True)
    for number, size in enumerate([(96, 72), (96, 72), (72, 96), (96, 72), (72, 96)]):
        if number != 2:
            image = Image.fromarray(rng.integers(0, 256, (18, 18, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        image.save(folder / "input" / ("trip" if number > 2 else "") / f"p{number}.png")
    return folder


@pytest.fixture(scope="module")
def made(photos):
    """The same folder with `made`, the output of a run with two exposures per photo."""
    process = run("photos", photos, *QUICK, "--exposures", "2", "--workers", "1", "--test", "trip_p4")
    assert process.returncode == 0, process.stderr
    assert "test: 2 pairs of 1 scenes" in process.stdout
    return photos


def test_pairs_can_be_trained_on(made):
    """Like GOPRO_Large, with the recipe's fields except data.root."""
    data = runpy.run_path(str(TOOL.parent.parent / "configs" / "transformnet.py"))["get_config"]().data
    options = DataOptions(made / "made", data.blur_variant, data.splits, data.validation_sequences, data.skip_invalid)
    sources = open_sources(options, resize=256, resize_filter="bicubic", crop=0)
    splits = {split: source.pairs for split, source in sources.items()}
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 6, "validation": 2, "test": 2}
    scenes = [{pair.sequence for pair in pairs} for pairs in splits.values()]
    assert scenes[2] == {"trip_p4"}
    assert set.union(*scenes) == {"p0", "p1", "p2", "trip_p3", "trip_p4"}
    assert sum(map(len, scenes)) == 5
    pair = splits["train"][0]
    photo = read_image(made / "input" / f"{pair.sequence.replace('_', '/')}.png")
    sharp, blur = read_image(pair.sharp), read_image(pair.blur)
    assert sharp.shape == blur.shape == read_image(pair.blur.parent.parent / "blur_gamma" / pair.blur.name).shape
    assert (sharp != blur).any()
    top, left = ((whole - part) // 2 for whole, part in zip(photo.shape[:2], sharp.shape[:2], strict=True))
    inside = photo[top : top + sharp.shape[0], left : left + sharp.shape[1]]
    assert np.abs(sharp.astype(int) - inside).max() <= 4  # white is clipped


def test_every_exposure_has_its_own_motion(made):
    blurred = {path.relative_to(made): path.read_bytes() for path in (made / "made").glob("*/*/blur/*.png")}
    assert len(set(blurred.values())) == len(blurred) == 10


def test_options_are_recorded(made):
    about = json.loads((made / "made" / "made.json").read_text())
    assert about["parameters"]["seed"] == 0
    assert about["parameters"]["travel"] == [2.0, 4.0]
    assert about["test"]["trip_p4"]["source"] == "trip/p4.png"
    assert about["test"]["trip_p4"]["pairs"] == 2
    assert str(made) not in json.dumps(about)


def test_output_depends_on_the_seed_and_not_on_workers(made):
    for output, arguments in (("again", ["--workers", "3"]), ("other", ["--seed", "1"])):
        options = [*QUICK, "--exposures", "2", "--test", "trip_p4", *arguments]
        assert run("photos", made, *options, output=output).returncode == 0
    first, again, other = (files(made / name) for name in ("made", "again", "other"))
    assert first == again
    shared = first.keys() & other.keys() - {"made.json"}
    assert all(first[name] != other[name] for name in shared if "/blur/" in name)


def test_windows_and_variants(photos):
    arguments = [*QUICK, "--side", "48", "--variants", "blur", "--test_share", "1", "--validation_share", "0"]
    assert run("photos", photos, *arguments, output="windows").returncode == 0
    pairs = open_folder(photos / "windows" / "test", "blur", skip_invalid=False).pairs
    assert [pair.size for pair in pairs] == [(48, 48)] * 5
    assert not list((photos / "windows").rglob("blur_gamma"))
    assert not (photos / "windows" / "train").exists()


VARIED = (
    *("--side", "32", "--variants", "blur", "--travel", "1", "4", "--region_travel", "1", "4", "--log_travel"),
    *("--still_share", "0.3", "--reduce", "1", "2", "--reduce_after", "1", "2", "--noise_free_share", "0.3"),
    *("--shot_noise", "0.002", "0.05", "--read_noise", "0.0001", "0.01", "--noise_blur", "0", "0.8", "--linear_noise"),
    *("--jpeg_quality", "60", "95", "--jpeg_share", "0.5", "--domain_mix", "0.5", "--exposures", "4"),
    *("--depth_relief", "0.2", "0.8", "--objects", "2", "--object_travel", "1", "4"),
)


def test_varied_exposures_do_not_depend_on_workers_and_are_recorded(photos):
    for output, workers in (("varied", "1"), ("varied_again", "3")):
        process = run("photos", photos, *QUICK[:2], *VARIED, "--workers", workers, output=output)
        assert process.returncode == 0, process.stderr
    first, again = (files(photos / name) for name in ("varied", "varied_again"))
    assert first == again
    made = json.loads(first["made.json"])
    exposures = [
        one for split in ("train", "validation", "test") for s in made[split].values() for one in s["exposures"]
    ]
    assert len(exposures) == 20
    assert len([name for name in first if "/blur/" in name]) == 20
    for name in (
        "still",
        "reduce",
        "reduce_after",
        "shot_noise",
        "noise_blur",
        "jpeg_quality",
        "linear",
        "depth_relief",
        "objects",
    ):
        assert 0 < sum(name in one for one in exposures) <= 20, name
    assert {one["travel"] == 0 for one in exposures if "still" in one} == {True}
    assert made["parameters"]["shot_noise"] == [0.002, 0.05]


def test_neutral_options_equal_no_options(made):
    neutral = ["--still_share", "0", "--reduce", "1", "1", "--reduce_after", "1", "1", "--shot_noise", "0.01", "0.01"]
    neutral += ["--noise_blur", "0", "0", "--noise_free_share", "0", "--jpeg_share", "0", "--domain_mix", "0"]
    neutral += ["--depth_relief", "0", "0", "--objects", "0"]
    process = run("photos", made, *QUICK, "--exposures", "2", "--test", "trip_p4", *neutral, output="neutral")
    assert process.returncode == 0, process.stderr
    plain, neutral = files(made / "made"), files(made / "neutral")
    assert plain.keys() == neutral.keys()
    assert {name for name in plain if plain[name] != neutral[name]} == {"made.json"}


def test_frames_and_videos_become_pairs(tmp_path):
    (tmp_path / "input" / "walk").mkdir(parents=True)
    for number, frame in enumerate(CLIP, start=1):
        Image.fromarray(frame).save(tmp_path / "input" / "walk" / f"{number}.png")
    write_video(tmp_path / "input" / "ride.mkv")
    process = run("frames", tmp_path, "--window", "5", "--stride", "3", "--test", "ride", "--validation_share", "0")
    assert process.returncode == 0, process.stderr
    assert "walk: the last 1 of 9 frames fill no window" in process.stdout
    for number, start in enumerate((0, 3), start=1):
        blur = np.rint(CLIP[start : start + 5].mean(axis=0))
        light = ((CLIP[start : start + 5] / 255) ** 2.2).mean(axis=0)
        for folder in (tmp_path / "made" / "train" / "walk", tmp_path / "made" / "test" / "ride"):
            read = {name: read_image(folder / name / f"{number:06d}.png") for name in ("sharp", "blur", "blur_gamma")}
            np.testing.assert_array_equal(read["sharp"], CLIP[start + 2])
            np.testing.assert_array_equal(read["blur"], blur)
            np.testing.assert_array_equal(read["blur_gamma"], np.rint(255 * light ** (1 / 2.2)))
    assert len(list((tmp_path / "made").rglob("*.png"))) == 12


def test_short_videos_are_named_and_nothing_is_left(tmp_path):
    (tmp_path / "input").mkdir()
    write_video(tmp_path / "input" / "ride.mkv")
    process = run("frames", tmp_path, "--test_share", "1", "--validation_share", "0")
    assert process.returncode == 1
    assert "ride.mkv: 9 frame(s), too few for a window of 11" in process.stderr
    assert "Traceback" not in process.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["input"]


def refuse(kind, folder, *arguments, output="refused"):
    """Return the error of a run that must fail without traceback or output."""
    before = set(folder.rglob("*"))
    process = run(kind, folder, *arguments, output=output)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr
    assert set(folder.rglob("*")) == before
    return process.stderr


def test_existing_output_is_unchanged(made):
    before = files(made / "made")
    assert "made already exists; remove it" in refuse("photos", made, output="made")
    assert files(made / "made") == before


def test_unwritable_outputs_are_refused(photos, read_only_folder):
    assert "lies inside --input" in refuse("photos", photos, output="input/made")
    (photos / "file").touch()
    assert "cannot be written (Not a directory)" in refuse("photos", photos, output="file/made")
    assert f"error: {read_only_folder / 'made'}: cannot be written (" in refuse(
        "photos", photos, output=read_only_folder / "made"
    )


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("frames", ["--window", "4"], "--window 4: expected an odd number"),
        ("frames", ["--window", "3", "--stride", "0"], "--stride 0: expected at least 1"),
        ("photos", ["--exposures", "0"], "--exposures 0: expected at least 1"),
        ("photos", ["--workers", "0"], "--workers 0: expected at least 1"),
        ("photos", ["--time_samples", "10"], "time_samples: 10, expected an odd number"),
        ("photos", ["--regions", "-1"], "regions: -1, expected 0 or more"),
        ("photos", ["--test", "nobody"], "no such scene:\n  - nobody"),
        ("photos", ["--domain_mix", "0.5"], "add --variants blur"),
        ("photos", ["--shot_noise", "0.1", "0.2", "0.3"], "--shot_noise 0.1 0.2 0.3: expected one value"),
        ("photos", ["--side", "100", *QUICK], "5 of 5 scene(s) cannot be used"),
    ],
)
def test_wrong_options_are_explained(photos, kind, arguments, words):
    assert words in refuse(kind, photos, *arguments)


def test_too_small_photos_are_all_named(photos):
    message = refuse("photos", photos, "--side", "100", *QUICK)
    for number in range(5):
        assert f"p{number}.png: " in message


def test_leftovers_of_an_interrupted_run_are_removed(photos):
    leftover = photos / "cleared.unfinished" / "train" / "gone" / "blur"
    leftover.mkdir(parents=True)
    assert run("photos", photos, *QUICK, output="cleared").returncode == 0
    assert not (photos / "cleared.unfinished").exists()
    assert not list((photos / "cleared").rglob("gone"))
    shutil.rmtree(photos / "cleared")
