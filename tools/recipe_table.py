"""Collect the records of training runs and write the tables of docs/recipes.md from them.

    python tools/recipe_table.py add runs/a runs/b --table "Which data" --recipe "windows of frames" --splits validation
    python tools/recipe_table.py write

`add` takes what runs wrote themselves, of the named splits only, into docs/recipes.json; a run that is there already
is replaced. `write` puts each table between its marks in docs/recipes.md. A row is a recipe, from all its runs: other
seeds, or other sequences held out. Gains are in dB of PSNR over the blurred input, the mean over sequences, each first
averaged over its images and over seeds, with the 95% interval over sequences (jaxdeblur/evaluation/confidence.py) and
the gain of each sequence, in the order of their names.
"""

import argparse
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

DOCS = Path(__file__).parent.parent / "docs"
UNSEEN = "all unseen"  # sequences of both splits together


def read_run(folder: Path, splits: Sequence[str]) -> dict[str, Any]:
    """Return what the tables need of a finished run.

    Returns:
        network, parameters, seed, batch_size, steps, seconds of training, devices, code_version; and `gains`, by
        protocol as `validation-256`, then sequence: the gain in dB of each image.

    Raises:
        InputError: the run is not finished, or its records are damaged.
    """
    config, facts = read_json(folder / "config.json"), read_json(folder / "run.json")
    lines = read_metrics(folder / "metrics.jsonl")
    files = [path for split in splits for path in sorted((folder / "eval").glob(f"{split}-*.json"))]
    if not lines or not files:
        raise InputError(f"{folder}: no scores of {' or '.join(splits)}. Wait until the run has ended.")
    gains: dict[str, dict[str, list[float]]] = {}
    for path in files:
        for image in read_json(path)["images"]:
            gain = round(image["psnr"] - image["identity"]["psnr"], 4)
            gains.setdefault(path.stem, {}).setdefault(image["sequence"], []).append(gain)
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


def gain_over_sequences(runs: Iterable[Mapping[str, Any]], protocols: Sequence[str]) -> dict[str, Any] | None:
    """Return the `interval` over sequences of their mean gains under the protocols, and `each` of these by sequence.

    None where there are no gains.
    """
    found: dict[str, list[float]] = {}
    for run in runs:
        for protocol in protocols:
            for sequence, gains in run["gains"].get(protocol, {}).items():
                found.setdefault(sequence, []).append(float(np.mean(gains)))
    each = {sequence: float(np.mean(found[sequence])) for sequence in sorted(found)}
    return {**interval(list(each.values()), list(each)), "each": each} if found else None


def make_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown table with a row for each recipe, in their order."""
    protocols = sorted({protocol for record in records for protocol in record["gains"]}, reverse=True)
    columns = {protocol.replace("-", " "): [protocol] for protocol in protocols}
    for resolution in dict.fromkeys(protocol.split("-")[1] for protocol in protocols):
        both = [protocol for protocol in protocols if protocol.endswith(f"-{resolution}")]
        columns |= {f"{UNSEEN} {resolution}": both} if len(both) > 1 else {}
    head = ["recipe", "network", "parameters", "steps x batch", "seconds", "seeds", *columns]
    lines = [" | ".join(head), " | ".join(["---", "---", *["---:"] * (len(head) - 2)])]
    for recipe in dict.fromkeys(record["recipe"] for record in records):
        runs = [record for record in records if record["recipe"] == recipe]
        cells = [recipe, _each(runs, "network"), _each(runs, "parameters", "{:,}")]
        cells += [" and ".join(dict.fromkeys(f"{run['steps']:,} x {run['batch_size']}" for run in runs))]
        cells += [_range([run["seconds"] for run in runs]), ", ".join(map(str, sorted({run["seed"] for run in runs})))]
        cells += [_gain(gain_over_sequences(runs, chosen)) for chosen in columns.values()]
        lines.append(" | ".join(cells))
    return "".join(f"| {line} |\n" for line in lines)


def fill(text: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Return the document with each table anew between `<!-- table: NAME -->` and `<!-- end -->`.

    Raises:
        InputError: a table has no place in the document, or a place no table.
    """
    names = dict.fromkeys(record["table"] for record in records)
    places = re.findall(r"<!-- table: (.*?) -->\n", text)
    if set(places) != set(names) or len(places) != len(names):
        raise InputError(f"recipes.md has places for {places}, but the records are of {list(names)}.")
    for name in names:
        table = make_table([record for record in records if record["table"] == name])
        pattern = rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda match, table=table: match[1] + table + match[2], text, flags=re.DOTALL)
    return text


def _each(runs: Sequence[Mapping[str, Any]], key: str, form: str = "{}") -> str:
    return " and ".join(dict.fromkeys(form.format(run[key]) for run in runs))


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _gain(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    words = f"{found['mean']:+.2f}"
    if found["low"] is not None:
        words += f" [{found['low']:+.2f}, {found['high']:+.2f}]"
    each = ", ".join(f"{gain:+.2f}" for gain in found["each"].values())
    return f"{words} ({each})" if len(found["each"]) > 1 else words


def main(command_line: Sequence[str] | None = None) -> None:
    """Add runs to the records, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, default=DOCS / "recipes.json", help="file of the records")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="take runs into the records")
    add.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a finished run")
    add.add_argument("--table", required=True, help="its place in the document")
    add.add_argument("--recipe", required=True, help="the row, in words")
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
            kept = [r for r in records if (r["run"], r["table"]) != (row["run"], row["table"])]
            records = [*kept, {**row, **read_run(folder, arguments.splits)}]
        write_json(arguments.records, records)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
