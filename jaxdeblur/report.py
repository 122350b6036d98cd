"""A run's records to a report: one HTML file that opens offline, and the same numbers as Markdown and JSON.

It computes nothing anew and imports no jax: every number is read from the run's folder. PSNR is in dB.
"""

import base64
import io
import json
import shlex
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.figure import Figure

from jaxdeblur.errors import InputError
from jaxdeblur.files import read_json, write_json
from jaxdeblur.metric_log import read_metrics

SPLITS = ("test", "validation")
# What the tables show: key in the summary, name with unit, decimals.
ROWS = (
    ("psnr", "PSNR, mean over images (dB)", 2),
    ("psnr_uint8", "PSNR, mean over images, rounded to 8 bits (dB)", 2),
    ("psnr_batch16", "PSNR, pooled over batches of 16, as the original states it (dB)", 2),
    ("mse", "MSE, mean over images", 5),
)


def write_report(run: Path, output: Path) -> Path:
    """Write `report.html`, `report.md` and `report.json` of a run into `output`; return the HTML's path.

    Raises:
        InputError: a record is missing; names it.
    """
    report = collect(run)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "report.json", {key: report[key] for key in ("run", "facts", "evaluations", "verdict")})
    (output / "report.md").write_text(_markdown(report))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdeblur", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.jinja").render(
        **report, curves=[_svg(figure) for figure in _curves(report["log"])], image=lambda file: _embed(run / file)
    )
    (output / "report.html").write_text(page)
    return output / "report.html"


def collect(run: Path) -> dict[str, Any]:
    """Return all that the report shows, read from the run's folder.

    Raises:
        InputError: a record is missing; names it.
    """
    facts, config = read_json(run / "run.json"), read_json(run / "config.json")
    log = read_metrics(run / "metrics.jsonl")
    if not log:
        raise InputError(f"{run / 'metrics.jsonl'}: missing or empty; expected the log of a trained run.")
    evaluations = []
    for split in SPLITS:
        paths = sorted((run / "eval").glob(f"{split}-*.json"))
        if not paths:
            raise InputError(
                f"{run / 'eval'}: no {split}-*.json. Evaluate the run: add --mode evaluate to its command."
            )
        evaluations += [_evaluation(path) for path in paths]
    return {
        "run": run.resolve().name,
        "facts": {
            **{key: value for key, value in facts.items() if not isinstance(value, (dict, list))},
            **{f"{split} pairs": number for split, number in facts["pairs"].items()},
            "command": shlex.join(facts["command"]),
            "training hours": round(log[-1]["wall_s"] / 3600, 3),
            "training steps": log[-1]["step"],
        },
        "config": json.dumps(config, indent=1),
        "evaluations": evaluations,
        "verdict": verdict(evaluations[0]["gain"], evaluations[0]["protocol"]),
        "log": log,
    }


def verdict(gain: dict[str, Any], protocol: dict[str, Any]) -> str:
    """Say in one sentence whether the network beats its own input. A gain whose interval includes zero is no gain."""
    where = f"on the {gain['images']} {protocol['split']} images"
    better = f"; better on {gain['images_better']} of them"
    if gain["low"] is None:
        return f"{gain['mean']:+.2f} dB against the blurred input {where}; one sequence gives no interval{better}."
    interval = f"{gain['mean']:+.2f} dB, 95% interval {gain['low']:+.2f} to {gain['high']:+.2f}"
    interval += f" over {gain['sequences']} sequences{better}"
    if gain["low"] > 0:
        return f"The network beats the blurred input {where}: {interval}."
    if gain["high"] < 0:
        return f"The network is worse than the blurred input {where}: {interval}."
    return f"No gain over the blurred input is shown {where}: {interval}."


def _evaluation(path: Path) -> dict[str, Any]:
    record = read_json(path)
    summary = record["summary"]
    rows = [
        {
            "name": name,
            "network": f"{summary[key]:.{decimals}f}",
            "identity": f"{summary['identity'][key]:.{decimals}f}",
            "difference": f"{summary[key] - summary['identity'][key]:+.{decimals}f}",
        }
        for key, name, decimals in ROWS
    ]
    images = {(image["sequence"], image["frame"]): image for image in record["images"]}
    samples = [
        {
            **{key: sample[key] for key in ("sequence", "frame")},
            "files": {key: f"eval/{file}" for key, file in sample["files"].items()},
            "psnr": images[sample["sequence"], sample["frame"]]["psnr"],
            "identity_psnr": images[sample["sequence"], sample["frame"]]["identity"]["psnr"],
        }
        for sample in record["samples"]
    ]
    return {
        "protocol": record["protocol"],
        "summary": {key: value for key, value in summary.items() if key != "gain_psnr"},
        "gain": summary["gain_psnr"],
        "rows": rows,
        "sequences": _per_sequence(record["images"]),
        "samples": samples,
    }


def _per_sequence(images: list[dict]) -> list[dict]:
    """Return mean PSNR of network and identity per sequence."""
    table = []
    for name in dict.fromkeys(image["sequence"] for image in images):
        own = [image for image in images if image["sequence"] == name]
        psnr = sum(image["psnr"] for image in own) / len(own)
        identity = sum(image["identity"]["psnr"] for image in own) / len(own)
        table.append({"sequence": name, "images": len(own), "psnr": psnr, "identity_psnr": identity})
    return table


def _curves(log: list[dict]) -> list[Figure]:
    """Return the plots of training loss and of validation PSNR, with the identity's, over steps."""
    figures = []
    plots = (
        ("Training loss", "loss", [("train/loss", "mean since the last point", "C0", "-")], True),
        (
            "Validation PSNR",
            "PSNR (dB)",
            [("validation/psnr", "network", "C0", "o-"), ("validation/identity_psnr", "blurred input", "C1", "--")],
            False,
        ),
    )
    for title, label, series, logarithmic in plots:
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.add_subplot(title=title, xlabel="training step", ylabel=label)
        for key, name, color, style in series:
            points = [(line["step"], line[key]) for line in log if key in line]
            if not points:
                continue
            axes.plot(*zip(*points, strict=True), style, color=color, label=name, markersize=3)
        if logarithmic and all(line[key] > 0 for line in log for key, *_ in series if key in line):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
        figures.append(figure)
    return figures


def _svg(figure: Figure) -> str:
    """Return a figure as an SVG element, its text as text."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxdeblur"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _embed(path: Path) -> str:
    """Return an image file as a data URL."""
    if not path.exists():
        raise InputError(f"{path}: missing. Evaluate the run: add --mode evaluate to its command.")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _markdown(report: dict[str, Any]) -> str:
    lines = [f"# {report['run']}", "", report["verdict"], ""]
    for evaluation in report["evaluations"]:
        protocol = evaluation["protocol"]
        lines += [f"## {protocol['split'].capitalize()}, resolution {protocol['resolution']}", ""]
        lines += ["| | network | blurred input | difference |", "| --- | ---: | ---: | ---: |"]
        for row in evaluation["rows"]:
            lines.append(f"| {row['name']} | {row['network']} | {row['identity']} | {row['difference']} |")
        lines += ["", "| sequence | images | PSNR (dB) | blurred input (dB) |", "| --- | ---: | ---: | ---: |"]
        lines += [
            f"| {_cell(row['sequence'])} | {row['images']} | {row['psnr']:.2f} | {row['identity_psnr']:.2f} |"
            for row in evaluation["sequences"]
        ]
        lines += ["", *(f"- {key}: {_cell(value)}" for key, value in protocol.items()), ""]
    lines += ["## The run", "", *(f"- {key}: {_cell(value)}" for key, value in report["facts"].items()), ""]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    """Return text that a Markdown table shows as it is."""
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
