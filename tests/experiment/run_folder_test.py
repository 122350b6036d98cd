"""A run's folder can only be resumed by the same run."""

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


def test_a_new_folder_gets_config_json_and_run_json(tiny_config, tmp_path):
    folder = tmp_path / "runs" / "new"
    open_run_folder(folder, plain(tiny_config), FACTS, has_checkpoint=False)
    config, facts = (json.loads((folder / name).read_text()) for name in ("config.json", "run.json"))
    assert config["stages"][1]["optimizer"] == {"name": "sgd", "momentum": 0.0}
    assert facts["parameters"] == 3
    assert "cpu" in facts["devices"]


def test_harmless_fields_may_change_on_resume(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.log.every_steps = 7
    tiny_config.data.root = "/elsewhere"
    tiny_config.evaluation.sample_count = 1
    changed = {**FACTS, "data_sha256": {"train": "abc", "test": "one pair less"}, "parameters": 5}
    open_run_folder(tmp_path / "run", plain(tiny_config), changed, has_checkpoint=True)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["parameters"], facts["data_sha256"]["test"]) == (3, "one pair less")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["log"]["every_steps"] == 7


def test_a_config_of_another_run_is_refused_with_the_differences(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    before = (tmp_path / "run" / "config.json").read_text()
    tiny_config.stages[1].schedule.learning_rate = 0.5
    tiny_config.model.width = 8
    other = {**FACTS, "data_sha256": {"train": "other", "test": "t"}}
    with pytest.raises(InputError) as error:
        open_run_folder(tmp_path / "run", plain(tiny_config), other, has_checkpoint=True)
    for message in (
        "stages[1].schedule.learning_rate: 0.01 before, 0.5 now",
        "model.width: 4 before, 8 now",
        "training pairs: 'abc' before, 'other' now",
        "Choose another --workdir",
    ):
        assert message in str(error.value)
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_mixture_data_may_move_but_not_change(tiny_config, tmp_path):
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
    for message in (
        "data.mixture[0].share: 0.5 before, 0.4 now",
        "training pairs of data.mixture[0]: 'm' before, 'n' now",
    ):
        assert message in str(error.value)
    assert ".root:" not in str(error.value)


def test_a_folder_with_other_files_is_refused_and_left_unchanged(tiny_config, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds files, but not a run"):
        open_run_folder(tmp_path, plain(tiny_config), FACTS, has_checkpoint=False)
    with pytest.raises(InputError, match="holds files, but not a run"):
        open_run_folder(tmp_path / "letter.txt", plain(tiny_config), FACTS, has_checkpoint=False)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["letter.txt"]


def test_a_folder_that_cannot_be_written_is_refused(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to .*Choose another folder"):
        open_run_folder(tmp_path / "file" / "run", plain(tiny_config), FACTS, has_checkpoint=False)


def test_a_run_without_a_checkpoint_may_change_its_config(tiny_config, tmp_path):
    """Such as after running out of memory in the first step, or a full disk while the folder was created."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json.tmp").write_text("")
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.data.batch_size = 1
    open_run_folder(tmp_path / "run", plain(tiny_config), {**FACTS, "parameters": 4}, has_checkpoint=False)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["batch_size"] == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["parameters"] == 4


def test_a_corrupt_config_json_is_refused(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config.json: is not valid JSON"):
        open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=True)


def test_a_locked_folder_is_refused_and_left_unchanged(tiny_config, tmp_path):
    claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False).release()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
    lock = RunLock(tmp_path / "run")
    tiny_config.data.batch_size = 1
    with pytest.raises(InputError) as error:
        claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    lock.release()
    assert error.value.code == "run-locked"
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != ".lock"} == before


def test_a_run_that_another_process_just_started_is_not_restarted(tiny_config, tmp_path):
    claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False).release()
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    with pytest.raises(InputError) as error:
        claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    assert error.value.code == "run-changed"
    claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=True).release()


def test_a_refused_start_releases_the_lock(tiny_config, tmp_path):
    claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False).release()
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    tiny_config.seed = 5
    for _ in range(2):
        with pytest.raises(InputError) as error:
            claim_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=True)
        assert error.value.code == "run-differs"


def resume(folder, config, step, facts=FACTS):
    """Resume a run that has a checkpoint of `step` with this config."""
    (folder / "checkpoints" / str(step)).mkdir(parents=True, exist_ok=True)
    open_run_folder(folder, plain(config), facts, has_checkpoint=True)


def test_extending_a_run_is_allowed_and_the_new_schedule_is_logged(tiny_config, tmp_path, capsys):
    """Two epochs of three steps, then half a cosine from 0.01 to 0 over one epoch, or over two."""
    cosine = {"name": "cosine", "learning_rate": 0.01, "warmup": 0, "unit": "steps"}
    tiny_config.stages[1].schedule = ConfigDict(cosine)
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.stages[1].epochs = 2
    resume(tmp_path / "run", tiny_config, 9)
    log = capsys.readouterr().err
    assert "stages[1].epochs: 1 before, 2 now" in log
    assert "extended from 3 to 4 epochs" in log
    assert "re-planned" in log
    assert "after step 9 the rate is 0.005 instead of " in log  # half-way down
    tiny_config.stages = (*tiny_config.stages, tiny_config.stages[1].copy_and_resolve_references())
    resume(tmp_path / "run", tiny_config, 12)
    assert "extended from 4 to 6 epochs.\n" in capsys.readouterr().err
    assert len(read_json(tmp_path / "run" / "config.json")["stages"]) == 3


@pytest.mark.parametrize(("stage", "epochs"), [(0, 3), (1, 1)], ids=["of an earlier stage", "fewer"])
def test_shortening_or_changing_an_earlier_stage_is_refused(tiny_config, tmp_path, stage, epochs):
    tiny_config.stages[1].epochs = 2
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.stages[stage].epochs = epochs
    with pytest.raises(InputError) as error:
        resume(tmp_path / "run", tiny_config, 3)
    assert error.value.code == "run-differs"


def test_fields_that_change_only_rounding_may_change_on_resume(tiny_config, tmp_path, capsys):
    """Gradient accumulation only does without BatchNorm."""
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    tiny_config.compute.remat, tiny_config.compute.cpu_fast_conv = True, False
    resume(tmp_path / "run", tiny_config, 3)
    assert "compute.remat: False before, True now (changes rounding only)" in capsys.readouterr().err
    tiny_config.stages[0].accumulate = 2
    with pytest.raises(InputError) as error:
        resume(tmp_path / "run", tiny_config, 3)
    assert error.value.code == "run-differs"
    resume(tmp_path / "run", tiny_config, 3, {**FACTS, "batch_norm": False})
    tiny_config.compute.dtype = "bfloat16"
    with pytest.raises(InputError) as error:
        resume(tmp_path / "run", tiny_config, 3, {**FACTS, "batch_norm": False})
    assert error.value.code == "run-differs"


@pytest.mark.parametrize("with_starts", [True, False], ids=["current", "without starts"])
def test_changed_library_versions_are_logged_on_resume(tiny_config, tmp_path, capsys, with_starts):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    path = tmp_path / "run" / "run.json"
    resume(tmp_path / "run", tiny_config, 3)
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
    resume(tmp_path / "run", tiny_config, 6)
    assert f"changed since the last start of this run: optax 0.1 -> {now}. It is resumed" in capsys.readouterr().err
    resumed = read_json(path)
    assert resumed["optax"] == "0.1"  # the first start's
    assert resumed["starts"][-1]["versions"]["optax"] == now
    assert resumed["starts"][-1]["step"] == 6
    assert len(resumed["starts"]) == (3 if with_starts else 1)


def test_a_saved_config_round_trips(tiny_config, tmp_path):
    open_run_folder(tmp_path / "run", plain(tiny_config), FACTS, has_checkpoint=False)
    saved = get_config(str(tmp_path / "run"))
    assert saved.to_dict() == tiny_config.to_dict()
    assert isinstance(saved.stages[0], ConfigDict)


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
    resume(folder, tiny_config, 3)
    assert read_json(folder / "config.json") == new
    assert read_json(folder / "run.json")["starts"][-1]["changes"] == []
    tiny_config.data.gain = (0.5, 1.0)
    with pytest.raises(InputError, match=r"data.gain: \[1.0, 1.0\] before, \[0.5, 1.0\] now"):
        resume(folder, tiny_config, 3)
