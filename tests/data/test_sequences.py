"""Sequences are stored flat; models get from them what they got from padded tables."""

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.fingerprint import rows_fingerprint
from recbole_genci.data.storage import load_parts, store_parts
from recbole_genci.data.table import Table
from recbole_genci.utils.ragged import Ragged

LONGEST = 200
LOAD = {
    "inter": ["user_id", "item_id", "label", "timestamp", "tags", "scores"],
    "user": ["user_id", "age", "likes"],
    "item": ["item_id", "year", "genre", "emb"],
}


def write_sequences(folder):
    """Sequences of rows, users and items; one item and one row have very long ones."""
    rng = np.random.default_rng(0)
    keys = write_dataset(folder, tiny_rows())

    def cells(kind, number, longest=4):
        lengths = rng.integers(0, longest, number)
        lengths[number // 2] = LONGEST
        words = [
            rng.normal(size=n).round(3) if kind == "float_seq" else rng.integers(0, 30, n)
            for n in lengths
        ]
        return [" ".join(map(str, word)) for word in words]

    for name, columns in {
        "inter": {"tags": "token_seq", "scores": "float_seq"},
        "user": {"likes": "token_seq"},
        "item": {"emb": "float_seq"},
    }.items():
        file = folder / f"tiny/tiny.{name}"
        header, *lines = file.read_text().splitlines()
        for field, kind in columns.items():
            header += f"\t{field}:{kind}"
            lines = [f"{a}\t{b}" for a, b in zip(lines, cells(kind, len(lines)), strict=True)]
        file.write_text("\n".join([header, *lines]) + "\n")
    return keys | {"load_col": LOAD, "numerical_features": ["emb", "scores"]}


def padded(part):
    """The part with the tables of RecBole: every column a tensor as wide as its longest cell."""
    part = part.copy(part.inter_feat)
    for name in ("inter_feat", "user_feat", "item_feat"):
        columns = getattr(part, name).interaction
        columns = {
            field: column.rows(slice(None)).padded() if isinstance(column, Ragged) else column
            for field, column in columns.items()
        }
        if name == "inter_feat":  # parts share the width of the longest of all
            for field in ("tags", "scores"):
                shape = list(columns[field].shape)
                shape[1] = LONGEST - shape[1]
                columns[field] = torch.cat([columns[field], columns[field].new_zeros(shape)], 1)
        setattr(part, name, Table(columns))
    return part


@pytest.mark.parametrize("discretized", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        *("LR", "DeepFM", "DIN", "GenCI"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("FwFM", "xDeepFM", "AutoInt", "DIEN", "MIRRN")
        ),
    ],
)
def test_predictions_and_gradients_equal_those_of_padded_tables(tmp_path, name, discretized):
    keys = write_sequences(tmp_path)
    if discretized:
        keys["discretization"] = {"emb": {"method": "ED", "bucket": 5}}
    parts = create_dataset(Config("DIN", "tiny", config_dict=keys)).build()
    model, views = make_model(name, parts, keys)
    whole = [padded(view) for view in views]
    assert whole[0].item_feat["emb"].shape == (21, LONGEST, 2)
    rng = np.random.default_rng(0)
    for view, wide in zip(views, whole, strict=True):
        for rows in (np.arange(len(view)), rng.permutation(len(view))[:7], np.array([3])):
            narrow_batch, wide_batch = view[rows], wide[rows]
            with torch.no_grad():
                assert torch.equal(model.predict(narrow_batch), model.predict(wide_batch))
            losses = []
            for batch in (narrow_batch, wide_batch):
                model.zero_grad()
                torch.manual_seed(0)
                loss = model.train().calculate_loss(batch) if len(rows) > 1 else torch.zeros(())
                loss = sum(loss) if isinstance(loss, tuple) else loss
                if loss.requires_grad:
                    loss.backward()
                grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
                losses.append((loss, grads))
                model.eval()
            assert torch.equal(losses[0][0], losses[1][0])
            for one, other in zip(losses[0][1], losses[1][1], strict=True):
                assert torch.equal(one, other)


def test_a_batch_without_the_long_cell_is_narrow(tmp_path):
    keys = write_sequences(tmp_path)
    parts = create_dataset(Config("DIN", "tiny", config_dict=keys)).build()
    view = parts[0].view(Config("DeepFM", "tiny", config_dict=keys))
    widths = [view[[row]]["emb"].shape[1] for row in range(len(view))]
    assert max(widths) == LONGEST and sorted(widths)[len(widths) // 2] <= 4
    # genre's longest cell is short, so that all batches have its width
    assert {view[[row]]["genre"].shape[1] for row in range(len(view))} == {2}


def test_stored_rows_are_flat_and_loaded_as_they_were(tmp_path):
    keys = write_sequences(tmp_path)
    config = Config("DIN", "tiny", config_dict=keys)
    parts = create_dataset(config).build()
    store_parts(parts, tmp_path / "rows.safetensors")
    assert (tmp_path / "rows.safetensors").stat().st_size < 60_000
    loaded = load_parts(tmp_path / "rows.safetensors", config)
    assert rows_fingerprint(loaded) == rows_fingerprint(parts)
    for one, other in zip(parts, loaded, strict=True):
        one, other = one.view(config)[np.arange(len(one))], other.view(config)[np.arange(len(one))]
        assert one.columns == other.columns
        for field in one.columns:
            assert torch.equal(one[field], other[field]), field
    changed = tmp_path / "tiny/tiny.item"
    changed.write_text(changed.read_text().replace("Horror Thriller", "Thriller Horror"))
    assert rows_fingerprint(create_dataset(config).build()) != rows_fingerprint(parts)


def test_fingerprints_of_short_sequences_are_those_of_padded_columns(ml100k_parts):
    """Records of experiments were made with columns that RecBole had padded."""
    assert rows_fingerprint(ml100k_parts).startswith("e7a93ddaecb93c32")
