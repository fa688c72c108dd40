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


def test_a_key_that_no_run_reads_makes_no_other_run():
    assert hash_of(topk=5) == hash_of(loss_type="BPR") == hash_of()
    assert hash_of(volatility_field="release_year") == hash_of(volatility_field=None) == hash_of()
    assert effective_keys(Config("DeepFM", "ml-100k"))["volatility_field"] == "class"


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
        ("regularised", "83e4be707bdb0d3e97f6a3cf2ff0f30351ce2b0a8642a84fb38d2f8081eb9ec5"),
    ],
)
def test_runs_that_are_published_keep_their_hash(recipe, known):
    """Those of DeepFM on ml-100k: today's in benchmarks/experiments/compare-ml-100k/runs.jsonl."""
    rows = "e7a93ddaecb93c3259d5ca4b6c9f8b623dab4cd39fef91a2b12b14fe25a02190"
    config = Config("DeepFM", "ml-100k", config_dict={"recipe": recipe})
    assert run_hash(config, 2020, rows, None, 59_169) == known, (
        "Experiments would train this run anew. If you have added a key, put it into ADDED_KEYS "
        "(recbole_genci/config/added_keys.py), with the value by which all is computed as before."
    )


def test_a_patience_in_steps_counts_only_where_it_can_act():
    """Four epochs' evaluations (stopping_step 3) of 80,000 rows are 312 steps; of 20,000, 76."""

    def of(rows, **keys):
        keys = {"stopping_step": 3, "train_batch_size": 1024, "eval_step": 1, **keys}
        config = Config("DeepFM", "ml-100k", config_dict={"gpu_id": "", **keys})
        return run_hash(config, 2020, "rows", None, rows)

    for rows, steps, acts in [
        (80_000, 312, False),
        (80_000, 313, True),
        (20_000, 76, False),
        (20_000, 77, True),
    ]:
        changes = of(rows, min_patience_steps=steps) != of(rows, min_patience_steps=0)
        assert changes == acts, (rows, steps)
    # Two processes share the rows out: half as many steps, 39 an epoch.
    shared = {"nproc": 2, "min_patience_steps": 157}
    assert of(80_000, **shared) != of(80_000, **shared | {"min_patience_steps": 0})
    shared["min_patience_steps"] = 156
    assert of(80_000, **shared) == of(80_000, **shared | {"min_patience_steps": 0})
