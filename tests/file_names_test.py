"""Names that are too long, or no UTF-8."""

import os
from pathlib import Path

import pytest

from jaxdeblur.errors import InputError
from jaxdeblur.file_names import printable, require_utf8, shortened


@pytest.mark.parametrize(
    ("name", "expected"), [(b"plain", "plain"), ("\u00e4\u2215".encode(), "\u00e4\u2215"), (b"a\xff\xc3", r"a\xff\xc3")]
)
def test_every_name_can_be_written(name, expected):
    assert printable(os.fsdecode(name)) == expected
    assert printable(os.fsdecode(name)).encode().decode() == expected


@pytest.mark.parametrize(
    ("stem", "ending", "length"),
    [("a", ".png", 5), ("a" * 251, ".png", 255), ("a" * 252, ".png", 255), ("\u00e4" * 200, ".png", 254)],
)
def test_names_are_cut_between_characters(stem, ending, length):
    found = shortened(stem, ending)
    assert len(found.encode()) == length
    assert found.endswith(ending)
    assert stem.startswith(found.removesuffix(ending))


def test_a_run_folder_that_is_no_utf8_is_refused(tmp_path, monkeypatch):
    bad = tmp_path / os.fsdecode(b"run\xff")
    with pytest.raises(InputError, match=r"--workdir .*run\\xff") as error:
        require_utf8(bad, "--workdir")
    assert error.value.code == "name-not-utf8"
    require_utf8(tmp_path / "\u00e4", "--workdir")
    bad.mkdir()
    monkeypatch.chdir(bad)
    with pytest.raises(InputError):
        require_utf8(Path("run"), "--workdir")
