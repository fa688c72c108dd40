"""AUC on rows about users and items that training has not seen, by what stands in for them.

    python benchmarks/unseen.py [--dataset=ml-100k] [--models=DeepFM,DIN,GenCI] [--seeds=3]
        [--hidden=0.2] [--output=benchmarks/results/unseen] [--key=value ...]

A share of the users and of the items (`--hidden`), drawn by the seed, is hidden: neither they nor
their rows are in the atomic files that the models train on. Half of them are for validation, by
which the defaults of `Ranker` are chosen, half for the test. Then the run is served: hidden users
with their features and, for each row, their own earlier clicks; hidden items by
`Ranker.with_items`, with their texts and features. Stand-ins are compared on the same rows. For a
user's own embedding they are the padding's, the mean of the trained users' and random ones; for an
item's also the mean of its cohorts. Random ones are drawn normally with the mean and deviation of
the trained embeddings. The last column is the run's own test AUC, on other rows, about users and
items that it knows. GenCI makes semantic IDs of its own (lsa), as those that come with the package
have no tokenizer.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score

from recbole_genci import Ranker, run
from recbole_genci.comparison.text_tables import markdown_table
from recbole_genci.config import Config, parse_argv
from recbole_genci.data.prepared import prepare_parts
from recbole_genci.serving.row_files import read_table
from recbole_genci.serving.unseen import embedding_segments, field_sizes, trained_ids, twin
from recbole_genci.utils.atomic_files import read_header
from recbole_genci.utils.writing import write_text

DRAWS = 5  # of random stand-ins, whose mean AUC is reported
CHOICES = {
    "users": ("padding", "mean", "random"),
    "items": ("padding", "mean", "cohorts", "random"),
}
_OWN = {
    "dataset": "ml-100k",
    "models": "DeepFM,DIN,GenCI",
    "seeds": 1,
    "hidden": 0.2,
    "output": None,
}


def hide(config: Config, seed: int, folder: Path, share: float) -> dict[str, pd.DataFrame]:
    """Write the dataset without hidden users and items; return what was left out.

    Returns:
        rows about hidden users or items with a column ``label`` and the history of their users
        before them (``item_id_list``), and the hidden users' and items' lines.
    """
    uid, iid, label = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["LABEL_FIELD"]
    name, source = config["dataset"], Path(config["data_path"])
    part = prepare_parts(config)
    frames = []
    for each in part:
        feat = each.inter_feat
        frames.append(
            pd.DataFrame(
                {
                    uid: each.field2id_token[uid][feat[uid].numpy()],
                    iid: each.field2id_token[iid][feat[iid].numpy()],
                    "time": each.rank_times[feat[":time_rank"].numpy()],
                    label: feat[label].numpy().astype(int),
                    "number": feat[":row_number"].numpy(),
                }
            )
        )
    rows = pd.concat(frames).sort_values(["time", "number"], kind="stable", ignore_index=True)
    rng = np.random.default_rng(seed)
    hidden = {}
    for field in (uid, iid):
        names = np.sort(rows[field].unique())
        drawn = rng.choice(names, max(2, int(share * len(names))), replace=False)
        hidden[field] = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]
    target = folder / name
    target.mkdir(parents=True)
    for ending, fields in (("inter", (uid, iid)), ("user", (uid,)), ("item", (iid,))):
        file = source / f"{name}.{ending}"
        if file.is_file():
            lines = read_table(file, config)
            kept = np.ones(len(lines), dtype=bool)
            for field in fields:
                kept &= ~lines[field].isin(np.concatenate(hidden[field])).to_numpy()
            header = read_header(file, config["field_separator"], config["encoding"] or "utf-8")
            lines[kept].rename(columns={f: f"{f}:{kind}" for f, kind in header.items()}).to_csv(
                target / file.name, sep="\t", index=False
            )
            lines[~kept].to_csv(folder / f"hidden.{ending}.csv", index=False)
    rows[f"{iid}_list"] = histories(rows, uid, iid, label)
    return {
        "users valid": rows[rows[uid].isin(hidden[uid][0]) & ~_among(rows[iid], hidden[iid])],
        "users test": rows[rows[uid].isin(hidden[uid][1]) & ~_among(rows[iid], hidden[iid])],
        "items valid": rows[rows[iid].isin(hidden[iid][0]) & ~_among(rows[uid], hidden[uid])],
        "items test": rows[rows[iid].isin(hidden[iid][1]) & ~_among(rows[uid], hidden[uid])],
    }


def _among(column: pd.Series, hidden: tuple[np.ndarray, np.ndarray]) -> pd.Series:
    return column.isin(np.concatenate(hidden))


def histories(rows: pd.DataFrame, uid: str, iid: str, label: str) -> pd.Series:
    """Each row's history: its user's clicks with a time strictly earlier than the row's."""
    found = pd.Series(index=rows.index, dtype=object)
    for _, own in rows.groupby(uid, sort=False):
        clicks = own[own[label] == 1]
        ends = np.searchsorted(clicks["time"].to_numpy(), own["time"].to_numpy(), side="left")
        names = clicks[iid].tolist()
        for index, end in zip(own.index, ends):
            found[index] = names[:end]
    return found


def auc_of(ranker: Ranker, rows: pd.DataFrame, users: pd.DataFrame | None = None) -> float:
    """AUC of the scores of rows."""
    scores = ranker.score_rows(rows, user_features=users)
    return float(roc_auc_score(rows[ranker.run.parts[0].label_field], scores))


def drawn(ranker: Ranker, field: str, rows: slice, draw: int) -> Ranker:
    """The ranker with random embeddings in some rows of a field's tables.

    They are drawn normally, with mean and deviation of the trained rows in each dimension.
    """
    run, generator = ranker.run, torch.Generator().manual_seed(draw)
    part = run.loader("train").dataset
    trained, changed = trained_ids(part, field), {}
    for name, segments in embedding_segments(run.model, field_sizes(part)).items():
        for segment in segments:
            if segment.field == field:
                values = changed.get(name, run.model.get_parameter(name).detach().clone())
                own = values[segment.rows]
                known, shape = own[trained], own[rows].shape
                own[rows] = known.mean(0) + torch.randn(shape, generator=generator) * known.std(0)
                changed[name] = values
    return Ranker(replace(run, model=twin(run.model, changed)), unseen="padding")


def auc_of_users(ranker: Ranker, choice: str, rows: pd.DataFrame, users: pd.DataFrame) -> float:
    """AUC of rows about users that the run does not know."""
    if choice != "random":
        return auc_of(Ranker(ranker.run, unseen=choice), rows, users)
    field = ranker.run.parts[0].uid_field
    draws = [drawn(ranker, field, slice(0, 1), draw) for draw in range(DRAWS)]
    return float(np.mean([auc_of(each, rows, users) for each in draws]))


def auc_of_items(ranker: Ranker, choice: str, rows: pd.DataFrame, items: pd.DataFrame) -> float:
    """AUC of rows about items that the run does not know."""
    if choice != "random":
        return auc_of(ranker.with_items(items, choice), rows)
    wider, part = ranker.with_items(items, "padding"), ranker.run.parts[0]
    new = slice(part.item_num, None)
    draws = [drawn(wider, part.iid_field, new, draw) for draw in range(DRAWS)]
    return float(np.mean([auc_of(each, rows) for each in draws]))


def measured(model: str, dataset: str, seed: int, share: float, keys: dict) -> list[dict]:
    """One model, one seed: a line for each part, kind of row and stand-in."""
    folder = Path(tempfile.mkdtemp(prefix="unseen-"))
    lines = []
    try:
        hidden = hide(Config("DeepFM", dataset), seed, folder, share)
        own = {"data_path": str(folder), "semantic_id_dir": str(folder / "ids"), "seed": seed}
        own |= {"text_encoder": "lsa"} if model == "GenCI" else {}
        own |= {name: str(folder / name) for name in ("checkpoint_dir", "results_dir")}
        (result,) = run(model, dataset, config_dict=keys | own)
        ranker = Ranker(result.folder)
        users = _frame(folder / "hidden.user.csv")
        items = _frame(folder / "hidden.item.csv")
        known = result["test"]["auc"]
        for part in ("valid", "test"):
            for kind, choices in CHOICES.items():
                rows = hidden[f"{kind} {part}"]
                for choice in choices:
                    if choice == "cohorts" and ranker.run.semantic_ids is None:
                        continue
                    value = (
                        auc_of_users(ranker, choice, rows, users)
                        if kind == "users"
                        else auc_of_items(ranker, choice, rows, items)
                    )
                    lines.append(
                        {
                            "model": model,
                            "seed": seed,
                            "part": part,
                            "rows about": kind,
                            "stand-in": choice,
                            "AUC": value,
                            "rows": len(rows),
                            "known AUC": known,
                        }
                    )
    finally:
        shutil.rmtree(folder)
    return lines


def _frame(file: Path) -> pd.DataFrame | None:
    return pd.read_csv(file, dtype=str, keep_default_na=False) if file.is_file() else None


def table(lines: list[dict]) -> str:
    """Mean AUC over the seeds as a Markdown table; a line for each model and kind of row."""
    frame = pd.DataFrame(lines)
    groups = frame.groupby(["rows about", "part", "model"], sort=False)
    rows = []
    for (kind, part, model), own in groups:
        means = own.groupby("stand-in")["AUC"].mean()
        cells = [f"{means[c]:.4f}" if c in means else "-" for c in CHOICES["items"]]
        rows.append([kind, part, model, *cells, f"{own['known AUC'].mean():.4f}"])
    heads = ["rows about unseen", "part", "model", *CHOICES["items"], "test rows of known ones"]
    return markdown_table(heads, rows)


def main(argv: list[str]) -> None:
    words = parse_argv(argv)
    own = {name: words.pop(name, default) for name, default in _OWN.items()}
    lines = []
    for seed in range(2020, 2020 + int(own["seeds"])):
        for model in str(own["models"]).split(","):
            lines += measured(model, own["dataset"], seed, float(own["hidden"]), words)
            print(table(lines), flush=True)
    if own["output"]:
        folder = Path(own["output"])
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "lines.json", json.dumps(lines, indent=1) + "\n")
        write_text(folder / "table.md", table(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
