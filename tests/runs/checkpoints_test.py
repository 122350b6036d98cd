"""Checkpoints: which are kept, what is restored, and failed writes."""

import errno
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.runs.checkpoint_files import SCORE_FILE, explain_failed_write, quarantine_corrupt
from jaxdeblur.runs.checkpoints import Checkpoints
from jaxdeblur.runs.checksums import find_corruption
from jaxdeblur.runtime.sharding import abstract, create_mesh
from jaxdeblur.training.optimizer import Encoder, create_optimizer
from tests.helpers.checkpoints import make_state, save_states
from tests.helpers.configs import named


def test_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = save_states(tmp_path, {1: 20.0, 2: 27.0, 3: 25.0, 4: 26.0, 5: None})
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 4, 5]
    assert (checkpoints.latest_step, checkpoints.best_step) == (5, 2)
    reopened = Checkpoints(tmp_path, keep_latest=2)
    assert (reopened.latest_step, reopened.best_step) == (5, 2)


def test_there_is_no_best_before_a_validation(tmp_path):
    assert Checkpoints(tmp_path, keep_latest=1).latest_step is None
    assert save_states(tmp_path, {1: None}).best_step is None


def test_state_and_progress_are_restored(tmp_path):
    save_states(tmp_path, {3: 20.0, 4: None})
    checkpoints, mesh = Checkpoints(tmp_path, keep_latest=2), create_mesh()
    state = checkpoints.restore(4, abstract(lambda: make_state(0), mesh))
    expected = make_state(4)
    for actual, expected_leaf in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(actual, expected_leaf)
    assert checkpoints.progress(4) == {"stage": 0, "losses": [0.5, 4]}
    weights = checkpoints.restore_weights(3, abstract(lambda: make_state(0).variables, mesh))
    np.testing.assert_array_equal(weights["params"]["layer"]["kernel"], [3, 4, 5])
    np.testing.assert_array_equal(weights["batch_stats"]["layer"], [3, 3])


def test_readers_get_the_ema_and_training_resumes_from_the_raw_parameters(tmp_path):
    """With an optimizer that treats the encoder separately, whose state has its own structure."""
    adam = named(name="adam", b1=0.9, b2=0.999, eps=1e-8)
    tx = create_optimizer(adam, optax.constant_schedule(0.1), 1.0, Encoder("layer", 0, 0.5))

    def make(offset):
        plain = make_state(7)
        params = {**jax.tree.map(lambda leaf: leaf + offset, plain.params), "rest": jnp.ones(2) + offset}
        average = jax.tree.map(lambda leaf: 2 * leaf, params)
        state = jax.tree.map(lambda leaf: leaf + jnp.asarray(offset, leaf.dtype), tx.init(params))
        return plain.replace(params=params, ema_params=average, tx=tx, opt_state=state)

    checkpoints, mesh = Checkpoints(tmp_path, keep_latest=2), create_mesh()
    checkpoints.save(make(3), {"stage": 0, "losses": []})
    checkpoints.wait()
    restored = checkpoints.restore(7, abstract(lambda: make(0), mesh))
    assert jax.tree.structure(restored) == jax.tree.structure(make(0))
    for actual, expected_leaf in zip(jax.tree.leaves(restored), jax.tree.leaves(make(3)), strict=True):
        np.testing.assert_array_equal(actual, expected_leaf)
    weights = checkpoints.restore_weights(7, abstract(lambda: make(0).variables, mesh))
    np.testing.assert_array_equal(weights["params"]["rest"], [8, 8])


def test_a_saved_step_is_not_overwritten(tmp_path):
    checkpoints = save_states(tmp_path, {3: 20.0})
    checkpoints.save(make_state(3), {"stage": 9, "losses": []})
    checkpoints.wait()
    assert checkpoints.progress(3)["stage"] == 0


def test_a_checkpoint_that_does_not_fit_is_refused_and_earlier_ones_stay(small_disk):
    checkpoints = Checkpoints(small_disk, keep_latest=2)
    checkpoints.save(make_state(1, size=20_000), {"stage": 0, "losses": []})
    checkpoints.wait()
    with pytest.raises(InputError, match=r"takes 24 MB, but the disk has only . MB free") as error:
        checkpoints.save(make_state(2, size=2_000_000), {"stage": 0, "losses": []})
    assert error.value.code == "disk-full"
    state = Checkpoints(small_disk, keep_latest=2).restore(1, abstract(lambda: make_state(0, 20_000), create_mesh()))
    np.testing.assert_array_equal(state.params["layer"]["kernel"], make_state(1, 20_000).params["layer"]["kernel"])


def test_a_disk_that_fills_up_during_a_save_is_reported(small_disk, monkeypatch):
    """The check of the free space passes, as if another program took the space just afterwards."""
    checkpoints = Checkpoints(small_disk, keep_latest=2)
    checkpoints.save(make_state(1, size=20_000), {"stage": 0, "losses": []})
    checkpoints.wait()
    monkeypatch.setattr("jaxdeblur.runs.checkpoints.check_disk_space", lambda *arguments: None)
    state = make_state(2, size=2_000_000)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=2_000_000).astype(np.float32))
    state = state.replace(params={"layer": {"kernel": noise}})
    with pytest.raises(InputError) as error:  # noqa: PT012
        checkpoints.save(state, {"stage": 0, "losses": []})
        checkpoints.wait()
    assert error.value.code == "disk-full"
    reopened = Checkpoints(small_disk, keep_latest=2)
    assert reopened.latest_step == 1


def test_a_read_only_disk_is_not_reported_as_full(small_disk):
    checkpoints = Checkpoints(small_disk, keep_latest=2)
    checkpoints.save(make_state(1), {"stage": 0, "losses": []})
    checkpoints.wait()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(InputError, match="Read-only file system") as error:  # noqa: PT012
        checkpoints.save(make_state(2), {"stage": 0, "losses": []})
        checkpoints.wait()
    assert error.value.code == "checkpoint-write"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota-exceeded"),
        (ValueError("RESOURCE_EXHAUSTED: Error writing x: No space left on device [os_error_code='28']"), "disk-full"),
        (ValueError("Error writing x: Permission denied [os_error_code='13']"), "checkpoint-write"),
        (ValueError("Error writing x: [OS error 5: EIO Input/output error]"), "checkpoint-write"),
    ],
)
def test_a_failed_write_is_explained_by_its_errno(tmp_path, error, code):
    outer = RuntimeError("saving failed")
    outer.__cause__, error.__context__ = error, outer  # a cycle, as orbax chains them
    assert explain_failed_write(tmp_path, outer).code == code


def test_an_error_without_errno_is_not_explained(tmp_path):
    error = ValueError("Error writing: a mistake in the program")
    assert explain_failed_write(tmp_path, error) is error


def test_a_checkpoint_stays_intact_while_its_score_is_added(tmp_path, monkeypatch):
    """Even if the process is killed between writing the score and its checksum."""
    checkpoints = save_states(tmp_path, {1: 20.0, 2: None})
    monkeypatch.setattr("jaxdeblur.runs.checkpoint_files.add_checksum", lambda folder, name: None)
    checkpoints.record_validation(2, 21.5)
    assert find_corruption(tmp_path / "1") == ""
    assert find_corruption(tmp_path / "2", optional=SCORE_FILE) == ""
    quarantine_corrupt(tmp_path)
    again = Checkpoints(tmp_path, keep_latest=2, read_only=True)
    assert (again.latest_step, again.best_step, again.validation_psnr(2)) == (2, 2, 21.5)


def test_a_superseded_best_checkpoint_is_deleted_once_the_newest_is_scored(tmp_path):
    checkpoints = save_states(tmp_path, {1: 25.0, 2: 20.0}, keep_latest=1)
    assert checkpoints.steps == [1, 2]
    checkpoints.save(make_state(3), {"stage": 0, "losses": []})
    checkpoints.wait()
    assert checkpoints.steps == [1, 3]
    checkpoints.record_validation(3, 26.0)
    assert checkpoints.steps == [3]


def test_a_reader_does_not_touch_a_checkpoint_being_written(tmp_path):
    save_states(tmp_path, {1: 20.0})
    unfinished = tmp_path / "2.orbax-checkpoint-tmp"
    unfinished.mkdir()
    reader = Checkpoints(tmp_path, keep_latest=1, read_only=True)
    assert reader.steps == [1]
    assert unfinished.is_dir()


def test_a_checkpoint_removed_by_training_is_not_reported_as_corrupt(tmp_path):
    save_states(tmp_path, {1: 20.0, 2: 21.0})
    reader = Checkpoints(tmp_path, keep_latest=1, read_only=True)
    shutil.rmtree(tmp_path / "2")
    with pytest.raises(InputError) as error:
        reader.restore_weights(2, abstract(lambda: make_state(0).variables, create_mesh()))
    assert error.value.code == "checkpoint-removed"
    assert reader.best_step == 2
    step, weights = reader.restore_best(abstract(lambda: make_state(0).variables, create_mesh()))
    assert step == 1
    np.testing.assert_array_equal(weights["params"]["layer"]["kernel"], [1, 2, 3])
