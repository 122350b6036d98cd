"""A run's folder goes on with the same run only."""

import json

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.run_folder import open_run_folder

FACTS = {"data_sha256": {"train": "abc"}, "parameters": 3}


def test_a_new_folder_gets_config_and_facts(tiny_config, tmp_path):
    folder = tmp_path / "runs" / "new"
    open_run_folder(folder, tiny_config, FACTS)
    config, facts = (json.loads((folder / name).read_text()) for name in ("config.json", "run.json"))
    assert config["stages"][1]["optimizer"] == {"name": "sgd", "momentum": 0.0}
    assert facts["parameters"] == 3
    assert "cpu" in facts["devices"]


def test_what_does_not_change_the_run_may_change(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", tiny_config, FACTS)
    tiny_config.log.every_steps = 7
    tiny_config.data.root = "/elsewhere"
    tiny_config.evaluation.sample_count = 1
    open_run_folder(tmp_path / "run", tiny_config, FACTS)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["log"]["every_steps"] == 7


def test_another_run_is_refused_and_the_differences_listed(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", tiny_config, FACTS)
    before = (tmp_path / "run" / "config.json").read_text()
    tiny_config.stages[1].schedule.learning_rate = 0.5
    tiny_config.model.width = 8
    with pytest.raises(InputError) as error:
        open_run_folder(tmp_path / "run", tiny_config, {"data_sha256": {"train": "other"}})
    for words in (
        "stages[1].schedule.learning_rate: 0.01 before, 0.5 now",
        "model.width: 4 before, 8 now",
        "data_sha256: {'train': 'abc'} before, {'train': 'other'} now",
        "Choose another --workdir",
    ):
        assert words in str(error.value)
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_a_folder_of_other_things_is_left_alone(tiny_config, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds files, but no run"):
        open_run_folder(tmp_path, tiny_config, FACTS)
    with pytest.raises(InputError, match="holds files, but no run"):
        open_run_folder(tmp_path / "letter.txt", tiny_config, FACTS)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_named(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*Choose another folder"):
        open_run_folder(tmp_path / "file" / "run", tiny_config, FACTS)
