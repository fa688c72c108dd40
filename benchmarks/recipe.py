"""Settings for several models on one dataset, ranked by validation: a training recipe is chosen so.

    python benchmarks/recipe.py --recipe=benchmarks/recipes/terms.yaml --dataset=ml-100k [--seeds=3]
        [--models=DeepFM,GenCI] [--config_files="a.yaml b.yaml"] [--key=value ...]

trains every line of the file with every seed into results/recipe-terms-ml-100k/. Finished runs are
kept: start the same command again to go on after a stop. `table.md` ranks by validation; the test
figures stand in a table of their own and choose nothing.

    python benchmarks/recipe.py results/recipe-terms-ml-100k results/recipe-terms-amazon18 ...

trains nothing. It prints which setting is best over all models and datasets together, and for each
dataset which one the others would have chosen and how far that is from the best there.

A file has the keys of properties/experiment/*.yaml. `settings` beside `models` is a list of
mappings, each of which every model is trained with.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from recbole_genci.comparison.text_tables import markdown_table
from recbole_genci.config import parse_argv
from recbole_genci.config.command_line import key_value_words
from recbole_genci.config.yaml_files import read_yaml
from recbole_genci.experiments.command import execute, prepare
from recbole_genci.experiments.definition import Definition, defined
from recbole_genci.experiments.reports.recipe import distances
from recbole_genci.experiments.request import ExperimentArguments, parse_seeds
from recbole_genci.utils.answers import Work, answering

_OWN = ("recipe", "dataset", "models", "seeds", "config_files")
_KEYS = {"about", "models", "settings", "model", "lines", "seeds", "against", "notes"}


def definition_of(file: Path) -> Definition:
    """The experiment that a recipe file defines.

    Raises:
        ValueError, FileNotFoundError: the file is missing, or has no lines or another key.
    """
    if not file.is_file():
        raise FileNotFoundError(f"recipe: '{file}' is not there.")
    content = read_yaml(file, "recipe")
    if unknown := sorted(set(content) - _KEYS):
        raise ValueError(
            f"recipe: '{file}' has {unknown[0]}, but a recipe has {', '.join(sorted(_KEYS))} alone."
        )
    _check(file, content)
    content = {"about": f"The settings of {file.name}.", "seeds": 3} | content
    made = defined(
        f"recipe-{file.stem}", content | {"paper": "beyond the paper", "report": "recipe"}
    )
    if not made.variants:
        raise ValueError(f"recipe: '{file}' has neither models with settings nor lines.")
    return made


def _check(file: Path, content: dict) -> None:
    """Refuse entries of another form, and two lines of one name, of which one would be lost."""
    for key in ("models", "settings", "lines", "against", "notes"):
        entries = content.get(key, [])
        inside = dict if key in ("settings", "lines") else str
        if not isinstance(entries, list) or not all(isinstance(each, inside) for each in entries):
            what = "mappings" if inside is dict else "texts"
            raise ValueError(f"recipe: '{file}': {key} is no list of {what}.")
    for number, line in enumerate(content.get("lines", []), start=1):
        if "name" not in line or not (line.get("model") or content.get("model")):
            raise ValueError(f"recipe: '{file}': line {number} of lines lacks a name or a model.")
    names = [str(each.get("name", each)) for each in content.get("settings", [])]
    names += [str(line["name"]) for line in content.get("lines", [])]
    for each in (names, content.get("models", [])):
        if twice := [name for name in each if each.count(name) > 1]:
            raise ValueError(f"recipe: '{file}' has two of the name '{twice[0]}'.")
    lines = [line["name"] for line in content.get("lines", [])]
    if unknown := [name for name in content.get("against", []) if lines and name not in lines]:
        raise ValueError(f"recipe: '{file}': against names '{unknown[0]}', which is no line.")


def train(argv: Sequence[str]) -> Work:
    """Check the command, and return the work: to train what is missing and write the tables."""
    words = parse_argv(argv)
    for name in ("recipe", "dataset"):
        if not words.get(name):
            raise ValueError(f"command line: --{name} is missing.")
    models = [m.strip() for m in str(words["models"]).split(",")] if words.get("models") else None
    definition = definition_of(Path(str(words["recipe"])))
    files = str(words["config_files"]).split() if words.get("config_files") else None
    keys = [word for word in argv if word[2:].partition("=")[0] not in _OWN]
    command = shlex.join(["python", "benchmarks/recipe.py", *argv])
    arguments = ExperimentArguments(
        dataset=str(words["dataset"]),
        models=models,
        seeds=parse_seeds(words.get("seeds")),
        config_files=files,
        argv=keys,
        command=command,
    )
    work = prepare([definition], arguments)
    return lambda: int(any(execute(request, work.cache).failed() for request in work.requests))


def joint(folders: Sequence[str]) -> str:
    """Tables of the settings over several datasets, from the ``table.csv`` of each.

    Raises:
        ValueError, FileNotFoundError: a folder has no such table, or they have different settings.
    """
    cases: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    for folder in map(Path, folders):
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for line, auc, loss in _validated(folder / "table.csv"):
            model, _, settings = line.partition(": ")
            if settings:
                found.setdefault(model, {})[settings] = auc, loss
        cases[folder.name] = found
    lists = [list(found) for of in cases.values() for found in of.values()]
    if not lists:
        raise ValueError("The folders hold no finished settings.")
    names = max(lists, key=len)
    # A model without all settings, or with one that failed, ranks none of them.
    whole = {
        f"{model} on {dataset}": found
        for dataset, of in cases.items()
        for model, found in of.items()
        if set(found) == set(names)
    }
    heads = ["settings", "AUC below the best, mean", "at most", "by", "LogLoss above", "cases"]
    parts = [_table(heads, distances(names, whole))]
    rows = []
    for dataset in cases:
        own = {case: found for case, found in whole.items() if case.endswith(f" on {dataset}")}
        others = {case: found for case, found in whole.items() if case not in own}
        if own and others:
            chosen = distances(names, others)[0][0]
            there = {row[0]: row for row in distances(names, own)}[chosen]
            rows.append([dataset, chosen, *there[1:5]])
    if rows:
        heads = ["left out", "chosen by the others", *heads[1:5]]
        parts.append(_table(heads, rows))
    return "\n\n".join(parts)


def _validated(file: Path) -> list[tuple[str, float, float]]:
    """Line, validation AUC and LogLoss of each finished line of a recipe's table."""
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} has no table.csv: train its recipe first.")
    columns = {"line": str, "valid AUC": float, "valid LogLoss": float}
    try:
        table = pd.read_csv(file, dtype=columns)
    except ValueError as error:  # pandas' own errors and those of encodings are ones
        raise ValueError(
            f"{file} is empty or damaged. Start the command again that trained its recipe, which "
            "writes it anew and trains nothing that has finished."
        ) from error
    if "line" not in table:
        raise ValueError(f"{file} is no table of a recipe: it has no column 'line'.")
    if not columns.keys() <= set(table):  # a column without a figure is left out
        return []
    return list(table[list(columns)].dropna().itertuples(index=False, name=None))


def _table(heads: Sequence[str], rows: Sequence[Sequence]) -> str:
    return markdown_table(
        heads, [[f"{x:.4f}" if isinstance(x, float) else str(x) for x in row] for row in rows]
    )


@answering
def main(argv: Sequence[str]) -> Work:
    """Train a recipe, or rank the settings of trained ones; return the exit status."""
    if argv and not argv[0].startswith("-"):
        text = joint(argv)
        return lambda: print(text) or 0
    return train(key_value_words(list(argv)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
