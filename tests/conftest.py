"""Shared by all tests: two simulated devices, tiny data sets and tiny configs, compiled functions used by many."""

import os
import subprocess
import tempfile

# Before JAX is imported: the tests run on two devices even where there is one CPU.
_DEVICES = "--xla_force_host_platform_device_count=2"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}"
os.environ["JAX_PLATFORMS"] = "cpu"
# One compilation cache for all workers and subprocesses of a session. The workers of pytest-xdist inherit it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
    # Scans of image folders are cached there too, never in the home of whoever runs the tests.
    os.environ["XDG_CACHE_HOME"] = _CACHE.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxdeblur.data.gopro.archive import SEQUENCES
from tests.helpers.configs import make_tiny_config
from tests.helpers.images import write_pairs


@pytest.fixture
def tiny_gopro(tmp_path: Path) -> Path:
    """A folder in GOPRO_Large's layout: 6 training pairs, 3 for validation, 5 for testing, of 32x32 pixels."""
    root = tmp_path / "GOPRO_Large"
    write_pairs(root, "train", "scene_a", 4)
    write_pairs(root, "train", "scene_b", 2)
    write_pairs(root, "train", "scene_v", 3)
    write_pairs(root, "test", "scene_t", 3)
    write_pairs(root, "test", "scene_u", 2)
    return root


@pytest.fixture
def gopro_part(tmp_path: Path) -> Path:
    """Two training and two test sequences under official names; blur_gamma differs from blur."""
    root = tmp_path / "GOPRO_Large"
    for split in ("train", "test"):
        for sequence in SEQUENCES[split][:2]:
            write_pairs(root, split, sequence, 2)
            for path in sorted((root / split / sequence / "blur").iterdir()):
                gamma = root / split / sequence / "blur_gamma" / path.name
                gamma.parent.mkdir(exist_ok=True)
                Image.fromarray(255 - np.asarray(Image.open(path))).save(gamma)
    return root


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to, not even root."""
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o555)
    if os.geteuid():
        yield folder
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system, or another user than root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def real_gopro() -> Path:
    """The folder that JAXDEBLUR_GOPRO names; tests that need real frames are skipped without it."""
    folder = os.environ.get("JAXDEBLUR_GOPRO")
    if not folder:
        pytest.skip("JAXDEBLUR_GOPRO names no folder in GOPRO_Large's layout")
    return Path(folder).absolute()


@pytest.fixture
def tiny_config(tiny_gopro: Path) -> ConfigDict:
    """A config that trains on `tiny_gopro` in seconds."""
    return make_tiny_config(tiny_gopro)


_MEASURED: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}


@pytest.fixture
def measured():
    """Note what a comparison with PyTorch measured, and check it: measured(network, what, difference, bound)."""

    def note(network: str, what: str, difference: float, bound: float) -> None:
        worst = max(difference, _MEASURED.setdefault((what, f"{bound:g}"), {}).get(network, 0.0))
        _MEASURED[what, f"{bound:g}"][network] = worst
        assert difference <= bound, f"{network}, {what}: {difference:.2e}, expected at most {bound:g}"

    return note


def pytest_terminal_summary(terminalreporter):
    """Print the parity table, which `make parity-table` writes to docs/parity.md."""
    if not _MEASURED:
        return
    lines = [
        "| largest difference from PyTorch | TransformNet | ResnetEncDec | NAFNet | bound |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for what in dict.fromkeys(what for what, _ in _MEASURED):
        rows = {bound: measured for (name, bound), measured in _MEASURED.items() if name == what}
        worst = {network: value for networks in rows.values() for network, value in networks.items()}
        values = [f"{worst[name]:.0e}" if name in worst else "" for name in ("transformnet", "resnetencdec", "nafnet")]
        lines.append(f"| {what} | {' | '.join(values)} | {', '.join(rows)} |")
    for line in lines:
        terminalreporter.write_line(line)
