"""The report's tables of scores as text, the same for HTML and Markdown."""

import dataclasses
from collections.abc import Sequence

from jaxdeblur.report.grouping import Entry, Group
from jaxdeblur.report.loading import Run
from jaxdeblur.report.published import FieldResult, OriginalResult, Published
from jaxdeblur.report.sentences import METHODS, describe_protocol, protocol_differences
from jaxdeblur.runs.records import Gain, Interval, MeanMetrics

# Field of `MeanMetrics`, name with unit, decimals.
METRICS = (
    ("psnr", "PSNR, mean over images (dB)", 2),
    ("psnr_uint8", "PSNR of 8-bit predictions, mean over images (dB)", 2),
    ("psnr_batch16", "PSNR pooled over batches of 16 images, as in the original project (dB)", 2),
    ("ssim", "SSIM per channel, Wang et al. 2004", 4),
    ("ssim_matlab", "SSIM of 8-bit RGB as in MATLAB and in published tables for GOPRO", 4),
    ("lpips", "LPIPS, AlexNet (lower is better)", 4),
    ("mae", "mean absolute error (lower is better)", 5),
    ("mse", "mean squared error (lower is better)", 5),
)
NONE = "–"  # noqa: RUF001 -- an en dash, for a cell without a value
_GAIN_COLUMNS = ("mean (dB)", "95% interval (dB)", "method", "images improved", "sequences")
_FIELD_COLUMNS = ("parameters", "compute", "runtime", "blur_variant", "resolution", "source")


@dataclasses.dataclass(frozen=True)
class Table:
    """A caption, one heading per column, rows of as many cells, and notes below the table."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = dataclasses.field(default_factory=list)


def original_tables(groups: Sequence[Group], published: Published) -> list[Table]:
    """Return the original project's results next to those measured here, one table per test protocol at 256x256."""
    matching = [group for group in groups if (group.protocol.split, group.protocol.resolution) == ("test", "256")]
    if not matching:
        return [_original_table(None, published.original)]
    return [_original_table(group, published.original) for group in matching]


def _original_table(group: Group | None, published: Sequence[OriginalResult]) -> Table:
    columns = _original_columns(group, published)
    return Table(
        "The original project's results and those measured here",
        ["", *(column[0] for column in columns)],
        [
            ["PSNR (dB), pooled over batches of 16", *(column[1] for column in columns)],
            ["MSE", *(column[2] for column in columns)],
        ],
        [_original_protocol_note(group, published), *_original_notes(group, published)],
    )


def _original_columns(group: Group | None, published: Sequence[OriginalResult]) -> list[tuple[str, str, str]]:
    """Return (heading, PSNR, MSE): each published result followed by its measurements, other runs, and the input."""
    columns = []
    for result in published:
        note = "" if result.network else " (full resolution: not comparable)"
        mse = NONE if result.mse is None else str(result.mse)
        columns.append((f"{result.name}, published{note}", _decimals(result.psnr, 2), mse))
        columns += [_measured(result.name, entry) for entry in _entries_of(group, result)]
    if group:
        networks = {result.network for result in published}
        other_entries = [entry for entry in group.entries if entry.run.facts.network not in networks]
        columns += [_measured(entry.run.facts.network, entry) for entry in other_entries]
        columns.append(("blurred input, measured", *_pooled_scores(group.identity)))
    return columns


def _original_protocol_note(group: Group | None, published: Sequence[OriginalResult]) -> str:
    if group is None:
        return "No run in this report was evaluated on a test split at 256x256, so nothing can be compared."
    protocol = next(result.protocol for result in published if result.network)
    note = f"Measured on {describe_protocol(group.protocol)}. "
    if differences := protocol_differences(group.protocol, protocol):
        return note + f"The published protocol differs; measured / published: {', '.join(differences)}."
    return note + "The published numbers of these networks were obtained with the same protocol."


def _original_notes(group: Group | None, published: Sequence[OriginalResult]) -> list[str]:
    notes = []
    for result in published:
        notes += [
            f"Run {entry.run.name} differs in size: it has {entry.run.facts.parameters:,} parameters, the published "
            f"{result.name} has {result.parameters:,}."
            for entry in _entries_of(group, result)
            if entry.run.facts.parameters != result.parameters
        ]
        notes.append(f"{result.name}: {result.source}.")
    return notes


def _entries_of(group: Group | None, result: OriginalResult) -> list[Entry]:
    return [entry for entry in group.entries if entry.run.facts.network == result.network] if group else []


def _measured(network: str, entry: Entry) -> tuple[str, str, str]:
    return f"{network}, measured: {entry.run.name}", *_pooled_scores(entry.evaluation.summary)


def _pooled_scores(means: MeanMetrics) -> tuple[str, str]:
    return _decimals(means.psnr_batch16, 2), _decimals(means.mse, 5)


def field_table(published: Published) -> Table:
    """Return other networks' published results, which are not comparable to those measured here."""
    note = (
        "Published numbers on GOPRO's test images, copied and not measured here. They are at full resolution unless "
        "stated otherwise, use two blur variants and several definitions of SSIM: they cannot be compared with "
        "numbers at 256x256, nor all with each other. Runtimes are per image and include waiting for the GPU."
    )
    columns = ["network", "PSNR (dB)", "SSIM", *(column.replace("_", " ") for column in _FIELD_COLUMNS)]
    return Table("Other networks as published", columns, [_field_row(result) for result in published.field], [note])


def _field_row(result: FieldResult) -> list[str]:
    cells = [getattr(result, column) or "not stated" for column in _FIELD_COLUMNS]
    return [result.name, _decimals(result.psnr, 2), str(result.ssim), *cells]


def metrics_table(group: Group) -> Table:
    """Return all metrics of the blurred input and of each run, with the difference from the input."""
    summaries = [entry.evaluation.summary for entry in group.entries]
    rows = []
    for key, name, decimals in METRICS:
        scores = [(getattr(summary, key), getattr(summary.identity, key)) for summary in summaries]
        if all(score is None for score, _ in scores):
            continue  # not measured
        identity = next((identity for _, identity in scores if identity is not None), None)
        cells = [_with_difference(score, input_score, decimals) for score, input_score in scores]
        rows.append([name, _decimals(identity, decimals), *cells])
    columns = ["metric", "blurred input", *(entry.run.name for entry in group.entries)]
    return Table("All metrics", columns, rows, ["In brackets: difference from the blurred input, before rounding."])


def _with_difference(score: float | None, identity: float | None, decimals: int) -> str:
    if score is None or identity is None:
        return _decimals(score, decimals)
    return f"{_decimals(score, decimals)} ({_decimals(score - identity, decimals, sign=True)})"


def gains_table(group: Group) -> Table:
    """Return the PSNR gain of each run over its input, with its interval."""
    rows = [_gain_row(entry.run.name, entry.evaluation.summary.gain_psnr) for entry in group.entries]
    return Table("PSNR gain over the blurred input", ["run", *_GAIN_COLUMNS], rows)


def pairs_table(group: Group) -> Table:
    """Return the difference in PSNR of each pair of runs, paired by image, with its interval."""
    rows = [_gain_row(f"{pair.run.name} minus {pair.other.name}", pair.gain) for pair in group.pairs]
    return Table("PSNR differences between runs, paired by image", ["pair", *_GAIN_COLUMNS], rows)


def _gain_row(name: str, gain: Gain) -> list[str]:
    improved = f"{gain.images_better:,} of {gain.images:,}"
    mean = _decimals(gain.mean, 2, sign=True)
    return [name, mean, _interval(gain), METHODS[gain.method], improved, str(gain.sequences)]


def sequences_table(group: Group) -> Table:
    """Return the mean PSNR per sequence of the blurred input and of each run, with the gain."""
    columns = ["sequence", "images", "blurred input (dB)"]
    for entry in group.entries:
        columns += [f"{entry.run.name} (dB)", "gain (dB)"]
    rows = []
    for first in group.entries[0].sequences:
        row = [first.sequence, str(first.images), _decimals(first.identity["psnr"], 2)]
        for entry in group.entries:
            scores = next(scores for scores in entry.sequences if scores.sequence == first.sequence)
            row += [_decimals(scores.means["psnr"], 2), _decimals(scores.gain_psnr, 2, sign=True)]
        rows.append(row)
    note = "The other metrics per sequence are in report.csv and report.json."
    return Table("PSNR per sequence", columns, rows, [note])


def checkpoints_table(run: Run) -> Table | None:
    """Return the validation scores of all checkpoints of a run; None if they were not evaluated."""
    if run.checkpoints is None:
        return None
    rows = []
    for checkpoint in run.checkpoints.checkpoints:
        step = f"{checkpoint.step:,}{' (best)' if checkpoint.step == run.checkpoints.best_step else ''}"
        gain = checkpoint.gain_psnr
        rows.append([step, _decimals(checkpoint.psnr, 2), _decimals(gain.mean, 2, sign=True), _interval(gain)])
    columns = ["step", "PSNR (dB)", "gain over the input (dB)", "95% interval (dB)"]
    return Table(f"Checkpoints of {run.name} on validation images", columns, rows)


def _interval(interval: Interval) -> str:
    if interval.low is None:
        return NONE
    return f"{_decimals(interval.low, 2, sign=True)} to {_decimals(interval.high, 2, sign=True)}"


def _decimals(value: float | None, decimals: int, *, sign: bool = False) -> str:
    return NONE if value is None else f"{value:{'+' if sign else ''}.{decimals}f}"
