"""Uploads of the web page, and its command line. Tests of the page itself are in web_app_browser_test.py."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from jaxdeblur import demo
from jaxdeblur.errors import InputError
from jaxdeblur.restoration import web_app
from tests.helpers.images import save_noise


def invert(pixels):
    """A fake restorer that changes every pixel."""
    return np.iinfo(pixels.dtype).max - pixels


def restore(path, folder, **options):
    folder.mkdir(exist_ok=True)
    return web_app.restore_upload(path, invert, folder, **{"max_megapixels": 1.0, **options})


def test_a_photo_is_shown_and_saved_upright(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # upright after a quarter turn clockwise
    exif[ExifTags.Base.Artist] = "me"
    save_noise(tmp_path / "photo.png", (20, 24), exif=exif)
    stored = np.asarray(Image.open(tmp_path / "photo.png"))
    restored = restore(tmp_path / "photo.png", tmp_path / "results")
    upright = np.rot90(stored, -1)
    np.testing.assert_array_equal(restored.before, upright)
    np.testing.assert_array_equal(restored.after, 255 - upright)
    assert restored.file.name == "photo_restored.png"
    with Image.open(restored.file) as file:
        np.testing.assert_array_equal(file, 255 - upright)
        assert file.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert file.getexif()[ExifTags.Base.Artist] == "me"
    assert restored.caption.startswith("**24 x 20 pixels, restored in 0.")


def test_16_bits_are_saved_and_8_shown(tmp_path):
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "deep.png")
    restored = restore(tmp_path / "deep.png", tmp_path / "results")
    np.testing.assert_array_equal(Image.open(restored.file), 65535 - values)
    np.testing.assert_array_equal(np.asarray(restored.before)[..., 0], values // 256)


def test_grey_is_shown_without_its_profile_and_long_names_are_shortened(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"{'x' * 251}.png"
    Image.new("L", (8, 8)).save(path, icc_profile=srgb[:16] + b"GRAY" + srgb[20:])
    restored = restore(path, tmp_path / "results")
    assert "icc_profile" not in restored.before.info
    assert len(restored.file.name) == 255
    assert restored.file.name.endswith("_restored.png")


def test_large_photos_are_downsized_for_display(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save_noise(tmp_path / "wide.png", (5120, 10), icc_profile=profile)
    restored = restore(tmp_path / "wide.png", tmp_path / "results")
    assert restored.before.size == restored.after.size == (2560, 5)
    assert restored.before.info["icc_profile"] == profile
    with Image.open(restored.file) as file:
        assert file.size == (5120, 10)
    assert "shown at 2560 pixels; the download has full size" in restored.caption


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("notes.txt", b"not an image", "image-corrupt"),
        ("truncated.png", None, "image-unreadable"),
        ("large.png", None, "image-too-large"),
        ("empty.jpg", b"", "image-corrupt"),
    ],
)
def test_refusals_name_the_upload_without_its_folder(name, content, code, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "truncated.png":
        save_noise(path)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        Image.new("RGB", (1100, 1000)).save(path)
    with pytest.raises(InputError) as error:
        restore(path, tmp_path / "results")
    assert error.value.code == code
    assert str(error.value).startswith(f"{name}: ")
    assert str(tmp_path) not in str(error.value)
    assert not list((tmp_path / "results").iterdir())


def test_a_full_disk_and_a_lack_of_memory_are_reported(tmp_path, small_disk):
    save_noise(tmp_path / "photo.png", (1000, 800))
    with pytest.raises(InputError, match=r"photo.png: cannot be restored \(No space left on device\)"):
        web_app.restore_upload(tmp_path / "photo.png", invert, small_disk, max_megapixels=1.0)

    def exhaust(pixels):
        raise MemoryError

    with pytest.raises(InputError, match=r"photo.png: cannot be restored \(not enough memory\)"):
        web_app.restore_upload(tmp_path / "photo.png", exhaust, tmp_path, max_megapixels=1.0)


def test_old_results_are_removed(tmp_path):
    for name, age in (("old", 3700), ("new", 3500)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.png").touch()
        os.utime(tmp_path / name, (10_000 - age,) * 2)
    web_app.remove_old(tmp_path, now=10_000)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def run_page(*arguments, **options):
    command = [sys.executable, "-m", "jaxdeblur.demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_mistakes_on_the_command_line_are_reported_together():
    done = run_page("--weights", "none", "--port", 0, "--max_megabytes", 0, "--max_megapixels", -1)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "error: The command line:"
    for message in ("--port: 0, expected 1 to 65535", "--max_megabytes: 0.0", "--max_megapixels: -1.0"):
        assert message in done.stderr


def test_missing_gradio_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "before")  # so that what the command sets is undone
    with pytest.raises(InputError, match=r"jaxdeblur\[demo\]") as error:
        demo.serve(demo.make_parser().parse_args(["--weights", str(tmp_path)]))
    assert error.value.code == "missing-extra"
