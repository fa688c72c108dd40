"""Columns of sequences equal the padded tensors that they stand for."""

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from recbole_genci.data.table import Table, joined
from recbole_genci.utils.ragged import NARROW, Ragged, RaggedBuffer


def column(longest, rows=40, pairs=False, seed=0):
    rng = np.random.default_rng(seed)
    lengths = [longest, 0, *rng.integers(0, min(longest, 5) + 1, rows - 2)]
    cells = [rng.integers(1, 99, (n, 2) if pairs else n) for n in lengths]
    return Ragged.of_rows(cells, torch.int64), [torch.from_numpy(cell) for cell in cells]


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("longest", [1, 6, NARROW, NARROW + 1, 300])
def test_rows_are_padded_to_their_own_longest_and_narrow_columns_to_the_columns(longest, pairs):
    ragged, cells = column(longest, pairs=pairs)
    whole = pad_sequence(cells, batch_first=True)
    assert torch.equal(ragged.padded(), whole) and ragged.shape == whole.shape
    for index in ([3, 1, 9, 9], [1], [0, 39], list(range(40))):
        index = torch.tensor(index)
        lengths = [len(cells[row]) for row in index]
        width = longest if longest <= NARROW else max(1, max(lengths))
        assert torch.equal(ragged[index], whole[index][:, :width])
        assert not whole[index][:, width:].any()
        assert torch.equal(ragged.index_select(0, index).padded(), ragged[index])
    assert ragged.tolist() == whole.tolist()
    several = torch.tensor([[5, 2, 1], [7, 7, 0]])
    assert torch.equal(ragged[several], whole[several])
    assert torch.equal(ragged[torch.tensor(4)], ragged[torch.tensor([4])][0])


def test_parts_are_joined_and_compact_and_nothing_is_padding():
    ragged, cells = column(30)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    parts = [ragged.rows(order[:10]), ragged.rows(order[10:11]), ragged.rows(order[11:])]
    again = joined(parts)
    assert torch.equal(again.padded(), ragged.rows(order).padded())
    assert again.values.tolist() == [entry for row in order for entry in cells[row].tolist()]
    assert again.lengths.tolist() == [len(cells[row]) for row in order]
    empty = Ragged.of_rows([np.array([], dtype=np.int64)] * 3, torch.int64)
    assert torch.equal(empty.padded(), torch.zeros(3, 1, dtype=torch.int64))
    assert torch.equal(empty[torch.tensor([[0, 1]])], torch.zeros(1, 2, 1, dtype=torch.int64))


def test_a_table_selects_rows_of_all_columns_and_moves():
    ragged, _ = column(30)
    table = Table({"id": torch.arange(40), "tags": ragged})
    assert len(table) == 40 and table.columns == ["id", "tags"]
    for index in ([4, 0], np.array([4, 0]), torch.tensor([4, 0]), slice(3, 7)):
        part = table[index]
        assert torch.equal(part["tags"].padded(), ragged[part["id"]])
    assert torch.equal(table.cpu()["tags"].padded(), ragged.padded())
    moved = table.to("meta", "tags")
    assert moved["tags"].device.type == "meta" and moved["id"] is table["id"]
    buffer = RaggedBuffer(ragged)
    assert not buffer.state_dict() and torch.equal(buffer[torch.tensor([0])], ragged[[0]])
    assert buffer.to("meta").values.is_meta
