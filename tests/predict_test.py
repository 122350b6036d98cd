"""The command `restore`: photos in, restored photos out; resuming, Ctrl-C, mistakes and full disks."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import ExifTags, Image

import jaxdeblur
from jaxdeblur import predict
from jaxdeblur.models import build_model
from jaxdeblur.restoration.restorer import Restorer
from jaxdeblur.runs.train_state import init_variables
from jaxdeblur.weights.safetensors import write_weights
from tests.helpers.images import save_noise
from tests.helpers.networks import SMALL, random_network


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network that changes its input."""
    path = tmp_path_factory.mktemp("weights") / "unet.safetensors"
    write_weights(path, random_network("unet")[1], {"network": "unet", "model": json.dumps(SMALL["unet"])})
    return path


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """An untrained UNet, which returns its input."""
    path = tmp_path_factory.mktemp("weights") / "identity.safetensors"
    variables = init_variables(build_model("unet", **SMALL["unet"]), jax.random.key(0))
    write_weights(path, jax.device_get(variables), {"network": "unet", "model": json.dumps(SMALL["unet"])})
    return path


@pytest.fixture(scope="module")
def restorer():
    return Restorer(*random_network("unet"))


def run(weights, *arguments, expected=0):
    """Run the command in this process; return its exit status or message."""
    status = 0
    try:
        predict.main(["--weights", str(weights), *map(str, arguments)])
    except SystemExit as end:
        status = end.code
    assert (1 if isinstance(status, str) else status) == expected, status
    return status


def command(weights, *arguments):
    return [sys.executable, "-m", "jaxdeblur.predict", "--weights", str(weights), *map(str, arguments)]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_restored_with_its_structure(tmp_path, weights, restorer, capsys):
    """By two simulated devices, in several shapes; the oracle is `Restorer`."""
    sizes = {"a.png": (40, 30), "sub/a.png": (70, 20), "sub/b.tif": (1, 1), "c.bmp": (3, 50), "d.jpg": (33, 65)}
    for name, size in sizes.items():
        save_noise(tmp_path / "in" / name, size)
    run(weights, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert files_below(tmp_path / "out") == ["a.png", "c.bmp", "d.png", "restored.jsonl", "sub/a.png", "sub/b.tif"]
    for name in sizes:
        expected = restorer(pixels(tmp_path / "in" / name))
        np.testing.assert_array_equal(pixels(tmp_path / "out" / name.replace(".jpg", ".png")), expected)
    assert "5 photo(s) restored" in capsys.readouterr().err


def test_an_untrained_network_returns_a_real_frame(tmp_path, identity, real_gopro):
    folder = next(path for path in sorted(real_gopro.glob("test/*/blur")) if path.is_dir())
    name = sorted(folder.glob("*.png"))[0].name
    run(identity, "--input", folder / name, "--output", tmp_path / "out")
    np.testing.assert_array_equal(pixels(tmp_path / "out" / name), pixels(folder / name))


def test_every_device_is_used(tmp_path, identity, monkeypatch):
    devices, call = set(), Restorer.__call__
    monkeypatch.setattr(Restorer, "__call__", lambda self, *rest: devices.add(self._device) or call(self, *rest))
    for number in range(12):
        save_noise(tmp_path / f"in/{number}.png", (100, 100))
    run(identity, "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert devices == set(jax.local_devices())
    for number in range(12):
        np.testing.assert_array_equal(pixels(tmp_path / f"out/{number}.png"), pixels(tmp_path / f"in/{number}.png"))


def test_grey_16_bits_and_alpha_are_kept(tmp_path, identity):
    """The identity returns them bit for bit."""
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    Image.fromarray(rng.integers(0, 256, (20, 30), np.uint8)).save(tmp_path / "in/grey.png")
    Image.fromarray(rng.integers(0, 65536, (20, 30), np.uint16)).save(tmp_path / "in/deep.tif")
    Image.fromarray(rng.integers(0, 256, (20, 30, 4), np.uint8), "RGBA").save(tmp_path / "in/alpha.webp", lossless=True)
    run(identity, "--input", tmp_path / "in", "--output", tmp_path / "out")
    for name in ("grey.png", "deep.tif", "alpha.webp"):
        with Image.open(tmp_path / "in" / name) as before, Image.open(tmp_path / "out" / name) as after:
            assert before.mode == after.mode
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


def test_alpha_is_unchanged(tmp_path, weights, restorer):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(values, "RGBA").save(tmp_path / "a.png")
    run(weights, "--input", tmp_path / "a.png", "--output", tmp_path / "b.png")
    result = pixels(tmp_path / "b.png")
    np.testing.assert_array_equal(result[..., 3], values[..., 3])
    np.testing.assert_array_equal(result[..., :3], restorer(np.ascontiguousarray(values[..., :3])))


def test_a_rotated_photo_becomes_upright(tmp_path, identity):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    save_noise(tmp_path / "a.png", (20, 30), exif=exif)
    run(identity, "--input", tmp_path / "a.png", "--output", tmp_path / "out")
    np.testing.assert_array_equal(pixels(tmp_path / "out/a.png"), np.rot90(pixels(tmp_path / "a.png"), -1))


def test_resize_side_by_side_and_jpeg(tmp_path, weights, restorer):
    save_noise(tmp_path / "a.png", (50, 30))
    run(weights, "--input", tmp_path / "a.png", "--output", tmp_path / "out", "--resize", 32, "--side_by_side")
    with Image.open(tmp_path / "a.png") as image:
        small = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pixels(tmp_path / "out/a.png"), np.concatenate([small, restorer(small)], axis=1))
    run(weights, "--input", tmp_path / "a.png", "--output", tmp_path / "jpeg", "--format", "jpeg", "--quality", 90)
    restored = Image.fromarray(restorer(pixels(tmp_path / "a.png")))
    restored.save(tmp_path / "expected.jpg", quality=90, subsampling="4:4:4")
    assert (tmp_path / "jpeg/a.jpg").read_bytes() == (tmp_path / "expected.jpg").read_bytes()


@pytest.mark.parametrize("options", [{"self_ensemble": True}, {"tile": 64, "overlap": 32}])
def test_options_reach_the_network(tmp_path, weights, options):
    save_noise(tmp_path / "a.png", (150, 90))
    flags = [part for name, value in options.items() for part in (f"--{name}", value) if part is not True]
    run(weights, "--input", tmp_path / "a.png", "--output", tmp_path / "out", *flags)
    expected = Restorer(*random_network("unet"), **options)(pixels(tmp_path / "a.png"))
    np.testing.assert_array_equal(pixels(tmp_path / "out/a.png"), expected)


def test_bfloat16_is_close_but_not_equal_to_float32(tmp_path, weights, restorer):
    save_noise(tmp_path / "a.png", (64, 64))
    run(weights, "--input", tmp_path / "a.png", "--output", tmp_path / "out", "--dtype", "bfloat16")
    result, expected = pixels(tmp_path / "out/a.png").astype(int), restorer(pixels(tmp_path / "a.png"))
    assert 0 < np.abs(result - expected).mean() < 3


def test_a_rerun_restores_only_what_is_missing(tmp_path, weights, capsys):
    for name in ("a.png", "b.png", "c.png"):
        save_noise(tmp_path / "in" / name)
    arguments = ("--input", tmp_path / "in", "--output", tmp_path / "in/out")  # results inside the input folder
    run(weights, *arguments)
    first = {name: (tmp_path / "in/out" / name).stat() for name in ("a.png", "b.png", "c.png")}
    (tmp_path / "in/out/b.png").unlink()
    capsys.readouterr()
    run(weights, *arguments)
    printed = capsys.readouterr().err
    assert "2 of 3 are done already" in printed
    assert "1 photo(s) restored" in printed
    assert (tmp_path / "in/out/a.png").stat().st_ino == first["a.png"].st_ino
    assert files_below(tmp_path / "in/out") == ["a.png", "b.png", "c.png", "restored.jsonl"]


def test_results_of_other_weights_are_not_done(tmp_path, weights, identity):
    save_noise(tmp_path / "in/a.png")
    arguments = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    run(weights, *arguments)
    before = (tmp_path / "out/a.png").read_bytes()
    message = run(identity, *arguments, expected=1)
    assert "restored with other settings (weights " in message
    assert (tmp_path / "out/a.png").read_bytes() == before
    run(identity, *arguments, "--overwrite")
    np.testing.assert_array_equal(pixels(tmp_path / "out/a.png"), pixels(tmp_path / "in/a.png"))


def test_corrupt_files_do_not_stop_the_others(tmp_path, identity, capsys):
    for name in ("a.png", "z.png"):
        save_noise(tmp_path / "in" / name)
    (tmp_path / "in/corrupt.png").write_bytes((tmp_path / "in/a.png").read_bytes()[:300])
    (tmp_path / "in/empty.jpg").touch()
    (tmp_path / "in/loop.png").symlink_to("loop.png")
    assert run(identity, "--input", tmp_path / "in", "--output", tmp_path / "out", expected=1) == 1
    assert files_below(tmp_path / "out") == ["a.png", "restored.jsonl", "z.png"]
    printed = capsys.readouterr().err
    assert "2 photo(s) restored" in printed
    assert "3 failed:" in printed
    assert "corrupt.png: cannot be read (" in printed
    assert "empty.jpg: is empty (0 bytes)" in printed
    assert "loop.png: cannot be read (Too many levels of symbolic links)" in printed


def test_inputs_are_never_overwritten(tmp_path, identity):
    save_noise(tmp_path / "in/a.png")
    before = (tmp_path / "in/a.png").read_bytes()
    message = run(identity, "--input", tmp_path / "in", "--output", tmp_path / "in", "--overwrite", expected=1)
    assert "is the folder of the photos" in message
    for output in (tmp_path / "in", tmp_path / "in/a.png"):
        message = run(identity, "--input", tmp_path / "in/a.png", "--output", output, "--overwrite", expected=1)
        assert "Input files are never overwritten" in message
    assert files_below(tmp_path / "in") == ["a.png"]
    assert (tmp_path / "in/a.png").read_bytes() == before


def test_a_single_file_is_written_to_a_file_name(tmp_path, identity):
    save_noise(tmp_path / "a.jpg")
    run(identity, "--input", tmp_path / "a.jpg", "--output", tmp_path / "new/b.webp")
    assert files_below(tmp_path / "new") == ["b.webp"]
    np.testing.assert_array_equal(pixels(tmp_path / "new/b.webp"), pixels(tmp_path / "a.jpg"))
    message = run(identity, "--input", tmp_path / "a.jpg", "--output", tmp_path / "new/b.webp", expected=1)
    assert "b.webp: exists, and is not a result of this command" in message


# Command-line options that are wrong: the error's code, and what its message must name.
MISTAKES = {
    ("--output", "b.png"): ("output-for-one-file", "--output"),
    ("--output", "file"): ("output-is-file", "--output"),
    ("--output", "b.heic"): ("output-format", ".heic"),
    ("--input", "gone*"): ("input-missing", "gone*"),
    ("--tile", "100"): ("restore-options", "--tile: 100, expected 0 or a multiple of 32"),
    ("--tile", "64"): ("restore-options", "--overlap: 160, expected 0 to --tile - 32"),
    ("--quality", "101"): ("restore-options", "--quality: 101, expected 1 to 100"),
    ("--max_megapixels", "0"): ("restore-options", "--max_megapixels: 0.0, expected more than 0"),
    ("--weights", "gone"): ("weights-not-found", "gone"),
    ("--weights", "file"): ("weights-unreadable", "file"),
    ("--weights", "."): ("not-a-run", "config.json"),
    ("--weights", "other.safetensors"): ("weights-restore-nothing", "lpips_alex"),
    ("--weights", "foreign.safetensors"): ("weights-do-not-fit", "foreign.safetensors"),
}


@pytest.mark.parametrize("change", MISTAKES)
def test_user_errors_exit_with_a_message_and_write_nothing(tmp_path, identity, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    save_noise(tmp_path / "in/a.png")
    (tmp_path / "file").write_text("text")
    tensors = {"params": {"x": np.zeros(1, np.float32)}}
    write_weights(tmp_path / "other.safetensors", tensors, {"network": "lpips_alex"})
    write_weights(tmp_path / "foreign.safetensors", tensors, {"network": "unet"})
    before = files_below(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: ") as end:
        predict.main(["--weights", str(identity), "--input", "in", "--output", "out", *change])
    code, named = MISTAKES[change]
    assert end.value.__context__.code == code
    assert named in end.value.code
    assert files_below(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_read_only_output_folder_is_refused(tmp_path, identity, read_only_folder):
    save_noise(tmp_path / "in/a.png")
    for output in (read_only_folder, read_only_folder / "new"):
        message = run(identity, "--input", tmp_path / "in", "--output", output, expected=1)
        assert "cannot be written to" in message


def test_a_full_disk_stops_and_keeps_complete_results(tmp_path, identity, small_disk, capsys):
    for number in range(10):
        save_noise(tmp_path / f"in/{number}.png", (300, 300))  # 270 KB each: noise does not compress
    arguments = ("--input", tmp_path / "in", "--output", small_disk)
    assert run(identity, *arguments, expected=1) == 1
    assert "cannot be written (No space left on device); stopped" in capsys.readouterr().err
    complete = [name for name in files_below(small_disk) if name.endswith("png")]
    assert 1 <= len(complete) <= 7
    assert set(files_below(small_disk)) - set(complete) == {"restored.jsonl"}
    for name in complete:
        np.testing.assert_array_equal(pixels(small_disk / name), pixels(tmp_path / "in" / name))
    subprocess.run(["mount", "-o", "remount,size=9m", small_disk], check=True)
    run(identity, *arguments)
    assert f"{len(complete)} of 10 are done already" in capsys.readouterr().err
    assert len(files_below(small_disk)) == 11


def test_a_file_too_large_for_the_file_system_fails_alone(tmp_path, identity, capsys):
    """RLIMIT_FSIZE acts like a file system's maximum file size."""
    save_noise(tmp_path / "in/large.png", (300, 300))
    save_noise(tmp_path / "in/small.png", (30, 30))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        run(identity, "--input", tmp_path / "in", "--output", tmp_path / "out", expected=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"large.png: cannot be written ({os.strerror(errno.EFBIG)})" in capsys.readouterr().err
    assert files_below(tmp_path / "out") == ["restored.jsonl", "small.png"]


def test_ctrl_c_stops_and_a_rerun_resumes(tmp_path, identity, capsys):
    for number in range(16):
        save_noise(tmp_path / f"in/{number:02d}.png", (250, 200))
    arguments = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--self_ensemble")
    process = subprocess.Popen(command(identity, *arguments), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / "out/00.png").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "Run the same command to resume" in printed
    results = [name for name in files_below(tmp_path / "out") if name.endswith(".png")]
    assert 1 <= len(results) < 16
    assert not list((tmp_path / "out").glob(".*"))
    run(identity, *arguments)
    assert f"{len(results)} of 16 are done already" in capsys.readouterr().err
    for number in range(16):
        name = f"{number:02d}.png"
        np.testing.assert_array_equal(pixels(tmp_path / "out" / name), pixels(tmp_path / "in" / name))


@pytest.mark.slow
def test_two_commands_on_the_same_photos_both_succeed(tmp_path, identity):
    for number in range(5):
        save_noise(tmp_path / f"in/{number:02d}.png", (250, 200))
    arguments = command(identity, "--input", tmp_path / "in", "--output", tmp_path / "out", "--self_ensemble")
    processes = [subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    for number in range(5):
        name = f"{number:02d}.png"
        np.testing.assert_array_equal(pixels(tmp_path / "out" / name), pixels(tmp_path / "in" / name))
    assert not list((tmp_path / "out").glob(".*"))


def test_import_and_help_need_no_jax():
    program = (
        "import sys, jaxdeblur, jaxdeblur.predict\n"
        "try: jaxdeblur.predict.main(['--help'])\n"
        "except SystemExit: sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_restore_in_python_equals_the_command(tmp_path, weights, restorer):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 8
    exif[ExifTags.Base.Model] = "camera"
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 2), np.uint8)
    Image.fromarray(values, "LA").save(tmp_path / "a.png", exif=exif, dpi=(300, 300))
    run(weights, "--input", tmp_path / "a.png", "--output", tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as image:
        result = jaxdeblur.restore(image, weights)
    with Image.open(tmp_path / "b.png") as expected:
        assert result.mode == expected.mode == "LA"
        np.testing.assert_array_equal(np.asarray(result), np.asarray(expected))
        assert result.getexif() == expected.getexif()
        assert result.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(jaxdeblur.restore(colours, weights), restorer(colours))
