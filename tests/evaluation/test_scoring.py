"""Scores and metrics of a split, against scikit-learn and whatever the batches."""

import numpy as np
import pytest
import torch
from conftest import make_model, tiny_rows, write_dataset
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci.config import Config
from recbole_genci.config.metric_names import KNOWN, RECBOLE_METRICS, Metric
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.evaluation import scoring
from recbole_genci.evaluation.scoring import metrics_of, score_rows


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path, tiny_rows(rows_per_user=60))


def loaders(keys, **more):
    config = Config("DIN", "tiny", config_dict=keys | more)
    return config, create_loaders(config, create_dataset(config).build())


@pytest.mark.parametrize("name", ["DIN", "DSSM"])  # DSSM scores a single row without a dimension
def test_scores_come_in_the_rows_order_and_do_not_depend_on_batches(name, keys):
    config, (train, _, _) = loaders(keys)
    model, views = make_model(name, create_dataset(config).build(), keys)
    whole, labels = score_rows(model, loaders(keys, eval_batch_size=4096)[1][2], config["device"])
    for size in (1, 7, 64):
        scores, same = score_rows(
            model, loaders(keys, eval_batch_size=size)[1][2], config["device"]
        )
        assert torch.allclose(scores, whole, atol=1e-6) and torch.equal(same, labels)
    assert torch.equal(labels, views[2].inter_feat["label"])
    assert torch.allclose(
        whole, model.predict(views[2][np.arange(len(views[2]))]).detach(), atol=1e-6
    )


def test_scores_are_joined_once_however_many_batches_there_are(keys, monkeypatch):
    config, (_, _, test) = loaders(keys, eval_batch_size=1)
    model, _ = make_model("LR", create_dataset(config).build(), keys)
    joins = []
    original = torch.cat
    monkeypatch.setattr(
        scoring.torch,
        "cat",
        lambda tensors, *a, **k: joins.append(len(tensors)) or original(tensors, *a, **k),
    )
    with monkeypatch.context() as patched:
        patched.setattr(model, "predict", lambda interaction: torch.full((len(interaction),), 0.5))
        score_rows(model, test, config["device"])
    assert len(test) > 50 and joins.count(len(test)) == 2  # the scores and the labels


def test_metrics_are_scikit_learns_to_six_places(keys):
    config = loaders(keys)[0]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 5000)
    scores = np.clip(rng.normal(0.5 + 0.1 * labels, 0.2), 0.01, 0.99).round(2)  # with ties
    result = metrics_of(
        config, torch.tensor(scores, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)
    )
    assert result["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert result["logloss"] == pytest.approx(
        log_loss(labels, scores.astype(np.float32).astype(float)), abs=1e-6
    )


def test_one_row_has_a_log_loss_and_no_auc(keys):
    result = metrics_of(loaders(keys)[0], torch.tensor([0.25]), torch.tensor([1.0]))
    assert result["logloss"] == pytest.approx(-np.log(0.25), abs=1e-6)
    assert np.isnan(result["auc"])


def test_an_improvement_in_the_fifth_place_counts(keys):
    """RecBole rounds to 4 places before it compares (base_metric.py:124)."""
    from recbole.utils import early_stopping

    config = loaders(keys)[0]
    labels = torch.cat([torch.zeros(300), torch.ones(300)])
    better, worse = torch.linspace(0, 1, 600), torch.linspace(0, 1, 600)
    worse[[299, 300]] = worse[[300, 299]]  # one pair in 90,000 is out of order
    high, low = (metrics_of(config, scores, labels)["auc"] for scores in (better, worse))
    assert 0 < high - low < 5e-5
    assert early_stopping(low, high, 0, max_step=2, bigger=True)[1] == 1


def test_each_metric_of_the_package_has_its_function(keys):
    assert set(KNOWN) == {*RECBOLE_METRICS, *scoring.OF_PACKAGE}
    with pytest.raises(KeyError, match="Another"):  # and not GAUC under another name
        rows = torch.tensor([0.25, 0.75]), torch.tensor([0.0, 1.0]), np.array([1, 1])
        scoring._measured(Metric("Another", False), loaders(keys)[0], *rows)


def test_a_metric_of_ones_own_cannot_change_what_others_see(keys, monkeypatch, tmp_path):
    (tmp_path / "spoils.py").write_text(
        "def spoil(labels, scores, users):\n"
        "    labels.sort(); scores.sort(); users[:] = users[0]\n"
        "    return 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    more = {"metrics": ["spoils:spoil", "AUC", "LogLoss", "GAUC"]}
    config = Config("LR", "tiny", config_dict=keys | more, compared_models=["GenCI"])
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.random(60).astype(np.float32))
    labels, users = torch.from_numpy((rng.random(60) < 0.5).astype(np.float32)), np.arange(60) // 10
    before = scores.clone(), labels.clone(), users.copy()
    found = metrics_of(config, scores, labels, users)
    assert torch.equal(scores, before[0]) and torch.equal(labels, before[1])
    assert (users == before[2]).all()
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)


@pytest.mark.parametrize("given", ["'x'", "None", "[1, 2]"])
def test_a_metric_that_returns_no_number_is_named(keys, monkeypatch, tmp_path, given):
    name = f"words{abs(hash(given))}"
    (tmp_path / f"{name}.py").write_text(f"def word(labels, scores):\n    return {given}\n")
    monkeypatch.syspath_prepend(tmp_path)
    more = {"metrics": [f"{name}:word", "AUC", "LogLoss"]}
    config = Config("LR", "tiny", config_dict=keys | more, compared_models=["GenCI"])
    labels = torch.tensor([0.0, 1.0])
    with pytest.raises(ValueError, match="metrics: word returned .*; a metric returns one number"):
        metrics_of(config, torch.tensor([0.2, 0.7]), labels, np.array([1, 1]))
