"""Orders and groups equal those of plain loops, and rows those of RecBole's own methods."""

import numpy as np
import pytest
import torch
from conftest import tiny_rows, write_dataset
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.dataset import Dataset

from recbole_genci.config import Config
from recbole_genci.data import reading
from recbole_genci.data.column_names import TIME_RANK
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.order import cut_groups, stable_order

numbers = st.lists(st.integers(0, 5), max_size=40).map(lambda x: np.array(x, dtype=np.int32))


@given(numbers, st.integers(0, 60))
def test_stable_order_equals_lexsort_whatever_the_size_of_keys(key, bits):
    key = key.astype(np.int64) << bits  # with many bits, key and row do not fit into one number
    other = np.arange(len(key))[::-1] // 3
    np.testing.assert_array_equal(stable_order(key), np.argsort(key, kind="stable"))
    np.testing.assert_array_equal(
        stable_order(key, other), np.lexsort((np.arange(len(key)), other, key))
    )


@given(numbers, st.integers(0, 4), st.integers(0, 4))
def test_groups_are_cut_as_by_a_loop(groups, first, second):
    def starts(size):
        return sorted((min(first, size), min(second, size)))

    expected = [[], [], []]
    for group in dict.fromkeys(groups.tolist()):
        rows = np.flatnonzero(groups == group).tolist()
        low, high = starts(len(rows))
        for part, piece in zip(expected, (rows[:low], rows[low:high], rows[high:])):
            part += piece
    if len(groups):
        order, sizes = cut_groups(groups, starts)
        assert sizes == [len(part) for part in expected]
        assert order.tolist() == sum(expected, [])


class RecBolesRows(CTRDataset):
    """CTRDataset with RecBole's own code wherever ours only is quicker."""

    def _load_feat(self, filepath, source):
        frame = super()._load_feat(filepath, source)
        for field in frame if frame is not None else ():
            if self.field2type[field].value.endswith("_seq"):
                entries, lengths = self._cells[field].of(frame[field])
                frame[field] = np.split(entries, np.cumsum(lengths)[:-1])
        return frame

    def _fill_nan(self):
        sequences = {}
        for name in self.feat_name_list:
            feat = getattr(self, name)
            for field in [f for f in feat if self.field2type[f].value.endswith("_seq")]:
                empty = np.array([], dtype=np.int64)
                sequences[name, field] = [empty if isinstance(r, float) else r for r in feat[field]]
                feat[field] = 0
        super()._fill_nan()
        for (name, field), rows in sequences.items():
            getattr(self, name)[field] = rows

    _filter_by_field_value = Dataset._filter_by_field_value
    _filter_by_inter_num = Dataset._filter_by_inter_num
    _filter_inter_by_user_or_item = Dataset._filter_inter_by_user_or_item
    _remap = Dataset._remap
    _scale = Dataset._normalize
    _discretization = Dataset._discretization
    _grouped_index = Dataset._grouped_index
    _dataframe_to_interaction = Dataset._dataframe_to_interaction
    split_by_ratio = Dataset.split_by_ratio
    leave_one_out = Dataset.leave_one_out

    def sort(self, by, ascending=True):
        Dataset.sort(self, TIME_RANK if by == self.time_field else by, ascending)


def facts_of(parts):
    """Everything that the parts hold, column by column."""
    whole = parts[0]
    tables = [*(part.inter_feat for part in parts), whole.user_feat, whole.item_feat]
    columns = [
        (place, name, column.dtype, column.tolist())
        for place, table in enumerate(tables)
        for name, column in table.interaction.items()
    ]
    history = [whole.history.items, whole.history.negatives, whole.history.keys]
    tokens = {field: (token.dtype, token.tolist()) for field, token in whole.field2id_token.items()}
    ids = {field: list(known.items()) for field, known in whole.field2token_id.items()}
    return columns, [each.tolist() for each in history], tokens, ids, whole.field2type


def write_sequences(folder):
    """Numbers of items, and items that users like."""
    rng = np.random.default_rng(0)
    for name, field, content in (
        ("item", "emb:float_seq", lambda: f"{rng.normal():.3f}"),
        ("user", "likes:token_seq", lambda: f"i{rng.integers(25)}"),
    ):
        header, *lines = (folder / f"tiny.{name}").read_text().splitlines()
        cells = [" ".join(content() for _ in range(rng.integers(0, 6))) for _ in lines]
        lines = [f"{line}\t{cell}" for line, cell in zip(lines, cells, strict=True)]
        (folder / f"tiny.{name}").write_text("\n".join([f"{header}\t{field}", *lines]) + "\n")


TO = {"order": "TO", "group_by": "user", "mode": "labeled"}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"eval_args": TO | {"split": {"RS": [7, 1, 2]}, "order": "RO"}},
        {"eval_args": TO | {"split": {"RS": [8, 1, 1]}, "group_by": None}},
        {"eval_args": TO | {"split": {"RS": [8, 1, 1]}, "group_by": None, "order": "RO"}},
        {"eval_args": TO | {"split": {"LS": "valid_and_test"}}},
        {"eval_args": TO | {"split": {"TS": [8, 1, 1]}}},
        {"user_inter_num_interval": "[6,inf)", "item_inter_num_interval": "[8,40)"},
        {"user_inter_num_interval": "[4,20];[22,inf)", "filter_inter_by_user_or_item": False},
        {"user_inter_num_interval": None, "item_inter_num_interval": "[1,inf)"},
        {
            "val_interval": {
                "label": "[0,2)",
                "item_id": ["i1", "i3", "i4", "j4"],
                "age": ["20", "21", "23"],
            }
        },
        {"val_interval": {"timestamp": "(1700000009,inf)", "year": ["1990", "1991", "1993"]}},
        {"rm_dup_inter": "last", "normalize_all": True},
        {"numerical_features": ["timestamp"], "alias_of_item_id": ["other"]},
        {"numerical_features": ["timestamp"], "normalize_field": ["timestamp", "label"]},
        {
            "numerical_features": ["timestamp"],
            "discretization": {"timestamp": {"method": "ED", "bucket": 4}},
        },
        {"numerical_features": ["emb", "timestamp"], "seq_len": {"emb": 3}},
        {"numerical_features": ["emb"], "normalize_all": True},
        {"alias_of_item_id": ["likes"]},
        {
            "numerical_features": ["emb", "timestamp"],
            "discretization": {"emb": {"method": "ED", "bucket": 4}},
        },
    ],
)
def test_rows_are_those_of_recboles_own_methods(tmp_path, monkeypatch, keys):
    rows = tiny_rows()
    # Users of one and two rows, an item and a user without features, a missing item.
    rows += [["u1a", "i1", 1, 1_700_000_005], ["u2a", "i2", 0, 1_700_000_001]]
    rows += [["u2a", "j4", 1, 1_700_000_009], ["u3", "", 1, 1_700_000_030]]
    known = write_dataset(tmp_path, rows) | keys
    file = tmp_path / "tiny/tiny.inter"
    lines = file.read_text().splitlines()
    others = [f"i{number % 23}" if number % 7 else "" for number in range(len(lines))]
    file.write_text(
        f"{lines[0]}\tother:token\n"
        + "".join(f"{line}\t{other}\n" for line, other in zip(lines[1:], others))
    )
    known["load_col"] = known["load_col"] | {"inter": [*known["load_col"]["inter"], "other"]}
    write_sequences(tmp_path / "tiny")
    known["load_col"] |= {
        "item": ["item_id", "year", "genre", "emb"],
        "user": ["user_id", "age", "likes"],
    }
    config = Config("DeepFM", "tiny", config_dict=known)
    found = facts_of(CTRDataset(config).build())
    read = reading.read_atomic_file
    monkeypatch.setattr(
        reading,
        "read_atomic_file",
        lambda *arguments, categories, **options: read(*arguments, **options),
    )
    expected = facts_of(RecBolesRows(config).build())
    for ours, theirs in zip(found, expected):
        assert ours == theirs


def test_parts_share_the_memory_of_one_table(tmp_path):
    config = Config("DeepFM", "tiny", config_dict=write_dataset(tmp_path, tiny_rows()))
    parts = CTRDataset(config).build()
    for name in ("user_id", "label", TIME_RANK):
        columns = [part.inter_feat[name] for part in parts]
        assert len({column.untyped_storage().data_ptr() for column in columns}) == 1
        whole = torch.cat(columns)
        assert whole.numel() == columns[0].untyped_storage().nbytes() // whole.element_size()
