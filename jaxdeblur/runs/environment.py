"""The code, libraries and devices that a run was started on, and what changed since the previous start."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import jax

from jaxdeblur import __version__

# Packages whose version can change a run's results: kernels, optimizer, order and augmentation of images (NumPy
# guarantees no stability of its random streams, nor Pillow of its resizing), and checkpoints.
LIBRARIES = (
    "jax",
    "jaxlib",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "jax-cuda13-plugin",
    "libtpu",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "array-record",
    "numpy",
    "pillow",
)


class Environment(TypedDict):
    """What a start of a run records: code version, command line, devices, and versions of Python and `LIBRARIES`."""

    code_version: str
    command: list[str]
    devices: str
    versions: dict[str, str]


def describe_environment() -> Environment:
    """Return the environment of this process."""
    devices = jax.devices()
    return {
        "code_version": code_version(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "versions": {"python": platform.python_version(), **library_versions()},
    }


def library_versions() -> dict[str, str]:
    """Return the versions of the installed `LIBRARIES`."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def environment_changes(before: Mapping[str, Any], now: Environment) -> list[str]:
    """Describe what changed between two environments; fields missing from the earlier one are not compared."""
    described = {"code_version": now["code_version"], "devices": now["devices"]}
    changes = [
        f"{key.replace('_', ' ')} {before[key]} -> {value}"
        for key, value in described.items()
        if key in before and before[key] != value
    ]
    versions = now["versions"]
    return changes + [
        f"{name} {version} -> {versions.get(name, 'not installed')}"
        for name, version in before["versions"].items()
        if versions.get(name) != version
    ]


def code_version() -> str:
    """Return this package's version, with the git commit if it runs from its own checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        # A package installed below another project's checkout must not report that project's commit.
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return __version__
        return f"{__version__}+{_git(root, 'describe', '--always', '--dirty', '--abbrev=12')}"
    except (OSError, subprocess.SubprocessError):
        return __version__


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
