"""Packed scores: metrics within the tolerance, damage found, equal bytes, tables as before."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_GENCI, interrupted, tiny_rows, write_dataset
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci.evaluation.gauc import gauc
from recbole_genci.experiments import experiment, packing
from recbole_genci.experiments.packed_scores import (
    TOLERANCE,
    digits_needed,
    read_packed,
    write_packed,
)
from recbole_genci.experiments.records import PACKED, RUNS_FILE, Records, read_runs
from recbole_genci.utils.digests import sealed_line


def sample(rows=25_000, runs=4, seed=0):
    generator = np.random.default_rng(seed)
    users = generator.integers(0, rows // 7, rows)
    logits = generator.normal(1, 2, rows)
    labels = (generator.random(rows) < 1 / (1 + np.exp(-logits))).astype(int)
    scores = {
        f"{number:064x}": (1 / (1 + np.exp(-logits - generator.normal(0, 0.4, rows)))).astype("f4")
        for number in range(runs)
    }
    return users, labels, scores


def metrics(users, labels, scores):
    scores = scores.astype(float)
    return [roc_auc_score(labels, scores), log_loss(labels, scores), gauc(users, labels, scores)]


def test_metrics_stay_within_the_tolerance(tmp_path):
    users, labels, scores = sample()
    digits, never = digits_needed(scores, users, labels)
    assert never == set()
    back = read_packed(*placed(tmp_path, write_packed(tmp_path, scores, users, set(), digits)))
    for name, row in scores.items():
        np.testing.assert_allclose(
            metrics(users, labels, back[name]), metrics(users, labels, row), atol=TOLERANCE, rtol=0
        )
        # The order of each user's rows is that of before.
        for user in np.unique(users)[:50]:
            own = users == user
            assert (np.argsort(back[name][own]) == np.argsort(row[own])).all()


def test_fewer_digits_than_needed_would_change_them():
    users, labels, scores = sample()
    digits, _ = digits_needed(scores, users, labels)
    assert 6 < digits < 13  # the tolerance, not a bound of the search, has decided


def test_a_packed_file_is_smaller_than_half(tmp_path):
    users, _, scores = sample()
    name, _ = write_packed(tmp_path, scores, users, set(), 9)
    assert (tmp_path / name).stat().st_size < sum(each.nbytes for each in scores.values()) / 2


def test_exact_runs_keep_every_bit_and_extremes_stay(tmp_path):
    users, labels, scores = sample()
    first, second, *_ = scores
    scores[second][:4] = [0, 1, np.float32(1e-30), np.nextafter(np.float32(1), np.float32(0))]
    back = read_packed(*placed(tmp_path, write_packed(tmp_path, scores, users, {first}, 10)))
    assert (back[first] == scores[first]).all() and back[first].dtype == np.float32
    assert back[second][0] == 0 and back[second][1] == 1 and 0 < back[second][2] < 2e-30


def test_equal_scores_give_equal_bytes(tmp_path):
    users, _, scores = sample()
    names = []
    for order in (sorted(scores), sorted(scores, reverse=True)):
        folder = tmp_path / order[0]
        folder.mkdir()
        given = {name: scores[name] for name in order}
        name, digest = write_packed(folder, given, users, set(), 8)
        names.append((name, digest, (folder / name).read_bytes()))
        assert name == f"scores-{digest[:16]}.npz"
    assert names[0] == names[1]


def test_damage_is_found_before_anything_is_read(tmp_path):
    users, _, scores = sample()
    file, digest = placed(tmp_path, write_packed(tmp_path, scores, users, set(), 8))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or of another run"):
        read_packed(file, digest)
    file.unlink()
    with pytest.raises(ValueError, match="is missing. Fetch it again"):
        read_packed(file, digest)


def placed(folder, named):
    return folder / named[0], named[1]


# ---------------------------------------------------------------- an experiment


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rows = tiny_rows(rows_per_user=40)
    folder = tmp_path_factory.mktemp("data")
    return (
        write_dataset(folder, rows) | SMALL_GENCI | {"diagnostic_rows": 0, "train_batch_size": 128}
    )


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def content(folder, *names):
    return {name: (folder / name).read_text() for name in names}


def test_tables_are_the_same_from_packed_scores(data):
    models = ["LR", "GenCI"]
    folder, tables = Path("results/compare-tiny"), ("table.csv", "differences.csv")
    experiment("compare", "tiny", models, 2, config_dict=data)
    before = content(folder, *tables)
    scores = {
        record["config_hash"]: np.load(folder / record["folder"] / "test_scores.npy")
        for record in read_runs(folder)
    }
    experiment("compare", "tiny", models, 2, config_dict=data, pack="all")
    assert content(folder, *tables) == before and not [*folder.rglob("test_scores.npy")]
    (packed,) = folder.glob("scores-*.npz")
    records = read_runs(folder)
    assert {record["packed_scores"]["file"] for record in records} == {packed.name}
    assert [*folder.rglob("model.safetensors")]  # models stay
    store = Records(folder)
    for record in records:
        found = store.scores(record)
        np.testing.assert_allclose(found, scores[record["config_hash"]], atol=2e-3)
        if record["model"] == "GenCI":  # others are compared with it
            assert (found == scores[record["config_hash"]]).all()
    # From packed scores: without training, and the same but for rounding. On 48 rows an AUC has
    # steps of 0.002, and one pair of equal averages is half a step.
    experiment("compare", "tiny", models, 2, config_dict=data)
    for name, text in content(folder, *tables).items():
        for now, then in zip(rows_of(text), rows_of(before[name]), strict=True):
            assert now.keys() == then.keys()
            for column, value in now.items():
                step = 2e-3 if "averaged" in column or name == "differences.csv" else 1e-5
                assert value == then[column] or float(value) == pytest.approx(
                    float(then[column]), abs=step
                ), column
    # A new run joins them, and another experiment takes its runs from here.
    experiment("compare", "tiny", [*models, "PNN"], 2, config_dict=data, pack="all")
    assert len(read_runs(folder)) == 6 and len([*folder.glob("scores-*.npz")]) == 1
    experiment("volatility", "tiny", models, 2, config_dict=data)
    assert {each["taken_from"] for each in read_runs(Path("results/volatility-tiny"))} == {
        "compare-tiny"
    }
    # Only what tables show stays: PNN goes, and so would the others without volatility.
    experiment("compare", "tiny", ["LR"], 2, config_dict=data, pack="shown")
    assert sorted({record["model"] for record in read_runs(folder)}) == sorted(models)


def test_runs_on_other_rows_stay_as_they_are_and_packing_again_changes_nothing(data):
    folder = Path("results/compare-tiny")
    experiment("compare", "tiny", ["LR", "DeepFM"], 1, config_dict=data)
    other = data | {"eval_args": {"split": {"RS": [0.5, 0.2, 0.3]}}}
    experiment("compare", "tiny", ["LR", "DeepFM"], 1, config_dict=other, pack="all")
    assert len([*folder.rglob("test_scores.npy")]) == 2  # those of the first split
    before = {r["config_hash"]: Records(folder).scores(r) for r in read_runs(folder)}
    assert len({len(scores) for scores in before.values()}) == 2
    experiment("compare", "tiny", ["LR", "DeepFM"], 1, config_dict=data, pack="all")
    assert len([*folder.glob("scores-*.npz")]) == 2 and not [*folder.rglob("test_scores.npy")]
    once = {r["config_hash"]: Records(folder).scores(r) for r in read_runs(folder)}
    for config in (other, data):
        experiment("compare", "tiny", ["DeepFM", "LR"], 1, config_dict=config, pack="all")
    again = {r["config_hash"]: Records(folder).scores(r) for r in read_runs(folder)}
    assert once.keys() == again.keys() == before.keys() and len(before) == 4
    for name, scores in again.items():
        np.testing.assert_array_equal(scores, once[name])
        np.testing.assert_allclose(scores, before[name], atol=2e-3)


def test_a_run_that_lost_its_scores_is_left_out_and_named(data, caplog, monkeypatch):
    folder = Path("results/compare-tiny")
    experiment("compare", "tiny", ["LR", "DeepFM"], 1, config_dict=data)
    (lost,) = folder.glob("runs/*/DeepFM*/test_scores.npy")
    lost.unlink()
    caplog.set_level("INFO")
    experiment("compare", "tiny", ["LR"], 1, config_dict=data, pack="all")
    (warning,) = [line for line in caplog.messages if line.startswith("pack: ")]
    assert f"test_scores.npy is gone: DeepFM seed 2020 ({lost.parent})." in warning
    assert {r["model"]: PACKED in r for r in read_runs(folder)} == {"LR": True, "DeepFM": False}
    # Whatever packing says, the table is shown, and going on packs too.
    caplog.clear()
    monkeypatch.setattr(packing, "digits_needed", interrupted)
    with pytest.raises(KeyboardInterrupt) as stop:
        experiment("compare", "tiny", ["LR"], 1, config_dict=data, pack="all")
    assert any("| model |" in line for line in caplog.messages)
    assert stop.value.__notes__[0].endswith(" --pack=all")


def test_a_packed_file_without_the_run_is_refused(data):
    experiment("compare", "tiny", ["LR"], 1, config_dict=data, pack="all")
    folder = Path("results/compare-tiny")
    record = read_runs(folder)[0]
    with pytest.raises(ValueError, match="has no scores of the run 0000000000000000"):
        store = Records(folder)
        store._records = {"0" * 64: record | {"config_hash": "0" * 64}}
        store.scores(store.all()[0])


def test_a_record_cannot_name_a_file_elsewhere(data):
    experiment("compare", "tiny", ["LR"], 1, config_dict=data, pack="all")
    file = Path("results/compare-tiny") / RUNS_FILE
    (record,) = read_runs(file.parent)
    record["packed_scores"]["file"] = "../scores.npz"
    file.write_text(sealed_line(record) + "\n")
    with pytest.raises(ValueError, match="line 1 is damaged: 'packed_scores' is"):
        read_runs(file.parent)


def test_a_wrong_word_for_pack_is_refused(data):
    with pytest.raises(ValueError, match="pack: 'everything' is neither all nor shown"):
        experiment("compare", "tiny", ["LR"], 1, config_dict=data, pack="everything")
