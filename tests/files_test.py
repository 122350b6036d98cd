"""JSON is written whole, by any number of writers; names that are too long or not UTF-8."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.files import printable, require_utf8, shortened, write_json


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "record.json"
    contents = [{"writer": number, "values": list(range(2000))} for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: write_json(path, content), contents * 5))
    assert json.loads(path.read_text()) in contents
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, [1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, [float("nan")])
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_json(tmp_path / "folder.json", [1])
    assert json.loads(path.read_text()) == [1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.json", "record.json"]


@pytest.mark.parametrize(
    ("name", "expected"), [(b"plain", "plain"), ("\u00e4\u2215".encode(), "\u00e4\u2215"), (b"a\xff\xc3", r"a\xff\xc3")]
)
def test_every_name_can_be_written(name, expected):
    assert printable(os.fsdecode(name)) == expected
    assert printable(os.fsdecode(name)).encode().decode() == expected


@pytest.mark.parametrize(
    ("stem", "ending", "length"),
    [("a", ".png", 5), ("a" * 251, ".png", 255), ("a" * 252, ".png", 255), ("\u00e4" * 200, ".png", 254)],
)
def test_names_are_cut_between_characters(stem, ending, length):
    found = shortened(stem, ending)
    assert len(found.encode()) == length
    assert found.endswith(ending)
    assert stem.startswith(found.removesuffix(ending))


def test_a_run_folder_that_is_no_utf8_is_refused(tmp_path, monkeypatch):
    bad = tmp_path / os.fsdecode(b"run\xff")
    with pytest.raises(InputError, match=r"--workdir .*run\\xff") as error:
        require_utf8(bad, "--workdir")
    assert error.value.code == "name-not-utf8"
    require_utf8(tmp_path / "\u00e4", "--workdir")
    bad.mkdir()
    monkeypatch.chdir(bad)
    with pytest.raises(InputError):
        require_utf8(Path("run"), "--workdir")
