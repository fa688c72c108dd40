"""Draw GenCI's lead over every other line on four data sets, from the records.

``python docs/figures/leads.py`` writes leads.png beside itself; needs the extra ``plots``.
"""

from __future__ import annotations

import csv
from pathlib import Path

from recbole_genci.experiments.plots import interval_plot
from recbole_genci.experiments.tables import Interval

ROOT = Path(__file__).parents[2] / "benchmarks"
SETS = {
    "ml-100k, three seeds": "experiments/compare-ml-100k",
    "ml-1m, one seed": "results/ml-1m-recipe",
    "Amazon handmade, three seeds": "results/amazon/amazon23-beauty-health-handmade-3core",
    "Amazon office, three seeds": "results/amazon/amazon18-office-titles",
}
DIFFERENCE = "AUC difference"


def leads(folder: str) -> dict[str, Interval]:
    """GenCI's difference of test AUC to each other line."""
    with (ROOT / folder / "differences.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["line"] == "GenCI"]
    ends = (f"{DIFFERENCE} 95 % from", f"{DIFFERENCE} 95 % to")
    return {
        row["minus"]: Interval(float(row[DIFFERENCE]), *(float(row[end]) for end in ends))
        for row in rows
    }


def main() -> None:
    """Draw the lines in the order of ml-100k, the best first."""
    found = {name: leads(folder) for name, folder in SETS.items()}
    first = next(iter(found.values()))
    names = sorted(first, key=lambda name: first[name].value)
    panels = [
        (
            f"{name}\n\u2190 the other is better   GenCI is better \u2192",
            [one.get(each) for each in names],
        )
        for name, one in found.items()
    ]
    title = "GenCI's test AUC minus that of every other line, 95 % intervals over users"
    interval_plot(Path(__file__).with_suffix(".png"), title, names, panels)


if __name__ == "__main__":
    main()
