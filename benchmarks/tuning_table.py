"""What the searches of benchmarks/tuning/ found, as a Markdown table: python benchmarks/tuning_table.py [dataset]

Each search is 8 random draws from `benchmarks/tuning/<model>.test`, seed 2020, ranked by validation AUC; beside them stands the
model with the settings it had before, which are a ninth candidate. The best of the nine is what properties/model/ holds.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "tuning"


def lines(dataset: str):
    before = json.loads((FOLDER / dataset / "before.json").read_text())
    for model, run in sorted(before.items(), key=lambda item: item[0].lower()):
        journal = FOLDER / dataset / f"{model}.jsonl"
        trials = [json.loads(line) for line in journal.read_text().splitlines()] if journal.is_file() else []
        best = max(trials, key=lambda trial: trial["score"], default=None)
        kept = best is None or best["score"] <= run["valid_auc"]
        settings = "as before" if kept else ", ".join(f"{key} {value}" for key, value in best["params"].items())
        found = "not searched" if best is None else f"{best['score']:.4f}"
        yield model, f"{run['valid_auc']:.4f}", found, str(len(trials)), settings


if __name__ == "__main__":
    print("| model | before | best draw | draws | settings kept |\n| --- | --- | --- | --- | --- |")
    for line in lines(sys.argv[1] if len(sys.argv) > 1 else "ml-100k"):
        print(f"| {' | '.join(line)} |")
