"""What the searches of benchmarks/tuning/ found, as a Markdown table and as
properties/tuned/<dataset>/<model>.yaml.

    python benchmarks/tuning_table.py [dataset]

Each model has seventeen candidates, seed 2020, ranked by validation AUC: the settings it came with;
    8 random draws from
`benchmarks/tuning/<model>.test`; the best of these nine with each of the four values of
`benchmarks/tuning/weight_decay.test`; the best of these thirteen with each of the four of
`benchmarks/tuning/embedding_weight_decay.test`. Where the best of all is not what it came with, the
YAML file says so.
"""

import json
import sys
from pathlib import Path

from recbole_genci.utils.writing import write_text

FOLDER = Path(__file__).parent / "tuning"
ROUNDS = (
    "",
    "-weight-decay",
    "-embedding-weight-decay",
)  # names of a model's journals, after its own
_HEAD = "# Found by validation AUC: benchmarks/tuning/README.md."


def trials(dataset: str, name: str) -> list[dict]:
    """A search's finished trials as ``{"score": ..., "params": ...}``; none before it has run."""
    journal = FOLDER / dataset / f"{name}.jsonl"
    found = (
        [json.loads(line) for line in journal.read_text().splitlines()] if journal.is_file() else []
    )
    return [trial for trial in found if trial["status"] == "finished"]


def lines(dataset: str, folder: Path):
    """The cells of each model's line; its settings are written to ``folder``."""
    before = json.loads((FOLDER / dataset / "before.json").read_text())
    for model, run in sorted(before.items(), key=lambda item: item[0].lower()):
        rounds = [
            max(trials(dataset, model + suffix), key=_score, default=None) for suffix in ROUNDS
        ]
        score, kept = run["valid_auc"], {}
        for best in rounds:
            if best is not None and best["score"] > score:
                score, kept = best["score"], kept | best["params"]
        if kept:
            settings = [f"{key}: {_yaml(value)}" for key, value in kept.items()]
            write_text(folder / f"{model.rstrip('+')}.yaml", "\n".join([_HEAD, *settings, ""]))
        found = (f"{best['score']:.4f}" if best else "not searched" for best in rounds)
        yield (
            model,
            f"{run['valid_auc']:.4f}",
            *found,
            ", ".join(f"{key} {value}" for key, value in kept.items()) or "as before",
        )


def _yaml(value) -> str:
    """A number as YAML 1.1 reads it too: 0.00001, not 1e-05, which would be a string."""
    return f"{value:f}".rstrip("0") if isinstance(value, float) and value else str(value)


def _score(trial: dict) -> float:
    return trial["score"]


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "ml-100k"
    settings_folder = FOLDER.parents[1] / "properties/tuned" / name
    settings_folder.mkdir(parents=True, exist_ok=True)
    print(
        "| model | before | best of 8 draws | best of 4 weight decays | best of 4, of embeddings "
        "alone | settings kept |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for line in lines(name, settings_folder):
        print(f"| {' | '.join(line)} |")
