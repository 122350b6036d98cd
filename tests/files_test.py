"""Atomic writes with concurrent writers, failures and leftovers; file names that are too long or not UTF-8."""

import fcntl
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.files import (
    FileFingerprint,
    FileStamp,
    atomic_write,
    exclusive_lock,
    file_sha256,
    printable,
    read_json,
    require_utf8,
    shorten_name,
    write_json,
)


def test_concurrent_writers_leave_one_complete_file(tmp_path):
    path = tmp_path / "record.json"
    contents = [{"writer": number, "values": list(range(2000))} for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: write_json(path, content), contents * 5))
    assert json.loads(path.read_text()) in contents
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_failed_write_leaves_old_file(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, [1])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, [float("nan")])
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_json(tmp_path / "folder.json", [1])
    assert json.loads(path.read_text()) == [1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.json", "record.json"]


@pytest.mark.parametrize(
    ("name", "expected"), [(b"plain", "plain"), ("\u00e4\u2215".encode(), "\u00e4\u2215"), (b"a\xff\xc3", r"a\xff\xc3")]
)
def test_printable_escapes_non_utf8_bytes(name, expected):
    assert printable(os.fsdecode(name)) == expected
    assert printable(os.fsdecode(name)).encode().decode() == expected


@pytest.mark.parametrize(
    ("stem", "ending", "length"),
    [("a", ".png", 5), ("a" * 251, ".png", 255), ("a" * 252, ".png", 255), ("\u00e4" * 200, ".png", 254)],
)
def test_names_are_truncated_between_characters(stem, ending, length):
    shortened = shorten_name(stem, ending)
    assert len(shortened.encode()) == length
    assert shortened.endswith(ending)
    assert stem.startswith(shortened.removesuffix(ending))


def test_workdir_that_is_not_utf8_is_refused(tmp_path, monkeypatch):
    bad = tmp_path / os.fsdecode(b"run\xff")
    with pytest.raises(InputError, match=r"--workdir .*run\\xff") as error:
        require_utf8(bad, "--workdir")
    assert error.value.code == "name-not-utf8"
    require_utf8(tmp_path / "\u00e4", "--workdir")
    bad.mkdir()
    monkeypatch.chdir(bad)
    with pytest.raises(InputError):
        require_utf8(Path("run"), "--workdir")


def test_atomic_write_replaces_on_success_only(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"old")
        assert not path.exists()

    def fail():
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_leftover_of_a_killed_writer_is_overwritten(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"1")
    temporary.write_bytes(bytes(1000))
    with atomic_write(path) as second:
        assert second == temporary
        assert second.stat().st_size == 0
        second.write_bytes(b"2")
    assert path.read_bytes() == b"2"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_simultaneous_writers_use_different_temporary_files(tmp_path):
    path = tmp_path / "a.bin"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # closed last
    assert os.listdir(tmp_path) == ["a.bin"]


def test_file_system_without_locks_gets_random_names(tmp_path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError("no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "a.bin"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert os.listdir(tmp_path) == ["a.bin"]


def test_temporary_name_of_the_longest_name_fits(tmp_path):
    path = tmp_path / ("x" * 255)
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"1")
    assert path.read_bytes() == b"1"


def test_lock_is_exclusive_and_released(tmp_path):
    held = InputError("held", code="held")
    for _ in range(2):
        with exclusive_lock(tmp_path, held):
            with pytest.raises(InputError) as error, exclusive_lock(tmp_path, held):
                pass
            assert error.value.code == "held"


def test_json_errors_have_codes(tmp_path):
    with pytest.raises(InputError) as error:
        read_json(tmp_path / "gone.json")
    assert error.value.code == "json-unreadable"
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError) as error:
        read_json(tmp_path / "a.json")
    assert error.value.code == "json-corrupt"


def test_hash_and_stamp(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    assert file_sha256(path) == hashlib.sha256(b"content").hexdigest()
    stamp = FileStamp.of(path)
    assert stamp == FileStamp(7, path.stat().st_mtime_ns)
    path.write_bytes(b"contents")
    assert FileStamp.of(path) != stamp


def test_fingerprint_matches_equal_content_only(tmp_path):
    path, copy = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"content")
    fingerprint = FileFingerprint.of(path)
    assert FileFingerprint.from_json(fingerprint.to_json()) == fingerprint
    copy.write_bytes(b"content")
    os.utime(copy, ns=(0, 0))
    assert fingerprint.matches(path)
    assert fingerprint.matches(copy)
    for content in (b"CONTENT", b"longer content"):
        copy.write_bytes(content)
        assert not fingerprint.matches(copy)
    assert not fingerprint.matches(tmp_path / "missing")
