"""Plots as inline SVG that adapts to the page: its light or dark colours, its font and its width.

Names of runs appear in the page's legend instead of the SVG, where matplotlib would interpret them as mathematics.
"""

import dataclasses
import io
import re
from collections.abc import Mapping, Sequence

import markupsafe
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxdeblur.report.grouping import Group
from jaxdeblur.report.loading import Run
from jaxdeblur.runs.records import CheckpointScores

# Placeholder colours, replaced by the page's CSS variables: text and lines, grid, runs.
_INK, _GRID = "#010203", "#040506"
_SERIES = ("#a00001", "#a00002", "#a00003", "#a00004", "#a00005", "#a00006")
_MAX_POINTS = 150  # of a line
_DASHES = ("solid", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (1, 1)), (0, (8, 2, 2, 2, 2, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P")

# The same markers as SVG paths, for legends.
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
    """An SVG element, whose label describes it to screen readers, and its caption."""

    svg: str
    caption: str


@dataclasses.dataclass(frozen=True)
class _XAxis:
    """What curves are drawn over: a field of the log, the factor that converts it, and its names."""

    field: str
    unit: float
    label: str
    plural: str


@dataclasses.dataclass(frozen=True)
class _Curve:
    """The logged values of one run; `style` is the index of its colour, dash and marker."""

    name: str
    style: int
    x: list[float]
    y: list[float]


_X_AXES = (_XAxis("step", 1.0, "training step", "steps"), _XAxis("wall_s", 3600.0, "hours of training", "hours"))


def learning_curves(runs: Sequence[Run], styles: Mapping[str, int]) -> list[Plot]:
    """Return training loss and validation PSNR of all runs, over steps and over hours.

    Args:
        runs: those that were trained.
        styles: by run's name, the index of its colour, dash and marker throughout the report.
    """
    drawn = [draw(runs, styles, axis) for draw in (_draw_losses, _draw_validation) for axis in _X_AXES]
    return [_plot(*parts, prefix=f"curve{i}") for i, parts in enumerate(drawn)]


def _select(runs: Sequence[Run], styles: Mapping[str, int], field: str, axis: _XAxis) -> list[_Curve]:
    """Return the logged values of a field, for the runs that logged it."""
    curves = []
    for run in runs:
        if lines := [line for line in run.log if field in line]:
            x, y = [line[axis.field] / axis.unit for line in lines], [line[field] for line in lines]
            curves.append(_Curve(run.name, styles[run.name], x, y))
    return curves


def _draw_losses(runs: Sequence[Run], styles: Mapping[str, int], axis: _XAxis) -> tuple[Figure, str, str]:
    """Return the figure, its caption and its description."""
    figure, axes = _axes(axis.label, "Training loss")
    curves = _select(runs, styles, "train/loss", axis)
    for curve in curves:
        _line(axes, curve.style, *_downsample(axes, curve), markers=False)
    if curves and min(min(curve.y) for curve in curves) > 0:
        axes.set_yscale("log")
        figure.subplots_adjust(left=0.19)  # powers of ten are wide
    caption = (
        f"Training loss by {axis.plural}; lines of more than {2 * _MAX_POINTS} points show means of neighbours "
        "and a band from minimum to maximum"
    )
    return figure, caption, _first_and_last(curves)


def _draw_validation(runs: Sequence[Run], styles: Mapping[str, int], axis: _XAxis) -> tuple[Figure, str, str]:
    """Return the figure, its caption and its description."""
    figure, axes = _axes(axis.label, "Validation PSNR (dB)")
    curves = _select(runs, styles, "validation/psnr", axis)
    for curve in curves:
        _line(axes, curve.style, *_downsample(axes, curve), markers=len(curve.x) <= 60)
    for curve in _select(runs, styles, "validation/identity_psnr", axis):
        axes.plot(curve.x, curve.y, color=_INK, linestyle=(0, (1, 2)), linewidth=1.2)
    return figure, f"Validation PSNR (dB) by {axis.plural}; dotted: the blurred input", _first_and_last(curves)


def _first_and_last(curves: Sequence[_Curve]) -> str:
    values = (f"{curve.name}: from {curve.y[0]:.4g} to {curve.y[-1]:.4g}" for curve in curves)
    return "; ".join(values) or "no values in the log"


def _downsample(axes: Axes, curve: _Curve) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a curve; for a long one, means of neighbours, whose range is drawn as a band."""
    if len(curve.x) <= 2 * _MAX_POINTS:
        return np.array(curve.x), np.array(curve.y)
    x_parts, y_parts = (np.array_split(np.array(values), _MAX_POINTS) for values in (curve.x, curve.y))
    x = np.array([part.mean() for part in x_parts])
    low, mean, high = (np.array([reduce(part) for part in y_parts]) for reduce in (np.min, np.mean, np.max))
    axes.fill_between(x, low, high, color=_SERIES[curve.style % len(_SERIES)], alpha=0.18, linewidth=0)
    return x, mean


def gain_plots(group: Group, styles: Mapping[str, int], prefix: str) -> list[Plot]:
    """Return the distribution of the PSNR gain over images, and the gain against the input's PSNR.

    Args:
        group: evaluations of one protocol.
        styles: as in `learning_curves`.
        prefix: of the SVGs' ids, unique to the group.
    """
    spread, spread_axes = _axes("PSNR gain over the blurred input (dB)", "images with a smaller gain (%)")
    scatter, scatter_axes = _axes("PSNR of the blurred input (dB)", "PSNR gain over it (dB)")
    descriptions = []
    for entry in group.entries:
        images = entry.evaluation.images.values()
        identity = np.array([image.identity.psnr for image in images])
        gains = np.array([image.gain_psnr for image in images])
        style = styles[entry.run.name]
        share = 100 * np.arange(1, gains.size + 1) / gains.size
        color, dash = _SERIES[style % len(_SERIES)], _DASHES[style % len(_DASHES)]
        spread_axes.step(np.sort(gains), share, where="post", color=color, linestyle=dash, linewidth=1.6)
        marker = _MARKERS[style % len(_MARKERS)]
        size = 4.5 if gains.size <= 200 else 2.5
        scatter_axes.plot(identity, gains, marker, color=color, markersize=size, alpha=0.65, markeredgewidth=0)
        low, median, high = np.quantile(gains, [0.05, 0.5, 0.95])
        descriptions.append(
            f"{entry.run.name}: 5% of images below {low:+.2f} dB, half below {median:+.2f}, 95% below {high:+.2f}"
        )
    spread_axes.axvline(0, color=_INK, linewidth=0.9)
    scatter_axes.axhline(0, color=_INK, linewidth=0.9)
    spread_axes.set_ylim(0, 100)
    description = "; ".join(descriptions)
    caption = "Cumulative distribution of the gain per image; images left of the line at 0 became worse"
    return [
        _plot(spread, caption, description, prefix=f"{prefix}-spread"),
        _plot(
            scatter, "Gain against the PSNR of the input, one marker per image", description, prefix=f"{prefix}-scatter"
        ),
    ]


def checkpoint_plot(run: Run, scores: CheckpointScores, style: int) -> Plot:
    """Return the validation gain of all checkpoints of a run, with its intervals."""
    figure, axes = _axes("training step", "PSNR gain on validation (dB)")
    checkpoints = sorted(scores.checkpoints, key=lambda checkpoint: checkpoint.step)
    for checkpoint in checkpoints:
        gain = checkpoint.gain_psnr
        if gain.low is not None and gain.high is not None:
            axes.plot([checkpoint.step] * 2, [gain.low, gain.high], color=_INK, linewidth=0.9)
    steps, means = zip(*((checkpoint.step, checkpoint.gain_psnr.mean) for checkpoint in checkpoints), strict=True)
    _line(axes, style, steps, means, markers=True)
    axes.axhline(0, color=_INK, linewidth=0.9)
    caption = f"Checkpoints of {run.name} on validation images; bars: 95% intervals"
    description = f"best of {len(steps)} checkpoints at step {scores.best_step:,}"
    return _plot(figure, caption, description, prefix=f"checkpoints{style}")


def legend_key(style: int) -> markupsafe.Markup:
    """Return a small SVG of a run's line and marker."""
    style %= len(_SERIES)
    dash = _DASHES[style]
    dashes = "none" if isinstance(dash, str) else " ".join(str(2 * length) for length in dash[1])
    line = f'<line x1="0" x2="34" y1="7" y2="7" stroke="var(--s{style})" stroke-width="3" stroke-dasharray="{dashes}"/>'
    mark = f'<path d="{_MARKER_PATHS[style]}" transform="translate(17 7)" fill="var(--s{style})"/>'
    return markupsafe.Markup(f'<svg class="key" viewBox="0 0 34 14" aria-hidden="true">{line}{mark}</svg>')


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.4, 3.5))
    # Tick labels are centred on their ticks: the margin on the right holds half of the last one.
    figure.subplots_adjust(left=0.15, right=0.94, bottom=0.14, top=0.97)
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


def _line(axes: Axes, style: int, x: ArrayLike, y: ArrayLike, *, markers: bool) -> None:
    style %= len(_SERIES)
    marker = _MARKERS[style] if markers or np.size(x) == 1 else "none"
    axes.plot(x, y, color=_SERIES[style], linestyle=_DASHES[style], linewidth=1.6, marker=marker, markersize=3)


def _plot(figure: Figure, caption: str, description: str, *, prefix: str) -> Plot:
    """Return a figure as an SVG element with the page's colours, ids with `prefix`, and a label for screen readers."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxdeblur", "font.size": 10}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for color, variable in [(_INK, "--ink"), (_GRID, "--grid"), *((c, f"--s{i}") for i, c in enumerate(_SERIES))]:
        svg = svg.replace(color, f"var({variable})")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    label = markupsafe.escape(f"{caption}. {description}.")
    return Plot(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1), caption)
