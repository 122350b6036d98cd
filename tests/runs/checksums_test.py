"""Corrupt checkpoints are detected, named and quarantined; they are never restored, and a run never starts over."""

import shutil

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.experiment.workflows import evaluate_run
from jaxdeblur.runs.checkpoint_files import quarantine_corrupt
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.checksums import find_corruption
from jaxdeblur.runtime.sharding import abstract, create_mesh
from tests.helpers.checkpoints import make_state, save_states
from tests.helpers.runs import log_without_clock, start


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
    return rf"optimizer/.*{path.name} has a different SHA-256"


def delete_half(folder):
    for name in ("weights", "metrics"):
        shutil.rmtree(folder / name)
    return r"metrics/.* is missing"


def delete_the_checksums(folder):
    (folder / "sha256.json").unlink()
    return r"sha256.json is missing"


def truncate_the_checksums(folder):
    path = folder / "sha256.json"
    path.write_text(path.read_text()[:100])
    return r"sha256.json: is not valid JSON"


def empty_the_checksums(folder):
    (folder / "sha256.json").write_text("{}")
    return r" is not part of the checkpoint"


CORRUPTIONS = [truncate, flip_a_bit, delete_half, delete_the_checksums, truncate_the_checksums, empty_the_checksums]


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_the_corrupt_file_is_named(tmp_path, corrupt):
    folder = tmp_path / "run" / "checkpoints"
    checkpoints = save_states(folder, {1: 20.0, 2: 21.0})
    assert [find_corruption(folder / name) for name in "12"] == ["", ""]
    message = corrupt(folder / "2")
    with pytest.raises(InputError, match=rf"checkpoints/2: this checkpoint is corrupt: .*{message}") as error:
        checkpoints.restore_weights(2, abstract(lambda: make_state(0).variables, create_mesh()))
    assert error.value.code == "checkpoint-corrupt"


def test_a_corrupt_checkpoint_is_quarantined_and_the_previous_one_used(tmp_path, capsys):
    folder = tmp_path / "run" / "checkpoints"
    save_states(folder, {1: 20.0, 2: 21.0, 3: None}, keep_latest=3)
    flip_a_bit(folder / "3")
    quarantine_corrupt(folder)
    warning = capsys.readouterr().err
    assert "checkpoints/3: optimizer/" in warning
    assert f"moved to {tmp_path / 'run' / 'damaged_checkpoints' / '3'}; using an older one" in warning
    assert Checkpoints(folder, keep_latest=3, read_only=True).latest_step == 2
    save_states(folder, {3: None}, keep_latest=3)
    truncate(folder / "3")
    quarantine_corrupt(folder)
    assert sorted(path.name for path in (tmp_path / "run" / "damaged_checkpoints").iterdir()) == ["3", "3.1"]
    assert "corrupt" in capsys.readouterr().err
    quarantine_corrupt(folder)
    assert capsys.readouterr().err == ""


def test_nothing_is_moved_if_all_checkpoints_are_corrupt(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    save_states(folder, {1: 20.0, 2: 21.0})
    truncate(folder / "1")
    delete_the_checksums(folder / "2")
    with pytest.raises(InputError, match=r"(?s)All checkpoints.*/2: sha256.*/1: weights/.*another --workdir") as error:
        quarantine_corrupt(folder)
    assert error.value.code == "all-checkpoints-corrupt"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_a_checkpoint_gets_its_name_after_its_checksums(tmp_path, monkeypatch):
    """If the process is killed in between, it has neither."""

    def die(folder):
        raise KeyError(f"killed while hashing {folder.name}")

    checkpoints = save_states(tmp_path, {1: 20.0})
    monkeypatch.setattr("jaxdeblur.runs.checkpoints.write_checksums", die)
    with pytest.raises(Exception, match=r"killed while hashing 2\.orbax"):  # noqa: PT012
        checkpoints.save(make_state(2), {"stage": 0, "losses": []})
        checkpoints.wait()
    assert [path.name for path in tmp_path.iterdir() if path.name.isdigit()] == ["1"]


def test_a_run_resumes_from_the_newest_intact_checkpoint(tiny_config, tmp_path):
    """And ends bit-exactly as if uninterrupted; a corrupt best checkpoint is not evaluated."""
    _, whole, _ = start(tiny_config, tmp_path / "whole")
    start(tiny_config, tmp_path / "run", 8)
    folder = tmp_path / "run" / "checkpoints"
    steps = sorted(int(path.name) for path in folder.iterdir())
    assert steps == [3, 6, 8]  # the best one and the newest two
    flip_a_bit(folder / "8")
    flip_a_bit(folder / "6")
    finished, weights, run = start(tiny_config, tmp_path / "run")
    assert (finished, weights) == (True, whole)
    assert log_without_clock(tmp_path / "run") == log_without_clock(tmp_path / "whole")
    best = folder / str(run.checkpoints.best_step)
    truncate(best)
    with pytest.raises(InputError, match=rf"{best}: this checkpoint is corrupt: weights/"):
        evaluate_run(tiny_config, tmp_path / "run", "best")


def test_a_run_whose_checkpoints_are_all_corrupt_does_not_start_over(tiny_config, tmp_path):
    start(tiny_config, tmp_path / "run", 4)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        truncate(path)
    for _ in range(2):
        with pytest.raises(InputError) as error:
            start(tiny_config, tmp_path / "run")
        assert error.value.code == "all-checkpoints-corrupt"
