"""Intents and targets in the first layer's space against the layer itself; their spread against
plain formulas.
"""

import shutil
import struct

import numpy as np
import pytest
import torch
from conftest import SMALL_GENCI, make_model, tiny_rows, write_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.model.context_aware_recommender import LR
from recbole.utils import FeatureSource
from references import randomise

from recbole_genci import load
from recbole_genci.evaluation.intents import (
    LONG_TERM,
    SHORT_TERM,
    TARGET,
    choose_rows,
    intent_vectors,
    plot_intents,
    spread,
)
from recbole_genci.model.base import ModelContract
from recbole_genci.quick_start import run

NAMES = [LONG_TERM, SHORT_TERM, TARGET]
ITEM_FIELDS = {"item_id", "year", "genre"}


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows()) | SMALL_GENCI


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"intent_extraction": "mean"},
        {"use_long_term": False},
        {"use_short_term": False},
        {"use_long_term": False, "use_short_term": False},
        {"candidate_log_probs": "joint", "cohort_fusion": "concat", "intent_norm": True},
    ],
    ids=str,
)
def test_the_shares_add_up_to_the_first_layer(tiny_parts, changes):
    parts, base = tiny_parts
    model, (_, _, test) = make_model("GenCI", parts, base | changes)
    randomise(model)
    batch, outputs = test[np.arange(len(test))], []
    layer = next(module for module in model.mlp.mlp_layers if isinstance(module, torch.nn.Linear))
    layer.register_forward_hook(lambda module, given, output: outputs.append(output))
    model.predict(batch)
    shares = model.first_layer_shares(batch, ITEM_FIELDS)
    without = {"use_long_term": "long_term", "use_short_term": "short_term"}
    assert set(shares) == {"long_term", "short_term", "item", "rest"} - {
        without[key] for key in changes if key in without
    }
    torch.testing.assert_close(
        sum(shares.values()) + layer.bias, outputs[0].detach(), atol=1e-4, rtol=1e-4
    )
    assert len(outputs) == 1 and all(share.std(dim=0).min() > 0 for share in shares.values())


def test_each_share_is_its_block_of_the_layer(tiny_parts):
    parts, base = tiny_parts
    model, (_, _, test) = make_model("GenCI", parts, base)
    randomise(model)
    batch = test[np.arange(len(test))]
    shares = model.first_layer_shares(batch, ITEM_FIELDS)
    with torch.no_grad():
        weight = next(
            module for module in model.mlp.mlp_layers if isinstance(module, torch.nn.Linear)
        ).weight
        encoded, index = model.encode_histories(batch)
        long_term = encoded.last[index] * model.intent_scale
        torch.testing.assert_close(
            shares["long_term"], long_term @ weight[:, : long_term.shape[1]].T
        )
        short_term = (
            model.short_term_intent(batch, encoded, index, model.generate_beams(encoded))
            * model.intent_scale
        )
        block = weight[:, long_term.shape[1] :][:, : short_term.shape[1]]
        torch.testing.assert_close(shares["short_term"], short_term @ block.T, atol=1e-5, rtol=1e-4)
    # A change of the item's fields moves its share and not the rest's, of the user's the rest's and
    # not its own.
    for fields, moved, kept in (
        (["year", "genre"], "item", "rest"),
        (["user_id", "age"], "rest", "item"),
    ):
        changed = test[np.arange(len(test))]
        for field in fields:
            changed[field] = changed[field].roll(1, 0)
        after = model.first_layer_shares(changed, ITEM_FIELDS)
        assert not torch.equal(after[moved], shares[moved])
        torch.testing.assert_close(after[kept], shares[kept], atol=0, rtol=0)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(1, 35), st.integers(0, 5))
def test_no_user_comes_twice_before_all_have_come_once(users, rows, seed):
    users = np.array(users)
    chosen = choose_rows(users, rows, seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(rows, len(users))
    counts = {user: (users[chosen] == user).sum() for user in set(users.tolist())}
    left = {user: (users == user).sum() - count for user, count in counts.items()}
    most = max(counts.values())
    assert all(count >= most - 1 or left[user] == 0 for user, count in counts.items())
    np.testing.assert_array_equal(chosen, choose_rows(users, rows, seed))


def test_vectors_of_a_saved_run_are_its_models(keys, tmp_path):
    saved = load(run("GenCI", "tiny", config_dict=keys)[0]["folder"])
    shutil.rmtree(tmp_path / "data")
    vectors = intent_vectors(saved, 12, seed=1)
    assert list(vectors) == NAMES and {matrix.shape for matrix in vectors.values()} == {(12, 16)}
    test = saved.loader("test").dataset
    assert {*test.fields(source=[FeatureSource.ITEM, FeatureSource.ITEM_ID])} == ITEM_FIELDS
    users = test.inter_feat["user_id"].numpy()
    chosen = choose_rows(users, 12, 1)
    assert len(set(users[chosen].tolist())) == 12  # of 12 users
    shares = saved.model.first_layer_shares(test[chosen], ITEM_FIELDS)
    for name, share in zip(NAMES, ("long_term", "short_term", "item")):
        np.testing.assert_allclose(vectors[name], shares[share].numpy(), atol=1e-6)
    every = intent_vectors(saved, 10**6, seed=0)
    assert len(every[TARGET]) == len(test)
    assert not np.array_equal(intent_vectors(saved, 12, seed=2)[TARGET], vectors[TARGET])
    with pytest.raises(ValueError, match="2 rows are too few"):
        intent_vectors(saved, 2, seed=0)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("DeepFM", {}, "DeepFM has no long-term and short-term intents"),
        (
            "GenCI",
            {"use_long_term": False},
            "use_long_term: with use_long_term: False GenCI has no such intent",
        ),
        (
            "GenCI",
            {"use_short_term": False},
            "use_short_term: with use_short_term: False GenCI has no such intent",
        ),
    ],
)
def test_models_without_both_intents_are_refused(keys, model, changes, message):
    own = (
        keys
        if model == "GenCI"
        else {key: value for key, value in keys.items() if key not in SMALL_GENCI}
    )
    with pytest.raises(ValueError, match=message):
        intent_vectors(load(run(model, "tiny", config_dict=own | changes)[0]["folder"]), 10, 0)


class WithIntents(ModelContract, LR):
    """A model of one's own that has intents and none of GenCI's keys."""

    has_intents = True

    def first_layer_shares(self, interaction, item_fields):
        fields = self.concat_embed_input_fields(interaction).flatten(1)
        return dict.fromkeys(("long_term", "short_term", "item", "rest"), fields)


def test_a_model_of_ones_own_may_have_intents(keys):
    own = {key: keys[key] for key in keys if key not in SMALL_GENCI | {"mlp_hidden_size": 0}}
    saved = load(run(WithIntents, "tiny", config_dict=own)[0]["folder"], model=WithIntents)
    vectors = intent_vectors(saved, 12, seed=1)
    assert list(vectors) == NAMES and len(vectors[TARGET]) == 12


def draw(seed, rows=40, width=6):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(3, width, width))
    return {
        name: rng.normal(size=(rows, width)) @ mix + rng.normal(size=width)
        for name, mix in zip(NAMES, mixing)
    }


@pytest.mark.parametrize("seed", range(3))
def test_spread_equals_plain_formulas(seed):
    vectors = draw(seed)
    found, centring = spread(vectors), np.eye(40) - 1 / 40
    assert list(found) == NAMES
    gram = {name: centring @ matrix @ matrix.T @ centring for name, matrix in vectors.items()}
    for name, matrix in vectors.items():
        cosines = [
            a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            for i, a in enumerate(matrix)
            for b in matrix[:i]
        ]
        eigenvalues = np.linalg.eigvalsh(np.cov(matrix.T))
        own, target = gram[name].ravel(), gram[TARGET].ravel()
        assert found[name] == pytest.approx(
            {
                "relative_radius": np.sqrt(
                    np.trace(np.cov(matrix.T)) / np.trace(np.cov(vectors[TARGET].T))
                ),
                "cosine_distance": 1 - np.mean(cosines),
                "effective_dimension": eigenvalues.sum() ** 2 / (eigenvalues**2).sum(),
                "target_alignment": own @ target / np.linalg.norm(own) / np.linalg.norm(target),
            }
        )


def test_spread_of_sets_whose_numbers_are_known():
    rng = np.random.default_rng(0)
    target = rng.normal(size=(500, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    line = np.outer(rng.normal(size=500), np.ones(8))
    found = spread({LONG_TERM: line, SHORT_TERM: 0.5 * target @ turn + 7, TARGET: target})
    assert found[TARGET]["relative_radius"] == 1 and found[TARGET][
        "target_alignment"
    ] == pytest.approx(1)
    assert found[SHORT_TERM]["relative_radius"] == pytest.approx(0.5)
    assert found[SHORT_TERM]["target_alignment"] == pytest.approx(1)
    assert found[SHORT_TERM]["effective_dimension"] == pytest.approx(
        found[TARGET]["effective_dimension"]
    )
    assert found[SHORT_TERM]["cosine_distance"] < 0.01 < 0.9 < found[TARGET]["cosine_distance"]
    assert (
        found[LONG_TERM]["effective_dimension"] == pytest.approx(1)
        and found[LONG_TERM]["target_alignment"] < 0.05
    )


def test_unrelated_sets_align_as_little_as_the_docstring_says():
    rng = np.random.default_rng(1)
    found = spread(
        {name: rng.normal(size=(2000, width)) for name, width in zip(NAMES, (30, 30, 30))}
    )
    p, q = found[LONG_TERM]["effective_dimension"], found[TARGET]["effective_dimension"]
    assert found[LONG_TERM]["target_alignment"] == pytest.approx(np.sqrt(p * q) / 2000, rel=0.3)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_no_number_depends_on_the_scale_of_all(seed, scale):
    vectors = draw(seed, rows=8)
    scaled = spread({name: matrix * scale for name, matrix in vectors.items()})
    for name, numbers in spread(vectors).items():
        assert scaled[name] == pytest.approx(numbers)


def test_sets_that_do_not_vary_have_no_shape():
    vectors = draw(0) | {SHORT_TERM: np.ones((40, 6))}
    found = spread(vectors)[SHORT_TERM]
    assert found["relative_radius"] == 0 and found["cosine_distance"] == pytest.approx(0)
    assert np.isnan(found["effective_dimension"]) and np.isnan(found["target_alignment"])
    assert spread(vectors | {SHORT_TERM: np.zeros((40, 6))})[SHORT_TERM]["cosine_distance"] == 1


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({TARGET: np.ones((5, 2))}, "expected the sets long-term intent"),
        (draw(0) | {TARGET: np.ones((40, 7))}, "of one shape"),
        ({name: np.ones((2, 7)) for name in NAMES}, "3 rows or more"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(vectors, message):
    with pytest.raises(ValueError, match=f"^intents: .*{message}"):
        spread(vectors)


def test_the_map_is_a_picture_and_the_same_for_the_same_seed(tmp_path):
    pytest.importorskip("matplotlib")
    plot_intents(draw(0), tmp_path / "new" / "intents.png", seed=3)
    plot_intents(draw(0), tmp_path / "again.png", seed=3)
    content = (tmp_path / "new" / "intents.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(b"\x89PNG") and min(width, height) > 900
    assert content == (tmp_path / "again.png").read_bytes()
    with pytest.raises(ValueError, match="nothing to map"):
        plot_intents({name: np.ones((5, 2)) for name in NAMES}, tmp_path / "none.png", seed=0)
    assert not (tmp_path / "none.png").exists()


def test_a_set_that_does_not_vary_is_left_out_of_the_map(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    figures = []
    monkeypatch.setattr(
        "recbole_genci.evaluation.intents.save", lambda figure, file: figures.append(figure)
    )
    rounding = 1 + 1e-9 * np.random.default_rng(0).normal(size=(40, 6))
    plot_intents(draw(0) | {SHORT_TERM: rounding}, tmp_path / "intents.png", seed=0)
    (axis,) = figures[0].axes
    labels = [points.get_label() for points in axis.collections]
    assert [len(points.get_offsets()) for points in axis.collections] == [40, 0, 40]
    assert "short-term intent: the same for all rows, not drawn" in labels and labels[0].startswith(
        "long-term intent: relative"
    )


def test_without_matplotlib_a_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        plot_intents(draw(0), tmp_path / "intents.png", seed=0)
