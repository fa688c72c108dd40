"""Tables of entries that are already text: Markdown, LaTeX, and columns that line up."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "–": "--",
}


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of entries that are already text."""
    return "\n".join(
        "| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *rows]
    )


def latex_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX ``tabular`` of entries that are already text; it needs the package booktabs."""
    escaped = [
        " & ".join("".join(_LATEX.get(c, c) for c in " ".join(cell.split())) for cell in line)
        for line in [heads, *rows]
    ]
    lines = [f"{line} \\\\" for line in escaped]
    columns = "l" + "r" * (len(heads) - 1)
    whole = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *whole, r"\end{tabular}", ""])


def aligned(text: str) -> str:
    """Pad the Markdown tables of a text, so that their columns line up on a console."""
    lines = []
    for is_table, group in itertools.groupby(
        text.splitlines(), key=lambda line: line.startswith("| ")
    ):
        table_or_text = list(group)
        lines += _padded(table_or_text) if is_table else table_or_text
    return "\n".join(lines)


def _padded(table: list[str]) -> list[str]:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table]
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows[1] = ["-" * width for width in widths]
    padded = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in padded]
