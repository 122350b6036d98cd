"""Files, folders and patterns resolve to photos; what is skipped is reported."""

import json
import os
from pathlib import Path

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.find_photos import find_inputs
from jaxdeblur.restoration.resume_record import RECORD


def find(tmp_path, *names, output="out"):
    """Return the files and the base, relative to tmp_path."""
    inputs = find_inputs([str(tmp_path / name) for name in names], tmp_path / output)
    base = inputs.base.relative_to(tmp_path).as_posix()
    return [path.relative_to(tmp_path).as_posix() for path in inputs.files], base


@pytest.fixture
def tree(tmp_path):
    for name in ("a/1.png", "a/2.JPG", "a/.hidden.png", "a/b/1.tiff", "a/notes.txt", "a/.git/x.png", "c/1.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_a_folder_means_all_photos_below_it(tree, capsys):
    assert find(tree, "a") == (["a/1.png", "a/2.JPG", "a/b/1.tiff"], "a")
    assert "skipped 1 file(s) without a photo's suffix (.txt)" in capsys.readouterr().err


def test_several_inputs_are_relative_to_their_common_folder(tree):
    assert find(tree, "a/b", "c") == (["a/b/1.tiff", "c/1.png"], ".")
    assert find(tree, "a/1.png", "a/b/1.tiff") == (["a/1.png", "a/b/1.tiff"], "a")
    assert find(tree, "a/1.png", "a/2.JPG") == (["a/1.png", "a/2.JPG"], "a")


def test_each_file_counts_once(tree):
    assert find(tree, "c", "c/1.png", "c/*.png") == (["c/1.png"], "c")


def test_patterns_are_relative_to_their_fixed_part(tree):
    assert find(tree, "*/1.png") == (["a/1.png", "c/1.png"], ".")
    assert find(tree, "a/**/1.*") == (["a/1.png", "a/b/1.tiff"], "a")
    assert find(tree, "a/b/*.tif*") == (["a/b/1.tiff"], "a/b")


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path):
    (tmp_path / "[1].png").touch()
    assert find(tmp_path, "[1].png") == (["[1].png"], ".")


def test_relative_names_are_relative_to_the_working_folder(tree, monkeypatch):
    monkeypatch.chdir(tree / "a")
    inputs = find_inputs(["b", "../c/1.png"], Path("out"))
    assert inputs.files == [tree / "a/b/1.tiff", tree / "c/1.png"]
    assert inputs.base == tree


def test_missing_inputs_are_reported_together(tree):
    with pytest.raises(InputError, match=r"(?s)gone\.png: no such file.*x\*: matches no file") as error:
        find(tree, "a/1.png", "gone.png", "x*")
    assert error.value.code == "input-missing"
    (tree / "empty").mkdir()
    with pytest.raises(InputError) as error:
        find(tree, "empty")
    assert error.value.code == "no-photographs"


def restored(folder, *names):
    """Create results of an earlier command."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / RECORD).write_text("".join(json.dumps({"result": name}) + "\n" for name in names))


# Ways in which a user or a shell can name all photos in the folder `a`.
INPUTS = {
    "folder": ("a",),
    "pattern": ("a/**/*.*",),
    "pattern of suffixes": ("a/**/*.[pJt][niP]*",),
    "shell": ("a/1.png", "a/2.JPG", "a/b", "a/earlier", "a/out"),
    "shell, deep": ("a/1.png", "a/2.JPG", "a/b/1.tiff", "a/earlier/1.png", f"a/earlier/{RECORD}", "a/out/1.png"),
}


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("output", ["a/out", "a/third", "elsewhere"])
def test_results_are_never_inputs(tree, capsys, inputs, output):
    """Results of an earlier run of this command, and of another --output."""
    (tree / "a/notes.txt").unlink()
    expected = find(tree, *[name for name in INPUTS[inputs] if "earlier" not in name and "out" not in name])
    assert expected == (["a/1.png", "a/2.JPG", "a/b/1.tiff"], "a")
    restored(tree / "a/out", "1.png", "b/1.png")
    restored(tree / "a/earlier", "1.png")
    assert find(tree, *INPUTS[inputs], output=output) == expected
    printed = capsys.readouterr().err
    assert "a/earlier: skipped 1 result(s) of earlier commands" in printed
    assert "a/out: skipped" in printed


def test_results_next_to_their_photos_are_distinguished(tree):
    """As from --input 'a/*.JPG' --output a: a/2.png is the result of a/2.JPG, a/1.png is a photo."""
    restored(tree / "a", "2.png")
    for names in (("a",), ("a/**/*.[pJt][niP]*",), ("a/1.png", "a/2.JPG", "a/2.png", "a/b/1.tiff")):
        assert find(tree, *names, output="a")[0] == ["a/1.png", "a/2.JPG", "a/b/1.tiff"]


def test_results_alone_are_not_photos_and_do_not_change_the_base(tree):
    restored(tree / "a/earlier", "1.png")
    for name in ("a/earlier", "a/earlier/*", "a/earlier/1.png"):
        with pytest.raises(InputError, match="copy them elsewhere to restore them") as error:
            find(tree, name)
        assert error.value.code == "no-photographs"
        assert find(tree, "a/b", name) == (["a/b/1.tiff"], "a/b")


def test_a_new_photo_among_results_is_an_input(tree):
    restored(tree / "a/earlier", "1.png")
    (tree / "a/earlier/new.png").touch()
    assert find(tree, "a/earlier") == (["a/earlier/new.png"], "a/earlier")


def test_the_output_folder_is_skipped_even_without_a_record(tree):
    (tree / "a/out").mkdir()
    (tree / "a/out/1.png").touch()
    for names in (("a",), ("a/**/*.*g",)):
        assert (
            find(tree, *names, output="a/out")[0] == ["a/1.png", "a/2.JPG", "a/b/1.tiff"][: 3 if names == ("a",) else 1]
        )


def test_raw_files_in_a_folder_are_listed(tree, capsys):
    for name in ("a/IMG_1.DNG", "a/b/IMG_2.nef"):
        (tree / name).touch()
    assert find(tree, "a")[0] == ["a/1.png", "a/2.JPG", "a/b/1.tiff"]
    printed = capsys.readouterr().err
    assert "skipped 2 camera raw file(s)" in printed
    assert "a/IMG_1.DNG" in printed
    assert "a/b/IMG_2.nef" in printed


def test_a_name_that_begins_like_a_home_folder_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("~nobody.png").touch()
    assert find_inputs(["~nobody.png"], tmp_path / "out").files == [tmp_path / "~nobody.png"]


def test_links_are_followed_but_cycles_are_not(tree, capsys):
    (tree / "c/again").symlink_to(tree / "c")
    (tree / "c/up").symlink_to(tree)
    (tree / "c/b").symlink_to(tree / "a/b")
    (tree / "c/itself").symlink_to("itself")
    assert find(tree, "c")[0] == ["c/1.png", "c/b/1.tiff"]
    printed = capsys.readouterr().err
    assert "again: skipped, a link to a folder above" in printed
    assert "up: skipped, a link to a folder above" in printed
    assert find(tree, "c/up/c") == (["c/up/c/1.png", "c/up/c/b/1.tiff"], "c/up/c")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all folders")
def test_a_folder_that_cannot_be_read_is_a_problem(tree):
    (tree / "a/b").chmod(0)
    try:
        inputs = find_inputs([str(tree / "a")], tree / "out")
    finally:
        (tree / "a/b").chmod(0o755)
    assert inputs.problems == [f"{tree}/a/b: cannot be read (Permission denied)"]
    assert len(inputs.files) == 2
