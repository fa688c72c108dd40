"""Batches that keep the rows of one history together."""

import multiprocessing

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.dataloader import abstract_dataloader
from recbole.model.sequential_recommender.din import DIN
from torch.utils.data import RandomSampler

from recbole_genci.compat import RowNumbers
from recbole_genci.config import Config
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.data.batches import Batch
from recbole_genci.data.column_names import HISTORY_END, HISTORY_START
from recbole_genci.data.loaders import grouped_order
from recbole_genci.quick_start import run
from recbole_genci.utils.distributed import ALONE, Processes


class PlainDIN(DIN):
    """RecBole's, as a person may derive from it."""


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 2**31))
def test_grouped_order_is_a_permutation_whose_groups_are_contiguous(groups, seed):
    groups = torch.tensor(groups).unique(return_inverse=True)[1]
    order = grouped_order(groups, torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(len(groups)))
    assert len(torch.unique_consecutive(groups[order])) == len(groups.unique())


def test_grouped_order_moves_groups_and_rows_within_them():
    groups = torch.arange(50).repeat_interleave(4)
    one, other = (grouped_order(groups, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert not torch.equal(groups[one], groups[other])
    assert not torch.equal(one, one[torch.argsort(groups[one] * 1000 + one)])
    assert len({tuple((one[groups[one] == group] % 4).tolist()) for group in range(50)}) > 10


def batches(loader):
    return [batch.interaction for batch in loader]


def test_every_row_comes_once_an_epoch_in_another_order_each_time(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows()) | {"group_rows_by_history": True}
    config = Config("DIN", "tiny", config_dict=keys)
    parts = create_dataset(config).build()
    loader = create_loaders(config, parts)[0]
    feat = parts[0].inter_feat
    rows = sorted(
        zip(feat["user_id"].tolist(), feat["item_id"].tolist(), feat["label"].tolist(), strict=True)
    )
    epochs = [batches(loader) for _ in range(2)]
    for epoch in epochs:
        assert [len(batch["label"]) for batch in epoch][:-1] == [32] * (len(epoch) - 1)
        seen = {
            name: torch.cat([batch[name] for batch in epoch]).tolist()
            for name in ("user_id", "item_id", "label")
        }
        assert sorted(zip(*seen.values(), strict=True)) == rows
    assert not torch.equal(epochs[0][0]["item_id"], epochs[1][0]["item_id"])
    again = batches(create_loaders(config, parts)[0])
    assert torch.equal(again[0]["item_id"], epochs[0][0]["item_id"])


@pytest.mark.parametrize("grouped", [False, True])
def test_no_batch_of_one_row_is_left_which_batch_normalisation_could_not_train_on(
    tmp_path, grouped, caplog
):
    keys = write_dataset(tmp_path, tiny_rows()) | {"group_rows_by_history": grouped, "epochs": 1}
    asked = len(create_dataset(Config("DIN", "tiny", config_dict=keys)).build()[0]) - 1
    run("DIN,DCNV2", "tiny", config_dict=keys | {"train_batch_size": asked})
    assert (
        f"{asked + 1} training rows in batches of {asked} leave a last batch of one row"
        in caplog.text
    )
    config = Config("DIN", "tiny", config_dict=keys | {"train_batch_size": asked})
    sizes = [
        len(batch["label"])
        for batch in batches(create_loaders(config, create_dataset(config).build())[0])
    ]
    assert sizes == [asked - 1, 2]


def test_ml100k_batches_hold_half_as_many_distinct_histories_and_no_lump_of_new_users(ml100k_parts):
    distinct, empty = {}, {}
    for grouped in (False, True):
        config = Config("DIN", "ml-100k", config_dict={"group_rows_by_history": grouped})
        seen = batches(create_loaders(config, ml100k_parts)[0])
        histories = [
            torch.cat([batch["user_id"].unsqueeze(1), batch["item_id_list"]], 1) for batch in seen
        ]
        distinct[grouped] = np.mean([len(torch.unique(each, dim=0)) for each in histories])
        empty[grouped] = max(
            (batch["item_length"] == 0).float().mean().item() for batch in seen[:-1]
        )
    assert distinct[True] < 0.65 * distinct[False]
    assert empty[True] < 2 * empty[False]


@pytest.mark.parametrize("name", ["DIN", "DIEN", "MIRRN", "GenCI"])
def test_a_batch_is_as_wide_as_its_longest_history_and_scores_the_same(tmp_path, name, monkeypatch):
    keys = write_dataset(tmp_path, tiny_rows()) | {"MAX_ITEM_LIST_LENGTH": 60}
    parts = create_dataset(Config("DIN", "tiny", config_dict=keys)).build()
    model, views = make_model(name, parts, keys)
    rows = np.argsort(views[2].inter_feat[HISTORY_END] - views[2].inter_feat[HISTORY_START])
    narrow = [views[2][rows[start : start + 5]] for start in range(0, len(rows), 5)]
    if name == "GenCI":
        widths = [batch["segments"].shape[1] for batch in narrow]
        assert widths == [int(batch["history_length"].max()) for batch in narrow]
        assert widths[0] < widths[-1] < 30
        return  # tests/model/genci/test_genci.py pads more
    widths = [batch["item_id_list"].shape[1] for batch in narrow]
    assert widths == [max(2, int(batch["item_length"].max())) for batch in narrow]
    assert widths[0] < widths[-1] < 30
    for least in (60, 40):  # the padding of before, and another
        views[2].least_width = least
        wide = [views[2][rows[start : start + 5]] for start in range(0, len(rows), 5)]
        assert {batch["item_id_list"].shape[1] for batch in wide} == {least}
        with torch.no_grad():
            for short, long in zip(narrow, wide, strict=True):
                torch.testing.assert_close(
                    model.predict(short), model.predict(long), atol=1e-6, rtol=1e-6
                )


def test_a_batch_of_no_or_one_click_trains_whatever_the_cap(tmp_path):
    for cap in (1, 2, 50):
        keys = write_dataset(tmp_path, tiny_rows()) | {"MAX_ITEM_LIST_LENGTH": cap}
        parts = create_dataset(Config("DIN", "tiny", config_dict=keys)).build()
        for name in ("DIN", "DIEN", "MIRRN", "GenCI"):
            model, views = make_model(name, parts, keys)
            length = views[0].inter_feat[HISTORY_END] - views[0].inter_feat[HISTORY_START]
            for rows in (length == 0, length <= 1):
                loss = model.train().calculate_loss(views[0][torch.nonzero(rows).reshape(-1)])
                loss = sum(loss) if isinstance(loss, tuple) else loss
                assert torch.isfinite(loss), (name, cap)


@pytest.fixture
def elsewhere():
    """Where processes do not start as copies of their parent: of nproc, on macOS, Python 3.14."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize(
    "more", [{}, {"shard_rows": True}, {"shard_rows": True, "group_rows_by_history": True}]
)
def test_workers_assemble_the_batches_of_any_loader(more, tiny_parts, elsewhere):
    parts, keys = tiny_parts

    def batches_of_all(worker, processes):
        config = Config("DIN", "tiny", config_dict=keys | more | {"worker": worker})
        for loader in create_loaders(config, parts, processes=processes)[:2]:
            for batch in loader:
                rows = batch if isinstance(batch, Batch) else batch[0]
                yield rows["user_id"].tolist(), rows["item_id_list"].tolist()

    for processes in (ALONE, Processes(1, 2)):
        assert list(batches_of_all(1, processes)) == list(batches_of_all(0, processes))


def test_recboles_own_din_gets_the_width_that_its_mask_has(tmp_path):
    keys = write_dataset(tmp_path, tiny_rows()) | {"MAX_ITEM_LIST_LENGTH": 77}
    parts = create_dataset(Config("DIN", "tiny", config_dict=keys)).build()

    config = Config(PlainDIN, "tiny", config_dict=keys, compared_models=["GenCI"])
    view = parts[0].view(config)
    assert view[np.arange(3)]["item_id_list"].shape == (3, 77)


def test_rows_are_shuffled_as_by_torch_without_lists_of_their_numbers(tiny_parts, monkeypatch):
    parts, keys = tiny_parts
    monkeypatch.setattr("recbole_genci.data.shuffling._CHUNK", 7)
    loaders = create_loaders(Config("DIN", "tiny", config_dict=keys), parts)
    rows = range(len(parts[0]))
    generator = torch.Generator().manual_seed(loaders[0].generator.initial_seed())
    sampler = loaders[0].batch_sampler.sampler
    for _ in range(2):
        assert list(sampler) == list(RandomSampler(rows, generator=generator))
        assert torch.equal(loaders[0].generator.get_state(), generator.get_state())
    for loader in loaders:
        held = object.__getattribute__(loader, "__dict__")["dataset"]
        assert isinstance(held, RowNumbers) and len(held) == len(loader.dataset)
        assert held.__getitems__([2, 5]) == [held[2], held[5]] == [2, 5]
    assert abstract_dataloader.list((3, 4)) == [3, 4]
    assert [row for row in held] == list(range(len(loader.dataset)))
    assert sorted(torch.cat([batch["label"] for batch in loaders[0]])) == sorted(
        parts[0].inter_feat["label"]
    )
