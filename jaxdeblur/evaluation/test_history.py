"""`eval/test_history.json` logs every evaluation on the test split: selecting by its scores would bias them."""

from pathlib import Path

from jaxdeblur.files import read_json, write_json
from jaxdeblur.runs.lock import wait_for_lock
from jaxdeblur.runs.records import HistoryEntry, ProtocolRecord, to_json

TEST_HISTORY = "test_history.json"


def log_test_use(folder: Path, record: ProtocolRecord) -> None:
    """Append an evaluation to the test history in `folder`; call it before the scores are known."""
    entry = HistoryEntry(
        date=record.date,
        resolution=record.resolution,
        checkpoint_step=record.checkpoint_step,
        weights_sha256=record.weights_sha256,
    )
    path = folder / TEST_HISTORY
    folder.mkdir(parents=True, exist_ok=True)
    with wait_for_lock(folder):  # a training run may evaluate while --mode evaluate does
        entries = read_json(path) if path.exists() else []
        write_json(path, [*entries, to_json(entry)])
