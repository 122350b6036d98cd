"""A run's folder as reports read it. Every field that will be shown is checked here, and named if it is missing."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdeblur.errors import InputError, list_problems
from jaxdeblur.evaluation.metrics import IMAGE_METRICS, METRICS
from jaxdeblur.files import read_json
from jaxdeblur.runs.metric_log import read_metrics

# Numbers of two evaluations can be compared when all of these are equal.
PROTOCOL = (
    "data_set",
    "split",
    "split_rule",
    "blur_variant",
    "resolution",
    "resize_filter",
    "number_of_images",
)
SCORE_AGAIN = "Score the run again with this version: add --mode evaluate to the command that trained it."
START_AGAIN = "Start the run's command again with this version; a run that is whole only writes its facts anew."
NUMBER, NUMBER_OR_NONE, TEXT = (int, float), (int, float, type(None)), (str,)
# `ssim` is not defined for images smaller than its window; the weights of LPIPS may not have been at hand.
_METRIC_TYPES = {name: NUMBER_OR_NONE if name in ("ssim", "lpips") else NUMBER for name in METRICS}
_IMAGE_TYPES = {name: _METRIC_TYPES[name] for name in IMAGE_METRICS}
_GAIN_TYPES = {"mean": NUMBER, "low": NUMBER_OR_NONE, "high": NUMBER_OR_NONE, "method": (str, type(None))}
_GAIN_TYPES |= dict.fromkeys(("images", "images_better", "sequences"), (int,))
_RUN_TYPES = {
    **dict.fromkeys(("network", "initial_weights", "data_set", "code_version", "python", "jax", "flax", "optax"), TEXT),
    **{"devices": TEXT, "parameters": (int,), "pairs": (dict,), "command": (list,)},
}
_PROTOCOL_TYPES = {
    **dict.fromkeys(PROTOCOL, TEXT),
    **dict.fromkeys(("weights_sha256", "weights", "code_version", "date"), TEXT),
    **{"number_of_images": (int,), "pairs_skipped": (int,), "checkpoint_step": (int, type(None))},
}
_EVALUATION_TYPES = {
    **{f"protocol.{field}": types for field, types in _PROTOCOL_TYPES.items()},
    **{f"summary.{field}": types for field, types in _METRIC_TYPES.items()},
    **{f"summary.identity.{field}": types for field, types in _METRIC_TYPES.items()},
    **{f"summary.gain_psnr.{field}": types for field, types in _GAIN_TYPES.items()},
    **{"speed.images_per_s": NUMBER, "speed.flops_per_image": NUMBER_OR_NONE, "speed.devices": TEXT},
    **{"images": (list,), "samples": (list,)},
}
_EACH_IMAGE = {
    **{"sequence": TEXT, "frame": TEXT},
    **_IMAGE_TYPES,
    **{f"identity.{field}": types for field, types in _IMAGE_TYPES.items()},
}
_EACH_SAMPLE = {
    **{"sequence": TEXT, "frame": TEXT, "why": (list,)},
    **{f"files.{key}": TEXT for key in ("blur", "prediction", "sharp")},
}
_EACH_SCORING = {"date": TEXT, "resolution": TEXT, "weights_sha256": TEXT, "checkpoint_step": (int, type(None))}
_EACH_CHECKPOINT = {"step": (int,), "psnr": NUMBER, "gain_psnr.mean": NUMBER}
_EACH_CHECKPOINT |= {f"gain_psnr.{end}": NUMBER_OR_NONE for end in ("low", "high")}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One `eval/<split>-<resolution>.json`: `images` by (sequence, frame), in the record's order."""

    path: Path
    protocol: dict[str, Any]
    summary: dict[str, Any]
    speed: dict[str, Any]
    images: dict[tuple[str, str], dict[str, Any]]
    samples: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """Return `<split>-<resolution>`, which is how --protocol calls it."""
        return f"{self.protocol['split']}-{self.protocol['resolution']}"

    @property
    def key(self) -> tuple:
        """Return what must be equal for numbers to be comparable, the values of `PROTOCOL`."""
        return tuple(self.protocol[field] for field in PROTOCOL)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run's records; `log` is empty and `config` may be for weights that were evaluated, not trained, here."""

    folder: Path
    name: str
    facts: dict[str, Any]
    config: dict[str, Any]
    log: list[dict[str, Any]]
    evaluations: list[Evaluation]
    test_history: list[dict[str, Any]]
    checkpoints: dict[str, Any] | None

    @property
    def trained(self) -> bool:
        """Return whether this run trained its weights."""
        return self.facts.get("trained", True)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs' records, each run under a name that no other has.

    Raises:
        InputError: a record or a field of one is missing or of another kind (names it), or a run is given twice.
    """
    return [_read_run(folder, name) for folder, name in zip(folders, name_runs(folders), strict=True)]


def name_runs(folders: Sequence[Path]) -> list[str]:
    """Return the folders' names, with as many parents as it takes to tell them apart."""
    paths = [folder.resolve() for folder in folders]
    if twice := {str(path) for path in paths if paths.count(path) > 1}:
        raise InputError(f"{', '.join(sorted(twice))}: given twice. Name each run once.")
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return [" ".join("/".join(path.parts[-length:]).split()) for path in paths]


def _read_run(folder: Path, name: str) -> Run:
    facts = _read_object(folder / "run.json")
    _check(folder / "run.json", facts, _RUN_TYPES, START_AGAIN)
    trained = facts.get("trained", True)
    has_config = trained or (folder / "config.json").exists()
    config = _read_object(folder / "config.json") if has_config else {}
    if trained:
        _check(folder / "config.json", config, {"seed": (int,), "stages": (list,)}, START_AGAIN)
        for i, stage in enumerate(config["stages"]):
            _check(folder / "config.json", stage, {"loss": TEXT}, START_AGAIN, place=f"stages[{i}].")
    log = read_metrics(folder / "metrics.jsonl") if trained else []
    if trained and not log:
        remedy = "Restore it; for weights that were trained elsewhere, evaluate them into a folder of their own."
        raise InputError(f"{folder / 'metrics.jsonl'}: missing or empty; expected the log of a trained run. {remedy}")
    paths = [path for split in ("test", "validation") for path in sorted((folder / "eval").glob(f"{split}-*.json"))]
    if not paths:
        raise InputError(f"{folder / 'eval'}: no test-*.json and no validation-*.json. {SCORE_AGAIN}")
    evaluations = sorted((_read_evaluation(path) for path in paths), key=_order)
    history = []
    if any(evaluation.protocol["split"] == "test" for evaluation in evaluations):
        history = _read_list(folder / "eval" / "test_history.json", _EACH_SCORING)
    path = folder / "eval" / "checkpoints.json"
    return Run(folder, name, facts, config, log, evaluations, history, _read_checkpoints(path))


def _order(evaluation: Evaluation) -> tuple:
    """Sort the test split first, and the original's resolution, then larger ones, then whole frames."""
    resolution = evaluation.protocol["resolution"]
    return evaluation.protocol["split"], int(resolution) if resolution.isdigit() else 10**9, evaluation.path.name


def _read_evaluation(path: Path) -> Evaluation:
    record = _read_object(path)
    _check(path, record, _EVALUATION_TYPES, SCORE_AGAIN)
    images = {}
    for i, image in enumerate(record["images"]):
        _check(path, image, _EACH_IMAGE, SCORE_AGAIN, place=f"images[{i}].")
        images[image["sequence"], image["frame"]] = image
    if not images or len(images) < len(record["images"]):
        what = f"{len(record['images']) - len(images)} image(s) twice in `images`" if images else "no image in `images`"
        raise InputError(f"{path}: {what}; expected each image of the split once. {SCORE_AGAIN}")
    for i, sample in enumerate(record["samples"]):
        _check(path, sample, _EACH_SAMPLE, SCORE_AGAIN, place=f"samples[{i}].")
        if (sample["sequence"], sample["frame"]) not in images:
            name = f"{sample['sequence']}/{sample['frame']}"
            raise InputError(f"{path}: samples[{i}] is {name}, which is not in `images`. {SCORE_AGAIN}")
    parts = {key: record[key] for key in ("protocol", "summary", "speed", "samples")}
    return Evaluation(path=path, images=images, **parts)


def _read_checkpoints(path: Path) -> dict[str, Any] | None:
    """Return validation scores of all checkpoints; they are optional."""
    if not path.exists():
        return None
    record = _read_object(path)
    _check(path, record, {"protocol": (dict,), "checkpoints": (list,), "best_step": (int,)}, SCORE_AGAIN)
    for i, checkpoint in enumerate(record["checkpoints"]):
        _check(path, checkpoint, _EACH_CHECKPOINT, SCORE_AGAIN, place=f"checkpoints[{i}].")
    return record


def _read_list(path: Path, types: Mapping[str, tuple]) -> list[dict[str, Any]]:
    if not path.exists():
        raise InputError(f"{path}: missing; expected every scoring of the test split. {SCORE_AGAIN}")
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path}: holds {_kind(entries)}, expected a list. {SCORE_AGAIN}")
    for i, entry in enumerate(entries):
        _check(path, entry, types, SCORE_AGAIN, place=f"[{i}].")
    return entries


def _read_object(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path}: holds {_kind(record)}, expected an object with fields. {SCORE_AGAIN}")
    return record


def _check(path: Path, record: Any, types: Mapping[str, tuple], remedy: str, place: str = "") -> None:
    """Refuse a record with fields that are missing or of other types than `types` has by their dotted names."""
    problems = list(_problems(record, types, place))
    if problems:
        raise InputError(list_problems(f"{path}: lacks what this version shows:", problems, remedy))


def _problems(record: Any, types: Mapping[str, tuple], place: str) -> Iterable[str]:
    for field, expected in types.items():
        value = record
        for part in field.split("."):
            if not isinstance(value, dict) or part not in value:
                yield f"{place}{field}: missing"
                break
            value = value[part]
        else:
            if not isinstance(value, expected) or isinstance(value, bool):
                yield f"{place}{field}: is {_kind(value)}, expected {' or '.join(_KINDS[kind] for kind in expected)}"


_KINDS = {int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "an object"}
_KINDS |= {bool: "true or false", type(None): "null"}


def _kind(value: Any) -> str:
    return _KINDS[type(value)]
