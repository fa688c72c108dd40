"""Pictures before they are files: what matplotlib has on the axes, in which colours."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from conftest import kept_figures
from matplotlib.colors import to_hex
from PIL import Image

from recbole_genci.experiments import plots
from recbole_genci.experiments.plots import (
    APART,
    TOGETHER,
    Panel,
    Series,
    curve,
    dot_plot,
    interval_plot,
)
from recbole_genci.experiments.reports import differences
from recbole_genci.experiments.significance import UserBootstrap
from recbole_genci.experiments.tables import Estimate, Interval

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
    return kept_figures(plots, monkeypatch)


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


def test_an_interval_that_holds_0_is_hollow_and_grey(figures, tmp_path):
    intervals = [
        Interval(0.01, 0.002, 0.03),
        Interval(-0.01, -0.03, -0.002),
        Interval(0.01, -0.001, 0.02),
        Interval(0.01, 0.0, 0.02),
        Interval(0.02, None, None),
        None,
    ]
    interval_plot(tmp_path / "x.png", "a title", list("abcdef"), [("AUC", intervals)])
    (figure,) = figures
    (axis,) = figure.axes
    drawn = list(axis.containers)
    assert len(drawn) == 5 and [text.get_text() for text in axis.texts] == ["not available"]
    ends = [bar.get_segments() for _, _, bars in drawn[:4] for bar in bars]
    np.testing.assert_allclose(
        [segment[:, 0] for (segment,) in ends], [[one.low, one.high] for one in intervals[:4]]
    )
    assert [segment[0, 1] for (segment,) in ends] == [0, 1, 2, 3]
    assert drawn[4].lines[0].get_xdata() == [0.02] and not drawn[4].has_xerr
    filled = [each.lines[0].get_markerfacecolor() != "none" for each in drawn]
    assert filled == [True, True, False, False, False]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [APART, TOGETHER]
    assert [line.get_xdata() for line in axis.lines if len(line.get_xdata()) == 2][0] == [0, 0]


@pytest.mark.parametrize("low, high", [(0.02, 0.03), (0.004, 0.008)])
def test_a_difference_may_lie_outside_its_interval(figures, tmp_path, low, high):
    """A percentile interval of few users need not hold it (the next test has some)."""
    interval_plot(tmp_path / "x.png", "a title", ["a"], [("AUC", [Interval(0.01, low, high)])])
    (figure,) = figures
    (axis,) = figure.axes
    (_, dot, (ends,)) = next(bars(axis))
    np.testing.assert_allclose(ends[:, 0], [low, high])
    assert dot.get_xdata() == [0.01]
    left, right = axis.get_xlim()
    assert left < min(low, 0.01) and max(high, 0.01) < right
    # One kind alone is explained too.
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [APART]


def test_a_bootstrap_of_few_users_can_leave_out_the_difference_itself():
    """Each user's click is scored below his other row, and a draw repeats users."""
    users, labels = np.repeat(np.arange(12), 2), np.tile([1, 0], 12)
    bootstrap = UserBootstrap(users, labels, np.linspace(0.1, 0.9, 24)[None], draws=300)
    found = bootstrap.differences(np.full((1, 24), 0.5))["auc"]
    assert found.low < found.high < found.value


@pytest.mark.parametrize("draw", [dot_plot, interval_plot])
def test_long_names_have_room(figures, tmp_path, draw):
    panels = {dot_plot: [PANELS[1]], interval_plot: [("AUC", [Interval(0.1, None, None)] * 4)]}
    heights = []
    for words in (2, 7, 20):
        draw(tmp_path / "x.png", "a title", [" ".join(["lengthy"] * words)] * 4, panels[draw])
        rows = figures[-1].axes[0].get_yticklabels()[0].get_text().count("\n") + 1
        heights.append((rows, figures[-1].get_figheight()))
    assert [rows for rows, _ in heights] == [1, 2, 5]
    assert heights[0][1] == heights[1][1] == pytest.approx(heights[2][1] - 4 * 3 * 0.17)


def test_the_colours_of_a_picture_are_kept(tmp_path):
    four = [Series(str(i), [0.8 + i / 9, Estimate(0.9 + i / 9, 0.02)]) for i in range(4)]
    four.append(Series("paper", [0.7, 0.6], hollow=True))
    dot_plot(tmp_path / "x.png", "t", ["a", "b"], [Panel("AUC", four)], highlighted=["a"])
    palette = Image.open(tmp_path / "x.png").convert("RGB").getcolors()
    assert len(palette) <= 32
    there = {to_hex(np.array(colour) / 255) for _, colour in palette}
    assert there >= {colour.lower() for colour in (*plots.COLOURS, plots.HIGHLIGHT, "#000000")}


def entry(line, minus, auc, logloss):
    """A row of the table of differences, as far as a picture reads it."""
    of_auc = None if auc is None else Interval(auc, None, None)
    return [line, minus, of_auc, Interval(logloss, None, None)]


def outcome(has_users=True):
    """As far as a picture of differences reads it."""
    request = SimpleNamespace(config={"dataset": "tiny"})
    return SimpleNamespace(request=request, has_users=has_users)


@pytest.mark.parametrize(
    "rows, ranked, names, title, left, right",
    [
        (
            [entry("GenCI", "LR", 0.2, -0.1), entry("GenCI", "DIN", -0.1, 0.0)],
            True,
            ["DIN", "LR"],
            "GenCI minus each line, tiny",
            "the other is better",
            "GenCI is better",
        ),
        (
            [entry("no SR", "GenCI", -0.1, 0.1), entry("no NTP", "GenCI", None, 0.0)],
            False,
            ["no SR", "no NTP"],
            "Each line minus GenCI, tiny",
            "GenCI is better",
            "the line is better",
        ),
        (
            [
                entry("FM", "LR", 0.1, 0.1),
                entry("FM", "DIN", 0.0, 0.0),
                entry("LR", "DIN", 0.0, 0.0),
            ],
            False,
            ["FM minus LR", "FM minus DIN", "LR minus DIN"],
            "Differences, tiny",
            "the second is better",
            "the first is better",
        ),
    ],
)
def test_differences_say_which_side_is_better(
    figures, tmp_path, rows, ranked, names, title, left, right
):
    assert differences.draw(tmp_path, outcome(), rows, ranked) == "differences.png"
    (figure,) = figures
    auc, logloss = figure.axes
    assert [label.get_text() for label in auc.get_yticklabels()] == names
    assert figure.get_suptitle() == title
    for axis, sides in ((auc, (left, right)), (logloss, (right, left))):
        words = axis.get_xlabel().split("\n")[1]
        assert words.startswith(f"\u2190 {sides[0]}") and words.endswith(f"{sides[1]} \u2192")
    values = [row[2] and row[2].value for row in rows]
    shown = [each.lines[0].get_xdata()[0] for each in auc.containers]
    assert shown == [value for value in (sorted(values) if ranked else values) if value is not None]


@pytest.mark.parametrize("has_users, drawn", [(True, "users"), (False, "rows")])
def test_differences_say_what_was_drawn(figures, tmp_path, has_users, drawn):
    differences.draw(tmp_path, outcome(has_users), [entry("GenCI", "LR", 0.2, -0.1)])
    for axis, metric in zip(figures[0].axes, ("AUC", "LogLoss")):
        first = axis.get_xlabel().split("\n")[0]
        assert first == f"difference of test {metric} (95 % over {drawn})"
    assert differences.caption(outcome(has_users)).endswith(f"95 % intervals over {drawn}.")


def test_a_long_name_below_a_picture_has_a_row_of_its_own(figures, tmp_path):
    name = "cohort_scale 0.1 and 200/rows of decay"
    rows = [entry(name, minus, 0.2, -0.1) for minus in ("LR", "DIN")]
    differences.draw(tmp_path, outcome(), rows)
    assert [axis.get_xlabel().split("\n")[1:] for axis in figures[0].axes] == [
        ["\u2190 the other is better", f"{name} is better \u2192"],
        [f"\u2190 {name} is better", "the other is better \u2192"],
    ]
