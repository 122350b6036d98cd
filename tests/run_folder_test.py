"""A run's folder goes on with the same run only."""

import json

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.run_folder import open_run_folder

FACTS = {
    "data_sha256": {"train": "abc", "test": "t"},
    "pairs": {"train": 6},
    "pairs_skipped": {"train": 0},
    "parameters": 3,
}


def test_a_new_folder_gets_config_and_facts(tiny_config, tmp_path):
    folder = tmp_path / "runs" / "new"
    open_run_folder(folder, tiny_config, FACTS, has_checkpoint=False)
    config, facts = (json.loads((folder / name).read_text()) for name in ("config.json", "run.json"))
    assert config["stages"][1]["optimizer"] == {"name": "sgd", "momentum": 0.0}
    assert facts["parameters"] == 3
    assert "cpu" in facts["devices"]


def test_what_does_not_change_the_run_may_change(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", tiny_config, FACTS, has_checkpoint=False)
    tiny_config.log.every_steps = 7
    tiny_config.data.root = "/elsewhere"
    tiny_config.evaluation.sample_count = 1
    changed = {**FACTS, "data_sha256": {"train": "abc", "test": "one pair less"}, "parameters": 5}
    open_run_folder(tmp_path / "run", tiny_config, changed, has_checkpoint=True)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["parameters"], facts["data_sha256"]["test"]) == (3, "one pair less")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["log"]["every_steps"] == 7


def test_another_run_is_refused_and_the_differences_listed(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", tiny_config, FACTS, has_checkpoint=False)
    before = (tmp_path / "run" / "config.json").read_text()
    tiny_config.stages[1].schedule.learning_rate = 0.5
    tiny_config.model.width = 8
    other = {**FACTS, "data_sha256": {"train": "other", "test": "t"}}
    with pytest.raises(InputError) as error:
        open_run_folder(tmp_path / "run", tiny_config, other, has_checkpoint=True)
    for words in (
        "stages[1].schedule.learning_rate: 0.01 before, 0.5 now",
        "model.width: 4 before, 8 now",
        "training pairs: 'abc' before, 'other' now",
        "Choose another --workdir",
    ):
        assert words in str(error.value)
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_mixed_in_data_may_move_but_not_change(tiny_config, tmp_path):
    entry = {"root": "made", "share": 0.5, "blur": "blur", "resize": 16, "rescale": (1.0, 1.0), "stretch": 1.0}
    tiny_config.data.mixture = (entry,)
    facts = {**FACTS, "data_sha256": {**FACTS["data_sha256"], "data.mixture[0]": "m"}}
    open_run_folder(tmp_path / "run", tiny_config, facts, has_checkpoint=False)
    tiny_config.data.mixture = ({**entry, "root": "elsewhere"},)
    open_run_folder(tmp_path / "run", tiny_config, facts, has_checkpoint=True)
    tiny_config.data.mixture = ({**entry, "share": 0.4},)
    other = {**FACTS, "data_sha256": {**FACTS["data_sha256"], "data.mixture[0]": "n"}}
    with pytest.raises(InputError) as error:
        open_run_folder(tmp_path / "run", tiny_config, other, has_checkpoint=True)
    for words in (
        "data.mixture[0].share: 0.5 before, 0.4 now",
        "training pairs of data.mixture[0]: 'm' before, 'n' now",
    ):
        assert words in str(error.value)
    assert ".root:" not in str(error.value)


def test_a_folder_of_other_things_is_left_alone(tiny_config, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds files, but no run"):
        open_run_folder(tmp_path, tiny_config, FACTS, has_checkpoint=False)
    with pytest.raises(InputError, match="holds files, but no run"):
        open_run_folder(tmp_path / "letter.txt", tiny_config, FACTS, has_checkpoint=False)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_named(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*Choose another folder"):
        open_run_folder(tmp_path / "file" / "run", tiny_config, FACTS, has_checkpoint=False)


def test_a_run_that_never_got_anywhere_may_change(tiny_config, tmp_path):
    """As after running out of memory at the first step, or a full disk while its folder was made."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json.tmp").write_text("")
    open_run_folder(tmp_path / "run", tiny_config, FACTS, has_checkpoint=False)
    tiny_config.data.batch_size = 1
    open_run_folder(tmp_path / "run", tiny_config, {**FACTS, "parameters": 4}, has_checkpoint=False)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["batch_size"] == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["parameters"] == 4


def test_a_damaged_record_is_named(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", tiny_config, FACTS, has_checkpoint=False)
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: is no JSON"):
        open_run_folder(tmp_path / "run", tiny_config, FACTS, has_checkpoint=True)
