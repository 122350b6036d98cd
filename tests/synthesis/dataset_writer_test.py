"""Synthetic data sets are written atomically, despite failures and interrupts."""

from pathlib import Path

import numpy as np
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.images.decode import read_image
from jaxdeblur.synthesis import dataset_writer
from jaxdeblur.synthesis.scenes import Scene

SCENES = [Scene(name, Path(f"{name}.png")) for name in "abc"]
SPLITS = {"a": "train", "b": "test", "c": "train"}


def make(scene, facts):
    facts["letter"] = scene.name
    for value in range(2 if scene.name == "a" else 1):
        yield {"sharp": np.full((2, 3, 3), value, np.uint8), "blur": np.full((2, 3, 3), value + 10, np.uint8)}


def write(output, make=make, workers=2):
    return dataset_writer.write_data_set(output, SCENES, SPLITS, make, {"seed": 7}, total=None, workers=workers)


def test_pairs_are_in_gopros_layout(tmp_path):
    metadata = write(tmp_path / "made")
    images = {path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*.png")}
    names = ("train/a/{}/000001", "train/a/{}/000002", "test/b/{}/000001", "train/c/{}/000001")
    assert images == {name.format(kind) + ".png" for name in names for kind in ("blur", "sharp")}
    assert (read_image(tmp_path / "made" / "train/a/blur/000002.png") == 11).all()
    assert metadata["train"] == {"a": {"pairs": 2, "letter": "a"}, "c": {"pairs": 1, "letter": "c"}}
    assert metadata["seed"] == 7
    assert metadata["validation"] == {}


def test_failing_scenes_are_all_named_and_nothing_is_left(tmp_path):
    def fail(scene, facts):
        yield from make(scene, facts)
        if scene.name != "b":
            raise InputError("too small" if scene.name == "a" else f"{scene.source}: damaged")

    with pytest.raises(
        InputError, match=r"2 of 3 scene\(s\) cannot be used:\n  - a.png: too small\n  - c.png: damaged\n"
    ):
        write(tmp_path / "made", fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("No space left on device")])
def test_interrupted_runs_leave_nothing(tmp_path, error):
    def stop(scene, facts):
        yield from make(scene, facts)
        if scene.name == "b":
            raise error

    with pytest.raises(
        (KeyboardInterrupt, InputError), match=r"^$|made: cannot be written .*No space left.*free disk space"
    ):
        write(tmp_path / "made", stop)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_error_stops_the_other_scenes(tmp_path):
    """An endless scene is stopped at its next pair."""

    def endless(scene, facts):
        while True:
            yield from make(scene, facts)
            if scene.name == "a":
                raise OSError("No space left on device")

    with pytest.raises(InputError, match="No space"):
        write(tmp_path / "made", endless, workers=3)


def test_existing_outputs_are_refused(tmp_path):
    (tmp_path / "made").mkdir()
    with pytest.raises(InputError, match="made already exists; remove it"):
        write(tmp_path / "made")
