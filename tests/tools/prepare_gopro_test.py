"""The tool as a process: its output, errors and interruption."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxdeblur.data.gopro.archive import SEQUENCES
from jaxdeblur.data.gopro.builder import GoproLarge
from tests.helpers.images import save_noise
from tests.helpers.paths import ROOT

TOOL = ROOT / "tools" / "prepare_gopro.py"


def run_tool(*arguments, **options):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_data_is_prepared_and_described(gopro_part, tmp_path):
    arguments = (
        "--source",
        gopro_part,
        "--output",
        tmp_path / "data",
        "--blur",
        "blur_gamma",
        "--frames",
        "256",
        "full",
    )
    tool = run_tool(*arguments, "--partial")
    output, errors = tool.communicate(timeout=300)
    assert tool.returncode == 0, errors
    assert (
        "gopro_large/blur_gamma_256/1.0.0 is ready: 4 train, 4 test pairs. Train on it with --config.data.root="
        in output
    )
    assert "part of GOPRO_Large" in output
    whole = run_tool(*arguments)
    _, errors = whole.communicate(timeout=300)
    assert whole.returncode == 1
    assert "expected the whole" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "metadata.json").unlink(),
        lambda folder: (folder / "metadata.json").write_text("{"),
        lambda folder: (folder / "dataset_info.json").write_text("{"),
        lambda folder: next(folder.glob("*-test.array_record*")).unlink(),
        lambda folder: [path.unlink() for path in folder.iterdir()],
    ],
)
def test_existing_corrupt_data_is_refused(gopro_part, tmp_path, spoil):
    builder = GoproLarge(config="blur_256", data_dir=tmp_path / "data", source=gopro_part, partial=True)
    builder.download_and_prepare()
    folder = Path(builder.data_dir)
    spoil(folder)
    arguments = ["--source", gopro_part, "--output", tmp_path / "data", "--blur", "blur", "--frames", "256"]
    tool = run_tool(*arguments, "--partial")
    output, errors = tool.communicate(timeout=300)
    assert tool.returncode == 1, output
    assert f"error: {folder}: cannot be read as prepared data" in errors
    assert "Traceback" not in errors


def test_output_inside_the_source_is_refused(gopro_part):
    tool = run_tool("--source", gopro_part, "--output", gopro_part / "new", "--blur", "blur", "--frames", "256")
    _, errors = tool.communicate(timeout=300)
    assert "is or lies in --source" in errors
    assert not (gopro_part / "new").exists()


def test_unwritable_target_is_named(gopro_part, tmp_path, read_only_folder):
    (tmp_path / "file").touch()
    for target in (read_only_folder, read_only_folder / "new", tmp_path / "file"):
        tool = run_tool(*("--source", gopro_part, "--output", target, "--blur", "blur", "--frames", "256", "--partial"))
        _, errors = tool.communicate(timeout=300)
        assert tool.returncode == 1
        assert "Traceback" not in errors
        assert f"error: {target}" in errors
        assert "cannot be written" in errors


def test_interruption_leaves_nothing_incomplete(gopro_part, tmp_path):
    """Enough frames for seconds of work, all of the same file."""
    save_noise(tmp_path / "noise.png", (700, 700))
    for variant in ("blur", "sharp"):
        for frame in range(100, 500):
            (gopro_part / "train" / SEQUENCES["train"][0] / variant / f"{frame}.png").hardlink_to(
                tmp_path / "noise.png"
            )
    tool = run_tool(
        *("--source", gopro_part, "--output", tmp_path / "data", "--blur", "blur", "--frames", "256", "--partial")
    )
    while not list(tmp_path.glob("data/gopro_large/blur_256/incomplete*/*train*")):
        assert tool.poll() is None, tool.communicate()
        time.sleep(0.01)
    tool.terminate()
    _, errors = tool.communicate(timeout=300)
    assert tool.returncode == 1
    assert "no incomplete data is left" in errors
    assert not list((tmp_path / "data" / "gopro_large" / "blur_256").iterdir())
