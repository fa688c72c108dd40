"""Charts drawn by plotly: lines, one for each name, and dots in panels. A name has one colour."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

HIGHLIGHT, BAND = "#D55E00", "#FDF0D5"
#: Of all other names; further names get hues between these.
_COLOURS = (
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#7A5195",
    "#8C6D31",
    "#2F4B7C",
    "#17BECF",
    "#E7298A",
    "#66A61E",
    "#4D4D4D",
    "#B2DF8A",
    "#A6761D",
    "#6A3D9A",
    "#9E1B32",
    "#999999",
    "#1B5E20",
    "#B39DDB",
    "#C2B200",
    "#00695C",
)
_LINE_HEIGHT, _DOTS_MARGIN = 24, 130  # pixels of a chart of dots


@dataclass(frozen=True)
class Look:
    """How a name is drawn, in each chart of a page.

    Attributes:
        colour: its colour, which no other name of the page has.
        is_highlighted: whether it stands out.
    """

    colour: str
    is_highlighted: bool = False


@dataclass(frozen=True)
class Trace:
    """One line of a chart.

    Attributes:
        name: its name in the legend, any text. Traces of one name share a colour and an entry.
        x, y: its points.
        label: what is shown on hovering; the name by default.
        is_thin: whether it is one of several of its name.
    """

    name: str
    x: Sequence
    y: Sequence
    label: str | None = None
    is_thin: bool = False


@dataclass(frozen=True)
class DotPanel:
    """A panel of a chart of dots: a value for each name.

    Attributes:
        title: above it.
        values: between 0 and 1.
        errors: half the length of each bar, which ends at 0 and 1; None without bars.
    """

    title: str
    values: Sequence[float]
    errors: Sequence[float] | None = None


def looks_of(names: Iterable[str], highlighted: Sequence[str] = ()) -> dict[str, Look]:
    """A colour for each name; the first highlighted one has ``HIGHLIGHT``."""
    names = list(dict.fromkeys(names))
    first = next((name for name in names if name in highlighted), None)
    others = [name for name in names if name != first]
    colours = {name: _colour(number) for number, name in enumerate(others)}
    return {
        name: Look(HIGHLIGHT if name == first else colours[name], name in highlighted)
        for name in names
    }


def _colour(number: int) -> str:
    if number < len(_COLOURS):
        return _COLOURS[number]
    # Steps of the golden ratio never meet a hue again.
    hue = 0.618034 * (number - len(_COLOURS)) % 1
    parts = colorsys.hls_to_rgb(hue, (0.35, 0.5, 0.65)[number % 3], 0.6)
    return "#" + "".join(f"{round(255 * part):02X}" for part in parts)


def plotly_script() -> str:
    """The script element with plotly itself, 5 MB."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>\n"


def chart(
    name: str,
    traces: Sequence[Trace],
    x: str,
    y: str,
    mode: str = "lines+markers",
    diagonal: bool = False,
    looks: Mapping[str, Look] | None = None,
) -> str:
    """The HTML of a chart of lines; the page must have ``plotly_script``.

    Args:
        name: a word of ours, the element's id.
        traces: its lines.
        x, y: titles of the axes.
        mode: plotly's ``mode``.
        diagonal: whether to draw the line of ``x = y`` from 0 to 1.
        looks: how each name is drawn; by default in colours of this chart's own.
    """
    from plotly import graph_objects

    looks = looks or looks_of(trace.name for trace in traces)
    figure = graph_objects.Figure()
    named: set[str] = set()
    # What stands out is drawn last, above the others; the legend keeps the order.
    for rank, trace in sorted(
        enumerate(traces), key=lambda each: looks[each[1].name].is_highlighted
    ):
        look = looks[trace.name]
        width = (1.2 if trace.is_thin else 2) + look.is_highlighted
        figure.add_scatter(
            x=[_escaped(each) if isinstance(each, str) else each for each in trace.x],
            y=list(trace.y),
            name=_escaped(trace.name),
            legendgroup=_escaped(trace.name),
            legendrank=1000 + rank,
            showlegend=trace.name not in named,
            text=_escaped(trace.label or trace.name),
            hovertemplate="%{text}: %{x}, %{y}<extra></extra>",
            mode=mode,
            line={"color": look.colour, "width": width},
            marker={"size": 3 if trace.is_thin else 6},
        )
        named.add(trace.name)
    if diagonal:
        line = {"color": "#888", "dash": "dash"}
        figure.add_scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line=line,
            name="perfect calibration",
            legendrank=1000 + len(traces),
        )
    figure.update_layout(
        height=max(460, 120 + 19 * len(named)),
        margin={"t": 20},
        xaxis_title=_escaped(x),
        yaxis_title=_escaped(y),
        showlegend=True,
        legend_tracegroupgap=0,
    )
    return _html(figure, name)


def dot_chart(
    name: str,
    lines: Sequence[str],
    panels: Sequence[DotPanel],
    x: str,
    looks: Mapping[str, Look],
    order: Sequence[str],
) -> str:
    """The HTML of a chart with a line for each name, and a panel beside the other for each group.

    Args:
        name: a word of ours, the element's id.
        lines: the names, in the order of the panels' values.
        panels: what is drawn.
        x: title of the panels' axes.
        looks: how each name is drawn.
        order: the names from top to bottom.
    """
    from plotly.subplots import make_subplots

    places = [order.index(line) for line in lines]
    figure = make_subplots(
        cols=len(panels),
        shared_yaxes=True,
        horizontal_spacing=0.02,
        column_titles=[_escaped(panel.title) for panel in panels],
    )
    for column, panel in enumerate(panels, start=1):
        _add_dots(figure, column, panel, lines, places, looks)
    for place, line in zip(places, lines):
        if looks[line].is_highlighted:
            figure.add_hrect(
                y0=place - 0.5, y1=place + 0.5, fillcolor=BAND, line_width=0, layer="below"
            )
    _name_lines(figure, order, looks)
    figure.update_xaxes(title_text=_escaped(x))
    figure.update_layout(
        height=_DOTS_MARGIN + _LINE_HEIGHT * len(order),
        margin={"t": 40, "r": 40},
        modebar_orientation="v",  # beside the titles
    )
    return _html(figure, name)


def _add_dots(
    figure: Any,
    column: int,
    panel: DotPanel,
    lines: Sequence[str],
    places: Sequence[int],
    looks: Mapping[str, Look],
) -> None:
    """Draw a panel's dots with their bars; ``places`` are the heights of ``lines``."""
    bars = _bars(panel)
    figure.update_xaxes(range=_with_margin(bars), col=column)
    figure.add_scatter(
        x=list(panel.values),
        y=places,
        mode="markers",
        showlegend=False,
        marker={
            "color": [looks[line].colour for line in lines],
            "size": [11 if looks[line].is_highlighted else 8 for line in lines],
        },
        text=[_escaped(line) for line in lines],
        hovertemplate="%{text}: %{x:.4f}<extra></extra>",
        row=1,
        col=column,
    )
    for place, line, (low, high) in zip(places, lines, bars):
        if low < high:  # a line of its own, as plotly gives all bars of a trace one colour
            figure.add_scatter(
                x=[low, high],
                y=[place, place],
                mode="lines",
                line={"color": looks[line].colour, "width": 2},
                showlegend=False,
                hoverinfo="skip",
                row=1,
                col=column,
            )


def _name_lines(figure: Any, order: Sequence[str], looks: Mapping[str, Look]) -> None:
    """Write the names beside the first panel, from top to bottom."""
    shown = [
        f"<b>{_escaped(line)}</b>" if looks[line].is_highlighted else _escaped(line)
        for line in order
    ]
    figure.update_yaxes(
        tickvals=list(range(len(order))), ticktext=shown, range=[len(order) - 0.4, -0.6]
    )
    figure.update_yaxes(automargin=True, col=1)


def _bars(panel: DotPanel) -> list[tuple[float, float]]:
    """The ends of each bar, within 0 and 1."""
    errors = panel.errors or [0.0] * len(panel.values)
    return [(max(0.0, v - e), min(1.0, v + e)) for v, e in zip(panel.values, errors)]


def _with_margin(bars: Sequence[tuple[float, float]]) -> list[float]:
    """The ends of an axis that shows all bars, and the dots at their ends whole."""
    low, high = min(low for low, _ in bars), max(high for _, high in bars)
    margin = 0.05 * (high - low) or 0.01
    return [low - margin, high + margin]


def _html(figure: Any, name: str) -> str:
    from plotly import io

    drawn = figure.to_dict()
    drawn["layout"]["template"] = _template()
    return io.to_html(
        drawn,
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displaylogo": False},
        validate=False,
    )


@functools.cache
def _template() -> dict:
    """Made once: to set it by its name takes plotly longer than all else of a chart."""
    from plotly import io

    return io.templates["plotly_white"].to_plotly_json()


def _escaped(text: str) -> str:
    """A text for plotly, which takes some HTML in texts, and does not know ``&quot;``."""
    return escape(text, quote=False)
