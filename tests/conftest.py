"""Shared by all tests: two simulated devices, tiny data sets and tiny configs, compiled functions used by many."""

import os
import subprocess
import tempfile

# Before jax starts: the tests run on two devices even where there is one CPU.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests that train start many runs of one config: each program is compiled once per session, subprocesses included.
_CACHE = tempfile.TemporaryDirectory()
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
# What scans of image folders find is kept there: never in the home of whoever runs the tests.
os.environ["XDG_CACHE_HOME"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxdeblur.data.gopro.archive import SEQUENCES


def write_pairs(folder: Path, split: str, sequence: str, frames: int, *, side: int = 32, seed: int = 0) -> None:
    """Write pairs of smooth noise and its mean over five diagonal shifts, in GOPRO_Large's layout."""
    rng = np.random.default_rng([seed, len(split), *sequence.encode()])
    photo = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
    for frame in range(1, frames + 1):
        left, top = rng.integers(2, 96 - side - 2, 2)
        shifted = [photo.crop((left + s, top + s, left + s + side, top + s + side)) for s in range(-2, 3)]
        blur = np.rint(np.mean([np.asarray(image, float) for image in shifted], axis=0)).astype(np.uint8)
        for variant, image in (("blur", Image.fromarray(blur)), ("sharp", shifted[2])):
            path = folder / split / sequence / variant / f"{frame:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def save_noise(path: Path, size: tuple[int, int] = (20, 24), **options) -> None:
    """Save noise of `size` (width, height), the same for all paths of one stem."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(path.stem.encode())).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path, **options)


def save_pair(folder: Path, frame: str = "1.png") -> tuple[Path, Path]:
    """Save the two images of a pair, equal to each other."""
    paths = (folder / "blur" / frame, folder / "sharp" / frame)
    for path in paths:
        save_noise(path)
    return paths


def replace_unseen(path: Path, content: bytes) -> None:
    """Change a file's content, but neither its size nor its time of change: a scan that knows it sees nothing."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


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


def make_tiny_config(root: Path) -> ConfigDict:
    """Return a config of two stages that trains in seconds: 2 + 1 epochs of 3 steps."""
    return ConfigDict(
        {
            "seed": 0,
            "compilation_cache": "",
            "profile_steps": 0,
            "model": {"name": "transformnet", "width": 4, "num_blocks": 1, "residual": False, "norm": "batch"},
            "compute": {"dtype": "float32", "remat": False, "fast": True},
            "ema_decay": 0.0,
            "start": {"network": "", "encoder": ""},
            "data": {
                "root": str(root),
                "blur": "blur",
                "splits": "official",
                "validation_sequences": ("scene_v",),
                "skip_bad": False,
                "resize": 16,
                "resize_filter": "bicubic",
                "rescale": (1.0, 1.0),
                "stretch": 1.0,
                "flip_and_turn": True,
                "permute_channels": False,
                "gain": (1.0, 1.0),
                "mixture": (),
                "batch_size": 2,
                "epoch_images": 0,
                "num_threads": 2,
                "keep_gib": 0.0,
            },
            "stages": (
                ConfigDict(
                    {
                        "epochs": 2,
                        "crop": 0,
                        "loss": "mse",
                        "accumulate": 1,
                        "clip_norm": 0.0,
                        "encoder": {"frozen_epochs": 0, "rate": 1.0},
                        "optimizer": {"name": "adam", "b1": 0.9, "b2": 0.999, "eps": 1e-8},
                        "schedule": {"name": "constant", "learning_rate": 1e-3},
                    }
                ),
                ConfigDict(
                    {
                        "epochs": 1,
                        "crop": 8,
                        "loss": "mae",
                        "accumulate": 1,
                        "clip_norm": 0.0,
                        "encoder": {"frozen_epochs": 0, "rate": 1.0},
                        "optimizer": {"name": "sgd", "momentum": 0.0},
                        "schedule": {"name": "constant", "learning_rate": 1e-2},
                    }
                ),
            ),
            "evaluation": {"protocols": ("16",), "lpips": "", "batch_size": 4, "sample_count": 2},
            "checkpoint": {"keep_latest": 2},
            "log": {"every_steps": 2},
        }
    )


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
    """Print the table of parity, which `make parity-table` puts into the README."""
    if not _MEASURED:
        return
    lines = [
        "| largest difference from PyTorch | TransformNet | ResnetEncDec | bound |",
        "| --- | ---: | ---: | ---: |",
    ]
    for what in dict.fromkeys(what for what, _ in _MEASURED):
        rows = {bound: found for (name, bound), found in _MEASURED.items() if name == what}
        found = {network: value for networks in rows.values() for network, value in networks.items()}
        values = [f"{found[name]:.0e}" if name in found else "" for name in ("transformnet", "resnetencdec")]
        lines.append(f"| {what} | {' | '.join(values)} | {', '.join(rows)} |")
    for line in lines:
        terminalreporter.write_line(line)
