"""What makes two runs the same run."""

import pytest

from recbole_genci.config import Config
from recbole_genci.experiments.identity import effective_keys, run_hash


def hash_of(**keys):
    config = Config("DeepFM", "ml-100k", config_dict={"gpu_id": "", **keys})
    return run_hash(config, 2020, "rows", None)


@pytest.mark.parametrize(
    "keys", [{"weight_average": 0.9}, {"flatten_history": True}, {"dropout_prob": 0.05}]
)
def test_a_key_that_changes_results_makes_another_run(keys):
    assert hash_of(**keys) != hash_of()


def test_keys_that_came_later_leave_earlier_runs_their_hash():
    keys = effective_keys(Config("DeepFM", "ml-100k", config_dict={"recipe": "paper"}))
    assert not {"weight_average", "weight_average_per", "flatten_history"} & set(keys)
    assert hash_of(recipe="paper", show_progress=True) == hash_of(
        recipe="paper", weight_average=0.0
    )


def test_options_of_models_count_only_where_they_are_on():
    def of(model, **keys):
        return effective_keys(Config(model, "ml-100k", config_dict=keys))

    for model, options in {
        "GenCI": {
            "intent_norm": True,
            "candidate_log_probs": "detached",
            "cohort_fusion": "concat",
            "share_item_embeddings": True,
            "cohorts": "prefix",
        },
        "DIN": {
            "attention_mlp_hidden_size": [64],
            "attention_activation": "dice",
            "interest_product": False,
        },
    }.items():
        assert not set(options) & set(of(model))
        for key, value in options.items():
            assert of(model, **{key: value}) == of(model) | {key: value}


@pytest.mark.parametrize(
    ("recipe", "known"),
    [
        ("tuned", "50ac0fcb230887f22dcae013a6fa98799313e49b2725bae172fccdaf5d04aa74"),
        ("by_rows", "73f98d46af48868e740b7d6d2d75ad8777dd0f38f73c6b123b8286e814c591d5"),
    ],
)
def test_runs_that_are_published_keep_their_hash(recipe, known):
    """Those of DeepFM on ml-100k in benchmarks/experiments/compare-ml-100k/runs.jsonl."""
    rows = "e7a93ddaecb93c3259d5ca4b6c9f8b623dab4cd39fef91a2b12b14fe25a02190"
    config = Config("DeepFM", "ml-100k", config_dict={"recipe": recipe})
    assert run_hash(config, 2020, rows, None) == known
