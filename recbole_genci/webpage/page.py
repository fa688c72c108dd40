"""A page in one file, with style, script and plotly inside, so that it opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from recbole_genci.webpage.charts import plotly_script

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        name: its anchor, a word of ours.
        title: its heading, any text.
        body: its HTML, in which every text of a user has gone through ``text``.
        has_charts: whether the body needs plotly.
    """

    name: str
    title: str
    body: str
    has_charts: bool = False


def text(value: object) -> str:
    """A text as HTML: nothing in it is markup."""
    return escape(str(value))


def paragraph(value: object) -> str:
    """A paragraph of a text."""
    return f"<p>{text(value)}</p>"


def absent(name: str, title: str, reason: str) -> Section:
    """A section that says why there is nothing."""
    return Section(name, title, f'<p class="absent">Not available: {text(reason)}</p>')


def page(title: str, about: str, sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: the title, any text.
        about: a paragraph below it, any text.
        sections: the parts, from top to bottom.
    """
    links = "".join(f'<a href="#{each.name}">{text(each.title)}</a>' for each in sections)
    bodies = "".join(
        f'<section id="{each.name}"><h2>{text(each.title)}</h2>{each.body}</section>\n'
        for each in sections
    )
    # 5 MB, hence only where a chart needs it, and once.
    plotly = plotly_script() if any(each.has_charts for each in sections) else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n"
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n{plotly}</head>\n<body>\n"
        f"<h1>{text(title)}</h1>\n{paragraph(about)}\n<nav>{links}</nav>\n{bodies}"
        f"<script>\n{_SCRIPT.read_text(encoding='utf-8')}</script>\n</body>\n</html>\n"
    )
