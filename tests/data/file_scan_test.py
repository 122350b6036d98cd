"""Scans of image files, and their cache, which may be corrupt or missing."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdeblur.data import file_scan
from jaxdeblur.data.file_scan import FileScan, cache_file, scan_files
from tests.helpers.images import replace_unseen


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three valid PNGs of 8x6 pixels and of equal size in bytes."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, name in enumerate("abc"):
        Image.fromarray(np.full((6, 8, 3), i, np.uint8)).save(folder / f"{name}.png", compress_level=0)
    return folder


def scan_all(folder: Path) -> dict[str, FileScan]:
    paths = sorted(folder.glob("*.*"))
    return {path.name: result for path, result in scan_files(folder, paths).items()}


def test_scan_has_size_orientation_and_hash(folder):
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (8, 6)).save(folder / "turned.jpg", exif=turned)
    (folder / "text.png").write_text("no image")
    scans = scan_all(folder)
    sha256 = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    assert scans["a.png"] == FileScan((6, 8), 1, sha256["a.png"], "")
    assert scans["turned.jpg"] == FileScan((8, 6), 6, sha256["turned.jpg"], "")
    assert scans["text.png"].sha256 == sha256["text.png"]
    assert scans["text.png"].problem.startswith("cannot be read as an image")
    assert scan_all(folder) == scans  # from the cache


def test_second_scan_decodes_nothing(folder, capsys):
    bad = b"x" * (folder / "b.png").stat().st_size
    good = (folder / "b.png").read_bytes()
    first = scan_all(folder)
    assert "decoding 3 new or changed images; 0 known" in capsys.readouterr().err
    replace_unseen(folder / "b.png", bad)
    assert scan_all(folder) == first
    assert capsys.readouterr().err == ""
    os.utime(folder / "b.png")
    scans = scan_all(folder)
    assert "cannot be read" in scans["b.png"].problem
    assert "decoding 1 new or changed images; 2 known" in capsys.readouterr().err
    # Invalid files are cached too.
    replace_unseen(folder / "b.png", good)
    assert scan_all(folder) == scans
    os.utime(folder / "b.png")
    assert scan_all(folder) == first


def test_change_of_size_alone_is_detected(folder):
    scan_all(folder)
    before = (folder / "a.png").stat()
    (folder / "a.png").write_bytes(b"short")
    os.utime(folder / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scan_all(folder)["a.png"].problem


def test_cache_drops_deleted_files_and_keeps_those_not_requested(folder):
    scan_all(folder)
    (folder / "a.png").unlink()
    Image.new("RGB", (4, 4)).save(folder / "d.png")
    scan_files(folder, [folder / "d.png"])
    assert list(json.loads(cache_file(folder).read_text())["files"]) == ["b.png", "c.png", "d.png"]


def test_link_to_a_folder_shares_its_cache(folder, tmp_path, capsys):
    scan_all(folder)
    (tmp_path / "link").symlink_to(folder)
    capsys.readouterr()
    assert scan_all(tmp_path / "link")["a.png"].size == (6, 8)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", ["", "{", "[]", '{"reader": "READER", "files": {"a.png": [1, 2]}}', "\x00"])
def test_corrupt_cache_causes_a_scan_and_a_message(folder, content, capsys):
    first = scan_all(folder)
    cache_file(folder).write_text(content.replace("READER", file_scan.READER))
    capsys.readouterr()
    assert scan_all(folder) == first
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "cannot use the cached scan" in lines[0]
    assert "decoding 3 new or changed images" in lines[1]
    assert scan_all(folder) == first
    assert capsys.readouterr().err == ""


def test_results_of_another_reader_are_discarded(folder):
    first = scan_all(folder)
    tree = json.loads(cache_file(folder).read_text())
    tree["files"]["a.png"][6] = "bad in another release"
    cache_file(folder).write_text(json.dumps(tree))
    assert scan_all(folder)["a.png"].problem == "bad in another release"
    cache_file(folder).write_text(json.dumps({**tree, "reader": "rule 0"}))
    assert scan_all(folder) == first


def test_unwritable_cache_is_reported(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert scan_all(folder)["a.png"].size == (6, 8)
    assert "cannot cache the scan" in capsys.readouterr().err


def test_location_of_the_cache(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest() + ".json"
    for value, expected in (
        (str(tmp_path / "elsewhere"), tmp_path / "elsewhere"),
        ("", tmp_path / ".cache"),
        ("not/absolute", tmp_path / ".cache"),  # as the XDG base directory specification has it
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_file(folder) == expected / "jaxdeblur" / "scans" / name


def test_unreadable_files_are_reported_and_not_cached(folder):
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    scans = scan_all(folder)
    assert scans["broken.png"].problem == "cannot be read (No such file or directory)"
    assert scans["loop.png"].problem == "cannot be read (Too many levels of symbolic links)"
    assert scans["pipe.png"].problem == "is not a regular file"
    assert list(json.loads(cache_file(folder).read_text())["files"]) == ["a.png", "b.png", "c.png"]


def test_results_before_an_interruption_are_cached(folder, monkeypatch):
    def interrupt(path: Path) -> FileScan:
        if path.name == "c.png":
            raise KeyboardInterrupt
        return scan_file(path)

    scan_file = file_scan._scan_file
    monkeypatch.setattr(file_scan, "_scan_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        scan_all(folder)
    assert list(json.loads(cache_file(folder).read_text())["files"]) == ["a.png", "b.png"]


def test_odd_names_are_cached(folder, capsys):
    content = (folder / "a.png").read_bytes()
    for name in ("Straße 5 é\u0301.png", os.fsdecode(b"\xff\xfe.png"), "a\nb.png"):
        (folder / name).write_bytes(content)
    first = scan_all(folder)
    capsys.readouterr()
    assert scan_all(folder) == first
    assert capsys.readouterr().err == ""
