"""The report's numbers for other programs, unrounded: one JSON object, and one CSV row per number."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxdeblur.evaluation.metrics import IMAGE_METRICS, METRICS
from jaxdeblur.report.grouping import Group
from jaxdeblur.report.loading import Run
from jaxdeblur.report.published import Published
from jaxdeblur.report.run_facts import evaluation_facts, run_facts
from jaxdeblur.report.sentences import test_split_warning, verdicts
from jaxdeblur.runs.records import Gain, MeanMetrics, ProtocolKey, to_json

_PROTOCOL = tuple(field.name for field in dataclasses.fields(ProtocolKey))
COLUMNS = ("table", *_PROTOCOL, "run", "against", "sequence", "metric", "value", "low", "high", "method")
INPUT = "blurred input"


def report_json(runs: Sequence[Run], groups: Sequence[Group], published: Published) -> dict[str, Any]:
    """Return runs with their facts, verdicts and warnings, measured numbers by protocol, and published results."""
    return {
        "runs": [_run_json(run) for run in runs],
        "groups": [_group_json(group) for group in groups],
        "published": to_json(published),
    }


def _run_json(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "facts": run_facts(run),
        "verdicts": verdicts(run),
        "warning": test_split_warning(run),
        "test_history": to_json(run.test_history),
        "checkpoints": None if run.checkpoints is None else to_json(run.checkpoints),
        "config": run.config,
    }


def _group_json(group: Group) -> dict[str, Any]:
    return {
        "protocol": to_json(group.protocol),
        "runs": [
            {
                "run": entry.run.name,
                "scoring": evaluation_facts(entry),
                "summary": to_json(entry.evaluation.summary),
                "sequences": [scores.to_json() for scores in entry.sequences],
            }
            for entry in group.entries
        ],
        "pairs": [
            {"run": pair.run.name, "against": pair.other.name, "psnr": to_json(pair.gain)} for pair in group.pairs
        ],
    }


def report_csv(groups: Sequence[Group], published: Published) -> str:
    """Return one row per number; column `table` is metrics, gain, pair, sequence or published."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for group in groups:
        writer.writerows({**to_json(group.protocol), **row} for row in _group_rows(group))
    writer.writerows({"table": "published", **row} for row in _published_rows(published))
    return buffer.getvalue()


def _published_rows(published: Published) -> Iterator[dict[str, Any]]:
    for original in published.original:
        psnr_metric = "psnr_batch16" if original.network else "psnr"
        for metric, value in ((psnr_metric, original.psnr), ("mse", original.mse)):
            if value is not None:
                yield {**original.protocol, "run": original.name, "metric": metric, "value": value}
    for result in published.field:
        protocol = {"blur_variant": result.blur_variant, "resolution": result.resolution}
        for metric, value in (("psnr", result.psnr), ("ssim", result.ssim)):
            yield {**protocol, "run": result.name, "metric": metric, "value": value}


def _group_rows(group: Group) -> Iterator[dict[str, Any]]:
    for entry in group.entries:
        summary, run = entry.evaluation.summary, entry.run.name
        yield from ({"table": "metrics", "run": run, **row} for row in _metric_rows(summary))
        yield {"table": "gain", "run": run, "against": INPUT, **_gain_cells(summary.gain_psnr)}
        for scores in entry.sequences:
            rows = _sequence_rows(scores.sequence, scores.means)
            yield from ({"table": "sequence", "run": run, **row} for row in rows)
    yield from ({"table": "metrics", "run": INPUT, **row} for row in _metric_rows(group.identity))
    for scores in group.entries[0].sequences:
        rows = _sequence_rows(scores.sequence, scores.identity)
        yield from ({"table": "sequence", "run": INPUT, **row} for row in rows)
    for pair in group.pairs:
        yield {"table": "pair", "run": pair.run.name, "against": pair.other.name, **_gain_cells(pair.gain)}


def _metric_rows(means: MeanMetrics) -> Iterable[dict[str, Any]]:
    values = {metric: getattr(means, metric) for metric in METRICS}
    return [{"metric": metric, "value": value} for metric, value in values.items() if value is not None]


def _sequence_rows(sequence: str, means: Mapping[str, float | None]) -> Iterable[dict[str, Any]]:
    measured = [metric for metric in IMAGE_METRICS if means[metric] is not None]
    return [{"sequence": sequence, "metric": metric, "value": means[metric]} for metric in measured]


def _gain_cells(gain: Gain) -> dict[str, Any]:
    return {"metric": "psnr", "value": gain.mean, "low": gain.low, "high": gain.high, "method": gain.method}
