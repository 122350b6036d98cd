"""Collect the results of training runs and write the tables of docs/recipes.md from them.

    python tools/recipe_table.py add runs/a runs/b --table "Which data" --recipe "windows of frames" --splits validation
    python tools/recipe_table.py write

`add` copies the results of runs on the given splits to docs/recipes.json, replacing those of the same run. `write`
writes each table between its markers in docs/recipes.md. A row is one recipe, from all its runs with different seeds or
held-out sequences. Gains are PSNR over the blurred input in dB: each sequence is averaged over its images and over
seeds, then the mean over sequences is taken, with its 95% interval (jaxdeblur/evaluation/confidence.py) and the gain of
each sequence in alphabetical order.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdeblur.errors import InputError
from jaxdeblur.evaluation.confidence import interval
from jaxdeblur.files import read_json, write_json
from jaxdeblur.runs.metric_log import read_metrics
from jaxdeblur.runs.records import ImageRecord, Interval
from jaxdeblur.runs.typed_json import parse

DOCS = Path(__file__).parent.parent / "docs"
UNSEEN = "all unseen"  # validation and test sequences together


def read_run(folder: Path, splits: Sequence[str]) -> dict[str, Any]:
    """Return the results of a finished run.

    Returns:
        network, parameters, seed, batch_size, steps, seconds of training, devices, code_version; and `gains`: by
        evaluation, such as `validation-256`, and by sequence, the gain of each image in dB.

    Raises:
        InputError: the run is not finished, or a record is missing or invalid.
    """
    config, facts = read_json(folder / "config.json"), read_json(folder / "run.json")
    lines = read_metrics(folder / "metrics.jsonl")
    files = [path for split in splits for path in sorted((folder / "eval").glob(f"{split}-*.json"))]
    if not lines or not files:
        raise InputError(f"{folder}: no scores of {' or '.join(splits)}. Wait until the run is finished.")
    gains: dict[str, dict[str, list[float]]] = {}
    for path in files:
        for image in parse(list[ImageRecord], read_json(path)["images"], path, remedy="Evaluate the run again."):
            by_sequence = gains.setdefault(path.stem, {})
            by_sequence.setdefault(image.sequence, []).append(round(image.gain_psnr, 4))
    return {
        "network": facts["network"],
        "parameters": facts["parameters"],
        "seed": config["seed"],
        "batch_size": config["data"]["batch_size"],
        "steps": lines[-1]["step"],
        "seconds": round(lines[-1]["wall_s"]),
        "devices": facts["devices"],
        "code_version": facts["code_version"],
        "gains": gains,
    }


@dataclasses.dataclass(frozen=True)
class RecipeGain:
    """PSNR gain of a recipe in dB: the interval over sequences, and the mean gain of each sequence."""

    interval: Interval
    by_sequence: dict[str, float]


def gain_over_sequences(runs: Iterable[Mapping[str, Any]], protocols: Sequence[str]) -> RecipeGain | None:
    """Return the gain of a recipe from its runs' gains in the given evaluations; None without any."""
    gains: dict[str, list[float]] = {}
    for run in runs:
        for protocol in protocols:
            for sequence, image_gains in run["gains"].get(protocol, {}).items():
                gains.setdefault(sequence, []).append(float(np.mean(image_gains)))
    if not gains:
        return None
    by_sequence = {sequence: float(np.mean(gains[sequence])) for sequence in sorted(gains)}
    return RecipeGain(interval(list(by_sequence.values()), list(by_sequence)), by_sequence)


def make_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table with one row per recipe, in order of first appearance."""
    protocols = sorted({protocol for record in records for protocol in record["gains"]}, reverse=True)
    columns = {protocol.replace("-", " "): [protocol] for protocol in protocols}
    for resolution in dict.fromkeys(protocol.split("-")[1] for protocol in protocols):
        both = [protocol for protocol in protocols if protocol.endswith(f"-{resolution}")]
        columns |= {f"{UNSEEN} {resolution}": both} if len(both) > 1 else {}
    head = ["recipe", "network", "parameters", "steps x batch", "seconds", "seeds", *columns]
    lines = [" | ".join(head), " | ".join(["---", "---", *["---:"] * (len(head) - 2)])]
    for recipe in dict.fromkeys(record["recipe"] for record in records):
        runs = [record for record in records if record["recipe"] == recipe]
        cells = [recipe, _distinct(runs, "network"), _distinct(runs, "parameters", "{:,}")]
        cells += [" and ".join(dict.fromkeys(f"{run['steps']:,} x {run['batch_size']}" for run in runs))]
        cells += [
            _format_range([run["seconds"] for run in runs]),
            ", ".join(map(str, sorted({run["seed"] for run in runs}))),
        ]
        cells += [_format_gain(gain_over_sequences(runs, names)) for names in columns.values()]
        lines.append(" | ".join(cells))
    return "".join(f"| {line} |\n" for line in lines)


def fill(text: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Return the document with each table rewritten between `<!-- table: NAME -->` and `<!-- end -->`.

    Raises:
        InputError: the markers in the document do not match the tables of the records.
    """
    names = dict.fromkeys(record["table"] for record in records)
    markers = re.findall(r"<!-- table: (.*?) -->\n", text)
    if set(markers) != set(names) or len(markers) != len(names):
        raise InputError(f"recipes.md has markers for the tables {markers}, but the records have {list(names)}.")
    for name in names:
        table = make_table([record for record in records if record["table"] == name])
        pattern = rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda match, table=table: match[1] + table + match[2], text, flags=re.DOTALL)
    return text


def _distinct(runs: Sequence[Mapping[str, Any]], key: str, template: str = "{}") -> str:
    return " and ".join(dict.fromkeys(template.format(run[key]) for run in runs))


def _format_range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _format_gain(gain: RecipeGain | None) -> str:
    if gain is None:
        return ""
    text = f"{gain.interval.mean:+.2f}"
    if gain.interval.low is not None:
        text += f" [{gain.interval.low:+.2f}, {gain.interval.high:+.2f}]"
    by_sequence = ", ".join(f"{value:+.2f}" for value in gain.by_sequence.values())
    return f"{text} ({by_sequence})" if len(gain.by_sequence) > 1 else text


def main(command_line: Sequence[str] | None = None) -> None:
    """Add runs to the records, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=DOCS / "recipes.json", help="file of the records")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="add runs to the records")
    add.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a finished run")
    add.add_argument("--table", required=True, help="name of the table in the document")
    add.add_argument("--recipe", required=True, help="name of the row")
    add.add_argument("--splits", nargs="+", default=["validation"], choices=("validation", "test"))
    write = commands.add_parser("write", help="write the tables")
    write.add_argument("--document", type=Path, default=DOCS / "recipes.md")
    arguments = parser.parse_args(command_line)
    try:
        records = read_json(arguments.records) if arguments.records.exists() else []
        if arguments.command == "write":
            arguments.document.write_text(fill(arguments.document.read_text(), records))
            return
        for folder in arguments.runs:
            row = {"run": folder.resolve().name, "table": arguments.table, "recipe": arguments.recipe}
            other_rows = [r for r in records if (r["run"], r["table"]) != (row["run"], row["table"])]
            records = [*other_rows, {**row, **read_run(folder, arguments.splits)}]
        write_json(arguments.records, records)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
