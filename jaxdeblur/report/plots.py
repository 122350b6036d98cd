"""Plots as SVG elements that follow the page: its colours in light and dark, its font, its width.

Names of runs appear in the page's legend, not in the SVG, where matplotlib would read mathematics into them.
"""

import dataclasses
import io
import itertools
import re
from collections.abc import Sequence

import markupsafe
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxdeblur.report.grouping import Group
from jaxdeblur.report.loading import Run

# Colours that are replaced by the page's: of text and lines, of the grid, of the runs.
_INK, _GRID = "#010203", "#040506"
_SERIES = ("#a00001", "#a00002", "#a00003", "#a00004", "#a00005", "#a00006")
_MOST_POINTS = 150
_THINNED = f"lines of over {2 * _MOST_POINTS} points are shown as means of neighbours, with a band from least to most"
_DASHES = ("solid", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (1, 1)), (0, (8, 2, 2, 2, 2, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P")


# The markers again, for legends.
_MARKER_PATHS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-4-4h8v8h-8z",
    "M0-5L5 4H-5z",
    "M0-5L5 0L0 5L-5 0z",
    "M0 5L5-4H-5z",
    "M-2-5h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
)


@dataclasses.dataclass(frozen=True)
class Plot:
    """An SVG element, its caption, and what a reader who does not see it is told."""

    svg: str
    caption: str


def learning_curves(runs: Sequence[Run], places: dict[str, int]) -> list[Plot]:
    """Return training loss and validation PSNR of all runs, over steps and over hours.

    Args:
        runs: those that were trained.
        places: by run's name, which colour, dash and marker it has throughout the report.
    """
    plots = []
    scales = (("step", "training step", 1.0), ("wall_s", "hours of training", 3600.0))
    for (key, name), (axis, label, unit) in itertools.product(
        (("train/loss", "Training loss"), ("validation/psnr", "Validation PSNR (dB)")), scales
    ):
        figure, axes = _axes(label, name)
        words, values = [], []
        for run in runs:
            points = [(line[axis] / unit, line[key]) for line in run.log if key in line]
            if points:
                x, y = zip(*points, strict=True)
                x_shown, y_shown = _thin_out(axes, places[run.name], x, y)
                _line(axes, places[run.name], x_shown, y_shown, markers=key == "validation/psnr" and len(x) <= 60)
                values += y
                words.append(f"{run.name}: from {y[0]:.4g} to {y[-1]:.4g}")
            if key == "validation/psnr":
                _identity_line(axes, run, axis, unit)
        if key == "train/loss" and values and min(values) > 0:
            axes.set_yscale("log")
            figure.subplots_adjust(left=0.19)  # powers of ten are wide
        by = "steps" if axis == "step" else "hours"
        dashed = "; dotted: the blurred input" if key == "validation/psnr" else f"; {_THINNED}"
        plots.append(
            _plot(
                figure,
                f"{name} by {by}{dashed}",
                "; ".join(words) or "no values in the log",
                prefix=f"curve{len(plots)}",
            )
        )
    return plots


def _thin_out(axes: Axes, place: int, x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return means of neighbours where there are more points than can be told apart; their extremes become a band."""
    if len(x) <= 2 * _MOST_POINTS:
        return np.array(x), np.array(y)
    parts = [np.array_split(np.array(values), _MOST_POINTS) for values in (x, y)]
    middles, means, lows, highs = (
        np.array([function(part) for part in own])
        for own, function in ((parts[0], np.mean), (parts[1], np.mean), (parts[1], np.min), (parts[1], np.max))
    )
    axes.fill_between(middles, lows, highs, color=_SERIES[place % len(_SERIES)], alpha=0.18, linewidth=0)
    return middles, means


def _identity_line(axes: Axes, run: Run, axis: str, unit: float) -> None:
    key = "validation/identity_psnr"
    points = [(line[axis] / unit, line[key]) for line in run.log if key in line]
    if points:
        axes.plot(*zip(*points, strict=True), color=_INK, linestyle=(0, (1, 2)), linewidth=1.2)


def gain_plots(group: Group, places: dict[str, int], prefix: str) -> list[Plot]:
    """Return how the gain in PSNR is distributed over images, and how it depends on the input's own PSNR.

    Args:
        group: what was scored by one protocol.
        places: as in `learning_curves`.
        prefix: of the SVGs' ids, another for every group of a page.
    """
    spread, spread_axes = _axes("PSNR gain over the blurred input (dB)", "share of images with less gain (%)")
    scatter, scatter_axes = _axes("PSNR of the blurred input (dB)", "PSNR gain over it (dB)")
    words = []
    for entry in group.entries:
        images = entry.evaluation.images.values()
        identity = np.array([image["identity"]["psnr"] for image in images])
        gains = np.array([image["psnr"] for image in images]) - identity
        place = places[entry.run.name]
        share = 100 * np.arange(1, gains.size + 1) / gains.size
        color, dash = _SERIES[place % len(_SERIES)], _DASHES[place % len(_DASHES)]
        spread_axes.step(np.sort(gains), share, where="post", color=color, linestyle=dash, linewidth=1.6)
        marker = _MARKERS[place % len(_MARKERS)]
        size = 4.5 if gains.size <= 200 else 2.5
        scatter_axes.plot(identity, gains, marker, color=color, markersize=size, alpha=0.65, markeredgewidth=0)
        low, middle, high = np.quantile(gains, [0.05, 0.5, 0.95])
        words.append(
            f"{entry.run.name}: 5% of images below {low:+.2f} dB, half below {middle:+.2f}, 95% below {high:+.2f}"
        )
    spread_axes.axvline(0, color=_INK, linewidth=0.9)
    scatter_axes.axhline(0, color=_INK, linewidth=0.9)
    spread_axes.set_ylim(0, 100)
    told = "; ".join(words)
    caption = "Gain per image, cumulated: left of the line at 0 the network made the image worse"
    return [
        _plot(spread, caption, told, prefix=f"{prefix}-spread"),
        _plot(scatter, "Gain against the input's own PSNR, one mark per image", told, prefix=f"{prefix}-scatter"),
    ]


def checkpoint_plot(run: Run, place: int) -> Plot:
    """Return the validation gain of all checkpoints of a run, with the intervals."""
    figure, axes = _axes("training step", "PSNR gain on validation (dB)")
    checkpoints = sorted(run.checkpoints["checkpoints"], key=lambda checkpoint: checkpoint["step"])
    steps, gains = [], [checkpoint["gain_psnr"] for checkpoint in checkpoints]
    for checkpoint, gain in zip(checkpoints, gains, strict=True):
        steps.append(checkpoint["step"])
        if gain["low"] is not None:
            axes.plot([checkpoint["step"]] * 2, [gain["low"], gain["high"]], color=_INK, linewidth=0.9)
    _line(axes, place, steps, [gain["mean"] for gain in gains], markers=True)
    axes.axhline(0, color=_INK, linewidth=0.9)
    words = f"best at step {run.checkpoints['best_step']:,} of {len(steps)} checkpoints"
    return _plot(
        figure, f"Checkpoints of {run.name} on validation; bars: 95% intervals", words, prefix=f"checkpoints{place}"
    )


def legend_key(place: int) -> markupsafe.Markup:
    """Return a small SVG that shows how a run is drawn."""
    place %= len(_SERIES)
    dash = "none" if _DASHES[place] == "solid" else " ".join(str(2 * length) for length in _DASHES[place][1])
    line = f'<line x1="0" x2="34" y1="7" y2="7" stroke="var(--s{place})" stroke-width="3" stroke-dasharray="{dash}"/>'
    mark = f'<path d="{_MARKER_PATHS[place]}" transform="translate(17 7)" fill="var(--s{place})"/>'
    return markupsafe.Markup(f'<svg class="key" viewBox="0 0 34 14" aria-hidden="true">{line}{mark}</svg>')


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 3.5))
    figure.subplots_adjust(left=0.15, right=0.98, bottom=0.14, top=0.97)
    axes = figure.add_subplot(xlabel=x, ylabel=y, facecolor="none")
    figure.patch.set_alpha(0)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_INK)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_edgecolor(_INK)
    return figure, axes


def _line(axes: Axes, place: int, x: Sequence[float], y: Sequence[float], *, markers: bool) -> None:
    place %= len(_SERIES)
    style = {"marker": _MARKERS[place], "markersize": 3} if markers or len(x) == 1 else {}
    axes.plot(x, y, color=_SERIES[place], linestyle=_DASHES[place], linewidth=1.6, **style)


def _plot(figure: Figure, caption: str, words: str, *, prefix: str) -> Plot:
    """Return a figure as an SVG element with the page's colours, ids with `prefix` and a label for screen readers."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxdeblur", "font.size": 10}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for color, variable in [(_INK, "--ink"), (_GRID, "--grid"), *((c, f"--s{i}") for i, c in enumerate(_SERIES))]:
        svg = svg.replace(color, f"var({variable})")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    label = markupsafe.escape(f"{caption}. {words}.")
    return Plot(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1), caption)
