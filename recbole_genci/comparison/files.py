"""The files of a comparison."""

from __future__ import annotations

from pathlib import Path

from recbole_genci.comparison.notes import notes
from recbole_genci.comparison.page import comparison_page
from recbole_genci.comparison.table import comparison_table
from recbole_genci.comparison.text import as_markdown, as_text, entries
from recbole_genci.comparison.text_tables import latex_table
from recbole_genci.utils.words import counted
from recbole_genci.utils.writing import write_json, write_text
from recbole_genci.webpage.page import Section

PAGE = "report.html"


def save_comparison(
    runs: list[dict], folder: Path, command: str, cohorts: Section | None = None
) -> tuple[str, list[str]]:
    """Write ``table.md``, ``table.csv``, ``table.tex``, ``report.html`` and ``runs.json``; return
    the Markdown table and its notes.

    Args:
        runs: the contents of their ``metrics.json``.
        folder: where to write.
        command: the command line that makes the comparison.
        cohorts: the page's section on the items' cohorts, if a model reads semantic IDs.
    """
    table = comparison_table(runs)
    markdown = as_markdown(table)
    first = runs[0]
    note = (
        f"Dataset {first['dataset']} (fingerprint {first['data_fingerprint'][:12]}), test split; "
        f"seeds {', '.join(str(s) for s in dict.fromkeys(r['seed'] for r in runs))}; "
        f"{counted(first['machine']['cpu_count'], 'CPU core')}, "
        f"{counted(first['machine']['threads'], 'thread')}, "
        f"GPU {first['machine']['gpu']}; revision {first['git_revision']}.\n"
    )
    beside = notes(runs, table)
    note += "".join(f"{each}\n" for each in beside)
    note += f"Command: `{command}`"
    write_text(folder / "table.md", f"{markdown}\n\n{note}\n")
    write_text(folder / "table.csv", table.to_csv())
    write_text(folder / "table.tex", latex_table(*entries(as_text(table))))
    write_text(folder / PAGE, comparison_page(runs, table, note, beside, command, cohorts))
    write_json(folder / "runs.json", runs)
    return markdown, beside
