"""Each process reads its own block of the rows (`shard_rows`)."""

from pathlib import Path

import pytest
import torch
from conftest import SMALL_GENCI, tiny_rows, write_dataset
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file

from recbole_genci import load
from recbole_genci.config import Config
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.data import loaders as loaders_module
from recbole_genci.data.loaders import _share_of_batch, create_loader
from recbole_genci.plan import prepare
from recbole_genci.quick_start import run
from recbole_genci.utils.distributed import ALONE, Processes

pytestmark = pytest.mark.timeout(900)  # starting processes takes long on a busy machine


@pytest.fixture
def keys(tmp_path):
    rows = tiny_rows(num_users=9, num_items=60, rows_per_user=101, seed=9)
    return write_dataset(tmp_path / "data", rows, num_items=60) | {"shard_rows": True, "epochs": 2}


@example(rows=3, batch=2**31 - 1, processes=2)
@given(rows=st.integers(0, 500), batch=st.integers(1, 60), processes=st.integers(1, 9))
def test_all_blocks_make_equally_many_batches_and_hold_every_row(rows, batch, processes):
    blocks = [Processes(rank, processes).block(rows) for rank in range(processes)]
    assert [row for block in blocks for row in block] == list(range(rows))
    counts = {
        share: {-(-len(block) // share) for block in blocks}
        for share in {*range(1, min(batch // processes, 99) + 1), batch // processes} - {0}
    }
    fitting = [share for share, numbers in counts.items() if len(numbers) == 1 and 0 not in numbers]
    # Batches of one row only if there are no others.
    several = [s for s in fitting if s > 1 and all(len(block) % s != 1 for block in blocks)]
    fitting = several or fitting
    if fitting and rows >= processes:
        assert _share_of_batch(rows, batch, processes) == max(fitting)
    else:
        why = " in batches of" if rows >= processes else "s? cannot be divided among"
        with pytest.raises(ValueError, match=f"^shard_rows: {rows} training rows?{why}"):
            _share_of_batch(rows, batch, processes)


def epochs_of(config, parts, processes, count=2):
    """Row numbers of each batch of each epoch, by process."""
    parts[0].inter_feat["place"] = torch.arange(len(parts[0]))
    loader = create_loader(config, parts[0], None, "train", config["shuffle"], processes)
    return [
        [loader.collate_fn(rows)["place"].tolist() for rows in batches_of(loader)]
        for _ in range(count)
    ]


def batches_of(loader):
    if hasattr(loader, "_groups"):  # drawn when an epoch begins
        next(iter(loader))
    return list(loader.batch_sampler)


@pytest.mark.parametrize("settings", [{}, {"group_rows_by_history": True}, {"shuffle": False}])
def test_each_process_reads_its_own_block_once_an_epoch(keys, settings):
    config = Config("DIN", "tiny", config_dict=keys | settings | {"train_batch_size": 96})
    parts = create_dataset(config).build()
    rows = len(parts[0])
    processes = [Processes(rank, 4) for rank in range(4)]
    found = [epochs_of(config, parts, each) for each in processes]
    assert rows % 4 != 0  # blocks of two lengths
    for each, epochs in zip(processes, found):
        for batches in epochs:
            assert sorted(sum(batches, [])) == list(each.block(rows))
            assert len(batches) == len(found[0][0]) and {len(b) for b in batches[:-1]} == {24}
        assert (epochs[0] == epochs[1]) == (not config["shuffle"])
    if config["shuffle"]:  # each draws its own order
        assert found[0][0][0] != [row - each.block(rows).start for row in found[3][0][0]]


def test_histories_stay_together_within_a_block(keys):
    keys = keys | {"group_rows_by_history": True, "train_batch_size": 96}
    config = Config("DIN", "tiny", config_dict=keys)
    parts = create_dataset(config).build()
    feat = parts[0].inter_feat
    history = feat[":history_end"]
    for rank in range(4):
        (batches,) = epochs_of(config, parts, Processes(rank, 4), count=1)
        order = torch.tensor(sum(batches, []))
        order = order[history[order] > feat[":history_start"][order]]
        assert len(history[order].unique_consecutive()) == len(history[order].unique())


def test_evaluation_reads_a_contiguous_part_of_the_batches(keys):
    config = Config("DIN", "tiny", config_dict=keys | {"eval_batch_size": 32})
    loader = create_loaders(config, create_dataset(config).build())[2]
    whole = [batch["item_id"].tolist() for batch, *_ in loader]
    parts = [
        [batch["item_id"].tolist() for batch, *_ in Processes(rank, 2).own_batches(loader)]
        for rank in range(2)
    ]
    assert parts[0] + parts[1] == whole and abs(len(parts[0]) - len(parts[1])) <= 1 < len(whole)
    many = [list(Processes(rank, 99).own_batches(loader)) for rank in range(99)]
    assert sum(map(len, many)) == len(whole)
    # Parts that are read at the same time, and one that is not read to its end.
    both = [Processes(rank, 2).own_batches(loader) for rank in range(2)]
    assert next(both[0])[0]["item_id"].tolist() == whole[0]
    assert next(both[1])[0]["item_id"].tolist() == parts[1][0]
    assert [batch["item_id"].tolist() for batch, *_ in loader] == whole  # as before


class Both:
    """The rows of both processes' batches, one batch after the other."""

    def __init__(self, rows, generator):
        self.whole = rows
        generators = [torch.Generator().manual_seed(2020 + rank) for rank in range(2)]
        self.each = [
            ShuffledRows(Processes(rank, 2).block(len(rows)), generator=generators[rank])
            for rank in range(2)
        ]

    def __len__(self):
        return len(self.whole)

    def __iter__(self):
        for rows in self.each:  # torch's loader draws a seed for its workers first
            torch.empty((), dtype=torch.int64).random_(generator=rows.generator)
        first, second = map(list, self.each)
        for start in range(0, len(first) + 1, SHARE):
            yield from first[start : start + SHARE] + second[start : start + SHARE]


ShuffledRows, SHARE = loaders_module.ShuffledRows, 60


def test_two_processes_end_with_the_weights_of_one_that_has_both_batches(keys, monkeypatch):
    """SGD without dropout; AutoInt, as it has no batch normalisation."""
    keys |= {
        "learner": "sgd",
        "learning_rate": 0.05,
        "dropout_probs": [0, 0, 0],
        "train_batch_size": 2 * SHARE,
    }
    shards = run("AutoInt", "tiny", config_dict=keys | {"nproc": 2})[0]
    monkeypatch.setattr(loaders_module, "ShuffledRows", Both)
    alone = run("AutoInt", "tiny", config_dict=keys)[0]
    found, expected = (load_file(Path(r["folder"]) / "model.safetensors") for r in (shards, alone))
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
    assert shards["test"]["auc"] == pytest.approx(alone["test"]["auc"], abs=1e-4)
    assert shards["data_fingerprint"] == alone["data_fingerprint"]
    assert load(shards["folder"]).evaluate() == shards["test"]


def test_genci_trains_by_segments_of_its_block(keys):
    keys |= SMALL_GENCI | {
        "history_attention": "causal",
        "segment_clicks": 2,
        "group_rows_by_history": True,
    }
    result = run("GenCI", "tiny", config_dict=keys | {"nproc": 2, "epochs": 1})[0]
    assert result["nproc"] == 2 and 0.3 < result["test"]["auc"] <= 1
    assert load(result["folder"]).evaluate() == result["test"]


def test_what_cannot_be_divided_is_refused_before_processes_start(keys, caplog):
    with pytest.raises(ValueError, match="train_batch_size: 2 is less than the 3 processes"):
        Config("DIN", "tiny", config_dict=keys | {"train_batch_size": 2, "nproc": 3})
    for size, processes, why in (
        (3, 2, "729 training rows in batches of 3 "),
        (5000, 1024, "729 training rows cannot be divided among 1024 processes"),
    ):
        more = {"train_batch_size": size, "nproc": processes}
        with pytest.raises(ValueError, match=f"^shard_rows: {why}"):
            prepare("LR,DIN", "tiny", config_dict=keys | more)
    # Of one row each, which batch normalisation then sees together.
    prepare("DIN", "tiny", config_dict=keys | {"train_batch_size": 3, "nproc": 3})
    caplog.clear()
    more = {"train_batch_size": 28, "nproc": 2, "weight_decay": 0.1}  # 729 rows are 26 times 28
    prepare("DIN", "tiny", config_dict=keys | more)
    assert caplog.text.count("28 give 2 processes no equal shares") == 1
    assert "leave a last batch of one row" not in caplog.text


@pytest.mark.parametrize(("size", "whole"), [(96, 96), (97, 96), (28, 24)])
def test_smaller_batches_than_were_asked_for_are_announced(size, whole, keys, caplog):
    config = Config("DIN", "tiny", config_dict=keys | {"train_batch_size": size})
    parts = create_dataset(config).build()
    caplog.clear()
    loader = create_loaders(config, parts, processes=Processes(0, 2))[0]  # 364 or 365 rows
    assert loader.batch_rows == whole == 2 * loader.step
    words = f"equally many batches; batches have {whole} rows instead."
    assert (words in caplog.text) == (size != whole)


def test_one_process_alone_has_its_usual_batches(keys):
    config = Config("DIN", "tiny", config_dict=keys)
    parts = create_dataset(config).build()
    without = Config("DIN", "tiny", config_dict=keys | {"shard_rows": False})
    assert epochs_of(config, parts, ALONE) == epochs_of(without, parts, ALONE)
