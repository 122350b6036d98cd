"""Renders a report to `report.html`, `report.md`, `report.csv` and `report.json`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from jaxdeblur.files import printable, write_json
from jaxdeblur.report import image_strips, machine_readable, plots, run_facts, sentences, tables
from jaxdeblur.report.grouping import Group, group_runs
from jaxdeblur.report.loading import Run, read_runs
from jaxdeblur.report.published import Published, read_published


def write_report(runs: Sequence[Path], output: Path) -> Path:
    """Write the report of runs to a folder; return the path of the HTML file.

    Args:
        runs: folders of runs or of evaluated weights.
        output: folder, created if missing; files of an earlier report are overwritten.

    Raises:
        InputError: a record is missing or invalid, or runs of one protocol scored different images.
    """
    records = read_runs(runs)
    groups, published = group_runs(records), read_published()
    shared = _text_context(records, groups, published)
    page = environment().get_template("page.html.jinja").render(**shared, **_image_context(records, groups))
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "report.json", machine_readable.report_json(records, groups, published))
    markdown = environment().get_template("page.md.jinja").render(**shared)
    texts = {"report.csv": machine_readable.report_csv(groups, published), "report.md": markdown, "report.html": page}
    for name, text in texts.items():
        (output / name).write_text(printable(text), encoding="utf-8")  # names of folders may not be UTF-8
    return output / "report.html"


def _text_context(runs: list[Run], groups: list[Group], published: Published) -> dict[str, Any]:
    """Return the template variables that HTML and Markdown share."""
    return {
        "title": ", ".join(run.name for run in runs),
        "runs": [
            {
                "name": run.name,
                "summary": f"{run.facts.network}, {run.facts.parameters:,} parameters; "
                f"initial weights: {run.facts.initial_weights}",
                "verdicts": sentences.verdicts(run),
                "warning": sentences.test_split_warning(run),
                "config": json.dumps(run.config, indent=1, ensure_ascii=False) if run.config else "",
                "checkpoints": tables.checkpoints_table(run),
            }
            for run in runs
        ],
        "pair_verdicts": [
            f"{sentences.group_title(group.protocol)}: {sentences.describe_pair(pair)}"
            for group in _test_groups_or_all(groups)
            for pair in group.pairs
        ],
        "comparable": sentences.comparability(groups),
        "original": tables.original_tables(groups, published),
        "field": tables.field_table(published),
        "groups": [
            {
                "title": sentences.group_title(group.protocol),
                "protocol": sentences.describe_protocol(group.protocol),
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
        "facts": [run_facts.facts_table(runs), run_facts.evaluations_table(groups)],
        "losses": sentences.loss_warning(runs),
        "with_log": [run.name for run in runs if run.trained],
        "without_log": [run.name for run in runs if not run.trained],
    }


def _image_context(runs: list[Run], groups: list[Group]) -> dict[str, Any]:
    """Return the template variables of HTML alone: plots and images."""
    styles = {run.name: style for style, run in enumerate(runs)}
    trained = [run for run in runs if run.trained]
    return {
        "keys": {name: plots.legend_key(style) for name, style in styles.items()},
        "curves": plots.learning_curves(trained, styles) if trained else [],
        "checkpoint_plots": {
            run.name: plots.checkpoint_plot(run, run.checkpoints, styles[run.name]) for run in runs if run.checkpoints
        },
        "gain_plots": [plots.gain_plots(group, styles, f"gain{i}") for i, group in enumerate(groups)],
        "picture_groups": [
            {
                "title": sentences.group_title(group.protocol),
                "common": image_strips.common_strips(group),
                "extremes": [(entry.run.name, image_strips.extreme_strips(entry)) for entry in group.entries],
            }
            for group in _test_groups_or_all(groups)
        ],
        **strip_style(),
    }


def strip_style() -> dict[str, Any]:
    """Return the template variables of `strip.html.jinja` besides a strip."""
    return {
        "color_bar": image_strips.color_bar(),
        "jpeg": {"side": image_strips.MAX_SHOWN_SIDE, "quality": image_strips.JPEG_QUALITY},
    }


def _test_groups_or_all(groups: list[Group]) -> list[Group]:
    """Return the groups of the test split, or all groups if there are none."""
    return [group for group in groups if group.protocol.split == "test"] or groups


def environment() -> jinja2.Environment:
    """Return the template environment; HTML templates escape their variables."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jaxdeblur.report", "."),
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    return environment


def _cell(text: Any) -> str:
    """Return text escaped for Markdown, inside tables too."""
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\").replace("\n", " ")
    for mark in "`*[]|":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
