"""Latency of a served run: Ranker beside RecBole's own way, and the HTTP example, as tables.

    python benchmarks/serving.py [--requests=300] [--seconds=180] [--candidates=1000,10000]
        [--clients=1,4,16] [--models=LR,DeepFM,DIN,GenCI,GenCI-causal] [--items=12000]
        [--output=benchmarks/serving]

A synthetic catalogue, as ml-100k has too few items; the models train for one epoch, since how long
an answer takes does not depend on the weights. A request is one user, each time another, and that
many items drawn at random; the histories of all users fill the model's 50 places. Ranker and
RecBole's way take turns. Reported are the median (p50) and the 99th percentile (p99) after a
warm-up, the latter from 100 requests on; a line ends after `--requests`, or earlier after
`--seconds`. Everything has one thread. Run it on a quiet machine; only ratios carry over to
another.

RecBole's way is what its users do today (`recbole/utils/case_study.py`, full_sort_scores, where a
model has no full_sort_predict): one row of the user, repeated for the items, whose features replace
the row's, and `model.predict`. It takes known users and items alone, and a history as it was at the
user's last row. DIN there is RecBole's own class. GenCI's batches hold more than rows, which cannot
be repeated so.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import requests
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_genci import Ranker, compat, run
from recbole_genci.comparison.text_tables import markdown_table
from recbole_genci.utils.provenance import provenance
from recbole_genci.utils.writing import write_text

with compat.anomaly_detection_as_it_was():  # which would slow all models
    from recbole.model.sequential_recommender import DIN

APP = Path(__file__).parents[1] / "examples/serve/app.py"
USERS, ROWS_OF_USER = 200, 70  # 60 of which are clicks
HTTP_CANDIDATES, THREADS = 1_000, 1
MODELS = {
    "LR": {},
    "DeepFM": {},
    "DIN": {},
    "GenCI": {"history_tokens": "item", "history_attention": "bidirectional"},
    "GenCI-causal": {"history_tokens": "item", "history_attention": "causal"},
}
KEYS = {
    "load_col": {
        "inter": ["user_id", "item_id", "label", "timestamp"],
        "user": ["user_id", "age", "gender"],
        "item": ["item_id", "category", "brand"],
    },
    "item_text_fields": ["title", "category"],
    "text_encoder": "lsa",
    "quantizer": "rkmeans",
    "epochs": 1,
    "latency_repeats": 1,
    "gpu_id": "",
}


# ---------------------------------------------------------------- a catalogue


def write_catalogue(items: int, folder: Path) -> None:
    """Write the dataset ``catalogue``; items are i0, i1, ..., users u0, u1, ..."""
    rng = np.random.default_rng(0)
    (target := folder / "catalogue").mkdir(parents=True)
    words = np.array([f"word{number}" for number in range(items // 4)])
    category, brand = rng.integers(0, 40, items), rng.integers(0, items // 50 + 1, items)
    titles = words[rng.integers(0, len(words), (items, 4))]
    clicks = np.arange(ROWS_OF_USER) % 7 > 0
    rows = USERS * ROWS_OF_USER
    tables = {
        "item": {
            "item_id:token": [f"i{number}" for number in range(items)],
            "title:token_seq": [" ".join(title) for title in titles],
            "category:token": [f"c{number}" for number in category],
            "brand:token": [f"b{number}" for number in brand],
        },
        "user": {
            "user_id:token": [f"u{number}" for number in range(USERS)],
            "age:token": rng.integers(18, 80, USERS),
            "gender:token": rng.choice(["F", "M"], USERS),
        },
        "inter": {
            "user_id:token": np.repeat([f"u{number}" for number in range(USERS)], ROWS_OF_USER),
            "item_id:token": [f"i{number}" for number in rng.integers(0, items, rows)],
            "label:float": np.tile(clicks.astype(int), USERS),
            "timestamp:float": np.arange(rows),
        },
    }
    for ending, columns in tables.items():
        file = target / f"catalogue.{ending}"
        pd.DataFrame(columns).to_csv(file, sep="\t", index=False)


def trained(label: str, folder: Path) -> Path:
    """The folder of a run of a model, after one epoch."""
    own = {"data_path": str(folder), "semantic_id_dir": str(folder / "ids")}
    own |= {name: str(folder / name) for name in ("checkpoint_dir", "results_dir")}
    (result,) = run(label.partition("-")[0], "catalogue", config_dict=KEYS | own | MODELS[label])
    return result.folder


# ---------------------------------------------------------------- in Python


def recboles_way(
    model: AbstractRecommender, rows: Dataset, user: str, items: Sequence[str]
) -> np.ndarray:
    """Scores of items for a user, made of RecBole's parts."""
    uid, iid = rows.uid_field, rows.iid_field
    number = torch.tensor([rows.token2id(uid, user)])
    if model.type.name == "CONTEXT":
        row = rows.join(Interaction({uid: number}))
    else:  # the history stands in a row
        row = rows[(rows.inter_feat[uid] == number).nonzero()[-1]]
    ids = torch.from_numpy(rows.token2id(iid, list(items)))
    batch = row.repeat_interleave(len(ids))
    batch.update(rows.item_feat[ids])
    with torch.no_grad():
        return model.predict(batch.to(model.device)).cpu().numpy()


def of_recbole(label: str, ranker: Ranker) -> AbstractRecommender | None:
    """The model that RecBole's users would have."""
    if label != "DIN":
        return ranker.run.model if label in ("LR", "DeepFM") else None
    config = ranker.run.config
    return DIN(config, ranker.run.loader("train").dataset).to(config["device"]).eval()


def in_turns(
    ways: dict[str, Callable[[str, list[str]], Any]],
    ranker: Ranker,
    candidates: int,
    number: int,
    limit: float,
) -> dict[str, np.ndarray]:
    """Seconds of each way for the same requests: at most ``number``, or as many as ``limit``
    seconds hold, but one.
    """
    rng = np.random.default_rng(candidates)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    ends = time.perf_counter() + limit
    for place in range(warm_up(number) + number):
        user = str(ranker.users[place % len(ranker.users)])
        items = rng.choice(ranker.items, candidates, replace=False).tolist()
        for way, answer in ways.items():
            start = time.perf_counter()
            answer(user, items)
            seconds[way].append(time.perf_counter() - start)
        if place > warm_up(number) and time.perf_counter() > ends:
            break
    return {way: np.array(each[warm_up(number) :]) for way, each in seconds.items()}


def warm_up(number: int) -> int:
    """Requests before those that are timed."""
    return max(2, min(10, number // 10))


def check_same(ranker: Ranker, model: AbstractRecommender, rows: Dataset) -> None:
    """Both ways must give one answer."""
    user, items = str(ranker.users[0]), ranker.items[:100].tolist()
    np.testing.assert_allclose(
        recboles_way(model, rows, user, items), ranker.score([user], items)[0], atol=1e-6
    )


def latency(
    label: str, ranker: Ranker, sizes: Sequence[int], number: int, limit: float
) -> list[dict]:
    """A line for each number of candidates: milliseconds of both ways."""
    model, rows = of_recbole(label, ranker), ranker.run.loader("test").dataset
    ways: dict[str, Callable[[str, list[str]], Any]] = {
        "Ranker": lambda user, items: ranker.score([user], items)
    }
    if model is not None:
        ways["RecBole's way"] = lambda user, items: recboles_way(model, rows, user, items)
        if model is ranker.run.model:
            check_same(ranker, model, rows)
    lines = []
    for size in sizes:
        seconds = in_turns(ways, ranker, size, number, limit)
        line = {"model": label, "candidates": size, "requests": len(seconds["Ranker"])}
        for way in ("Ranker", "RecBole's way"):
            for name in PERCENTILES:
                found = percentiles(seconds[way]) if way in seconds else {}
                line[f"{way}, {name}"] = found.get(name)
        lines.append(line)
    return lines


PERCENTILES = {"p50 [ms]": (50, 1), "p99 [ms]": (99, 100)}  # and the fewest requests it needs


def percentiles(seconds: np.ndarray) -> dict[str, float | None]:
    """Milliseconds; None where there were too few requests."""
    return {
        name: round(float(np.percentile(seconds * 1e3, share)), 1) if len(seconds) >= few else None
        for name, (share, few) in PERCENTILES.items()
    }


# ---------------------------------------------------------------- by HTTP


def by_http(
    label: str, folder: Path, ranker: Ranker, clients: Sequence[int], number: int, limit: float
) -> list[dict]:
    """A line for each number of concurrent clients, of the HTTP example in its own process."""
    items = min(HTTP_CANDIDATES, len(ranker.items))
    words = [f"--run={folder}", "--port=0", f"--waiting={max(clients)}", f"--threads={THREADS}"]
    server = subprocess.Popen(
        [sys.executable, str(APP), *words],
        env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in server.stderr:
            if found := re.search(r"running on (http://\S+)", line):
                break
        else:
            raise RuntimeError(f"the HTTP example did not start: {line}")
        return [
            {"model": label, "candidates": items, "clients": count}
            | asked(found[1], ranker, items, count, number, limit)
            for count in clients
        ]
    finally:
        server.terminate()
        server.communicate()


def asked(
    address: str, ranker: Ranker, items: int, clients: int, number: int, limit: float
) -> dict[str, float]:
    """Requests a second and milliseconds of each, for clients that ask without a pause."""
    rng = np.random.default_rng(items)
    bodies = [
        {
            "users": [str(ranker.users[place % len(ranker.users)])],
            "items": rng.choice(ranker.items, items, replace=False).tolist(),
        }
        for place in range(number)
    ]

    def client(own: list[dict], ends: float) -> list[float]:
        seconds = []
        with requests.Session() as session:
            for body in own:
                start = time.perf_counter()
                answer = session.post(f"{address}/score", json=body, timeout=600)
                seconds.append(time.perf_counter() - start)
                answer.raise_for_status()
                if time.perf_counter() > ends:
                    break
        return seconds

    client(bodies[: warm_up(number)], float("inf"))
    with ThreadPoolExecutor(clients) as pool:
        start = time.perf_counter()
        shares = [bodies[place::clients] for place in range(clients)]
        found = list(pool.map(client, shares, [start + limit] * clients))
        whole = time.perf_counter() - start
    seconds = np.array(list(itertools.chain(*found)))
    rate = {"requests": len(seconds), "requests a second": round(len(seconds) / whole, 1)}
    return rate | percentiles(seconds)


# ---------------------------------------------------------------- tables


def page(figures: dict[str, Any]) -> str:
    """Markdown of all figures."""
    about = figures["provenance"]
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    lines = ["# Latency of a served run", "", __doc__.split("\n\n")[2].replace("\n", " ")]
    for title, rows in (
        ("In Python: one user", figures["latency"]),
        ("By HTTP: one user a request, POST /score", figures["http"]),
    ):
        if rows:
            table = [[_cell(value) for value in row.values()] for row in rows]
            lines += ["", f"## {title}", "", markdown_table(list(rows[0]), table)]
    return "\n".join(
        [
            *lines,
            "",
            __doc__.strip().split("\n\n")[-1].replace("\n", " "),
            "",
            f"{figures['items']:,} items. {machine}; torch "
            f"{about['versions']['torch']}, revision {(about['git_revision'] or '?')[:12]}.",
            "",
            f"`{figures['command']}`",
            "",
        ]
    )


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _arguments(argv: list[str]) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--candidates", type=numbers, default=[1_000, 10_000])
    parser.add_argument("--clients", type=numbers, default=[1, 4, 16])
    parser.add_argument("--models", type=lambda text: text.split(","), default=list(MODELS))
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "serving")
    words = parser.parse_args(argv)
    if unknown := [name for name in words.models if name not in MODELS]:
        parser.error(f"--models: {unknown[0]} is none of {', '.join(MODELS)}.")
    if max(words.candidates) > words.items:
        parser.error("--candidates: more than --items.")
    if importlib.util.find_spec("fastapi") is None:
        parser.error("the HTTP example needs pip install fastapi uvicorn.")
    return words


def main(argv: list[str]) -> None:
    words = _arguments(argv)
    torch.set_num_threads(THREADS)
    figures: dict[str, Any] = {
        "items": words.items,
        "command": shlex.join(["python", "benchmarks/serving.py", *argv]),
        "provenance": provenance(),
        "latency": [],
        "http": [],
    }
    words.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        write_catalogue(words.items, Path(name))
        for label in words.models:
            folder = trained(label, Path(name))
            ranker = Ranker(folder)
            much = words.requests, words.seconds
            figures["latency"] += latency(label, ranker, words.candidates, *much)
            figures["http"] += by_http(label, folder, ranker, words.clients, *much)
            print(page(figures), flush=True)
            write_text(words.output / "serving.json", json.dumps(figures, indent=1) + "\n")
            write_text(words.output / "serving.md", page(figures))


if __name__ == "__main__":
    main(sys.argv[1:])
