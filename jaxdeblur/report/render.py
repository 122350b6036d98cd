"""All parts of a report to files: `report.html`, `report.md`, `report.csv`, `report.json`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from jaxdeblur.files import printable, write_json
from jaxdeblur.report import image_strips, machine_readable, plots, run_facts, sentences, tables
from jaxdeblur.report.grouping import Group, group_runs
from jaxdeblur.report.loading import Run, read_runs


def write_report(runs: Sequence[Path], output: Path) -> Path:
    """Write the report of runs into `output`; return the HTML's path.

    Raises:
        InputError: a record or a field of one is missing (names it), or runs of one protocol scored different images.
    """
    records = read_runs(runs)
    groups, published = group_runs(records), tables.read_published()
    shared = _parts(records, groups, published)
    page = environment().get_template("page.html.jinja").render(**shared, **_pictures(records, groups))
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "report.json", machine_readable.to_json(records, groups, published))
    markdown = environment().get_template("page.md.jinja").render(**shared)
    texts = {"report.csv": machine_readable.to_csv(groups, published), "report.md": markdown, "report.html": page}
    for name, text in texts.items():
        (output / name).write_text(printable(text), encoding="utf-8")  # names of folders need not be UTF-8
    return output / "report.html"


def _parts(runs: list[Run], groups: list[Group], published: dict[str, Any]) -> dict[str, Any]:
    """Return what HTML and Markdown both show."""
    return {
        "title": ", ".join(run.name for run in runs),
        "runs": [
            {
                "name": run.name,
                "summary": f"{run.facts['network']}, {run.facts['parameters']:,} parameters; "
                f"initial weights: {run.facts['initial_weights']}",
                "verdicts": sentences.verdicts(run),
                "warning": sentences.test_warning(run),
                "config": json.dumps(run.config, indent=1, ensure_ascii=False) if run.config else "",
                "checkpoints": tables.checkpoints_table(run) if run.checkpoints else None,
            }
            for run in runs
        ],
        "pair_verdicts": [
            f"{sentences.say_title(group.protocol)}: {sentences.say_pair(pair)}"
            for group in _most_telling(groups)
            for pair in group.pairs
        ],
        "comparable": sentences.say_groups(groups),
        "original": tables.original_tables(groups, published),
        "field": tables.field_table(published),
        "groups": [
            {
                "title": sentences.say_title(group.protocol),
                "protocol": sentences.say_protocol(group.protocol),
                "names": [entry.run.name for entry in group.entries],
                "tables": [
                    tables.metrics_table(group),
                    tables.gains_table(group),
                    *([tables.pairs_table(group)] if group.pairs else []),
                    tables.sequences_table(group),
                ],
            }
            for group in groups
        ],
        "facts": [run_facts.facts_table(runs), run_facts.scorings_table(groups)],
        "losses": sentences.say_losses([run for run in runs if run.trained]),
        "with_log": [run.name for run in runs if run.trained],
        "without_log": [run.name for run in runs if not run.trained],
    }


def _pictures(runs: list[Run], groups: list[Group]) -> dict[str, Any]:
    """Return what only the page shows: plots and images."""
    places = {run.name: place for place, run in enumerate(runs)}
    trained = [run for run in runs if run.trained]
    return {
        "keys": {name: plots.legend_key(place) for name, place in places.items()},
        "curves": plots.learning_curves(trained, places) if trained else [],
        "checkpoint_plots": {run.name: plots.checkpoint_plot(run, places[run.name]) for run in runs if run.checkpoints},
        "gain_plots": [plots.gain_plots(group, places, f"gain{i}") for i, group in enumerate(groups)],
        "picture_groups": [
            {
                "title": sentences.say_title(group.protocol),
                "common": image_strips.common_strips(group),
                "extremes": [(entry.run.name, image_strips.extreme_strips(entry)) for entry in group.entries],
            }
            for group in _most_telling(groups)
        ],
        **strip_style(),
    }


def strip_style() -> dict[str, Any]:
    """Return what the template of strips needs besides a strip."""
    return {
        "color_bar": image_strips.color_bar(),
        "jpeg": {"side": image_strips.SHOWN_SIDE, "quality": image_strips.JPEG_QUALITY},
    }


def _most_telling(groups: list[Group]) -> list[Group]:
    """Return the groups of the test split, or all where there is none."""
    return [group for group in groups if group.protocol["split"] == "test"] or groups


def environment() -> jinja2.Environment:
    """Return the templates; those of HTML escape what they are given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdeblur.report", "."),
        autoescape=lambda name: name.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    return environment


def _cell(text: Any) -> str:
    """Return text that Markdown shows as it is, also in a table."""
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\").replace("\n", " ")
    for mark in "`*[]|":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
