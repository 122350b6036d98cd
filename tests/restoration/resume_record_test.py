"""The record tells finished results from other files, and nothing else is overwritten."""

import json
import os

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.files import FileFingerprint
from jaxdeblur.restoration.jobs import Job
from jaxdeblur.restoration.resume_record import RECORD, Record, check_targets


@pytest.fixture
def restored(tmp_path):
    """A job whose result exists and is in the record, and the folder of results."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    job = Job(tmp_path / "in/a.png", tmp_path / "out/a.png", "png")
    job.source.write_bytes(b"photo")
    job.target.write_bytes(b"result")
    add(Record(tmp_path / "out", {"weights": "w", "resize": 0}), job)
    return job, tmp_path / "out"


def add(record, job):
    record.add(job, FileFingerprint.of(job.source), FileFingerprint.of(job.target))


def reopen(folder, **settings):
    return Record(folder, {"weights": "w", "resize": 0, **settings})


def test_a_result_is_recognised(restored):
    job, folder = restored
    assert reopen(folder).is_done(job)
    check_targets([job], reopen(folder), overwrite=False)


def test_the_stored_format_is_stable(restored):
    job, folder = restored
    assert json.loads((folder / RECORD).read_text()) == {
        "result": "a.png",
        "photograph": str(job.source),
        "settings": {"weights": "w", "resize": 0},
        "photograph_stamp": [5, job.source.stat().st_mtime_ns, FileFingerprint.of(job.source).sha256],
        "result_stamp": [6, job.target.stat().st_mtime_ns, FileFingerprint.of(job.target).sha256],
    }


def test_copies_with_other_times_are_recognised(restored):
    job, folder = restored
    os.utime(job.source, (1, 1))
    os.utime(job.target, (1, 1))
    assert reopen(folder).is_done(job)


def test_a_removed_result_is_not_done(restored):
    job, folder = restored
    job.target.unlink()
    assert not reopen(folder).is_done(job)
    check_targets([job], reopen(folder), overwrite=False)


OBSTACLES = {
    "was restored with other settings (resize 0, not 256)": lambda job, folder: reopen(folder, resize=256),
    "was restored with other settings (weights 'w', not 'v')": lambda job, folder: reopen(folder, weights="v"),
    "exists, and is not a result of this command": lambda job, folder: (
        job.target.write_bytes(b"resulT") and reopen(folder)
    ),
    "was restored before": lambda job, folder: job.source.write_bytes(b"photO") and reopen(folder),
}


@pytest.mark.parametrize("message", OBSTACLES)
def test_other_files_are_only_overwritten_if_requested(restored, message):
    job, folder = restored
    for path in (job.source, job.target):
        os.utime(path, (1, 1))
    record = OBSTACLES[message](job, folder)
    assert not record.is_done(job)
    with pytest.raises(InputError) as error:
        check_targets([job], record, overwrite=False)
    assert error.value.code == "target-exists"
    assert message in str(error.value)
    check_targets([job], record, overwrite=True)


def test_a_result_of_another_photo_is_an_obstacle(restored):
    job, folder = restored
    other = Job(job.source.with_name("b.png"), job.target, "png")
    assert f"was restored from {job.source}" in reopen(folder).obstacle(other)


def test_a_file_without_a_record_is_an_obstacle(restored):
    job, folder = restored
    (folder / RECORD).unlink()
    assert "is not a result of this command" in reopen(folder).obstacle(job)


def test_a_truncated_line_does_not_affect_others(restored):
    job, folder = restored
    content = (folder / RECORD).read_bytes()
    (folder / RECORD).write_bytes(content + content[:40])
    assert reopen(folder).is_done(job)
    second = Job(job.source, folder / "sub/b.png", "png")
    second.target.parent.mkdir()
    second.target.write_bytes(b"more")
    add(reopen(folder), second)
    assert reopen(folder).is_done(second)
    assert reopen(folder).is_done(job)


def test_the_last_line_of_a_result_counts(restored):
    job, folder = restored
    record = reopen(folder, resize=256)
    job.target.write_bytes(b"new")
    add(record, job)
    assert not reopen(folder).is_done(job)
    assert reopen(folder, resize=256).is_done(job)


def test_an_input_is_never_overwritten(restored):
    job, folder = restored
    (folder / "link").symlink_to(job.source.parent)
    for target in (job.source, folder / "link" / "a.png"):
        with pytest.raises(InputError) as error:
            check_targets([Job(job.source, target, "png")], reopen(folder), overwrite=True)
        assert error.value.code == "target-is-source"


def test_a_result_that_another_command_has_just_written_is_recognised(restored):
    job, folder = restored
    early, second = reopen(folder), Job(job.source, folder / "b.png", "png")
    second.target.write_bytes(b"more")
    add(reopen(folder), second)
    assert early.obstacle(second) == ""
    assert early.is_done(second)


@pytest.mark.parametrize("line", ['{"result": "a.png"}', '{"result": "a.png", "result_stamp": 1}', "[1]", "7", '"x"'])
def test_a_foreign_line_is_ignored(restored, line):
    job, folder = restored
    (folder / RECORD).write_text(line + "\n")
    assert "is not a result of this command" in reopen(folder).obstacle(job)
