"""Every way in which a pair can be bad: each named, all in one error, and left out where that is asked for."""

import os
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from jaxdeblur.data.paired_folders import open_folder
from jaxdeblur.errors import InputError
from tests.helpers.images import save_noise, save_pair


def missing_twin(scene: Path) -> str:
    blur, sharp = save_pair(scene)
    sharp.unlink()
    return f"{blur}: its twin {scene}/sharp/1.* is missing"


def missing_blurred_twin(scene: Path) -> str:
    blur, sharp = save_pair(scene, "2.png")
    blur.unlink()
    return f"{sharp}: its twin {scene}/blur/2.* is missing"


def duplicate_stem(scene: Path) -> str:
    blur, _ = save_pair(scene, "3.png")
    save_noise(blur.with_suffix(".JPG"))
    return f"{scene}/blur/3.JPG: has the same name as {scene}/blur/3.png; keep one of them"


def mismatched_sizes(scene: Path) -> str:
    blur, sharp = save_pair(scene, "4.png")
    save_noise(sharp, (24, 20))
    return f"{blur}: 20x24 pixels, but its twin {sharp} has 24x20"


def zero_bytes(scene: Path) -> str:
    _, sharp = save_pair(scene, "5.png")
    sharp.write_bytes(b"")
    return f"{sharp}: cannot be read as an image (0 bytes)"


def truncated_png(scene: Path) -> str:
    blur, _ = save_pair(scene, "6.png")
    blur.write_bytes(blur.read_bytes()[:-200])
    return f"{blur}: cannot be read as an image (image file is truncated"


def text_named_png(scene: Path) -> str:
    blur, _ = save_pair(scene, "7.png")
    blur.write_text("a shopping list")
    return f"{blur}: cannot be read as an image (no PNG, JPEG, WebP, TIFF or AVIF, or cut short)"


def decompression_bomb(scene: Path) -> str:
    _, sharp = save_pair(scene, "8.png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = b"\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))
    sharp.write_bytes(b"\x89PNG\r\n\x1a\n" + body + b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82")
    return f"{sharp}: cannot be read as an image (Image size (3600000000 pixels) exceeds limit"


def smaller_than_the_crop(scene: Path) -> str:
    for path in save_pair(scene, "9.png"):
        save_noise(path, (40, 15))
    return f"{scene}/blur/9.png: 40x15 pixels, smaller than the crop of 16"


def orientations_that_differ(scene: Path) -> str:
    turned = Image.Exif()
    turned[274] = 3
    blur, sharp = save_pair(scene, "10.png")
    save_noise(blur, exif=turned)
    return f"{blur}: EXIF orientation 3, but its twin {sharp} has 1"


def another_kind(scene: Path) -> str:
    _, sharp = save_pair(scene, "11.jpg")
    Image.new("CMYK", (20, 24)).save(sharp)
    return f"{sharp}: JPEG of CMYK values; expected grey, palette or RGB of 8 or 16 bits, so convert it"


def dead_link(scene: Path) -> str:
    blur, _ = save_pair(scene, "12.png")
    blur.unlink()
    blur.symlink_to(scene / "gone")
    return f"{blur}: cannot be read (No such file or directory)"


BAD = (
    missing_twin,
    missing_blurred_twin,
    duplicate_stem,
    mismatched_sizes,
    zero_bytes,
    truncated_png,
    text_named_png,
    decompression_bomb,
    smaller_than_the_crop,
    orientations_that_differ,
    another_kind,
    dead_link,
)


@pytest.mark.parametrize("spoil", BAD)
def test_each_bad_pair_is_named_and_can_be_left_out(tmp_path, spoil, capsys):
    save_pair(tmp_path / "fine", "good.png")
    line = spoil(tmp_path / "scene")
    with pytest.raises(InputError) as error:
        open_folder(tmp_path, "blur", skip_bad=False, least_side=16)
    heading, problem, remedy = str(error.value).splitlines()
    assert heading == f"{tmp_path}: 1 problem(s) with the image pairs:"
    assert problem.startswith(f"  - {line}")
    crop = ", or lower stages[i].crop" if "crop" in line else ""
    assert remedy.endswith(f"Mend these files{crop}, or train without them: --config.data.skip_bad=true.")
    capsys.readouterr()
    source = open_folder(tmp_path, "blur", skip_bad=True, least_side=16)
    assert source.names == [("fine", "good")]
    assert [sequence for sequence, _ in source.skipped] == ["scene"]
    assert "data.skip_bad leaves out 1 bad pair(s), 1 problem(s):" in capsys.readouterr().err


def test_all_bad_pairs_are_listed_at_once(tmp_path, capsys):
    save_pair(tmp_path / "fine", "good.png")
    lines = [spoil(tmp_path / "scene") for spoil in BAD]
    (tmp_path / "other" / "blur").mkdir(parents=True)
    lines.append(f"{tmp_path}/other: no folder `sharp` (found: blur)")
    lines += [missing_twin(tmp_path / f"many_{i}") for i in range(20)]
    with pytest.raises(InputError) as error:
        open_folder(tmp_path, "blur", skip_bad=False, least_side=16)
    assert f"{len(lines)} problem(s)" in str(error.value)
    assert [line for line in lines if f"  - {line}" not in str(error.value)] == []
    assert len(str(error.value).splitlines()) == len(lines) + 2
    capsys.readouterr()
    source = open_folder(tmp_path, "blur", skip_bad=True, least_side=16)
    assert (source.names, len(source.skipped)) == ([("fine", "good")], len(lines) - 1)
    told = capsys.readouterr().err
    assert f"data.skip_bad leaves out {len(lines) - 1} bad pair(s), {len(lines)} problem(s):" in told
    assert "and 13 more\n1 good pairs are left." in told


def test_without_a_single_good_pair_there_is_nothing_to_skip_to(tmp_path):
    line = text_named_png(tmp_path / "scene")
    for skip_bad in (False, True):
        with pytest.raises(InputError, match="no good pair is left") as error:
            open_folder(tmp_path, "blur", skip_bad=skip_bad)
        assert line in str(error.value)


def test_what_one_may_not_read_is_named_until_one_may(monkeypatch):
    """As somebody else where the tests run as root, whom permissions do not stop."""
    folder = Path(tempfile.mkdtemp())
    (folder / ".cache").mkdir()
    (folder / ".cache").chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    save_pair(folder / "fine")
    save_pair(folder / "shut")
    save_pair(folder / "half")
    folder.chmod(0o755)
    (folder / "shut").chmod(0)
    (folder / "half" / "sharp").chmod(0)
    (folder / "fine" / "blur" / "2.png").write_bytes((folder / "fine" / "blur" / "1.png").read_bytes())
    (folder / "fine" / "sharp" / "2.png").write_bytes(b"secret")
    (folder / "fine" / "sharp" / "2.png").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(InputError) as error:
            open_folder(folder, "blur", skip_bad=False)
        assert [line.removeprefix(f"  - {folder}") for line in str(error.value).splitlines()[1:-1]] == [
            "/fine/sharp/2.png: cannot be read (Permission denied)",
            "/half/sharp: cannot be read (Permission denied)",
            "/shut: cannot be read (Permission denied)",
        ]
        os.seteuid(user)
        (folder / "fine" / "sharp" / "2.png").chmod(0o644)
        with pytest.raises(InputError, match=r"sharp/2.png: cannot be read as an image"):
            open_folder(folder, "blur", skip_bad=False)
    finally:
        os.seteuid(user)
        for path in (folder / "shut", folder / "half" / "sharp"):
            path.chmod(0o755)
        shutil.rmtree(folder)
