"""A run's folder: what it holds and how far the run has got."""

from pathlib import Path

SCORED = ("validation", "test")


def is_under_way(folder: Path) -> bool:
    """Return whether the run in a folder has got as far as its first checkpoint."""
    return any(path.name.isdigit() for path in (folder / "checkpoints").glob("*"))


def _newest_step(folder: Path) -> int:
    return max((int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()), default=0)
