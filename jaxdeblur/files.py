"""Small things about files: JSON written whole, and which code is running."""

import json
import subprocess
from pathlib import Path
from typing import Any

from jaxdeblur import __version__


def write_json(path: Path, tree: Any) -> None:
    """Write JSON in one piece: a reader sees the old file or the new one.

    Raises:
        ValueError: `tree` holds NaN or an infinity.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(tree, indent=1, allow_nan=False) + "\n")
    temporary.replace(path)


def code_version() -> str:
    """Return this package's version, with the git commit when it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit}"
