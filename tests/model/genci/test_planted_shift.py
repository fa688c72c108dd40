"""Planted data whose only signal is the shift between cohorts: what the short-term intent and
next-item prediction bring.

A user's next click is in the cohort that follows the cohort of the last one; which item of it is
chance, and a row that is no click shows an item of another cohort. Users, single items and
popularity tell nothing. The long-term intent reads the same history and, given enough rows, learns
this shift as well. So the whole model is compared with its ablations where rows are few and items
many, and what the short-term intent can do alone is seen without it.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import TINY
from recbole.utils import init_seed
from sklearn.metrics import roc_auc_score

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.model.genci.genci import GenCI


class Planted(NamedTuple):
    cohorts: int
    items: int  # of a cohort
    users: int
    steps: int  # of a user, each with a click and another row
    epochs: int


PLENTY, SCARCE = Planted(12, 6, 100, 20, 15), Planted(24, 20, 80, 12, 20)
KEYS = TINY | {
    "load_col": {"inter": ["user_id", "item_id", "label", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": 5,
    "eta": 0,
    "mlp_hidden_size": [64, 64],
    "dropout_prob": 0.0,
    "intent_dropout": 0.0,
    "intent_width": 32,
    "intent_layers": 1,
    "intent_feed_forward_size": 64,
    "num_beams": 1,
}


def shifting_rows(seed, planted):
    """Rows (user, item, label, time); item number // items of a cohort is its cohort."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(planted.cohorts)
    following = np.empty(planted.cohorts, dtype=int)
    following[order] = np.roll(order, -1)
    rows = []
    for user in range(planted.users):
        cohort = rng.integers(planted.cohorts)
        for step in range(planted.steps):
            cohort = following[cohort]
            other = (cohort + rng.integers(1, planted.cohorts)) % planted.cohorts
            for shown, label in ((other, 0), (cohort, 1)):
                item = shown * planted.items + rng.integers(planted.items)
                rows.append((f"u{user}", f"i{item}", label, 10 + 10 * step))
    return rows


def held_out_auc(folder, seed, keys, planted=PLENTY):
    """AUC over the validation and test rows after training."""
    (folder / "shift").mkdir(exist_ok=True)
    lines = ["user_id:token\titem_id:token\tlabel:float\ttimestamp:float"]
    lines += ["\t".join(map(str, row)) for row in shifting_rows(seed, planted)]
    (folder / "shift" / "shift.inter").write_text("\n".join(lines) + "\n")
    config = Config("GenCI", "shift", config_dict=KEYS | keys | {"data_path": str(folder)})
    parts = create_dataset(config).build()
    numbers = np.array([int(token[1:]) for token in parts[0].field2id_token["item_id"][1:]])
    codes = np.stack([numbers // planted.items, numbers % planted.items], axis=1)
    train, *held_out = (part.view(config, np.concatenate([[[-1, -1]], codes])) for part in parts)
    init_seed(seed, True)
    model = GenCI(config, train)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(planted.epochs):
        for rows in torch.randperm(len(train)).split(256):
            optimizer.zero_grad()
            sum(model.train().calculate_loss(train[rows])).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        batches = [part[np.arange(len(part))] for part in held_out]
        scores, labels = (
            torch.cat([model.predict(batch) for batch in batches]),
            torch.cat([b["label"] for b in batches]),
        )
    return roc_auc_score(labels, scores)


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_the_whole_model_beats_its_own_ablations(tmp_path):
    variants = {}, {"use_short_term": False}, {"mu": 0}  # as it is, w/o ST, w/o NTP
    whole, *ablations = np.array(
        [[held_out_auc(tmp_path, seed, keys, SCARCE) for seed in range(3)] for keys in variants]
    )
    assert whole.mean() > 0.65
    for ablated in ablations:
        assert (whole > ablated).all() and (whole - ablated).mean() > 0.04


@pytest.mark.timeout(600)
def test_the_short_term_intent_alone_carries_the_shift(tmp_path):
    keys = {"use_long_term": False}
    whole, without = (
        held_out_auc(tmp_path, 0, keys | {"use_short_term": used}) for used in (True, False)
    )
    assert whole > 0.9 and without < 0.6


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_generated_cohorts_carry_the_shift_once_next_item_prediction_trains_the_generator(tmp_path):
    # Unrefined cohorts: Eq. 8 reads the encoded history, and learns the shift from there even if
    # the generator is not trained.
    keys = {"use_long_term": False, "intent_extraction": "target"}
    whole, without = (held_out_auc(tmp_path, 0, keys | {"mu": mu}) for mu in (1, 0))
    assert whole > 0.9 and without < 0.7
