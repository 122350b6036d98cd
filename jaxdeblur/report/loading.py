"""Reads the records of runs for a report; every field that will be shown is checked here."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError
from jaxdeblur.evaluation.test_history import TEST_HISTORY
from jaxdeblur.files import read_json
from jaxdeblur.runs.metric_log import read_metrics
from jaxdeblur.runs.records import (
    CheckpointScores,
    EvaluationRecord,
    HistoryEntry,
    ImageRecord,
    ProtocolKey,
    ProtocolRecord,
    RunFacts,
    SampleRecord,
    SpeedRecord,
    Summary,
)
from jaxdeblur.runs.typed_json import parse, read_typed_json

EVALUATE_AGAIN = "Evaluate the run again with this version: add --mode evaluate to the command that trained it."
RERUN = "Rerun the run's command with this version; a finished run only rewrites its run.json."


@dataclasses.dataclass(frozen=True)
class StageConfig:
    """The part of a training stage's config that reports show."""

    loss: str


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The part of `config.json` that reports show."""

    seed: int
    stages: list[StageConfig]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One `eval/<split>-<resolution>.json`; `images` by (sequence, frame), in the record's order."""

    path: Path
    protocol: ProtocolRecord
    summary: Summary
    speed: SpeedRecord
    images: dict[tuple[str, str], ImageRecord]
    samples: list[SampleRecord]

    @property
    def name(self) -> str:
        """`<split>-<resolution>`, as --protocol takes it."""
        return self.protocol.name

    @property
    def key(self) -> ProtocolKey:
        """What must be equal for numbers to be comparable."""
        return self.protocol.key


@dataclasses.dataclass(frozen=True)
class Run:
    """One run's records.

    Attributes:
        folder: of the run.
        name: unique in the report.
        facts: of `run.json`.
        config: all of `config.json`; may be empty if the weights were not trained here.
        training: the checked part of `config`; None if the weights were not trained here.
        log: lines of `metrics.jsonl`; empty if the weights were not trained here.
        evaluations: the test split first.
        test_history: every evaluation on the test split.
        checkpoints: validation scores of all checkpoints, if they were evaluated.
    """

    folder: Path
    name: str
    facts: RunFacts
    config: dict[str, Any]
    training: TrainingConfig | None
    log: list[dict[str, Any]]
    evaluations: list[Evaluation]
    test_history: list[HistoryEntry]
    checkpoints: CheckpointScores | None

    @property
    def trained(self) -> bool:
        """Whether this run trained its weights."""
        return self.facts.trained


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the records of runs, each with a unique name.

    Raises:
        InputError: a record is missing (code "record-missing") or invalid ("invalid-record"), or a run is given twice
            ("run-given-twice").
    """
    return [_read_run(folder, name) for folder, name in zip(folders, name_runs(folders), strict=True)]


def name_runs(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names, with as many parent folders as needed to make them unique.

    Raises:
        InputError: a folder is given twice (code "run-given-twice").
    """
    paths = [folder.resolve() for folder in folders]
    if duplicates := {str(path) for path in paths if paths.count(path) > 1}:
        raise InputError(f"{', '.join(sorted(duplicates))}: given twice. Name each run once.", code="run-given-twice")
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return [" ".join("/".join(path.parts[-length:]).split()) for path in paths]


def _read_run(folder: Path, name: str) -> Run:
    facts = read_typed_json(RunFacts, folder / "run.json", remedy=RERUN)
    config, training = _read_config(folder / "config.json", trained=facts.trained)
    evaluations = _read_evaluations(folder / "eval")
    tested = any(evaluation.protocol.split == "test" for evaluation in evaluations)
    return Run(
        folder=folder,
        name=name,
        facts=facts,
        config=config,
        training=training,
        log=_read_log(folder / "metrics.jsonl") if facts.trained else [],
        evaluations=evaluations,
        test_history=_read_history(folder / "eval" / TEST_HISTORY) if tested else [],
        checkpoints=_read_checkpoints(folder / "eval" / "checkpoints.json"),
    )


def _read_config(path: Path, *, trained: bool) -> tuple[dict[str, Any], TrainingConfig | None]:
    if trained:
        config = read_json(path)
        return config, parse(TrainingConfig, config, path, remedy=RERUN)
    return read_typed_json(dict[str, Any], path, remedy=RERUN) if path.exists() else {}, None


def _read_log(path: Path) -> list[dict[str, Any]]:
    log = read_metrics(path)
    if not log:
        raise InputError(
            f"{path}: missing or empty, expected the log of a trained run. Restore it; weights that were trained "
            "elsewhere have to be evaluated into a separate folder.",
            code="record-missing",
        )
    return log


def _read_evaluations(folder: Path) -> list[Evaluation]:
    paths = [path for split in ("test", "validation") for path in sorted(folder.glob(f"{split}-*.json"))]
    if not paths:
        message = f"{folder}: no test-*.json and no validation-*.json. {EVALUATE_AGAIN}"
        raise InputError(message, code="record-missing")
    return sorted((_read_evaluation(path) for path in paths), key=_sort_key)


def _sort_key(evaluation: Evaluation) -> tuple[str, int, str]:
    """Sort the test split before validation, and resolutions in ascending order with `full` last."""
    resolution = evaluation.protocol.resolution
    return evaluation.protocol.split, int(resolution) if resolution.isdigit() else 10**9, evaluation.path.name


def _read_evaluation(path: Path) -> Evaluation:
    record = read_typed_json(EvaluationRecord, path, remedy=EVALUATE_AGAIN)
    images = {image.name: image for image in record.images}
    if not images or len(images) < len(record.images):
        problem = f"{len(record.images) - len(images)} duplicate image(s)" if images else "no images"
        message = f"{path}: {problem} in `images`, expected each image of the split once. {EVALUATE_AGAIN}"
        raise InputError(message, code="invalid-record")
    for i, sample in enumerate(record.samples):
        if sample.name not in images:
            message = f"{path}: samples[{i}] is {'/'.join(sample.name)}, which is not in `images`. {EVALUATE_AGAIN}"
            raise InputError(message, code="invalid-record")
    return Evaluation(path, record.protocol, record.summary, record.speed, images, record.samples)


def _read_history(path: Path) -> list[HistoryEntry]:
    if not path.exists():
        message = f"{path}: missing, expected the history of the test split. {EVALUATE_AGAIN}"
        raise InputError(message, code="record-missing")
    return read_typed_json(list[HistoryEntry], path, remedy=EVALUATE_AGAIN)


def _read_checkpoints(path: Path) -> CheckpointScores | None:
    return read_typed_json(CheckpointScores, path, remedy=EVALUATE_AGAIN) if path.exists() else None
