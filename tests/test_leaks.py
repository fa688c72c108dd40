"""No information from a row's own future may reach its prediction, for any model."""

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.column_names import ROW_NUMBER
from recbole_genci.experiments import definition

MODELS = [*(line.model for line in definition.read("compare").variants), "AFN"]  # those of Table 3
CASES = [(name, {}) for name in MODELS] + [
    ("GenCI", {"history_tokens": "code"}),
    ("GenCI", {"history_labels": "all"}),
    ("GenCI", {"history_attention": "causal", "segment_clicks": 3}),
]
READ_HISTORIES = ("DIN", "DIEN", "GenCI", "MIRRN")
every_model = pytest.mark.parametrize(
    ("name", "keys"), CASES, ids=[f"{name}{keys or ''}" for name, keys in CASES]
)


def predictions(folder, rows, name, train=False, **keys):
    """Prediction of every row, by its number in the file; after one epoch of training if asked."""
    keys = write_dataset(folder, rows, num_users=13) | keys
    parts = create_dataset(
        Config(name, "tiny", config_dict=keys, compared_models=["GenCI"])
    ).build()
    model, views = make_model(name, parts, keys)
    if train:
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        torch.manual_seed(0)
        for batch in np.array_split(np.arange(len(views[0])), 5):
            losses = model.calculate_loss(views[0][batch])
            optimizer.zero_grad()
            (sum(losses) if isinstance(losses, tuple) else losses).backward()
            optimizer.step()
        model.eval()
    scores, part_of = torch.full((len(rows),), float("nan")), np.empty(len(rows), dtype=int)
    with torch.no_grad():
        for number, view in enumerate(views):
            where = view.inter_feat[ROW_NUMBER]
            scores[where] = model.predict(view[np.arange(len(view))]).float()
            part_of[where.numpy()] = number
    assert torch.isfinite(scores).all()
    return scores, part_of


def rows_with_fixed_ids():
    """A first user who rates every item in order pins RecBole's ids, which follow first appearance
    in the file.
    """
    return [["u12", f"i{item}", item % 2, 1_600_000_000 + item] for item in range(20)] + tiny_rows()


def of(rows, column):
    return np.array([row[column] for row in rows])


@every_model
def test_a_rows_label_and_its_users_later_rows_leave_its_prediction_unchanged(tmp_path, name, keys):
    rows = tiny_rows()
    before, _ = predictions(tmp_path, rows, name, **keys)
    user, time = of(rows, 0), of(rows, 3)
    middle = {u: np.median(time[user == u]) for u in np.unique(user)}
    early = time <= np.array([middle[u] for u in user])
    # Flip the labels of every row at or after its user's median time: rows before it, and rows at
    # it, must not notice.
    changed = [[u, i, 1 - label if t >= middle[u] else label, t] for u, i, label, t in rows]
    after, _ = predictions(tmp_path, changed, name, **keys)
    assert torch.equal(after[early], before[early])
    # The test can fail: later rows do read the flipped clicks, where the model reads histories of
    # clicks at all.
    reads_clicks = name in READ_HISTORIES and keys.get("history_labels") != "all"
    assert torch.equal(after[~early], before[~early]) != reads_clicks


@every_model
def test_a_users_last_items_leave_training_and_all_other_predictions_unchanged(
    tmp_path, name, keys
):
    rows = rows_with_fixed_ids()
    before, part_of = predictions(tmp_path, rows, name, train=True, **keys)
    user, time = of(rows, 0), of(rows, 3)
    last = {u: time[user == u].max() for u in np.unique(user)}
    at_end = time == np.array([last[u] for u in user])
    # Of users all of whose last rows are tested: none of them is in a history, validation's
    # included.
    is_last = at_end & (user != "u12") & ~np.isin(user, user[at_end & (part_of != 2)])
    items = of(rows, 1)
    items[is_last] = np.roll(items[is_last], 1)
    changed = [[u, item, label, t] for (u, _, label, t), item in zip(rows, items)]
    after, part_after = predictions(tmp_path, changed, name, train=True, **keys)
    assert (items != of(rows, 1)).sum() > 4 and (part_of == part_after).all()
    assert torch.equal(after[~is_last], before[~is_last]) and not torch.equal(after, before)


@pytest.mark.parametrize(
    ("name", "keys", "order"),
    [
        pytest.param(
            *(name, keys, order),
            marks=() if order == "TO" or name in READ_HISTORIES else pytest.mark.slow,
            id=f"{name}{keys or ''}-{order}",
        )
        for order in ("TO", "RO")
        for name, keys in CASES
    ],
)
def test_held_out_labels_reach_neither_training_nor_frozen_histories(tmp_path, name, keys, order):
    rows = tiny_rows()
    keys = keys | {
        "history_source": "training",
        "eval_args": {
            "split": {"RS": [0.6, 0.2, 0.2]},
            "order": order,
            "group_by": "user",
            "mode": "labeled",
        },
    }
    before, part_of = predictions(tmp_path, rows, name, train=True, **keys)
    changed = [
        [u, i, 1 - label if part_of[n] else label, t] for n, (u, i, label, t) in enumerate(rows)
    ]
    after, part_after = predictions(tmp_path, changed, name, train=True, **keys)
    assert (part_of == part_after).all()
    assert torch.equal(after, before)
    changed = [
        [u, i, 1 - label if not part_of[n] else label, t] for n, (u, i, label, t) in enumerate(rows)
    ]
    assert not torch.equal(predictions(tmp_path, changed, name, train=True, **keys)[0], before)
