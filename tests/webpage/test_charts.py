"""Charts: a colour for each name, dots in panels, bars within 0 and 1."""

import json
import re

import pytest
from test_page import HOSTILE

from recbole_genci.utils.words import are, counted
from recbole_genci.webpage.charts import (
    HIGHLIGHT,
    DotPanel,
    Trace,
    chart,
    dot_chart,
    looks_of,
)
from recbole_genci.webpage.learning_curves import learning_curves


def figure_of(body):
    """The traces and the layout that a chart hands to plotly."""
    start = body.index("[", body.index("Plotly.newPlot("))
    traces, end = json.JSONDecoder().raw_decode(body[start:])
    layout, _ = json.JSONDecoder().raw_decode(re.sub(r"^[\s,]+", "", body[start + end :]))
    return traces, layout


def test_every_name_has_a_colour_of_its_own():
    names = [f"m{number}" for number in range(40)] + ["GenCI"]
    looks = looks_of(names, ["GenCI"])
    assert list(looks) == names and len({look.colour for look in looks.values()}) == 41
    assert looks["GenCI"].colour == HIGHLIGHT and looks["GenCI"].is_highlighted
    assert not looks["m0"].is_highlighted
    assert looks_of(["a", "b"], ["a", "b"])["b"].is_highlighted  # with another colour
    assert len({look.colour for look in looks_of(["a", "b"], ["a", "b"]).values()}) == 2


def test_the_lines_of_a_name_share_its_colour_and_its_entry_in_the_legend():
    looks = looks_of(["LR", "GenCI"], ["GenCI"])
    lines = [
        Trace(name, [1, 2], [0.5, 0.6], f"{name}, {seed}", True)
        for seed in (1, 2)
        for name in ("GenCI", "LR")
    ]
    traces, layout = figure_of(chart("c", lines, "x", "y", looks=looks))
    assert [each["line"]["color"] for each in traces] == [looks["LR"].colour] * 2 + [HIGHLIGHT] * 2
    assert [each["showlegend"] for each in traces] == [True, False] * 2
    assert traces[2]["line"]["width"] > traces[0]["line"]["width"]
    assert [each["text"] for each in traces] == ["LR, 1", "LR, 2", "GenCI, 1", "GenCI, 2"]


def test_learning_curves_have_a_colour_for_each_model(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "recbole_genci.webpage.learning_curves.validation_curve", lambda folder: ([1, 2], [0.5, 1])
    )
    runs = {(name, seed): tmp_path for seed in (1, 2, 3) for name in ("LR", "DIN")}
    section = learning_curves(runs, "AUC", looks_of(["LR", "DIN"]))
    traces, _ = figure_of(section.body)
    assert len(traces) == 6 and len({each["line"]["color"] for each in traces}) == 2
    assert sum(each["showlegend"] for each in traces) == 2
    assert "One line for each seed" in section.body


def test_dots_stand_apart_and_their_bars_end_at_0_and_1():
    names = ["LR", "DIN", HOSTILE]
    panels = [
        DotPanel("short", [0.99, 0.5, 0.02], [0.05, 0.01, 0.05]),
        DotPanel("long", [0.7, 0.7, 0.7]),
    ]
    looks = looks_of(names, ["DIN"])
    body = dot_chart("c", names, panels, "AUC", looks, ["DIN", "LR", HOSTILE])
    traces, layout = figure_of(body)
    dots = [each for each in traces if each["mode"] == "markers"]
    assert [each["y"] for each in dots] == [[1, 0, 2]] * 2  # a height of its own for each name
    assert dots[0]["marker"]["color"] == [looks[name].colour for name in names]
    bars = [each for each in traces if each["mode"] == "lines"]
    assert [each["x"] for each in bars] == [
        pytest.approx([0.94, 1.0]),
        pytest.approx([0.49, 0.51]),
        pytest.approx([0.0, 0.07]),
    ]
    assert layout["xaxis"]["range"][0] < 0 and layout["xaxis"]["range"][1] > 1
    assert layout["yaxis"]["ticktext"][:2] == ["<b>DIN</b>", "LR"] and "<img" not in body
    assert [each["text"] for each in layout["annotations"]] == ["short", "long"]
    assert len(layout["shapes"]) == 2  # the band behind DIN, in each panel


def test_numbers_and_nouns_agree():
    assert counted(1, "row") == "1 row" and counted(0, "row") == "0 rows"
    assert (are(1), are(0), are(2)) == ("is", "are", "are")
    assert counted(1200, "row") == "1,200 rows"
    assert counted(2, "catalogue entry", "catalogue entries") == "2 catalogue entries"
