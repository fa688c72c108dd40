"""Pictures of results: dots and curves with error bars.

Colour-blind people can tell the colours apart (Okabe and Ito). A line without a value says "not
available", and axes say which direction is better.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recbole_genci.experiments.tables import Estimate, Interval
from recbole_genci.utils.figures import row_of_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
HIGHLIGHT = "#FDF0D5"
#: Words in a picture.
MEASURED, PAPER, ABSENT = "measured here", "printed in the paper", "not available"
APART, TOGETHER = "interval without 0 (not corrected for many lines)", "interval with 0"
_WIDEST_NAME = 32  # characters; a longer one is broken
_LINE_HEIGHT = 0.17  # inches of a row of text
_MARKERS = ("o", "s", "^", "v")


@dataclass(frozen=True)
class Series:
    """One value for each line of a picture.

    Attributes:
        name: name in the legend.
        values: one value per line; None leaves a gap.
        hollow: whether markers are outlines; the paper's figures have outlines.
        like: number of the series from which an outline takes colour and marker; None draws a
            black diamond.
    """

    name: str
    values: Sequence[Estimate | float | None]
    hollow: bool = False
    like: int | None = None

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Values ``[lines]`` and errors ``[lines]``; NaN stands for a gap or for no error."""
        whole = [
            Estimate(value) if isinstance(value, (int, float)) else value for value in self.values
        ]
        values = np.array([np.nan if value is None else value.value for value in whole])
        return values, np.array(
            [np.nan if value is None or value.error is None else value.error for value in whole]
        )


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        label: what its numbers are.
        series: what is drawn on it; the first one is that of the lines themselves.
        smaller_is_better: the direction that an arrow shows; None draws no arrow.
    """

    label: str
    series: Sequence[Series]
    smaller_is_better: bool | None = None

    def drawn(self) -> list[Series]:
        """The series that have at least one value."""
        return [series for series in self.series if np.isfinite(series.points()[0]).any()]

    def absent(self) -> np.ndarray:
        """Places of the lines that have no value in the first series."""
        return np.flatnonzero(~np.isfinite(self.series[0].points()[0]))

    def in_order(self, order: Sequence[int]) -> Panel:
        """The same panel with its lines in another order."""
        series = [replace(one, values=[one.values[i] for i in order]) for one in self.series]
        return replace(self, series=series)

    def label_of(self, horizontal: bool) -> str:
        """The axis' label, with an arrow to what is better."""
        if self.smaller_is_better is None:
            return self.label
        if horizontal:
            arrow = (
                "\u2190 lower is better" if self.smaller_is_better else "higher is better \u2192"
            )
        else:
            arrow = (
                "\u2193 lower is better" if self.smaller_is_better else "\u2191 higher is better"
            )
        return f"{self.label}\n{arrow}"


def best_first(panel: Panel) -> list[int]:
    """The places of the lines by the panel's first series, the best first, absent ones last."""
    values, _ = panel.series[0].points()
    sign = 1 if panel.smaller_is_better else -1
    return np.argsort(np.where(np.isfinite(values), sign * values, np.inf), kind="stable").tolist()


def dot_plot(
    file: Path,
    title: str,
    names: Sequence[str],
    panels: Sequence[Panel],
    highlighted: Sequence[str] = (),
    ranked: bool = False,
) -> None:
    """Draw one line for each name, from top to bottom, and one column for each panel.

    Args:
        file: the file, a PNG.
        title: above everything.
        names: of the lines.
        panels: what is drawn, a column each.
        highlighted: names of the lines that stand out.
        ranked: whether the best line by the first panel comes first, instead of the first name.
    """
    if ranked:
        order = best_first(panels[0])
        names = [names[i] for i in order]
        panels = [panel.in_order(order) for panel in panels]
    figure, axes = row_of_axes(
        len(panels), 4.2 * len(panels) + 1.4, 1.6 + _height(names), sharey=True
    )
    places = np.arange(len(names))
    for axis, panel in zip(axes, panels):
        shifts = _shifts(len(panel.drawn()), 0.16)
        for number, (series, shift) in enumerate(zip(panel.drawn(), shifts)):
            values, errors = series.points()
            axis.errorbar(
                values, places + shift, xerr=errors, **_look(number, series), linestyle="none"
            )
        _name_lines(axis, names, panel.label_of(horizontal=True))
        for place in panel.absent():
            _say_absent(axis, place)
        for place in (place for place, name in enumerate(names) if name in highlighted):
            axis.axhspan(place - 0.45, place + 0.45, color=HIGHLIGHT, zorder=0)
    for name, tick in zip(names, axes[0].get_yticklabels()):
        tick.set_fontweight("bold" if name in highlighted else "normal")
    _finish(figure, axes, title, file)


def interval_plot(
    file: Path,
    title: str,
    names: Sequence[str],
    panels: Sequence[tuple[str, Sequence[Interval | None]]],
) -> None:
    """Draw the interval of a difference for each name, from top to bottom, beside a line at 0.

    An interval that holds 0 is hollow and grey. A difference without an interval is a dot alone.

    Args:
        file: the file, a PNG.
        title: above everything.
        names: of the lines.
        panels: a column each: its label, and an interval for each line, or None.
    """
    figure, axes = row_of_axes(
        len(panels), 4.2 * len(panels) + 1.4, 1.8 + _height(names), sharey=True
    )
    for axis, (label, intervals) in zip(axes, panels):
        axis.axvline(0, color="0.3", linewidth=1)
        for place, interval in enumerate(intervals):
            if interval is None:
                _say_absent(axis, place)
            else:
                _draw_interval(axis, place, interval)
        _name_lines(axis, names, label)
    _finish(figure, axes, title, file, fewest=1)


def _draw_interval(axis: Axes, place: int, interval: Interval) -> None:
    value, low, high = interval.value, interval.low, interval.high
    middle, half, apart, label = value, None, False, None
    if low is not None and high is not None:
        middle, half, apart = (low + high) / 2, (high - low) / 2, not low <= 0 <= high
        label = APART if apart else TOGETHER
    colour = COLOURS[0] if apart else "0.45"
    drawn = axis.errorbar(
        [middle],
        [place],
        xerr=half,
        color=colour,
        marker="o",
        markersize=5.5,
        markerfacecolor=colour if apart else "none",
        capsize=3,
        linewidth=1.2,
        linestyle="none",
        label=label,
    )
    # The dot may lie outside: few users drawn anew can be far from the rows themselves.
    drawn.lines[0].set_xdata([value])
    axis.update_datalim([(value, place)])


def _broken(names: Sequence[str]) -> list[str]:
    return [textwrap.fill(name, _WIDEST_NAME) for name in names]


def _height(names: Sequence[str]) -> float:
    """Inches for all lines, at least two rows of text each."""
    rows = max([2, *(name.count("\n") + 1 for name in _broken(names))])
    return len(names) * rows * _LINE_HEIGHT


def _name_lines(axis: Axes, names: Sequence[str], label: str) -> None:
    """Names beside the lines, the first on top, and what the numbers are below them."""
    axis.set(
        xlabel=label,
        yticks=np.arange(len(names)),
        yticklabels=_broken(names),
        ylim=(len(names) - 0.4, -0.6),
    )
    axis.ticklabel_format(axis="x", useOffset=False)
    axis.grid(axis="x", color="0.85", linewidth=0.6)
    axis.tick_params(axis="x", labelrotation=30)


def _say_absent(axis: Axes, place: int) -> None:
    axis.text(
        0.5,
        place,
        ABSENT,
        transform=axis.get_yaxis_transform(),
        ha="center",
        va="center",
        color="0.45",
        style="italic",
    )


def curve(file: Path, title: str, key: str, values: Sequence, panels: Sequence[Panel]) -> None:
    """Draw each panel over the values of a key, evenly spaced as in the paper's Fig. 5-7."""
    figure, axes = row_of_axes(len(panels), 4.4 * len(panels), 3.6)
    places = np.arange(len(values))
    for axis, panel in zip(axes, panels):
        for number, series in enumerate(panel.drawn()):
            points, errors = series.points()
            axis.errorbar(places, points, yerr=errors, **_look(number, series), linestyle="-")
        axis.set(
            xlabel=key,
            ylabel=panel.label_of(horizontal=False),
            xticks=places,
            xticklabels=[str(value) for value in values],
        )
        axis.ticklabel_format(axis="y", useOffset=False)
        axis.grid(axis="y", color="0.85", linewidth=0.6)
        for place in panel.absent():
            axis.text(
                place,
                0.5,
                ABSENT,
                transform=axis.get_xaxis_transform(),
                ha="center",
                va="center",
                rotation=90,
                color="0.45",
                style="italic",
            )
    _finish(figure, axes, title, file)


def _shifts(number: int, step: float) -> np.ndarray:
    return (np.arange(number) - (number - 1) / 2) * step


def _look(number: int, series: Series) -> dict:
    number = number if series.like is None else series.like
    alone = series.hollow and series.like is None
    colour = "#000000" if alone else COLOURS[number % len(COLOURS)]
    marker = "D" if alone else _MARKERS[number % len(_MARKERS)]
    return {
        "color": colour,
        "marker": marker,
        "markersize": 5.5,
        "markerfacecolor": "none" if series.hollow else colour,
        "capsize": 3,
        "linewidth": 1.2,
        "label": series.name,
    }


def _finish(figure: Figure, axes: np.ndarray, title: str, file: Path, fewest: int = 2) -> None:
    """The legend, if it has at least the ``fewest`` entries, and the title; then the file."""
    handles = {
        label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())
    }
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    if len(handles) >= fewest:
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=len(handles),
            frameon=False,
        )
    figure.suptitle(title, fontsize=11)
    save(figure, file, dpi=120, colours=32)
