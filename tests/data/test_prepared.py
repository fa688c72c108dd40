"""Prepared rows are those that are built, or they are built again."""

import logging
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_rows, write_dataset
from filelock import FileLock
from test_order import TO, facts_of

from recbole_genci.config import Config
from recbole_genci.config.keys import key_table
from recbole_genci.data import create_dataset, fingerprint, prepared
from recbole_genci.data.fingerprint import data_fingerprint, rows_fingerprint
from recbole_genci.data.prepared import SHAPES_NO_ROWS, prepare_parts, row_key
from recbole_genci.data.storage import load_parts, mapped_file, store_parts
from recbole_genci.data.table import adjacent
from recbole_genci.training.launch import train_together
from recbole_genci.utils.layout import DATA_FILE, METRICS_FILE

CHANGES = [
    {},
    {"eval_args": TO | {"split": {"RS": [8, 1, 1]}, "order": "RO"}},
    {"eval_args": TO | {"split": {"LS": "valid_and_test"}}, "history_labels": "all"},
    {
        "normalize_field": ["timestamp"],
        "numerical_features": ["timestamp"],
        "unused_col": {"item": ["year"]},
    },
    {"user_inter_num_interval": "[12,inf)", "rm_dup_inter": "first", "state": "ERROR"},
]


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """Keys of a small dataset whose rows are kept whatever their size."""
    monkeypatch.setattr(prepared, "SMALLEST_FILE", 0)
    rows = [*tiny_rows(), ["u3", "", 1, 1_700_000_030]]
    return write_dataset(tmp_path / "data", rows) | {"prepared_rows_dir": str(tmp_path / "kept")}


def config_of(keys, model="DIEN"):
    return Config(model, "tiny", config_dict=dict(keys))


def files_in(keys, ending=""):
    folder = keys["prepared_rows_dir"]
    return sorted(
        os.path.join(folder, file) for file in os.listdir(folder) if file.endswith(ending)
    )


@pytest.fixture
def built(monkeypatch):
    """How often rows were built."""
    times = []

    def counted(config):
        times.append(config)
        return create_dataset(config)

    monkeypatch.setattr(prepared, "create_dataset", counted)
    return times


@pytest.mark.parametrize("change", CHANGES)
def test_kept_rows_are_the_built_ones_tensor_by_tensor(keys, built, change):
    config = config_of(keys | change)
    fresh = create_dataset(config).build()
    for number in range(3):
        parts = prepare_parts(config)
        assert len(built) == 1, number
        assert facts_of(parts) == facts_of(fresh)
        assert data_fingerprint(parts) == data_fingerprint(fresh)
        assert rows_fingerprint(parts) == rows_fingerprint(fresh)
        np.testing.assert_array_equal(parts[0].rank_times, fresh[0].rank_times)
        assert parts[2].scales == fresh[2].scales
        for own, other in zip(parts, fresh):
            a, b = own.view(config)[np.arange(len(own))], other.view(config)[np.arange(len(own))]
            assert list(a.interaction) == list(b.interaction)
            for name in a.interaction:
                assert a[name].dtype == b[name].dtype and (a[name] == b[name]).all()
        mine, theirs = vars(parts[0]), vars(fresh[0])
        for name in ("field2seqlen", "field2bucketnum", "feat_name_list", "num_time_ranks"):
            assert mine[name] == theirs[name]
        assert (parts[0].user_num, parts[0].item_num) == (fresh[0].user_num, fresh[0].item_num)


def test_another_model_seed_or_folder_shares_them_and_another_protocol_does_not(keys, built):
    prepare_parts(config_of(keys))
    prepare_parts(config_of(keys | {"seed": 7, "learning_rate": 0.1, "text_encoder": "minilm"}))
    prepare_parts(config_of(keys, "DeepFM"))
    assert len(built) == 1
    for number, change in enumerate(CHANGES[1:], start=2):
        prepare_parts(config_of(keys | change))
        assert len(built) == number


class Values:
    """What is asked of a Config, with values that none would accept."""

    def __init__(self, values):
        self.final_config_dict = values

    def __getitem__(self, name):
        return self.final_config_dict.get(name)


def test_every_key_counts_that_is_not_known_to_have_no_effect(keys, monkeypatch):
    table = key_table((), "tiny")
    assert set(table) >= SHAPES_NO_ROWS, "a key that is listed exists no more"
    config = config_of(keys)
    base = row_key(config)
    assert not set(base["keys"]) & SHAPES_NO_ROWS
    values = dict(config.final_config_dict)
    monkeypatch.setattr(prepared, "_files", lambda config: [])
    for name in [*table, "alias_of_others"]:
        other = Values(values | {name: "another value"})
        assert (row_key(other)["keys"] == base["keys"]) == (name in SHAPES_NO_ROWS), name


@pytest.mark.parametrize("change", CHANGES)
def test_keys_without_effect_are_not_read_while_rows_are_built(keys, monkeypatch, change):
    config, read = config_of(keys | change), set()
    get = Config.__getitem__

    def recorded(self, name):
        read.add(name)
        return get(self, name)

    monkeypatch.setattr(Config, "__getitem__", recorded)
    create_dataset(config).build()
    assert {"threshold", "load_col", "MAX_ITEM_LIST_LENGTH", "eval_args"} <= read
    monkeypatch.undo()
    # Where files stand has no effect; what is in them has. The dataset's name counts by itself.
    assert read - set(row_key(config)["keys"]) == {"data_path", "dataset"}


def test_other_files_and_another_code_are_other_rows(keys, tmp_path, built, monkeypatch):
    prepare_parts(config_of(keys))
    for number, file in enumerate(sorted((tmp_path / "data/tiny").iterdir()), start=2):
        lines = file.read_text().splitlines()
        file.write_text("\n".join([*lines[:-2], lines[-1]]) + "\n")
        prepare_parts(config_of(keys))
        assert len(built) == number, file
    monkeypatch.setattr(prepared, "_code", lambda: "another")
    prepare_parts(config_of(keys))
    assert len(built) == 5


def test_damaged_files_are_said_to_be_so_and_written_again(keys, built, caplog):
    config = config_of(keys)
    expected = facts_of(prepare_parts(config))
    [file], [digest] = files_in(keys, ".safetensors"), files_in(keys, ".sha256")
    content, words = open(file, "rb").read(), open(digest, "rb").read()
    rng = np.random.default_rng(0)
    damages = [(file, content[:100]), (file, b""), (digest, b""), (digest, None), (digest, b"\xff")]
    for where, whole in ((file, content), (digest, words)):
        for place in [0, 7, 9, *rng.integers(0, len(whole) - 1, 12)]:
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(rng.integers(8))
            damages.append((where, bytes(flipped)))
    for number, (where, damaged) in enumerate(damages, start=2):
        caplog.clear()
        if damaged is None:
            os.unlink(where)
        else:
            with open(where, "wb") as stream:
                stream.write(damaged)
        assert facts_of(prepare_parts(config)) == expected
        assert len(built) == number, (where, damaged)
        assert f"prepared_rows_dir: {file} is damaged or incomplete" in caplog.text
        caplog.clear()
        prepare_parts(config)
        assert len(built) == number and "is damaged" not in caplog.text


def test_rows_of_other_keys_are_not_taken_for_these(keys, built, caplog):
    prepare_parts(config_of(keys | CHANGES[1]))
    [other] = files_in(keys, ".safetensors")
    config = config_of(keys)
    file = str(prepared._file_of(config))
    os.rename(other, file)
    name = os.path.basename(file)
    with open(file.replace(".safetensors", ".sha256"), "w") as stream:
        stream.write(f"{prepared.sha256_of(prepared.Path(file))}  {name}\n")
    parts = prepare_parts(config)
    assert len(built) == 2 and "rows of other files or keys" in caplog.text
    assert facts_of(parts) == facts_of(create_dataset(config).build())


@pytest.mark.parametrize("step", ["rows", "digest"])
def test_an_interrupted_write_leaves_nothing_that_is_read(keys, built, monkeypatch, caplog, step):
    config = config_of(keys)

    def half_written(parts, file, facts):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    def unwritten(file, text):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if step == "rows":
            patched.setattr(prepared, "save_prepared", half_written)
        else:
            patched.setattr(prepared, "write_text", unwritten)
        parts = prepare_parts(config)
    assert "could not be stored" in caplog.text and "No space left" in caplog.text
    assert files_in(keys, ".sha256") == []
    assert not [file for file in files_in(keys) if os.path.basename(file).startswith(".")]
    assert facts_of(prepare_parts(config)) == facts_of(parts)
    assert len(built) == 2
    prepare_parts(config)
    assert len(built) == 2


def test_what_was_said_while_building_is_said_again(keys, caplog, built):
    config = config_of(keys)
    said = []
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            caplog.clear()
            prepare_parts(config)
            said.append([r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING])
    assert len(built) == 1 and said[0] == said[1]
    assert any("have no 'user_id' or no 'item_id'" in message for message in said[1])
    assert any(r.getMessage().startswith("Prepared rows of tiny") for r in caplog.records)


def test_a_second_process_waits_for_the_first(keys, built, caplog):
    config = config_of(keys)
    file = prepared._file_of(config)
    file.parent.mkdir()
    found = []
    with caplog.at_level(logging.INFO), FileLock(file.with_suffix(".lock")):
        thread = threading.Thread(target=lambda: found.append(prepare_parts(config)))
        thread.start()
        while "this one waits" not in caplog.text:
            thread.join(0.01)
        assert not built
        # What the first process leaves:
        prepared._keep(create_dataset(config).build(), file, row_key(config), [])
    thread.join()
    assert not built and facts_of(found[0]) == facts_of(create_dataset(config).build())


def test_small_files_features_of_other_files_and_no_folder_are_not_kept(
    keys, built, monkeypatch, tmp_path
):
    prepare_parts(config_of(keys | {"prepared_rows_dir": None}))
    monkeypatch.setattr(prepared, "SMALLEST_FILE", 2**25)
    prepare_parts(config_of(keys))
    assert len(built) == 2 and not os.path.exists(keys["prepared_rows_dir"])


def test_a_folder_that_cannot_be_written_does_not_stop_a_run(keys, built, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    prepare_parts(config_of(keys | {"prepared_rows_dir": str(tmp_path / "file/below")}))
    assert len(built) == 1 and "could not be stored" in caplog.text


def test_what_a_process_changes_stays_its_own(keys):
    config = config_of(keys)
    prepare_parts(config)
    parts = prepare_parts(config)
    parts[0].inter_feat["label"].fill_(0.5)
    parts[0].history.items.fill_(1)
    assert facts_of(prepare_parts(config)) == facts_of(create_dataset(config).build())


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="Linux lists mapped files there")
def test_columns_and_histories_lie_in_the_mapped_file(keys):
    config = config_of(keys)
    prepare_parts(config)
    parts = prepare_parts(config)
    [file] = files_in(keys, ".safetensors")
    with open("/proc/self/maps") as lines:
        ranges = [line.split()[0].split("-") for line in lines if line.rstrip().endswith(file)]
    bounds = [(int(first, 16), int(last, 16)) for first, last in ranges]
    columns = [c for part in parts for c in part.inter_feat.interaction.values()]
    for column in [*columns, parts[0].history.items, parts[0].history.negatives]:
        assert any(first <= column.data_ptr() < last for first, last in bounds)


def test_built_rows_give_way_to_the_mapped_file_which_processes_share(keys, monkeypatch):
    config, given = config_of(keys), []
    parts = prepare_parts(config)  # for the first time
    [file] = map(Path, files_in(keys, ".safetensors"))
    assert mapped_file(parts) == file

    def start(work, args, **options):
        rows = args[1] / DATA_FILE
        given.append(rows.is_symlink() and rows.resolve() == file.resolve())
        (args[1] / METRICS_FILE).write_text("{}")
        return SimpleNamespace(join=lambda: True)

    monkeypatch.setattr(torch.multiprocessing, "start_processes", start)
    train_together(print, config, "", parts, None, Path())
    parts[1].inter_feat["label"][0] = 0.5  # in this process alone
    assert mapped_file(parts) is None
    train_together(print, config, "", parts, None, Path())
    again = prepare_parts(config)
    again[0].inter_feat["label"] = again[0].inter_feat["label"].clone()
    assert mapped_file(again) is None and mapped_file(create_dataset(config).build()) is None
    parts = prepare_parts(config)
    file.unlink()
    train_together(print, config, "", parts, None, Path())
    assert given == [True, False, False]


def test_parts_that_share_memory_are_stored_without_a_copy(keys, tmp_path):
    config = config_of(keys)
    built, _ = create_dataset(config).build(), prepare_parts(config)
    for parts in (built, prepare_parts(config)):
        columns = [part.inter_feat["user_id"] for part in parts]
        whole = adjacent(columns)
        assert torch.equal(whole, torch.cat(columns)) and whole.data_ptr() == columns[0].data_ptr()
        store_parts(parts, tmp_path / "rows")
        assert data_fingerprint(load_parts(tmp_path / "rows", config)) == data_fingerprint(built)
    assert adjacent(columns[::-1]) is None and adjacent([columns[0], columns[2]]) is None
    assert adjacent([columns[0], columns[1].clone()]) is None


def test_fingerprints_do_not_depend_on_how_much_is_copied_at_a_time(keys, monkeypatch):
    config = config_of(keys)
    found = []
    for size in (1 << 20, 7):
        monkeypatch.setattr(fingerprint, "_CHUNK", size)
        parts = create_dataset(config).build()
        found.append((data_fingerprint(parts), rows_fingerprint(parts)))
    assert found[0] == found[1]


def test_fingerprints_are_computed_once_and_again_after_a_change(keys, monkeypatch):
    parts, calls = create_dataset(config_of(keys)).build(), []
    compute = fingerprint._data_fingerprint
    monkeypatch.setattr(
        fingerprint, "_data_fingerprint", lambda parts: calls.append(1) or compute(parts)
    )
    first = (data_fingerprint(parts), rows_fingerprint(parts))
    assert (data_fingerprint(parts), rows_fingerprint(parts)) == first and len(calls) == 1
    label = parts[1].inter_feat["label"]
    label[0] = 1 - label[0]
    changed = (data_fingerprint(parts), rows_fingerprint(parts))
    assert changed[0] != first[0] and changed[1] != first[1] and len(calls) == 2
    label[0] = 1 - label[0]
    assert (data_fingerprint(parts), rows_fingerprint(parts)) == first
    parts[0].attach_histories(parts, "training")
    assert data_fingerprint(parts) != first[0]
    parts[0].item_feat["year"][1] += 1
    assert rows_fingerprint(parts) != first[1]
    shorter = [parts[0].copy(parts[0].inter_feat[0:5]), *parts[1:]]
    assert data_fingerprint(shorter) != data_fingerprint(parts)
