"""Scenes below a folder: photos, folders of frames and videos."""

import os

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.errors import InputError
from jaxdeblur.synthesis import scenes


def write(folder, *names, size=(8, 6)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)


def test_every_photo_is_a_scene(tmp_path):
    write(tmp_path, "b.JPG", "a.png", "trip/c.tiff", ".cache/thumb.png")
    (tmp_path / "notes.txt").write_text("")
    actual = scenes.find_photos(tmp_path)
    assert [scene.name for scene in actual] == ["a", "b", "trip_c"]
    assert actual[2].source == tmp_path / "trip" / "c.tiff"


def test_names_of_scenes_are_printable(tmp_path):
    write(tmp_path, os.fsdecode(b"a\xff.png"))
    assert [scene.name for scene in scenes.find_photos(tmp_path)] == [r"a\xff"]


def test_every_folder_of_frames_and_every_video_is_a_scene(tmp_path):
    write(tmp_path, "x/2.png", "x/10.png", "x/1.png", "deep/y/1.png", "deep/y/2.png", "deep/y/3.png")
    (tmp_path / "clip.MP4").touch()
    actual = scenes.find_sequences(tmp_path, 3)
    assert [scene.name for scene in actual] == ["clip", "deep_y", "x"]
    assert actual[0].source == tmp_path / "clip.MP4"
    assert [path.name for path in actual[1].source] == ["1.png", "2.png", "3.png"]


def test_frames_are_in_numerical_order(tmp_path):
    """With or without leading zeros."""
    write(tmp_path, "x/f2.png", "x/f10.png", "x/f001.png", "x/f3.png")
    (scene,) = scenes.find_sequences(tmp_path, 3)
    assert [path.stem for path in scene.source] == ["f001", "f2", "f3", "f10"]


def test_input_folder_can_be_a_scene(tmp_path):
    write(tmp_path / "walk", "1.png", "2.png", "3.png")
    assert [scene.name for scene in scenes.find_sequences(tmp_path / "walk", 3)] == ["walk"]


def test_all_invalid_photos_are_named(tmp_path):
    write(tmp_path, "fine.png", "Fine.jpg", "trip/a.png", "trip_a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "empty.webp").touch()
    with pytest.raises(InputError) as error:
        scenes.find_photos(tmp_path)
    lines = str(error.value).splitlines()
    assert "4 problem(s)" in lines[0]
    for problem in (
        "fine.png: would be named `fine`, like",
        "trip_a.png: would",
        "broken.png: cannot",
        "empty.webp: cannot",
    ):
        assert sum(problem in line for line in lines) == 1


def test_all_invalid_sequences_are_named(tmp_path):
    write(tmp_path, "short/1.png", "short/2.png", "odd/1.png", "odd/2.png", "good/1.png", "good/2.png", "good/3.png")
    write(tmp_path, "odd/3.png", size=(6, 8))
    (tmp_path / "good" / "4.png").write_bytes(b"no image")
    with pytest.raises(InputError) as error:
        scenes.find_sequences(tmp_path, 3)
    message = str(error.value)
    assert "3 problem(s)" in message
    assert "short: 2 frame(s), too few for a window of 3" in message
    assert "3.png: 6x8 pixels, but earlier ones 8x6" in message
    assert "4.png: cannot be read as an image" in message


@pytest.mark.parametrize("find", [scenes.find_photos, lambda folder: scenes.find_sequences(folder, 3)])
def test_folders_without_images_are_refused(tmp_path, find):
    with pytest.raises(InputError, match=r"found; expected .*png"):
        find(tmp_path)
    with pytest.raises(InputError, match="missing: is not a folder"):
        find(tmp_path / "missing")
