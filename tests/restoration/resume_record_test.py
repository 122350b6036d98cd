"""Results have names of their own, are told from other files, and nothing else is replaced."""

import os
import time
from pathlib import Path

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.restoration.resume_record import RECORD, Job, Record, plan_jobs, refuse_danger, stamp_of


def names(*files, file_format=None):
    """Return the names of results of files in /in that go to /out."""
    jobs = plan_jobs([Path("/in") / name for name in files], Path("/in"), Path("/out"), file_format)
    return [job.target.relative_to("/out").as_posix() for job in jobs]


def test_formats_that_can_be_lossless_are_kept_and_others_become_png():
    files = ("a.png", "b.TIF", "c.jpg", "d/e.JPEG", "f.webp", "g.bmp", "h.heic", "i", "j.gif", "k.jfif", "l.avif")
    expected = ["a.png", "b.TIF", "c.png", "d/e.png", "f.webp", "g.bmp", "h.png", "i.png", "j.png", "k.png", "l.png"]
    assert names(*files) == expected
    assert names("a.png", "b.jpeg", "c.JPG", "d.jfif", file_format="jpeg") == ["a.jpg", "b.jpeg", "c.JPG", "d.jfif"]
    assert names("a.png", "b.tif", "c.tiff", file_format="tiff") == ["a.tif", "b.tif", "c.tiff"]


def test_names_never_collide():
    assert names("a.jpg", "a.png") == ["a.jpg.png", "a.png"]
    assert names("a.jpg", "a.heic", "A.JPG") == ["a.png", "a.heic.png", "A.JPG.png"]
    assert names("a.jpg", "a.png", "a.jpg.png") == ["a.jpg.2.png", "a.png", "a.jpg.png"]
    assert names("x/a.jpg", "y/a.jpg") == ["x/a.png", "y/a.png"]
    many = [f"{stem}.{suffix}" for stem in ("a", "A", "a.png") for suffix in ("png", "PNG", "jpg", "bmp", "heic")]
    found = [name.casefold() for name in names(*many, file_format="png")]
    assert len(set(found)) == len(many)
    composed, decomposed = "\u00e9.jpg", "e\u0301.jpg"  # one name on some systems
    assert names(composed, decomposed) == ["\u00e9.png", "e\u0301.jpg.png"]


def test_names_do_not_depend_on_other_folders():
    assert names("x/a.jpg") == names("x/a.jpg", "y/b.png")[:1]


@pytest.fixture
def made(tmp_path):
    """A photograph, its job and its result with a record, as a command leaves them."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    job = Job(tmp_path / "in/a.png", tmp_path / "out/a.png", "png")
    job.source.write_bytes(b"photograph")
    job.target.write_bytes(b"result")
    record = Record(tmp_path / "out", {"weights": "w", "resize": 0})
    record.add(job, stamp_of(job.source), stamp_of(job.target))
    return job, tmp_path / "out"


def reopened(folder, **settings):
    return Record(folder, {"weights": "w", "resize": 0, **settings})


def test_a_result_is_known_again(made):
    job, folder = made
    assert reopened(folder).is_done(job)
    refuse_danger([job], reopened(folder), overwrite=False)


def test_copies_with_other_times_are_known_again(made):
    job, folder = made
    os.utime(job.source, (1, 1))
    os.utime(job.target, (1, 1))
    assert reopened(folder).is_done(job)


def test_a_result_that_is_gone_is_made_again(made):
    job, folder = made
    job.target.unlink()
    assert not reopened(folder).is_done(job)
    refuse_danger([job], reopened(folder), overwrite=False)


OBSTACLES = {
    "was restored with other settings (resize 0, not 256)": lambda job, folder: reopened(folder, resize=256),
    "was restored with other settings (weights 'w', not 'v')": lambda job, folder: reopened(folder, weights="v"),
    "exists, and is no result of this command": lambda job, folder: (
        job.target.write_bytes(b"resulT") and reopened(folder)
    ),
    "was restored before": lambda job, folder: job.source.write_bytes(b"photograpH") and reopened(folder),
}


@pytest.mark.parametrize("words", OBSTACLES)
def test_another_file_in_the_way_is_refused_unless_it_may_be_replaced(made, words):
    job, folder = made
    for path in (job.source, job.target):
        os.utime(path, (1, 1))
    record = OBSTACLES[words](job, folder)
    assert not record.is_done(job)
    with pytest.raises(InputError) as error:
        refuse_danger([job], record, overwrite=False)
    assert words in str(error.value)
    assert "--overwrite" in str(error.value)
    refuse_danger([job], record, overwrite=True)


def test_a_result_of_another_photograph_is_refused(made):
    job, folder = made
    other = Job(job.source.with_name("b.png"), job.target, "png")
    assert f"was restored from {job.source}" in reopened(folder).obstacle(other)


def test_a_file_without_a_record_is_refused(made):
    job, folder = made
    (folder / RECORD).unlink()
    assert "is no result of this command" in reopened(folder).obstacle(job)


def test_a_line_cut_short_spoils_no_other(made):
    job, folder = made
    content = (folder / RECORD).read_bytes()
    (folder / RECORD).write_bytes(content + content[:40])
    assert reopened(folder).is_done(job)
    second = Job(job.source, folder / "sub/b.png", "png")
    second.target.parent.mkdir()
    second.target.write_bytes(b"more")
    reopened(folder).add(second, stamp_of(second.source), stamp_of(second.target))
    assert reopened(folder).is_done(second)
    assert reopened(folder).is_done(job)


def test_the_last_word_on_a_result_counts(made):
    job, folder = made
    record = reopened(folder, resize=256)
    job.target.write_bytes(b"new")
    record.add(job, stamp_of(job.source), stamp_of(job.target))
    assert not reopened(folder).is_done(job)
    assert reopened(folder, resize=256).is_done(job)


def test_a_photograph_is_never_replaced(made):
    job, folder = made
    (folder / "link").symlink_to(job.source.parent)
    for target in (job.source, folder / "link" / "a.png"):
        with pytest.raises(InputError, match="never replaced"):
            refuse_danger([Job(job.source, target, "png")], reopened(folder), overwrite=True)


def test_names_of_many_photographs_are_found_in_seconds():
    start = time.process_time()
    assert len(set(names(*(f"{number}.jpg" for number in range(20_000))))) == 20_000
    assert time.process_time() - start < 5


@pytest.mark.parametrize("stem", ["x" * 251, "\u00e4" * 125 + "x"])
def test_names_are_never_longer_than_file_systems_allow(stem):
    files = [f"{stem}.jpg", f"{stem}.png", f"{stem}.bmp", f"{stem}.tif"]
    found = names(*files, file_format="png") + names(*files, file_format="webp")
    assert max(len(name.encode()) for name in found) <= 255
    assert len(set(found[:4])) == len(set(found[4:])) == 4
    assert all(name.endswith((".png", ".webp")) for name in found)
    assert len(names("y" * 255)[0]) == 255


def test_a_result_that_another_command_has_just_made_is_known(made):
    job, folder = made
    early, second = reopened(folder), Job(job.source, folder / "b.png", "png")
    second.target.write_bytes(b"more")
    reopened(folder).add(second, stamp_of(second.source), stamp_of(second.target))
    assert early.obstacle(second) == ""
    assert early.is_done(second)


@pytest.mark.parametrize("line", ['{"result": "a.png"}', '{"result": "a.png", "result_stamp": 1}', "[1]", "7", '"x"'])
def test_a_foreign_line_is_no_word_on_a_result(made, line):
    job, folder = made
    (folder / RECORD).write_text(line + "\n")
    assert "is no result of this command" in reopened(folder).obstacle(job)
