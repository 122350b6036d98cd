"""A run's folder: what it holds and how far the run has got."""

from pathlib import Path

from jaxdeblur.runs.lock import NAME as LOCK_NAME

SCORED = ("validation", "test")


def is_under_way(folder: Path) -> bool:
    """Return whether the run in a folder has at least one checkpoint."""
    return any(path.name.isdigit() for path in (folder / "checkpoints").glob("*"))


def newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint; 0 if there is none."""
    return max((int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()), default=0)


def is_available(folder: Path) -> bool:
    """Return whether a run may start in a folder: it does not exist, is empty, or holds a run."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp" and path.name != LOCK_NAME}
    return not names or "config.json" in names
