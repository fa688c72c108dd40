"""Batches: columns are looked up where they are read, from one packed copy of numbers."""

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset
from hypothesis import given
from hypothesis import strategies as st

from recbole_genci.config import Config
from recbole_genci.data import batches, create_dataset, create_loaders
from recbole_genci.data.batch_histories import clicked_items
from recbole_genci.data.batches import Batch, RowBatch, resident
from recbole_genci.data.history import clicks_read
from recbole_genci.utils.ragged import Ragged

CAUSAL = {"history_attention": "causal", "segment_clicks": 3}
MODELS = [("DeepFM", {}), ("DIN", {}), ("DIEN", {}), ("GenCI", {}), ("GenCI", CAUSAL)]


@given(st.lists(st.integers(0, 300), min_size=1), st.integers(1, 60), st.data())
def test_rows_of_a_segment_read_from_one_click_on(clicks, cap, data):
    segment = data.draw(st.integers(1, cap))
    clicks = torch.tensor(clicks)
    read = clicks_read(clicks, cap, segment)
    assert (read <= cap).all() and (read <= clicks).all()
    assert (read >= torch.minimum(clicks, torch.tensor(cap - segment + 1))).all()
    start = {}
    for number, length in zip(clicks.tolist(), read.tolist(), strict=True):
        if number:
            start.setdefault((number - 1) // segment, set()).add(number - length)
    assert all(len(each) == 1 for each in start.values())
    assert segment > 1 or torch.equal(read, clicks.clamp(max=cap))


@pytest.mark.parametrize(
    "index", [slice(5, 3), slice(-5, None), slice(9, None, 7), slice(8, 2, -3)]
)
def test_a_slice_is_that_of_a_list(tiny_parts, index):
    part = tiny_parts[0][0]
    found = part[index]["timestamp"] if len(range(len(part))[index]) else torch.empty(0)
    assert len(part[index]) == len(found)
    assert torch.equal(found, part.inter_feat["timestamp"][list(range(len(part)))[index]])


@pytest.mark.parametrize(("name", "keys"), MODELS, ids=str)
def test_numbers_packed_for_another_device_give_the_same_columns(tiny_parts, name, keys):
    parts, base = tiny_parts
    _, views = make_model(name, parts, base | keys)
    for part in views:
        batch = part[np.arange(len(part))[::-2].copy()]
        here = dict(batch.interaction)
        batch._numbers = batch._numbers.to(torch.device("cpu"))
        there = batch._looked_up(torch.device("cpu"))
        assert list(here) == list(there)
        for column in here:
            assert here[column].dtype == there[column].dtype
            assert torch.equal(here[column], there[column]), column


@pytest.mark.parametrize(("name", "keys"), MODELS, ids=str)
def test_another_device_is_never_waited_for(tiny_parts, name, keys):
    parts, base = tiny_parts
    _, views = make_model(name, parts, base | keys)
    here = views[0][:40].to("cpu")
    there = views[0][:40].to("meta")  # has no values, so that to read one is an error
    assert here.columns == there.columns and len(here) == len(there)
    for column in here.columns:
        assert there[column].device.type == "meta"
        mine, theirs = here[column], there[column]
        assert (theirs.shape, theirs.dtype) == (mine.shape, mine.dtype)


def test_a_batch_brings_few_numbers(ml100k_parts):
    for name, most in (("DeepFM", 4), ("DIN", 12), ("GenCI", 28)):
        config = Config(name, "ml-100k")
        codes = np.zeros((ml100k_parts[0].item_num, 4), dtype=np.int64)
        batch = ml100k_parts[2].view(config, codes)[:4096]
        packed = sum(len(each) for each in batch._numbers.tensors) * 4
        assert packed <= most * 4096  # bytes; 6.5 MB of codes were copied before


def test_a_selection_of_rows_is_of_these_rows_and_keeps_the_histories(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base | CAUSAL)
    rows = train[np.arange(len(train))]
    clicked = rows["label"] == 1
    expected = clicked_items(rows, "item_id_list")[clicked]
    whole = Batch(rows.interaction)
    for some in (train[np.arange(len(train))][clicked], rows[clicked], whole[clicked]):
        assert len(some) == int(clicked.sum()) == len(some["label"])
        items = clicked_items(some, "item_id_list")
        width = max(items.shape[1], expected.shape[1])
        padded = [torch.nn.functional.pad(x, (0, width - x.shape[1])) for x in (items, expected)]
        assert torch.equal(*padded)
        with torch.no_grad():
            torch.testing.assert_close(model.predict(some), model.predict(rows)[clicked])
    unread = train[np.arange(len(train))][clicked]
    assert isinstance(unread, RowBatch) and len(unread["history_length"]) < len(
        rows["history_length"]
    )


def test_what_was_changed_before_all_columns_were_looked_up_stays_changed(tiny_parts):
    parts, base = tiny_parts
    _, (train, _, _) = make_model("DeepFM", parts, base)
    batch = train[:5]
    batch["label"][:] = 7
    assert (batch.to("cpu")["label"] == 7).all() and (batch.interaction["label"] == 7).all()
    assert not (train[:5]["label"] == 7).any()


def test_a_device_keeps_a_column_while_the_host_has_it_as_it_was():
    device = torch.device("meta")
    column, other = torch.arange(5), Ragged.of_lengths(torch.arange(3), torch.tensor([1, 2]))
    copy = resident(column, device)
    assert copy.device == device and resident(column, device) is copy
    assert resident(other, device).values is resident(other, device).values
    assert resident(torch.arange(5), device) is not copy  # equal, but another
    column[0] = 7
    assert resident(column, device) is not copy
    kept = len(batches._kept[device])
    del column
    assert len(batches._kept[device]) == kept - 1


def test_workers_send_columns(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows())
    expected = batches_of(keys)
    for batch, other in zip(expected, batches_of(keys | {"worker": 1}), strict=True):
        assert type(other) is Batch and len(batch) == len(other)
        for column in batch.interaction:
            assert torch.equal(batch[column], other[column]), column


def batches_of(keys):
    config = Config("DIN", "tiny", config_dict=keys)
    return [batch for batch, *_ in create_loaders(config, create_dataset(config).build())[2]]
