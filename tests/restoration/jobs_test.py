"""Every photo gets its own target."""

import time
from pathlib import Path

import pytest

from jaxdeblur.restoration.jobs import plan_jobs


def names(*files, file_format=None):
    """Return the target names of files in /in that are restored to /out."""
    jobs = plan_jobs([Path("/in") / name for name in files], Path("/in"), Path("/out"), file_format)
    return [job.target.relative_to("/out").as_posix() for job in jobs]


def test_lossless_formats_are_kept_and_others_become_png():
    files = ("a.png", "b.TIF", "c.jpg", "d/e.JPEG", "f.webp", "g.bmp", "h.heic", "i", "j.gif", "k.jfif", "l.avif")
    expected = ["a.png", "b.TIF", "c.png", "d/e.png", "f.webp", "g.bmp", "h.png", "i.png", "j.png", "k.png", "l.png"]
    assert names(*files) == expected
    assert names("a.png", "b.jpeg", "c.JPG", "d.jfif", file_format="jpeg") == ["a.jpg", "b.jpeg", "c.JPG", "d.jfif"]
    assert names("a.png", "b.tif", "c.tiff", file_format="tiff") == ["a.tif", "b.tif", "c.tiff"]


def test_targets_never_collide():
    assert names("a.jpg", "a.png") == ["a.jpg.png", "a.png"]
    assert names("a.jpg", "a.heic", "A.JPG") == ["a.png", "a.heic.png", "A.JPG.png"]
    assert names("a.jpg", "a.png", "a.jpg.png") == ["a.jpg.2.png", "a.png", "a.jpg.png"]
    assert names("x/a.jpg", "y/a.jpg") == ["x/a.png", "y/a.png"]
    many = [f"{stem}.{suffix}" for stem in ("a", "A", "a.png") for suffix in ("png", "PNG", "jpg", "bmp", "heic")]
    casefolded = [name.casefold() for name in names(*many, file_format="png")]
    assert len(set(casefolded)) == len(many)
    composed, decomposed = "\u00e9.jpg", "e\u0301.jpg"  # the same name on some systems
    assert names(composed, decomposed) == ["\u00e9.png", "e\u0301.jpg.png"]


def test_targets_do_not_depend_on_other_folders():
    assert names("x/a.jpg") == names("x/a.jpg", "y/b.png")[:1]


def test_planning_many_photos_takes_linear_time():
    start = time.process_time()
    assert len(set(names(*(f"{number}.jpg" for number in range(20_000))))) == 20_000
    assert time.process_time() - start < 5


@pytest.mark.parametrize("stem", ["x" * 251, "\u00e4" * 125 + "x"])
def test_names_are_never_longer_than_file_systems_allow(stem):
    files = [f"{stem}.jpg", f"{stem}.png", f"{stem}.bmp", f"{stem}.tif"]
    targets = names(*files, file_format="png") + names(*files, file_format="webp")
    assert max(len(name.encode()) for name in targets) <= 255
    assert len(set(targets[:4])) == len(set(targets[4:])) == 4
    assert all(name.endswith((".png", ".webp")) for name in targets)
    assert len(names("y" * 255)[0]) == 255
