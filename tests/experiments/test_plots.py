"""Pictures before they are files: what matplotlib has on the axes, in which colours."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex

from recbole_genci.experiments import plots
from recbole_genci.experiments.plots import Panel, Series, curve, dot_plot
from recbole_genci.experiments.tables import Estimate

OKABE_ITO = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000"}
OURS = [Estimate(0.81, 0.01), Estimate(0.83, 0.02), None, Estimate(0.82)]
PANELS = [
    Panel(
        "AUC (test)",
        [
            Series("fast", OURS),
            Series("slow", [0.7, 0.71, 0.72, 0.73]),
            Series("paper", [0.9, None, None, 0.91], hollow=True),
            Series("nothing", [None] * 4),
        ],
    ),
    Panel("LogLoss", [Series("fast", [0.4] * 4)]),
]


@pytest.fixture
def figures(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, file: drawn.append(figure))
    return drawn


def bars(axis):
    """Of every series: its name, its points, and its error bars from end to end, empty where there
    is none.
    """
    for container in axis.containers:
        line, _, (bar,) = container.lines
        yield container.get_label(), line, bar.get_segments()


def test_dots_stand_at_their_values_with_error_bars(figures, tmp_path):
    dot_plot(
        tmp_path / "x.png",
        "a title",
        ["LR", "DIN", "a name so long that it has to be broken", "GenCI"],
        PANELS,
    )
    (figure,) = figures
    first, second = figure.axes
    assert (first.get_xlabel(), second.get_xlabel()) == ("AUC (test)", "LogLoss")
    assert figure.get_suptitle() == "a title"
    names = [label.get_text() for label in first.get_yticklabels()]
    assert names[0] == "LR" and names[3] == "GenCI" and "\n" in names[2]
    series = {name: (line, ends) for name, line, ends in bars(first)}
    assert list(series) == ["fast", "slow", "paper"]  # a series without values is left out
    line, ends = series["fast"]
    np.testing.assert_array_equal(line.get_xdata(), [0.81, 0.83, np.nan, 0.82])
    np.testing.assert_allclose([bar[:, 0] for bar in ends[:2]], [[0.80, 0.82], [0.81, 0.85]])
    assert [len(bar) for bar in ends] == [2, 2, 0, 0]  # no error bar without an error
    top, bottom = first.get_ylim()
    assert top > bottom  # the first line is on top
    colours = [to_hex(line.get_color()) for line, _ in series.values()]
    markers = [line.get_marker() for line, _ in series.values()]
    assert set(colours) <= OKABE_ITO and len(set(colours)) == len(set(markers)) == 3
    assert [line.get_markerfacecolor() == "none" for line, _ in series.values()] == [
        False,
        False,
        True,
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["fast", "slow", "paper"]


def test_a_curve_has_its_keys_values_below_and_error_bars_upright(figures, tmp_path):
    curve(tmp_path / "x.png", "a title", "mu", [0.01, 0.1, 1.0, 5.0], PANELS)
    (figure,) = figures
    first, second = figure.axes
    assert first.get_xlabel() == second.get_xlabel() == "mu"
    assert (first.get_ylabel(), second.get_ylabel()) == ("AUC (test)", "LogLoss")
    assert [label.get_text() for label in first.get_xticklabels()] == ["0.01", "0.1", "1.0", "5.0"]
    name, line, ends = next(bars(first))
    np.testing.assert_array_equal(line.get_ydata(), [0.81, 0.83, np.nan, 0.82])
    np.testing.assert_allclose([bar[:, 1] for bar in ends[:2]], [[0.80, 0.82], [0.81, 0.85]])
    assert {to_hex(line.get_color()) for _, line, _ in bars(first)} <= OKABE_ITO


def test_the_papers_outline_of_a_series_has_its_colour_and_marker(figures, tmp_path):
    panel = Panel(
        "AUC",
        [
            Series("fast", [0.8]),
            Series("slow", [0.7]),
            Series("paper, slow", [0.75], hollow=True, like=1),
        ],
    )
    dot_plot(tmp_path / "x.png", "a title", ["LR"], [panel])
    _, slow, papers = [line for _, line, _ in bars(figures[0].axes[0])]
    assert papers.get_color() == slow.get_color() and papers.get_marker() == slow.get_marker()
    assert papers.get_markerfacecolor() == "none" != slow.get_markerfacecolor()
