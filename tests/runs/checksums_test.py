"""Damage to a checkpoint is found, named and got round; never restored, never a reason to start anew."""

import shutil

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.experiment.workflows import evaluate_run
from jaxdeblur.runs.checkpoint_files import set_damaged_aside
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.checksums import find_damage
from jaxdeblur.runtime.sharding import abstract, create_mesh
from tests.helpers.runs import log_without_clock, start
from tests.runs.checkpoints_test import make_state, saved


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder):
    path = largest_file(folder / "weights")
    path.write_bytes(path.read_bytes()[:-1])
    return rf"weights/.*{path.name} has {path.stat().st_size} bytes, expected {path.stat().st_size + 1}"


def flip_a_bit(folder):
    path = largest_file(folder / "optimizer")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)
    return rf"optimizer/.*{path.name} has other content than was written"


def delete_half(folder):
    for name in ("weights", "metrics"):
        shutil.rmtree(folder / name)
    return r"metrics/.* is missing"


def delete_the_manifest(folder):
    (folder / "sha256.json").unlink()
    return r"sha256.json is missing"


def cut_the_manifest(folder):
    path = folder / "sha256.json"
    path.write_text(path.read_text()[:100])
    return r"sha256.json: is no JSON"


def empty_the_manifest(folder):
    (folder / "sha256.json").write_text("{}")
    return r" does not belong to it"


DAMAGES = [truncate, flip_a_bit, delete_half, delete_the_manifest, cut_the_manifest, empty_the_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(tmp_path, damage):
    folder = tmp_path / "run" / "checkpoints"
    checkpoints = saved(folder, {1: 20.0, 2: 21.0})
    assert [find_damage(folder / name) for name in "12"] == ["", ""]
    words = damage(folder / "2")
    with pytest.raises(InputError, match=rf"checkpoints/2: this checkpoint is damaged: .*{words}"):
        checkpoints.restore_weights(2, abstract(lambda: make_state(0).variables, create_mesh()))


def test_a_damaged_checkpoint_is_moved_aside_and_the_one_before_used(tmp_path, capsys):
    folder = tmp_path / "run" / "checkpoints"
    saved(folder, {1: 20.0, 2: 21.0, 3: None}, keep_latest=3)
    flip_a_bit(folder / "3")
    set_damaged_aside(folder)
    said = capsys.readouterr().err
    assert "checkpoints/3: optimizer/" in said
    assert f"moved to {tmp_path / 'run' / 'damaged_checkpoints' / '3'}, and an older one is used" in said
    assert Checkpoints(folder, keep_latest=3).latest_step == 2
    saved(folder, {3: None}, keep_latest=3)
    truncate(folder / "3")
    set_damaged_aside(folder)
    assert sorted(path.name for path in (tmp_path / "run" / "damaged_checkpoints").iterdir()) == ["3", "3.1"]
    assert "damaged" in capsys.readouterr().err
    set_damaged_aside(folder)
    assert capsys.readouterr().err == ""


def test_with_no_good_one_left_nothing_is_touched(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    saved(folder, {1: 20.0, 2: 21.0})
    truncate(folder / "1")
    delete_the_manifest(folder / "2")
    with pytest.raises(InputError, match=r"(?s)All checkpoints.*/2: sha256.*/1: weights/.*another --workdir"):
        set_damaged_aside(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_a_checkpoint_gets_its_name_after_its_manifest(tmp_path, monkeypatch):
    """Killed at any moment, it has both or neither."""

    def die(folder):
        raise KeyError(f"killed while hashing {folder.name}")

    checkpoints = saved(tmp_path, {1: 20.0})
    monkeypatch.setattr("jaxdeblur.runs.checkpoints.write_manifest", die)
    with pytest.raises(Exception, match=r"killed while hashing 2\.orbax"):  # noqa: PT012
        checkpoints.save(make_state(2), {"stage": 0, "losses": []})
        checkpoints.wait()
    assert [path.name for path in tmp_path.iterdir() if path.name.isdigit()] == ["1"]


def test_a_run_goes_on_from_the_checkpoint_before(tiny_config, tmp_path):
    """And ends bitwise as if nothing was; with a damaged best one, scoring it is refused."""
    _, whole, _ = start(tiny_config, tmp_path / "whole")
    start(tiny_config, tmp_path / "run", 8)
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["3", "6", "8"] or len([*folder.iterdir()]) == 2
    flip_a_bit(folder / "8")
    flip_a_bit(folder / "6")
    if not (folder / "3").exists():
        pytest.fail("the tiny run keeps its first checkpoint as the best one")
    finished, weights, run = start(tiny_config, tmp_path / "run")
    assert (finished, weights) == (True, whole)
    assert log_without_clock(tmp_path / "run") == log_without_clock(tmp_path / "whole")
    best = folder / str(run.checkpoints.best_step)
    truncate(best)
    with pytest.raises(InputError, match=rf"{best}: this checkpoint is damaged: weights/"):
        evaluate_run(tiny_config, tmp_path / "run", "best")


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew(tiny_config, tmp_path):
    start(tiny_config, tmp_path / "run", 4)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        truncate(path)
    for _ in range(2):
        with pytest.raises(InputError, match="All checkpoints of this run are damaged"):
            start(tiny_config, tmp_path / "run")
