"""What a run's folder holds and how far the run has got."""

from pathlib import Path

from jaxdeblur.runs.lock import LOCK_FILE

SCORED_SPLITS = ("validation", "test")


def checkpoint_steps(folder: Path) -> list[int]:
    """Return the steps of the complete checkpoints in a run's folder, in order."""
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit())


def is_under_way(folder: Path) -> bool:
    """Return whether the run in a folder has at least one checkpoint."""
    return bool(checkpoint_steps(folder))


def newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint; 0 if there is none."""
    return max(checkpoint_steps(folder), default=0)


def is_available(folder: Path) -> bool:
    """Return whether a run may start in a folder: it does not exist, is empty, or holds a run."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp" and path.name != LOCK_FILE}
    return not names or "config.json" in names
