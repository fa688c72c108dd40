"""Random small catalogues of rows: the histories of every batch equal a plain loop's.

Nothing is damaged here. Ties, single users, users without a click, all kinds of splits: what the
other fuzzers compare with must itself be right.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from conftest import write_dataset

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.batch_histories import clicked_items
from recbole_genci.data.column_names import ROW_NUMBER
from robustness.harness import Case

Rows = list[tuple[str, str, int, int]]  # user, item, label, time
SPLITS = [
    {"split": {"RS": [8, 1, 1]}, "order": "TO", "group_by": "user", "mode": "labeled"},
    {"split": {"RS": [6, 2, 2]}, "order": "TO", "group_by": None, "mode": "labeled"},
    {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "labeled"},
]


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """Yield cases of random rows, splits and history lengths."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        users, items = int(rng.integers(1, 8)), int(rng.integers(2, 12))
        length = int(rng.integers(1, 12))
        rows = [
            (
                f"u{rng.integers(users)}",
                f"i{rng.integers(items)}",
                int(rng.random() < 0.6),
                1_700_000_000 + int(rng.integers(0, 30)),
            )
            for _ in range(int(rng.integers(30, 150)))
        ]
        split = SPLITS[number % len(SPLITS)]
        what = f"seed {seed}, case {number}: {len(rows)} rows, {users} users, split {split}"
        yield Case(what, partial(_check, rows, split, length), ("split", "rows", "label"))


def _check(rows: Rows, split: dict[str, object], length: int) -> str | None:
    keys = write_dataset(Path.cwd(), rows)
    keys = {**keys, "eval_args": split, "MAX_ITEM_LIST_LENGTH": length}
    clicks: dict[str, list[tuple[int, str]]] = {}
    for user, item, label, time in rows:
        if label:
            clicks.setdefault(user, []).append((time, item))
    config = Config("DIN", "tiny", config_dict=keys)
    segment = 1 + len(rows) % length
    causal = {"history_attention": "causal", "segment_clicks": segment}
    genci = Config("GenCI", "tiny", config_dict=keys | causal)
    seen = []
    for part in create_dataset(config).build():
        shared = part.view(genci, np.zeros((part.item_num, 2), dtype=np.int64))
        part = part.view(config)
        batch = part[np.arange(len(part))]
        segments = clicked_items(shared[np.arange(len(part))], "item_id_list")
        numbers = part.inter_feat[ROW_NUMBER].tolist()
        seen += numbers
        for row, number in enumerate(numbers):
            user, _, _, time = rows[number]
            # Stable: clicks of one time stand in the order of the file.
            past = sorted((c for c in clicks.get(user, []) if c[0] < time), key=lambda c: c[0])
            expected = [item for _, item in past][-length:]
            have = int(batch["item_length"][row])
            ids = part.id2token("item_id", batch["item_id_list"][row][:have].numpy()).tolist()
            if ids != expected:
                return f"row {number} of {user} at {time}: history {ids}, expected {expected}"
            read = min(len(past), length - -len(past) % segment)
            ids = part.id2token("item_id", segments[row][:read].numpy()).tolist()
            expected = [item for _, item in past][len(past) - read :]
            if ids != expected or segments[row][read:].any():
                return f"row {number} of {user}, segments of {segment}: {ids}, expected {expected}"
    if sorted(seen) != list(range(len(rows))):
        return f"{len(seen)} rows in the parts, {len(rows)} in the file"
    return None
