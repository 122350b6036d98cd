"""Every kind of invalid pair is named, all in one error, and skipped on request."""

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


def unpaired_blur(scene: Path) -> str:
    blur, sharp = save_pair(scene)
    sharp.unlink()
    return f"{blur}: unpaired, {scene}/sharp/1.* is missing"


def unpaired_sharp(scene: Path) -> str:
    blur, sharp = save_pair(scene, "2.png")
    blur.unlink()
    return f"{sharp}: unpaired, {scene}/blur/2.* is missing"


def duplicate_stem(scene: Path) -> str:
    blur, _ = save_pair(scene, "3.png")
    save_noise(blur.with_suffix(".JPG"))
    return f"{scene}/blur/3.JPG: has the same name as {scene}/blur/3.png; keep one of them"


def mismatched_sizes(scene: Path) -> str:
    blur, sharp = save_pair(scene, "4.png")
    save_noise(sharp, (24, 20))
    return f"{blur}: 20x24 pixels, but its counterpart {sharp} has 24x20"


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
    return f"{blur}: cannot be read as an image (not a PNG, JPEG, WebP, TIFF or AVIF, or truncated)"


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
    return f"{blur}: EXIF orientation 3, but its counterpart {sharp} has 1"


def another_kind(scene: Path) -> str:
    _, sharp = save_pair(scene, "11.jpg")
    Image.new("CMYK", (20, 24)).save(sharp)
    return f"{sharp}: JPEG of CMYK values; expected grey, palette or RGB of 8 or 16 bits: convert it"


def dead_link(scene: Path) -> str:
    blur, _ = save_pair(scene, "12.png")
    blur.unlink()
    blur.symlink_to(scene / "gone")
    return f"{blur}: cannot be read (No such file or directory)"


INVALID = (
    unpaired_blur,
    unpaired_sharp,
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


@pytest.mark.parametrize("corrupt", INVALID)
def test_each_invalid_pair_is_named_and_can_be_skipped(tmp_path, corrupt, capsys):
    save_pair(tmp_path / "fine", "good.png")
    line = corrupt(tmp_path / "scene")
    with pytest.raises(InputError) as error:
        open_folder(tmp_path, "blur", skip_invalid=False, min_side=16)
    assert error.value.code == "invalid-pairs"
    heading, problem, remedy = str(error.value).splitlines()
    assert heading == f"{tmp_path}: 1 problem(s) with the image pairs:"
    assert problem.startswith(f"  - {line}")
    crop = ", or lower stages[i].crop" if "crop" in line else ""
    assert remedy.endswith(f"Fix these files{crop}, or train without them: --config.data.skip_invalid=true.")
    capsys.readouterr()
    source = open_folder(tmp_path, "blur", skip_invalid=True, min_side=16)
    assert source.names == [("fine", "good")]
    assert [sequence for sequence, _ in source.skipped] == ["scene"]
    assert "data.skip_invalid leaves out 1 invalid pair(s), 1 problem(s):" in capsys.readouterr().err


def test_all_invalid_pairs_are_listed_at_once(tmp_path, capsys):
    save_pair(tmp_path / "fine", "good.png")
    lines = [corrupt(tmp_path / "scene") for corrupt in INVALID]
    (tmp_path / "other" / "blur").mkdir(parents=True)
    lines.append(f"{tmp_path}/other: no folder `sharp` (found: blur)")
    lines += [unpaired_blur(tmp_path / f"many_{i}") for i in range(20)]
    with pytest.raises(InputError) as error:
        open_folder(tmp_path, "blur", skip_invalid=False, min_side=16)
    assert f"{len(lines)} problem(s)" in str(error.value)
    assert [line for line in lines if f"  - {line}" not in str(error.value)] == []
    assert len(str(error.value).splitlines()) == len(lines) + 2
    capsys.readouterr()
    source = open_folder(tmp_path, "blur", skip_invalid=True, min_side=16)
    assert (source.names, len(source.skipped)) == ([("fine", "good")], len(lines) - 1)
    printed = capsys.readouterr().err
    assert f"data.skip_invalid leaves out {len(lines) - 1} invalid pair(s), {len(lines)} problem(s):" in printed
    assert "and 13 more\n1 valid pairs remain." in printed


def test_skipping_needs_a_valid_pair(tmp_path):
    line = text_named_png(tmp_path / "scene")
    for skip_invalid in (False, True):
        with pytest.raises(InputError, match="no valid pair remains") as error:
            open_folder(tmp_path, "blur", skip_invalid=skip_invalid)
        assert line in str(error.value)


def test_missing_permissions_are_named(monkeypatch):
    """As another user if the tests run as root, to whom permissions do not apply."""
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
            open_folder(folder, "blur", skip_invalid=False)
        assert [line.removeprefix(f"  - {folder}") for line in str(error.value).splitlines()[1:-1]] == [
            "/fine/sharp/2.png: cannot be read (Permission denied)",
            "/half/sharp: cannot be read (Permission denied)",
            "/shut: cannot be read (Permission denied)",
        ]
        os.seteuid(user)
        (folder / "fine" / "sharp" / "2.png").chmod(0o644)
        with pytest.raises(InputError, match=r"sharp/2.png: cannot be read as an image"):
            open_folder(folder, "blur", skip_invalid=False)
    finally:
        os.seteuid(user)
        for path in (folder / "shut", folder / "half" / "sharp"):
            path.chmod(0o755)
        shutil.rmtree(folder)
