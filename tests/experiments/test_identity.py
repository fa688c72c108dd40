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
    keys = effective_keys(Config("DeepFM", "ml-100k"))
    assert not {"weight_average", "weight_average_per", "flatten_history"} & set(keys)
    assert hash_of(show_progress=True, weight_average=0.0) == hash_of()
