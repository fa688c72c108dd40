"""Charts drawn by plotly: lines and dots, one trace for each name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

HIGHLIGHT, OTHERS = "#D55E00", None  # None: plotly's own colours, in turn


@dataclass(frozen=True)
class Trace:
    """One line of a chart.

    Attributes:
        name: its name in the legend, any text.
        x, y: its points.
        error: half the length of each point's bar; None without bars.
        is_highlighted: whether it stands out.
    """

    name: str
    x: Sequence
    y: Sequence
    error: Sequence | None = None
    is_highlighted: bool = False


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
) -> str:
    """The HTML of a chart; the page must have ``plotly_script``.

    Args:
        name: a word of ours, the element's id.
        traces: its lines.
        x, y: titles of the axes.
        mode: plotly's ``mode``.
        diagonal: whether to draw the line of ``x = y`` from 0 to 1.
    """
    from plotly import graph_objects

    figure = graph_objects.Figure()
    for trace in traces:
        style: dict[str, Any] = {
            "line": {"color": HIGHLIGHT, "width": 3},
            "marker_color": HIGHLIGHT,
        }
        bars = None if trace.error is None else {"type": "data", "array": list(trace.error)}
        figure.add_scatter(
            x=[_plain(each) for each in trace.x],
            y=list(trace.y),
            name=_escaped(trace.name),
            mode=mode,
            error_y=bars,
            **(style if trace.is_highlighted else {}),
        )
    if diagonal:
        line = {"color": "#888", "dash": "dash"}
        figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, name="perfect calibration")
    figure.update_layout(
        template="plotly_white",
        height=460,
        margin={"t": 20},
        xaxis_title=_escaped(x),
        yaxis_title=_escaped(y),
        showlegend=True,
    )
    return figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displaylogo": False}
    )


def _plain(value: Any) -> Any:
    return _escaped(value) if isinstance(value, str) else value


def _escaped(text: str) -> str:
    """A text for plotly, which takes some HTML in texts, and does not know ``&quot;``."""
    return escape(text, quote=False)
