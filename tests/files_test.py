"""JSON is written whole, by any number of writers."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxdeblur.files import write_json


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
