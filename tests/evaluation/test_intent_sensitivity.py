"""Which inputs move the short-term intent: known shares of attentions that read one input alone."""

import math

import numpy as np
import pytest
import torch
from conftest import SMALL_GENCI, tiny_rows, write_dataset

from recbole_genci import load
from recbole_genci.evaluation.intent_sensitivity import (
    COHORTS,
    HISTORY,
    TARGET_ITEM,
    short_term_sensitivity,
)
from recbole_genci.quick_start import run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    keys = write_dataset(folder / "data", tiny_rows(rows_per_user=40)) | {
        "checkpoint_dir": str(folder / "saved")
    }
    keys |= {"results_dir": str(folder / "results")}
    return load(run("GenCI", "tiny", config_dict=keys | SMALL_GENCI)[0]["folder"])


def without(model, monkeypatch, *names):
    """Set some projections to zero for the length of the test."""
    for name in names:
        weight = getattr(model.cohort_attention, name).weight
        monkeypatch.setattr(weight, "data", torch.zeros_like(weight))


def mean_share(saved, name):
    """Over several exchanges: among so few histories one alone may be far off."""
    return np.mean([short_term_sensitivity(saved, 1000, seed=seed)[name] for seed in range(12)])


def test_an_untrained_attention_reads_all_of_its_inputs(saved):
    found = short_term_sensitivity(saved, 1000, seed=0)
    assert list(found) == [TARGET_ITEM, COHORTS, HISTORY] and all(
        share > 0 for share in found.values()
    )
    assert found == short_term_sensitivity(saved, 1000, seed=0)


def test_what_an_attention_cannot_read_has_no_share(saved, monkeypatch):
    without(saved.model, monkeypatch, "target_query")
    found = short_term_sensitivity(saved, 1000, seed=0)
    assert found[TARGET_ITEM] == 0 and found[COHORTS] > 0
    without(
        saved.model, monkeypatch, "refine_value"
    )  # nothing of the history reaches a refined cohort
    found = short_term_sensitivity(saved, 1000, seed=0)
    assert found[TARGET_ITEM] == found[HISTORY] == 0
    # The one input there is: all of the variance.
    assert mean_share(saved, COHORTS) == pytest.approx(1, abs=0.35)


def test_without_a_residual_and_with_a_uniform_softmax_the_intent_is_the_pooled_history_alone(
    saved, monkeypatch
):
    monkeypatch.setattr(saved.model.cohort_attention, "residual", False)
    without(saved.model, monkeypatch, "refine_query")
    found = short_term_sensitivity(saved, 1000, seed=0)
    assert found[TARGET_ITEM] < 1e-9 and found[COHORTS] < 1e-9
    assert mean_share(saved, HISTORY) == pytest.approx(1, abs=0.35)


def test_a_history_that_many_rows_share_counts_as_often_in_the_exchange(saved, monkeypatch):
    """An intent that is 1 where the history is no longer than most, else 0: each row's own input is
    exchanged for another row's, so that the share of the only input is 1.
    """

    def short_term_intent(rows_of, encoded, index, beams):
        return (encoded.mask.sum(1) > 1).double()[index].unsqueeze(1)

    monkeypatch.setattr(saved.model, "short_term_intent", short_term_intent)
    short, encode = torch.tensor([0, 1]), saved.model.encode_histories

    def shared(batch):
        """Two histories, of which nine rows of ten have the first."""
        encoded, index = encode(batch)
        encoded = encoded.rows(short)
        encoded.mask[0, 1:], encoded.mask[1, :2] = False, True
        return encoded, (torch.arange(len(index)) % 10 == 0).long()

    monkeypatch.setattr(saved.model, "encode_histories", shared)
    assert mean_share(saved, HISTORY) == pytest.approx(1, abs=0.2)
    assert mean_share(saved, COHORTS) == mean_share(saved, TARGET_ITEM) == 0


def test_histories_are_exchanged_at_random_as_the_next_is_often_the_same_users(saved, monkeypatch):
    seen, compute = [], saved.model.short_term_intent
    monkeypatch.setattr(
        saved.model, "short_term_intent", lambda *given: seen.append(given) or compute(*given)
    )
    short_term_sensitivity(saved, 1000, seed=0)
    (_, encoded, _, beams), _, (_, _, _, other_beams), (_, other, _, _) = seen
    for before, after in ((encoded.states, other.states), (beams.codes, other_beams.codes)):
        following = (after == before.roll(1, 0)).flatten(1).all(1) & (
            before != before.roll(1, 0)
        ).flatten(1).any(1)
        assert following.float().mean() < 0.3 and sorted(after.sum((1, 2)).tolist()) == sorted(
            before.sum((1, 2)).tolist()
        )


def test_an_intent_that_never_varies_has_no_shares(saved, monkeypatch):
    without(saved.model, monkeypatch, "target_value")
    assert all(math.isnan(share) for share in short_term_sensitivity(saved, 1000, seed=0).values())
