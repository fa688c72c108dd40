"""Comparison tables: one line per model, with mean and standard deviation over seeds.

``python -m recbole_genci.report`` makes one table of runs that were started separately.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from recbole_genci.config.added_keys import ADDED_KEYS
from recbole_genci.config.command_line import HELP
from recbole_genci.config.metric_names import KNOWN
from recbole_genci.evaluation.metrics import rela_impr, why_no_rela_impr
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.training.saved_files import PLACE_KEYS, read_metrics
from recbole_genci.utils.answers import Work, answering
from recbole_genci.utils.files import write_json, write_text
from recbole_genci.utils.layout import METRICS_FILE
from recbole_genci.utils.words import counted, listed
from recbole_genci.webpage.charts import looks_of
from recbole_genci.webpage.learning_curves import learning_curves
from recbole_genci.webpage.page import Section, absent, page, paragraph, text
from recbole_genci.webpage.table import Cell, sortable_table

BASE_MODEL = "LR"
_HIGHLIGHTED = ("GenCI",)  # stands out on the page
PAGE = "report.html"
_PUBLISHED = "--published="
USAGE = """\
usage: python -m recbole_genci.report saved/*/metrics.json [--published=FILE]

Prints one table of runs that were started separately, all on the same rows: a line per model, with
mean and standard deviation over seeds. It leaves out their times, because they were measured under
different loads.

  saved/*/metrics.json
                  the files of finished runs, or their folders. Runs of one dataset:
                  saved/*-ml-100k-*/metrics.json
  --published     a CSV file with the columns model, AUC and LogLoss, which sets scores that others
                  have published for the same rows beside yours: the .bars.csv of a dataset of BARS
"""
_EXPERIMENT = "--experiment=compare with the same models"
#: Entries of ``metrics.json`` that the table needs.
_READ = (
    "model",
    "dataset",
    "seed",
    "test",
    "best_valid",
    "best_epoch",
    "latency_s",
    "training_s",
    "data_fingerprint",
    "folder",
)
#: Entries of ``metrics.json`` that the seeds of one line share, with words for them.
_OF_A_LINE = {
    "rows_fingerprint": "features or histories of the rows",
    "semantic_ids": "semantic IDs",
    "model_revision": "revision of the model",
    "model_source": "source of the model",
}
#: Keys in which they may differ: a recipe's own keys count, and semantic IDs have a digest.
_FREE_IN_A_LINE = PLACE_KEYS | TOKENIZER_KEYS | {"seed", "recipe", "metrics", "semantic_id_path"}
_SHOWN = 3  # so many differing keys are named


def comparison_table(runs: Sequence[Mapping]) -> pd.DataFrame:
    """Aggregate runs into one line per model, in the order in which the models first ran.

    Args:
        runs: the contents of their ``metrics.json``.

    Raises:
        ValueError: the runs saw different rows, two have the same model and seed, or two of a model
            had other settings, features or code.
    """
    fingerprints = {r["data_fingerprint"]: r for r in runs}
    if len(fingerprints) > 1:
        (one, a), (other, b), *_ = fingerprints.items()
        raise ValueError(
            f"These runs cannot stand in one table: {a['folder']} saw rows {one[:12]} of "
            f"{a['dataset']}, {b['folder']} rows {other[:12]} of {b['dataset']}. Run all models "
            "with the same data and protocol."
        )
    keys = [(r["model"], r["seed"]) for r in runs]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        one, other, *_ = [r["folder"] for r in runs if (r["model"], r["seed"]) == twice]
        raise ValueError(
            f"{twice[0]} with seed {twice[1]} is given twice, by {one} and by {other}. A line of "
            "the table is one model, the mean over its seeds: leave one of the two out, or train "
            "it with another --seed."
        )
    for model in dict.fromkeys(r["model"] for r in runs):
        _check_line([r for r in runs if r["model"] == model])
    frame = pd.DataFrame(
        [
            {
                "model": r["model"],
                "seed": r["seed"],
                "AUC": r["test"]["auc"],
                "LogLoss": r["test"]["logloss"],
                "valid AUC": r["best_valid"]["auc"],
                "best epoch": r["best_epoch"],
                "latency [s]": r["latency_s"],
                "training [s]": r["training_s"],
            }
            for r in runs
        ]
    )
    more = [
        name
        for name in runs[0]["test"]
        if name not in ("auc", "logloss") and all(name in r["test"] for r in runs)
    ]
    for name in more:
        frame[_title(name)] = pd.Series([r["test"][name] for r in runs], dtype=float)
    groups = frame.groupby("model", sort=False)
    # A metric that one seed lacks has no mean: pandas would take that of the other seeds. Before
    # pandas 3, groups.mean() has no skipna.
    table = groups[["AUC", "LogLoss", *map(_title, more), "valid AUC"]].agg(
        lambda column: column.mean(skipna=False)
    )
    for column in ("AUC", "LogLoss"):
        table.insert(table.columns.get_loc(column) + 1, f"{column} sd", groups[column].std(ddof=1))
    # One seed has a whole number, several have a mean.
    epochs = {
        model: int(of.iloc[0]) if len(of) == 1 else float(of.mean())
        for model, of in groups["best epoch"]
    }
    table["best epoch"] = pd.Series(epochs, dtype=object)
    table["latency [s]"] = groups["latency [s]"].median()
    table["training [s]"] = groups["training [s]"].mean()
    table["seeds"] = groups.size()
    if BASE_MODEL in table.index:
        base = table.loc[BASE_MODEL, "AUC"]
        if not why_no_rela_impr(BASE_MODEL, base):
            table.insert(4, "RelaImpr [%]", [rela_impr(auc, base) for auc in table["AUC"]])
    return table


def _check_line(runs: Sequence[Mapping]) -> None:
    """Refuse runs of one model that are no seeds of the same run."""
    first, *others = runs
    for other in others:
        if differing := _differing(first, other):
            raise ValueError(
                f"{first['folder']} and {other['folder']} are no seeds of one line: of "
                f"{first['model']} they differ in {listed(differing, _SHOWN)}. A line of the table "
                "is one model with the same settings, the mean over its seeds: leave one of the "
                "two out, or train it with the settings of the other."
            )


def _differing(one: Mapping, other: Mapping) -> list[str]:
    """In what two runs of a model differ besides their seeds, as far as both say it."""
    found = [
        words
        for entry, words in _OF_A_LINE.items()
        if entry in one and entry in other and one[entry] != other[entry]
    ]
    # Early versions saved no configuration.
    mine, theirs = ((run.get("config") or {}) for run in (one, other))
    for key in sorted((mine.keys() | theirs.keys()) - _FREE_IN_A_LINE if mine and theirs else ()):
        usual = ADDED_KEYS.get(key)
        values = mine.get(key, usual), theirs.get(key, usual)
        # Beside other models a run may have keys of theirs.
        known = key in ADDED_KEYS or key in mine and key in theirs
        if known and values[0] != values[1]:
            found.append(f"{key} ({values[0]!r} and {values[1]!r})")
    return found


def missing_rela_impr(table: pd.DataFrame) -> str | None:
    """Why a comparison with the base model has no RelaImpr; None if it has, or needs none."""
    if BASE_MODEL not in table.index or len(table) == 1:
        return None
    return why_no_rela_impr(BASE_MODEL, table.loc[BASE_MODEL, "AUC"])


def notes(runs: Sequence[Mapping], table: pd.DataFrame) -> list[str]:
    """Sentences that a reader of the comparison needs beside it.

    Args:
        runs: the contents of their ``metrics.json``.
        table: what ``comparison_table`` makes of them.
    """
    why = missing_rela_impr(table)
    return [*([why] if why else []), *_unlike_lines(runs), *_not_ended(runs)]


def _unlike_lines(runs: Sequence[Mapping]) -> list[str]:
    """What is not the same in all lines, if something is not."""
    said = []
    of_rows = _lines_by([(run["model"], run.get("rows_fingerprint")) for run in runs])
    if len(of_rows) > 1:
        said.append(
            "Not all lines read the same features or histories of the rows: "
            + "; ".join(f"{', '.join(lines)} (rows {rows[:12]})" for rows, lines in of_rows.items())
            + ". The keys load_col, history_source and history_labels decide them, for example."
        )
    metrics = _lines_by(
        [(run["model"], (run.get("config") or {}).get("valid_metric")) for run in runs]
    )
    if len(metrics) > 1:
        said.append(
            "Not all lines chose their best epoch by the same metric (valid_metric): "
            + "; ".join(f"{', '.join(lines)} by {metric}" for metric, lines in metrics.items())
            + "."
        )
    return said


def _lines_by(pairs: Sequence[tuple[str, str | None]]) -> dict[str, list[str]]:
    """The lines that have each value; without those of early versions, which did not save it."""
    found: dict[str, list[str]] = {}
    for line, value in dict.fromkeys(pairs):
        if value is not None:
            found.setdefault(str(value), []).append(line)
    return found


def _not_ended(runs: Sequence[Mapping]) -> list[str]:
    # Early versions did not save which number was asked for.
    asked = [(run, (run.get("config") or {}).get("epochs")) for run in runs]
    return not_ended([(run["model"], run["best_epoch"], epochs) for run, epochs in asked])


def not_ended(runs: Sequence[tuple[str, int, int | None]]) -> list[str]:
    """Which models or lines had their best epoch last, so that further ones may be better still.

    Args:
        runs: of each its name, its best epoch, and after which one it would have ended.
    """
    last: dict[int, Counter[str]] = {}
    for name, best, epochs in runs:
        if epochs is not None and best == epochs:
            last.setdefault(epochs, Counter())[name] += 1
    all_runs = Counter(name for name, *_ in runs)
    return [
        ", ".join(
            name if count == all_runs[name] else f"{name} ({count} of {all_runs[name]} seeds)"
            for name, count in counts.items()
        )
        + f": the last epoch ({epochs}) was the best, so training may not have ended; set more "
        "--epochs."
        for epochs, counts in last.items()
    ]


def _title(metric: str) -> str:
    """The column of a further metric: ``GAUC``, or a person's own metric as in ``metrics.json``."""
    return next((name for name in KNOWN if name.lower() == metric), metric)


def as_text(table: pd.DataFrame, times: bool = True) -> pd.DataFrame:
    """The comparison as text, ``mean ± sd`` for several seeds; ``times`` adds latency and
    training.
    """
    shown = pd.DataFrame(index=table.index)
    for column in ("AUC", "LogLoss"):
        sd = table[f"{column} sd"]
        shown[column] = [
            f"{m:.4f}" + (f" ± {s:.4f}" if pd.notna(s) else "") for m, s in zip(table[column], sd)
        ]
    if "RelaImpr [%]" in table:
        shown["RelaImpr"] = [f"{value:.2f} %" for value in table["RelaImpr [%]"]]
    known = (
        "AUC",
        "LogLoss",
        "RelaImpr [%]",
        "valid AUC",
        "best epoch",
        "latency [s]",
        "training [s]",
        "seeds",
    )
    for column in [name for name in table if name not in known and not name.endswith(" sd")]:
        shown[column] = ["-" if pd.isna(value) else f"{value:.4f}" for value in table[column]]
    shown["valid AUC"] = [f"{value:.4f}" for value in table["valid AUC"]]
    shown["best epoch"] = [
        str(value) if isinstance(value, int) else f"{value:.1f}" for value in table["best epoch"]
    ]
    if times:
        shown["latency"] = [f"{value:.3g} s" for value in table["latency [s]"]]
        shown["training"] = [f"{value:.0f} s" for value in table["training [s]"]]
    shown["seeds"] = table["seeds"].astype(str)
    return shown


def as_markdown(table: pd.DataFrame, times: bool = True) -> str:
    """A Markdown table, ``mean ± sd`` for several seeds; ``times`` adds latency and training."""
    return markdown_table(*_entries(as_text(table, times)))


def _entries(shown: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a table of texts."""
    rows = [[name, *row] for name, row in zip(shown.index, shown.to_numpy().tolist())]
    return ["model", *shown.columns], rows


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of entries that are already text."""
    return "\n".join(
        "| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *rows]
    )


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
    write_text(folder / "table.tex", latex_table(*_entries(as_text(table))))
    write_text(folder / PAGE, _page(runs, table, note, beside, command, cohorts))
    write_json(folder / "runs.json", runs)
    return markdown, beside


def _page(
    runs: Sequence[Mapping],
    table: pd.DataFrame,
    note: str,
    beside: Sequence[str],
    command: str,
    cohorts: Section | None,
) -> str:
    """``report.html`` of a comparison."""
    heads, rows = _entries(as_text(table))
    cells = [[Cell(entry, _leading_number(entry), entry == "-") for entry in row] for row in rows]
    folders = {(run["model"], run["seed"]): Path(run["folder"]) for run in runs}
    metric = str(runs[0].get("valid_metric", "score"))
    curves = learning_curves(folders, metric, looks_of(table.index, _HIGHLIGHTED))
    scores = f"a comparison keeps no scores of test rows. Run {_EXPERIMENT} for this section."
    results = sortable_table(heads, cells, _HIGHLIGHTED, "AUC")
    if "GAUC" in table and table["GAUC"].isna().any():
        results += paragraph("GAUC is undefined: no user has test rows of both classes.")
    results += "".join(map(paragraph, beside))
    sections = [
        Section("results", "Results", results),
        absent("pairs", "All pairs of models", scores),
        absent("calibration", "Calibration curves", scores),
        absent("groups", "Groups of users", scores),
        curves,
        cohorts or absent("cohorts", "Cohorts", "no model of this comparison reads semantic IDs."),
        Section("origin", "Origin", f"<p>Command:</p><pre>{text(command)}</pre>"),
    ]
    return page(f"Models on {runs[0]['dataset']}", note.partition("\n")[0], sections)


def _leading_number(entry: str) -> float | None:
    try:
        return float(entry.split(" ")[0])
    except ValueError:
        return None


def published_scores(file: Path) -> pd.DataFrame:
    """AUC and LogLoss by model, from a CSV file with the columns ``model``, ``AUC``, ``LogLoss``.

    Raises:
        ValueError: the file cannot be read so, or names a model twice; says what it lacks.
        FileNotFoundError: there is no such file.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"published: {file} does not exist or is no file. prepare --format=bars writes one "
            "beside the rows of a dataset of BARS, "
            "but none with --check=False: the scores are of other rows."
        )
    try:
        scores = pd.read_csv(file, dtype={"model": str})
        scores = (
            scores.dropna(subset=["model"]).set_index("model")[["AUC", "LogLoss"]].astype(float)
        )
    except (OSError, UnicodeError, ValueError, KeyError) as error:
        raise ValueError(
            f"published: {file} cannot be read as a CSV file with the columns model, AUC and "
            f"LogLoss ({' '.join(str(error).split())})."
        ) from error
    if scores.index.has_duplicates:
        twice = scores.index[scores.index.duplicated()][0]
        raise ValueError(f"published: {file} has two lines for {twice}. Keep one.")
    return scores


def with_published(shown: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """``as_text``'s table with published scores right of ours, ``-`` where there is none."""
    shown = shown.copy()
    for place, column in ((2, "AUC"), (3, "LogLoss")):
        values = scores[column].reindex(shown.index)
        texts = ["-" if pd.isna(value) else f"{value:.4f}" for value in values]
        shown.insert(place, f"published {column}", texts)
    return shown


@answering
def main(files: Sequence[str]) -> Work:
    """Print one table of the runs whose ``metrics.json`` files are given."""
    if set(HELP) & set(files):
        print(USAGE, end="")
        return lambda: 0
    given = [word.removeprefix(_PUBLISHED) for word in files if word.startswith(_PUBLISHED)]
    files = [word for word in files if not word.startswith(_PUBLISHED)]
    if unknown := [word for word in files if word.startswith("--")]:
        raise ValueError(
            f"command line: {unknown[0]} is no option of this command; give --published=FILE and "
            "the metrics.json files of runs. --help says more."
        )
    if len(given) > 1:
        raise ValueError(f"published: give one file, not {' and '.join(given)}.")
    if not files:
        raise ValueError(
            "give the metrics.json files of the runs, for example saved/*/metrics.json"
        )
    paths = [Path(file) / METRICS_FILE if Path(file).is_dir() else Path(file) for file in files]
    remedy = "Give the metrics.json of runs as they wrote them, saved/*/metrics.json."
    for path in paths:
        if not path.exists() and (path.parent / PAGE).is_file():
            raise ValueError(
                f"{path.parent} holds the table of several runs already, {path.parent / PAGE}. "
                f"For another table: {remedy}"
            )
    runs = [read_metrics(path, remedy, _READ)[0] for path in paths]
    table = comparison_table(runs).sort_values("AUC")
    shown = as_text(table, times=False)
    for file in given:
        shown = with_published(shown, published_scores(Path(file)))
    print(markdown_table(*_entries(shown)))
    for each in notes(runs, table):
        print(f"\n{each}")
    return lambda: 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
