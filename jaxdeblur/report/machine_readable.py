"""The report's numbers for other programs, unrounded: one JSON object, and one CSV row per number."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from jaxdeblur.evaluation.metrics import IMAGE_METRICS
from jaxdeblur.report.grouping import Group
from jaxdeblur.report.loading import PROTOCOL, Run
from jaxdeblur.report.run_facts import run_facts, scoring_facts
from jaxdeblur.report.sentences import test_warning, verdicts
from jaxdeblur.report.tables import METRICS

COLUMNS = ("table", *PROTOCOL, "run", "against", "sequence", "metric", "value", "low", "high", "method")
INPUT = "blurred input"


def to_json(runs: Sequence[Run], groups: Sequence[Group], published: dict[str, Any]) -> dict[str, Any]:
    """Return runs with their facts, verdicts and warnings, measured numbers by protocol, and the published ones."""
    return {
        "runs": [
            {
                "name": run.name,
                "facts": run_facts(run),
                "verdicts": verdicts(run),
                "warning": test_warning(run),
                "test_history": run.test_history,
                "checkpoints": run.checkpoints,
                "config": run.config,
            }
            for run in runs
        ],
        "groups": [
            {
                "protocol": group.protocol,
                "runs": [
                    {
                        "run": entry.run.name,
                        "scoring": scoring_facts(entry),
                        "summary": entry.evaluation.summary,
                        "sequences": entry.sequences,
                    }
                    for entry in group.entries
                ],
                "pairs": [
                    {"run": pair.run.name, "against": pair.other.name, "psnr": pair.gain} for pair in group.pairs
                ],
            }
            for group in groups
        ],
        "published": published,
    }


def to_csv(groups: Sequence[Group], published: dict[str, Any]) -> str:
    """Return one row per number; `table` is metrics, gain, pair, sequence or published."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for group in groups:
        writer.writerows({**group.protocol, **row} for row in _group_rows(group))
    for item in published["original"]:
        for metric, key in (("psnr_batch16" if item["network"] else "psnr", "psnr"), ("mse", "mse")):
            if item[key] is not None:
                row = {"table": "published", "run": item["name"], "metric": metric, "value": item[key]}
                writer.writerow({**item["protocol"], **row})
    for item in published["field"]:
        where = {key: item[key] for key in ("blur_variant", "resolution")}
        for metric in ("psnr", "ssim"):
            row = {"table": "published", "run": item["name"], "metric": metric, "value": item[metric]}
            writer.writerow({**where, **row})
    return buffer.getvalue()


def _group_rows(group: Group) -> Iterable[dict[str, Any]]:
    for entry in group.entries:
        summary, run = entry.evaluation.summary, entry.run.name
        for key in [key for key, *_ in METRICS if summary[key] is not None]:
            yield {"table": "metrics", "run": run, "metric": key, "value": summary[key]}
        yield {"table": "gain", "run": run, "against": INPUT, **_interval(summary["gain_psnr"])}
        for row in entry.sequences:
            yield from ({"table": "sequence", "run": run, **cells} for cells in _of_sequence(row["sequence"], row))
    for key in [key for key, *_ in METRICS if group.identity[key] is not None]:
        yield {"table": "metrics", "run": INPUT, "metric": key, "value": group.identity[key]}
    for row in group.entries[0].sequences:
        identity = _of_sequence(row["sequence"], row["identity"])
        yield from ({"table": "sequence", "run": INPUT, **cells} for cells in identity)
    for pair in group.pairs:
        yield {"table": "pair", "run": pair.run.name, "against": pair.other.name, **_interval(pair.gain)}


def _of_sequence(sequence: str, means: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for metric in IMAGE_METRICS:
        if means[metric] is not None:  # it was measured
            yield {"sequence": sequence, "metric": metric, "value": means[metric]}


def _interval(gain: dict[str, Any]) -> dict[str, Any]:
    return {"metric": "psnr", "value": gain["mean"], **{key: gain[key] for key in ("low", "high", "method")}}
