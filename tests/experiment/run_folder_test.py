"""A run's folder goes on with the same run only."""

import json

import pytest
from ml_collections import ConfigDict

from jaxdeblur.config.run_config import complete
from jaxdeblur.config.saved_run import get_config
from jaxdeblur.config.tree import to_plain
from jaxdeblur.errors import InputError
from jaxdeblur.experiment.run_folder import claim_run_folder, open_run_folder
from jaxdeblur.files import read_json, write_json
from jaxdeblur.runs.lock import RunLock

FACTS = {
    "data_sha256": {"train": "abc", "test": "t"},
    "pairs": {"train": 6},
    "pairs_skipped": {"train": 0},
    "parameters": 3,
    "batch_norm": True,
    "steps_per_epoch": 3,
}


def plain(config):
    return complete(to_plain(config))


def test_a_new_folder_gets_config_and_facts(tiny_config, tmp_path):
    folder = tmp_path / "runs" / "new"
    open_run_folder(folder, plain(tiny_config), FACTS, has_checkpoint=False)
    config, facts = (json.loads((folder / name).read_text()) for name in ("config.json", "run.json"))
    assert config["stages"][1]["optimizer"] == {"name": "sgd", "momentum": 0.0}
    assert facts["parameters"] == 3
    assert "cpu" in facts["devices"]


def test_what_does_not_change_the_run_may_change(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.log.every_steps = 7
    tiny_config.data.root = "/elsewhere"
    tiny_config.evaluation.sample_count = 1
    changed = {**FACTS, "data_sha256": {"train": "abc", "test": "one pair less"}, "parameters": 5}
    open_run_folder(tmp_path / "run", plain(tiny_config), changed, has_checkpoint=True)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["parameters"], facts["data_sha256"]["test"]) == (3, "one pair less")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["log"]["every_steps"] == 7


def test_another_run_is_refused_and_the_differences_listed(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    before = (tmp_path / "run" / "config.json").read_text()
    tiny_config.stages[1].schedule.learning_rate = 0.5
    tiny_config.model.width = 8
    other = {**FACTS, "data_sha256": {"train": "other", "test": "t"}}
    with pytest.raises(InputError) as error:
        open_run_folder(tmp_path / "run", plain(tiny_config), other, has_checkpoint=True)
    for words in (
        "stages[1].schedule.learning_rate: 0.01 before, 0.5 now",
        "model.width: 4 before, 8 now",
        "training pairs: 'abc' before, 'other' now",
        "Choose another --workdir",
    ):
        assert words in str(error.value)
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_mixed_in_data_may_move_but_not_change(tiny_config, tmp_path):
    entry = {"root": "made", "share": 0.5, "resize": 16}
    tiny_config.data.mixture = (entry,)
    facts = {**FACTS, "data_sha256": {**FACTS["data_sha256"], "data.mixture[0]": "m"}}
    open_run_folder(tmp_path / "run", plain(tiny_config), facts, has_checkpoint=False)
    tiny_config.data.mixture = ({**entry, "root": "elsewhere"},)
    open_run_folder(tmp_path / "run", plain(tiny_config), facts, has_checkpoint=True)
    tiny_config.data.mixture = ({**entry, "share": 0.4},)
    other = {**FACTS, "data_sha256": {**FACTS["data_sha256"], "data.mixture[0]": "n"}}
    with pytest.raises(InputError) as error:
        open_run_folder(tmp_path / "run", plain(tiny_config), other, has_checkpoint=True)
    for words in (
        "data.mixture[0].share: 0.5 before, 0.4 now",
        "training pairs of data.mixture[0]: 'm' before, 'n' now",
    ):
        assert words in str(error.value)
    assert ".root:" not in str(error.value)


def test_a_folder_of_other_things_is_left_alone(tiny_config, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds files, but not a run"):
        open_run_folder(tmp_path, plain(tiny_config), FACTS, has_checkpoint=False)
    with pytest.raises(InputError, match="holds files, but not a run"):
        open_run_folder(tmp_path / "letter.txt", plain(tiny_config), FACTS, has_checkpoint=False)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_named(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*Choose another folder"):
        open_run_folder(tmp_path / "file" / "run", plain(tiny_config), FACTS, has_checkpoint=False)


def test_a_run_that_never_got_anywhere_may_change(tiny_config, tmp_path):
    """As after running out of memory at the first step, or a full disk while its folder was made."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json.tmp").write_text("")
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.data.batch_size = 1
    open_run_folder(tmp_path / "run", plain(tiny_config), {**FACTS, "parameters": 4}, has_checkpoint=False)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["batch_size"] == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["parameters"] == 4


def test_a_damaged_record_is_named(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: is no JSON"):
        open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=True)


def test_a_folder_in_use_is_refused_before_anything_is_written(tiny_config, tmp_path):
    claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False).release()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
    lock = RunLock(tmp_path / "run")
    tiny_config.data.batch_size = 1
    with pytest.raises(InputError) as found:
        claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    lock.release()
    assert found.value.code == "run-locked"
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != ".lock"} == before


def test_a_run_that_got_its_first_checkpoint_meanwhile_is_not_started_anew(tiny_config, tmp_path):
    claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False).release()
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    with pytest.raises(InputError) as found:
        claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    assert found.value.code == "run-changed"
    claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=True).release()


def test_a_refused_folder_is_not_left_locked(tiny_config, tmp_path):
    claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False).release()
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    tiny_config.seed = 5
    for _ in range(2):
        with pytest.raises(InputError) as found:
            claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=True)
        assert found.value.code == "run-differs"


def reopened(folder, config, step, facts=FACTS):
    """Open a run that has a checkpoint of a step again, with this config."""
    (folder / "checkpoints" / str(step)).mkdir(parents=True, exist_ok=True)
    open_run_folder(folder, plain(config), facts, has_checkpoint=True)


def test_a_run_may_become_longer_and_the_new_plan_is_said(tiny_config, tmp_path, capsys):
    """Two epochs of three steps, then half a cosine from 0.01 to 0 over one epoch, or over two."""
    cosine = {"name": "cosine", "learning_rate": 0.01, "warmup": 0, "unit": "steps"}
    tiny_config.stages[1].schedule = ConfigDict(cosine)
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.stages[1].epochs = 2
    reopened(tmp_path / "run", tiny_config, 9)
    said = capsys.readouterr().err
    assert "stages[1].epochs: 1 before, 2 now" in said
    assert "extended from 3 to 4 epochs" in said
    assert "re-planned" in said
    assert "after step 9 the rate is 0.005 instead of " in said  # half-way down
    tiny_config.stages = (*tiny_config.stages, tiny_config.stages[1].copy_and_resolve_references())
    reopened(tmp_path / "run", tiny_config, 12)
    assert "extended from 4 to 6 epochs.\n" in capsys.readouterr().err
    assert len(read_json(tmp_path / "run" / "config.json")["stages"]) == 3


@pytest.mark.parametrize(("stage", "epochs"), [(0, 3), (1, 1)], ids=["of an earlier stage", "fewer"])
def test_other_changes_of_length_are_refused(tiny_config, tmp_path, stage, epochs):
    tiny_config.stages[1].epochs = 2
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.stages[stage].epochs = epochs
    with pytest.raises(InputError) as found:
        reopened(tmp_path / "run", tiny_config, 3)
    assert found.value.code == "run-differs"


def test_what_changes_rounding_only_may_change(tiny_config, tmp_path, capsys):
    """Micro-batches do so only without BatchNorm."""
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.compute.remat, tiny_config.compute.cpu_fast_conv = True, False
    reopened(tmp_path / "run", tiny_config, 3)
    assert "compute.remat: False before, True now (changes rounding only)" in capsys.readouterr().err
    tiny_config.stages[0].accumulate = 2
    with pytest.raises(InputError) as found:
        reopened(tmp_path / "run", tiny_config, 3)
    assert found.value.code == "run-differs"
    reopened(tmp_path / "run", tiny_config, 3, {**FACTS, "batch_norm": False})
    tiny_config.compute.dtype = "bfloat16"
    with pytest.raises(InputError) as found:
        reopened(tmp_path / "run", tiny_config, 3, {**FACTS, "batch_norm": False})
    assert found.value.code == "run-differs"


@pytest.mark.parametrize("with_starts", [True, False], ids=["starts", "as written before there were starts"])
def test_libraries_that_changed_since_the_last_start_are_named(tiny_config, tmp_path, capsys, with_starts):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    path = tmp_path / "run" / "run.json"
    reopened(tmp_path / "run", tiny_config, 3)
    assert "warning" not in capsys.readouterr().err
    facts = read_json(path)
    assert {"numpy", "pillow", "grain", "orbax-checkpoint", "jaxlib", "python"} <= facts["starts"][-1][
        "versions"
    ].keys()
    now = facts["optax"]
    facts["optax"] = "0.1"
    facts["starts"][-1]["versions"]["optax"] = "0.1"
    if not with_starts:
        del facts["starts"]
    write_json(path, facts)
    reopened(tmp_path / "run", tiny_config, 6)
    assert f"changed since the last start of this run: optax 0.1 -> {now}. It is resumed" in capsys.readouterr().err
    again = read_json(path)
    assert again["optax"] == "0.1"  # the first start's
    assert again["starts"][-1]["versions"]["optax"] == now
    assert again["starts"][-1]["step"] == 6
    assert len(again["starts"]) == (3 if with_starts else 1)


def test_the_config_of_a_run_comes_back_as_its_recipe_gave_it(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    found = get_config(str(tmp_path / "run"))
    assert found.to_dict() == tiny_config.to_dict()
    assert isinstance(found.stages[0], ConfigDict)


def test_a_run_with_old_field_names_and_without_new_fields_is_resumed(tiny_config, tmp_path):
    folder = tmp_path / "run"
    open_run_folder(folder, plain(tiny_config), FACTS, has_checkpoint=False)
    new = read_json(folder / "config.json")
    old = json.loads(json.dumps(new))
    old["start"] = old.pop("init")
    old["compute"]["fast"] = old["compute"].pop("cpu_fast_conv")
    names = {"blur_variant": "blur", "skip_invalid": "skip_bad", "cache_gib": "keep_gib", "aspect_jitter": "stretch"}
    names |= {"flip_and_rotate": "flip_and_turn", "crop_scale": "rescale"}
    for name, before in names.items():
        old["data"][before] = old["data"].pop(name)
    for name in ("zoom", "gain", "mixture"):  # fields that came later
        del old["data"][name]
    for stage in old["stages"]:
        stage["encoder"] = {"frozen_epochs": 0, "rate": 1.0}
    write_json(folder / "config.json", old)
    reopened(folder, tiny_config, 3)
    assert read_json(folder / "config.json") == new
    assert read_json(folder / "run.json")["starts"][-1]["changes"] == []
    tiny_config.data.gain = (0.5, 1.0)
    with pytest.raises(InputError, match=r"data.gain: \[1.0, 1.0\] before, \[0.5, 1.0\] now"):
        reopened(folder, tiny_config, 3)
