"""The report's tables as text, the same for HTML and Markdown."""

import dataclasses
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jaxdeblur.report.grouping import Group
from jaxdeblur.report.loading import Run
from jaxdeblur.report.sentences import METHODS, differences, say_protocol

# Key in a summary, name with unit, decimals.
METRICS = (
    ("psnr", "PSNR, mean over images (dB)", 2),
    ("psnr_uint8", "PSNR, mean over images rounded to 8 bits (dB)", 2),
    ("psnr_batch16", "PSNR of the error pooled over batches of 16, as the original states it (dB)", 2),
    ("ssim", "SSIM per channel, Wang et al. 2004", 4),
    ("ssim_matlab", "SSIM of 8-bit RGB as MATLAB has it, as tables for GOPRO state it", 4),
    ("lpips", "LPIPS, AlexNet (less is better)", 4),
    ("mae", "mean absolute error (less is better)", 5),
    ("mse", "mean squared error (less is better)", 5),
)
NONE = "–"  # noqa: RUF001 -- an en dash is what tables show where there is no number


@dataclasses.dataclass(frozen=True)
class Table:
    """Texts: a caption, one heading per column, rows of as many cells, and what must be known to read it."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = dataclasses.field(default_factory=list)


def read_published() -> dict[str, list[dict[str, Any]]]:
    """Return `published.json`: `original`, the original project's table, and `field`, other networks' numbers."""
    return json.loads(resources.files("jaxdeblur.report").joinpath("published.json").read_text(encoding="utf-8"))


def original_tables(groups: Sequence[Group], published: dict[str, Any]) -> list[Table]:
    """Return the original project's table with what was measured here beside it, one per protocol of 256x256."""
    fitting = [group for group in groups if (group.protocol["split"], group.protocol["resolution"]) == ("test", "256")]
    return [_original_table(group, published["original"]) for group in fitting or [None]]


def _original_table(group: Group | None, published: list[dict[str, Any]]) -> Table:
    columns, notes = [], []
    entries = list(group.entries) if group else []
    for item in published:
        if item["network"] is None:
            heading = f"{item['name']}, as published (full resolution: not comparable)"
        else:
            heading = f"{item['name']}, as published"
        columns.append((heading, _decimals(item["psnr"], 2), NONE if item["mse"] is None else str(item["mse"])))
        for entry in [entry for entry in entries if entry.run.facts["network"] == item["network"]]:
            columns.append(_measured(f"{item['name']}, measured: {entry.run.name}", entry.evaluation.summary))
            parameters = entry.run.facts["parameters"]
            if parameters != item["parameters"]:
                words = f"{parameters:,} parameters, {item['name']} as published {item['parameters']:,}"
                notes.append(f"Run {entry.run.name} is of another size: {words}.")
        notes.append(f"{item['name']}: {item['source']}.")
    networks = {item["network"] for item in published}
    for entry in [entry for entry in entries if entry.run.facts["network"] not in networks]:
        columns.append(_measured(f"{entry.run.facts['network']}, measured: {entry.run.name}", entry.evaluation.summary))
    if group:
        columns.append(_measured("blurred input, measured", group.identity))
    heads, psnr, mse = zip(*columns, strict=True)
    rows = [["PSNR (dB), over batches of 16", *psnr], ["MSE", *mse]]
    return Table(
        "What the original project states, and what was measured here",
        ["", *heads],
        rows,
        [_original_note(group, published), *notes],
    )


def _original_note(group: Group | None, published: list[dict[str, Any]]) -> str:
    if group is None:
        return "Nothing measured stands beside it: no run given was scored on a test split at 256x256."
    stated = next(item["protocol"] for item in published if item["network"])
    note = f"Measured on {say_protocol(group.protocol)}. "
    if found := differences(group.protocol, stated):
        return note + f"This is not quite what was published; measured / published: {', '.join(found)}."
    return note + "The published numbers of these networks are of the same protocol."


def _measured(heading: str, summary: dict[str, Any]) -> tuple[str, str, str]:
    return heading, _decimals(summary["psnr_batch16"], 2), _decimals(summary["mse"], 5)


def field_table(published: dict[str, Any]) -> Table:
    """Return other networks' published numbers, which nothing measured here stands beside."""
    keys = ("parameters", "compute", "runtime", "blur_variant", "resolution", "source")
    rows = [
        [item["name"], _decimals(item["psnr"], 2), str(item["ssim"]), *(item[key] or "not stated" for key in keys)]
        for item in published["field"]
    ]
    note = (
        "Published numbers on GOPRO's test images, copied, not measured here. They are of full resolution unless it "
        "says otherwise, of two blur variants, and of several definitions of SSIM: they cannot be compared with "
        "numbers at 256x256, nor all with each other. Seconds are per image, with the GPU waited for."
    )
    columns = ["network", "PSNR (dB)", "SSIM", *(key.replace("_", " ") for key in keys)]
    return Table("Other networks as published", columns, rows, [note])


def metrics_table(group: Group) -> Table:
    """Return all metrics of the blurred input and of each run, with the difference from the input."""
    summaries = [entry.evaluation.summary for entry in group.entries]
    rows = []
    for key, name, decimals in METRICS:
        if all(summary[key] is None for summary in summaries):
            continue  # not measured
        found = [summary["identity"][key] for summary in summaries if summary["identity"][key] is not None]
        row = [name, _decimals(found[0] if found else None, decimals)]
        for summary in summaries:
            own, identity = summary[key], summary["identity"][key]
            gain = None if own is None or identity is None else own - identity
            text = _decimals(own, decimals)
            row.append(text if gain is None else f"{text} ({_decimals(gain, decimals, sign=True)})")
        rows.append(row)
    columns = ["metric", "blurred input", *(entry.run.name for entry in group.entries)]
    notes = ["In brackets: the difference from the blurred input, of the unrounded values."]
    return Table("All metrics", columns, rows, notes)


def gains_table(group: Group) -> Table:
    """Return the gain in PSNR of each run over its input, with its interval."""
    rows = [_gain_row(entry.run.name, entry.evaluation.summary["gain_psnr"]) for entry in group.entries]
    return Table("Gain in PSNR over the blurred input", ["run", *_GAIN_COLUMNS], rows)


def pairs_table(group: Group) -> Table:
    """Return the difference in PSNR of each pair of runs, taken image by image, with its interval."""
    rows = [_gain_row(f"{pair.run.name} minus {pair.other.name}", pair.gain) for pair in group.pairs]
    return Table("Runs against each other in PSNR, image by image", ["pair", *_GAIN_COLUMNS], rows)


_GAIN_COLUMNS = ("mean (dB)", "95% interval (dB)", "interval by", "images better", "sequences")


def _gain_row(name: str, gain: dict[str, Any]) -> list[str]:
    ends = [_decimals(gain[end], 2, sign=True) for end in ("low", "high")]
    span = NONE if gain["low"] is None else " to ".join(ends)
    better = f"{gain['images_better']:,} of {gain['images']:,}"
    return [name, _decimals(gain["mean"], 2, sign=True), span, METHODS[gain["method"]], better, str(gain["sequences"])]


def sequences_table(group: Group) -> Table:
    """Return the mean PSNR per sequence of the blurred input and of each run, with the gain."""
    columns = ["sequence", "images", "blurred input (dB)"]
    for entry in group.entries:
        columns += [f"{entry.run.name} (dB)", "gain (dB)"]
    rows = []
    for first in group.entries[0].sequences:
        row = [first["sequence"], str(first["images"]), _decimals(first["identity"]["psnr"], 2)]
        for entry in group.entries:
            own = next(own for own in entry.sequences if own["sequence"] == first["sequence"])
            row += [_decimals(own["psnr"], 2), _decimals(own["gain_psnr"], 2, sign=True)]
        rows.append(row)
    return Table(
        "PSNR per sequence", columns, rows, ["SSIM and errors per sequence are in report.csv and report.json."]
    )


def checkpoints_table(run: Run) -> Table:
    """Return the validation scores of all checkpoints of a run."""
    rows = []
    for checkpoint in run.checkpoints["checkpoints"]:
        gain = checkpoint["gain_psnr"]
        ends = [_decimals(gain[end], 2, sign=True) for end in ("low", "high")]
        span = NONE if gain["low"] is None else " to ".join(ends)
        step = f"{checkpoint['step']:,}{' (best)' if checkpoint['step'] == run.checkpoints['best_step'] else ''}"
        rows.append([step, _decimals(checkpoint["psnr"], 2), _decimals(gain["mean"], 2, sign=True), span])
    columns = ["step", "PSNR (dB)", "gain over the input (dB)", "95% interval (dB)"]
    return Table(f"Checkpoints of {run.name} on validation images", columns, rows)


def _decimals(value: float | None, decimals: int, *, sign: bool = False) -> str:
    return NONE if value is None else f"{value:{'+' if sign else ''}.{decimals}f}"
