"""Which photographs files, folders and patterns stand for, and what is passed over, aloud."""

import os
from pathlib import Path

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.inputs import find_inputs

RECORD = "restored.jsonl"


def find(tmp_path, *names, output="out"):
    """Return names of files below tmp_path, and that of the base."""
    inputs = find_inputs([str(tmp_path / name) for name in names], tmp_path / output, RECORD)
    base = inputs.base.relative_to(tmp_path).as_posix()
    return [path.relative_to(tmp_path).as_posix() for path in inputs.files], base


@pytest.fixture
def tree(tmp_path):
    for name in ("a/1.png", "a/2.JPG", "a/.hidden.png", "a/b/1.tiff", "a/notes.txt", "a/.git/x.png", "c/1.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_is_all_photographs_below_it(tree, capsys):
    assert find(tree, "a") == (["a/1.png", "a/2.JPG", "a/b/1.tiff"], "a")
    assert "passed over 1 file(s) that are no photographs by their suffix (.txt)" in capsys.readouterr().err


def test_several_inputs_keep_their_places_below_what_they_share(tree):
    assert find(tree, "a/b", "c") == (["a/b/1.tiff", "c/1.png"], ".")
    assert find(tree, "a/1.png", "a/b/1.tiff") == (["a/1.png", "a/b/1.tiff"], "a")
    assert find(tree, "a/1.png", "a/2.JPG") == (["a/1.png", "a/2.JPG"], "a")


def test_each_file_counts_once(tree):
    assert find(tree, "c", "c/1.png", "c/*.png") == (["c/1.png"], "c")


def test_patterns_keep_places_below_their_fixed_part(tree):
    assert find(tree, "*/1.png") == (["a/1.png", "c/1.png"], ".")
    assert find(tree, "a/**/1.*") == (["a/1.png", "a/b/1.tiff"], "a")
    assert find(tree, "a/b/*.tif*") == (["a/b/1.tiff"], "a/b")


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    (tmp_path / "[1].png").touch()
    assert find(tmp_path, "[1].png") == (["[1].png"], ".")


def test_relative_names_are_below_the_working_folder(tree, monkeypatch):
    monkeypatch.chdir(tree / "a")
    inputs = find_inputs(["b", "../c/1.png"], Path("out"), RECORD)
    assert inputs.files == [tree / "a/b/1.tiff", tree / "c/1.png"]
    assert inputs.base == tree


def test_what_stands_for_nothing_is_refused_all_at_once(tree):
    with pytest.raises(InputError, match=r"(?s)gone\.png: there is no such file.*x\*: matches no file"):
        find(tree, "a/1.png", "gone.png", "x*")
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no photographs; expected files with the suffixes \.png, \.jpg"):
        find(tree, "empty")


def test_results_within_the_input_are_passed_over(tree, capsys):
    """The folder of this command's results, and one of another command's."""
    for name in ("a/out/1.png", "a/earlier/1.png", f"a/earlier/{RECORD}"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).touch()
    assert find(tree, "a", output="a/out")[0] == ["a/1.png", "a/2.JPG", "a/b/1.tiff"]
    words = capsys.readouterr().err
    assert "a/out: passed over, it is the folder of results" in words
    assert "a/earlier: passed over, it holds results" in words
    assert find(tree, "a/earlier")[0] == ["a/earlier/1.png"]


def test_links_are_followed_but_not_in_circles(tree, capsys):
    (tree / "c/again").symlink_to(tree / "c")
    (tree / "c/up").symlink_to(tree)
    (tree / "c/b").symlink_to(tree / "a/b")
    (tree / "c/itself").symlink_to("itself")
    assert find(tree, "c")[0] == ["c/1.png", "c/b/1.tiff"]
    words = capsys.readouterr().err
    assert "again: passed over, a link that leads back" in words
    assert "up: passed over, a link that leads back" in words
    assert find(tree, "c/up/c") == (["c/up/c/1.png", "c/up/c/b/1.tiff"], "c/up/c")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all folders")
def test_a_folder_that_cannot_be_read_is_a_problem(tree):
    (tree / "a/b").chmod(0)
    try:
        inputs = find_inputs([str(tree / "a")], tree / "out", RECORD)
    finally:
        (tree / "a/b").chmod(0o755)
    assert inputs.problems == [f"{tree}/a/b: cannot be read (Permission denied)"]
    assert len(inputs.files) == 2
