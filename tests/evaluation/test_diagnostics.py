"""The generator's diagnostics against plain Python over single rows, and what runs do with them."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_GENCI, make_model, tiny_rows, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_genci.config import Config
from recbole_genci.evaluation.diagnostics import (
    as_line,
    diagnose,
    hits,
    popularity,
    teacher_agreement,
)
from recbole_genci.model.genci.generation import generate
from recbole_genci.quick_start import run


class Loader:
    """The two attributes of RecBole's loader that a diagnosis reads."""

    def __init__(self, dataset, batch_size=64):
        self.dataset, self.config = dataset, {"eval_batch_size": batch_size}


CPU = torch.device("cpu")


@settings(max_examples=60)
@given(st.data(), st.integers(1, 6), st.integers(1, 5), st.integers(1, 9))
def test_hits_equal_a_loop_over_rows(data, num_codes, beams, rows):
    code = st.integers(-1, num_codes - 1)
    guesses = data.draw(
        st.lists(st.lists(code, min_size=beams, max_size=beams), min_size=rows, max_size=rows)
    )
    target = data.draw(st.lists(st.integers(0, num_codes - 1), min_size=rows, max_size=rows))
    ranking = data.draw(st.permutations(range(num_codes)))  # most popular first
    ranks = torch.tensor([ranking.index(number) + 1 for number in range(num_codes)])
    found = hits(torch.tensor(guesses), torch.tensor(target), ranks, -1)
    distinct = [set(row) - {-1} for row in guesses]
    assert found["generated"] == pytest.approx(
        np.mean([t in row for t, row in zip(target, distinct)])
    )
    assert found["popular"] == pytest.approx(
        np.mean([t in ranking[: len(row)] for t, row in zip(target, distinct)])
    )
    assert found["guesses"] == pytest.approx(np.mean([len(row) for row in distinct]))


def test_popularity_counts_clicked_training_rows_only(tiny_parts):
    parts, keys = tiny_parts
    _, (train, _, _) = make_model("GenCI", parts, keys)
    feat = train.inter_feat
    clicked = feat["item_id"][feat["label"] == 1].tolist()
    popular, codes = popularity(train), train.semantic_ids
    counts = Counter(clicked)
    assert popular.items.argsort().tolist() == [
        *sorted(range(1, len(codes)), key=lambda item: (-counts[item], item)),
        0,
    ]
    assert len(popular.codes) == codes.shape[1] - 1
    for level, ranks in enumerate(popular.codes):
        counts = Counter(codes[clicked, level].tolist())
        assert ranks.argsort().tolist() == sorted(
            range(len(ranks)), key=lambda code: (-counts[code], code)
        )


def test_agreement_is_pearsons_correlation_and_the_mean_distance():
    student, teacher = torch.tensor([0.1, 0.5, 0.9, 0.4]), torch.tensor([0.2, 0.4, 0.7, 0.6])
    found = teacher_agreement(student, teacher)
    assert found["correlation"] == pytest.approx(np.corrcoef(student, teacher)[0, 1], abs=1e-6)
    assert found["mean_absolute_difference"] == pytest.approx(0.15)
    assert teacher_agreement(student, torch.full((4,), 0.3))["correlation"] is None


@pytest.mark.parametrize(
    "keys", [{}, {"num_beams": 30}, {"eta": 0}, {"use_short_term": False}, {"mu": 0}], ids=str
)
def test_diagnosis_equals_one_row_at_a_time(tiny_parts, keys):
    parts, base = tiny_parts
    model, (train, _, test) = make_model("GenCI", parts, base | keys)
    found = diagnose(model, Loader(test), train, CPU)
    clicks = np.flatnonzero((test.inter_feat["label"] == 1).numpy())
    popular, beams, levels = popularity(train), model.num_beams, range(3)
    generated, guessed, losses, valid = [], [], [], []
    with torch.no_grad():
        for number in range(len(test)):
            row = test[[number]]
            encoded, index = model.encode_histories(row)
            codes = [
                tuple(c)
                for c in generate(model.intent, encoded, model.trie, beams).codes[0].tolist()
                if c[0] >= 0
            ]
            valid.append(len(codes) / beams)
            if number not in clicks:
                continue
            codes_of_row = model.codes[row["item_id"]]
            own = codes_of_row[0].tolist()
            losses.append(model.intent.ntp_loss(encoded, index, codes_of_row))
            generated.append(
                [own[n] in {c[n] for c in codes} for n in levels] + [tuple(own) in codes]
            )
            guessed.append(
                [popular.codes[n][own[n]].item() <= len({c[n] for c in codes}) for n in levels]
            )
    assert found["rows"] == len(test) and found["positives"] == len(clicks)
    assert found["ntp_loss"] == pytest.approx(torch.stack(losses).mean(0).tolist(), abs=1e-5)
    assert found["valid_beams"] == pytest.approx(np.mean(valid))
    every = found["all_beams"]
    assert [hit["generated"] for hit in (*every["codes"], every["items"])] == pytest.approx(
        np.mean(generated, axis=0).tolist()
    )
    assert [hit["popular"] for hit in every["codes"]] == pytest.approx(
        np.mean(guessed, axis=0).tolist()
    )
    assert all(
        hit["guesses"] == 1 for hit in (*found["first_beam"]["codes"], found["first_beam"]["items"])
    )
    assert (found["teacher"] is None) == (keys.get("eta") == 0)
    if found["teacher"]:
        batch = test[np.arange(len(test))]
        with torch.no_grad():
            expected = teacher_agreement(model.predict(batch), torch.sigmoid(model.teacher(batch)))
        assert found["teacher"] == pytest.approx(expected)
    assert "generator on" in as_line(found) and "\n" not in as_line(found)


def test_a_sample_is_spread_over_the_split_and_batches_do_not_matter(tiny_parts):
    parts, base = tiny_parts
    model, (train, valid, _) = make_model("GenCI", parts, base)
    whole = diagnose(model, Loader(valid), train, CPU)
    in_batches = diagnose(model, Loader(valid, 7), train, CPU, max_rows=len(valid))
    assert in_batches["all_beams"] == whole["all_beams"]
    assert in_batches["ntp_loss"] == pytest.approx(whole["ntp_loss"], abs=1e-5)
    read = []

    class Recorder:
        def __len__(self):
            return len(valid)

        def __getitem__(self, index):
            read.extend(index.tolist())
            return valid[index]

    sampled = diagnose(model, Loader(Recorder()), train, CPU, max_rows=10)
    assert sampled["rows"] == 10 and len(set(read)) == 10 and max(read) >= 0.85 * len(valid)


def test_a_split_without_clicks_has_no_shares(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, test) = make_model("GenCI", parts, base)
    batch = test[np.arange(len(test))]
    batch.interaction["label"] = torch.zeros(len(test))

    class Unclicked:
        def __len__(self):
            return len(test)

        def __getitem__(self, index):
            return batch[index]

    found = diagnose(model, Loader(Unclicked()), train, CPU)
    assert (
        found["positives"] == 0
        and found["ntp_loss"] == [None] * 4
        and found["all_beams"]["items"]["generated"] is None
    )
    assert "L_NTP -/-/-/-" in as_line(found)
    json.dumps(found, allow_nan=False)


def test_models_without_a_generator_have_no_diagnostics(tiny_parts):
    parts, base = tiny_parts
    model, (train, valid, _) = make_model("DeepFM", parts, base)
    assert diagnose(model, Loader(valid), train, CPU) is None
    model, (train, valid, _) = make_model("GenCI", parts, base | {"use_short_term": False, "mu": 0})
    assert diagnose(model, Loader(valid), train, CPU) is None


def test_a_diagnosis_draws_no_random_number(tiny_parts):
    parts, base = tiny_parts
    model, (train, valid, _) = make_model("GenCI", parts, base)
    before = torch.get_rng_state()
    diagnose(model.train(), Loader(valid), train, CPU)
    assert torch.equal(torch.get_rng_state(), before) and not model.training


@pytest.fixture
def tiny(tmp_path):
    return (
        write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | SMALL_GENCI | {"epochs": 2}
    )


def test_a_run_logs_every_evaluation_and_saves_both_splits_without_changing_its_metrics(
    tiny, monkeypatch
):
    genci, deepfm = run("GenCI,DeepFM", "tiny", config_dict=tiny)
    folder = Path(genci["folder"])
    log = (folder / "run.log").read_text().splitlines()
    assert (
        sum("generator on" in line and "SR teacher r" in line for line in log)
        == genci["epochs"]
        == 2
    )
    found = json.loads((folder / "diagnostics.json").read_text())
    assert set(found) == {"valid", "test"} and all(
        0 <= part["valid_beams"] <= 1 for part in found.values()
    )
    assert not (Path(deepfm["folder"]) / "diagnostics.json").exists()

    monkeypatch.setattr(
        "recbole_genci.model.genci.genci.GenCI.observe_generator", None
    )  # calling it would raise
    without = run("GenCI", "tiny", config_dict=tiny | {"diagnostic_rows": 0})[0]
    assert without["test"] == genci["test"] and without["best_valid"] == genci["best_valid"]
    assert not (Path(without["folder"]) / "diagnostics.json").exists()


def test_a_number_of_rows_that_cannot_work_is_refused():
    with pytest.raises(ValueError, match="diagnostic_rows: -1 is not a whole number"):
        Config("GenCI", "ml-100k", config_dict={"diagnostic_rows": -1})
