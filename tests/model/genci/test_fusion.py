"""The parts of Eq. 10 beyond the paper, each against its formula."""

import numpy as np
import pytest
import torch
from conftest import SMALL_GENCI, make_model, tiny_rows, write_dataset
from references import randomise, score_codes, unit

from recbole_genci import Ranker, load
from recbole_genci.model.genci.fusion import IntentScale, candidate_log_probs
from recbole_genci.quick_start import run


def test_an_intent_is_scaled_or_normalised_with_a_gain():
    torch.manual_seed(0)
    intent = torch.randn(5, 4) * torch.tensor([[1e-2], [1.0], [50.0], [3.0], [0.0]])
    plain = IntentScale(4, 0.1, False)
    assert torch.equal(plain(intent), intent * 0.1) and not list(plain.parameters())
    normed = IntentScale(4, 0.1, True)
    size = normed(intent).square().mean(1).sqrt()
    torch.testing.assert_close(size[1:4], torch.full((3,), 0.1), atol=1e-5, rtol=0)
    assert (normed(intent)[4] == 0).all()
    with torch.no_grad():
        normed.gain.copy_(torch.tensor([1.0, -2.0, 0.5, 0.0]))
    expected = np.array([unit(row) for row in intent.double().numpy()]) * [0.1, -0.2, 0.05, 0]
    np.testing.assert_allclose(normed(intent).detach().numpy(), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("joint", [False, True])
def test_log_probs_of_candidates_are_those_of_their_codes_over_chance(tiny_parts, joint):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base)
    randomise(model)
    batch = train[np.arange(40)]
    generator, codes = model.intent, model.codes[batch["item_id"]]
    encoded, index = model.encode_histories(batch)
    found = candidate_log_probs(generator, encoded, index, codes, joint=joint)
    total = score_codes(generator, encoded, index, codes)
    chance = np.log(generator.level_sizes).sum()
    torch.testing.assert_close(found.sum(1), total + float(chance), atol=1e-4, rtol=1e-4)
    assert found.requires_grad == joint and found.shape == codes.shape
    # In training the decoder's dropout acts only if the click loss trains it.
    generator.train()
    again = candidate_log_probs(generator, encoded, index, codes, joint=joint)
    assert torch.allclose(again, found) != joint
    assert all(module.training for module in generator.decoder.modules())


def test_no_label_enters_a_prediction_that_reads_the_candidates_log_probs(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base | {"candidate_log_probs": "joint"})
    batch = train[np.arange(60)]
    before = model.predict(batch)
    batch.interaction["label"] = 1 - batch["label"]
    assert torch.equal(model.predict(batch), before)
    inputs = model.prediction_inputs(batch).inputs
    assert list(inputs) == ["long_term", "short_term", "candidate", "fields"]


def test_detached_log_probs_leave_the_generator_to_its_own_loss(tiny_parts):
    parts, base = tiny_parts
    off = {"use_short_term": False, "use_long_term": False}
    for kind, trained in (("detached", False), ("joint", True)):
        model, (train, _, _) = make_model(
            "GenCI", parts, base | off | {"candidate_log_probs": kind}
        )
        click_loss = model.train().calculate_loss(train[np.arange(60)])[0]
        click_loss.backward()
        reached = [p.grad is not None for p in model.intent.parameters()]
        assert any(reached) == trained


def test_the_ablations_without_a_trained_generator_read_no_log_probs():
    from recbole_genci.experiments.definition import read

    for line in read("ablation").variants:
        assert (line.keys.get("mu") == 0) == ("candidate_log_probs" in line.keys)


def test_a_run_with_every_form_is_loaded_scores_and_recommends(tmp_path):
    forms = {
        "intent_norm": True,
        "candidate_log_probs": "joint",
        "cohort_fusion": "concat",
        "cohorts": "prefix",
        "flatten_history": True,
        "weight_average": 0.5,
    }
    keys = write_dataset(tmp_path / "data", tiny_rows()) | SMALL_GENCI | forms
    (finished,) = run("GenCI", "tiny", config_dict=keys)
    saved = load(finished["folder"])
    assert saved.evaluate("test")["auc"] == finished["test"]["auc"]
    ranker = Ranker(saved)
    scores = ranker.score(users=["u0", "u1"], items=["i1", "i2", "i3"])
    alone = [
        [ranker.score([user], [item])[0, 0] for item in ("i1", "i2", "i3")] for user in ("u0", "u1")
    ]
    np.testing.assert_allclose(scores, alone, atol=1e-5)
    assert len(ranker.recommend(["u0"], k=3, candidates=8)) == 3
