"""Ray: the trials of a search without it, on two nodes, with hopeless ones stopped and failing ones recorded."""

import os
from pathlib import Path

import pytest
from conftest import tiny_rows, write_dataset

import recbole_genci
from recbole_genci import load
from recbole_genci.tuning.search import resume_search, tune

ray = pytest.importorskip("ray")
pytest.importorskip("ray.tune")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture(scope="module")
def address():
    """A cluster of two nodes of one CPU each, on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        root = str(Path(recbole_genci.__file__).parent.parent)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 1, "object_store_memory": 100_000_000}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        cluster.add_node(**node)
        yield cluster.address
        cluster.shutdown()


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | {"epochs": 2}


def outcomes(result):
    return [{k: v for k, v in record.items() if k not in ("training_s", "node")} for record in result["trials"]]


def test_two_nodes_give_the_trials_of_one_process(data, address):
    Path("space.test").write_text("learning_rate choice [0.001, 0.01]\ndropout_prob choice [0.1, 1.5]\n")
    alone = tune("DeepFM", "tiny", "space.test", config_dict=data)
    result = tune("DeepFM", "tiny", "space.test", config_dict=data, tool="Ray", ray_address=address, grace_epochs=2)
    assert outcomes(result) == outcomes(alone) and result["selected"]["test"] == alone["selected"]["test"]
    assert len({record["node"] for record in result["trials"]}) == 2
    failed = [record for record in result["trials"] if record["status"] == "failed"]
    assert len(failed) == 2 and all("dropout_prob: 1.5" in record["error"] for record in failed)
    assert load(result["selected"]["folder"]).evaluate() == result["selected"]["test"]
    folder = Path(result["selected"]["folder"]).parents[2]
    assert len(list(folder.glob("trials/*/*/model.safetensors"))) == 1 and not list(folder.glob("trials/*/outcome.json"))

    # A search whose journal lacks trials, as after a kill, runs those alone.
    lines = (folder / "trials.jsonl").read_text().splitlines()
    kept = [line for line in lines if f'"trial": {result["selected"]["trial"]},' not in line][:2]
    (folder / "trials.jsonl").write_text("\n".join(kept) + "\n")
    resumed = resume_search(folder, ray_address=address)
    assert outcomes(resumed) == outcomes(result) and resumed["selected"]["test"] == result["selected"]["test"]
    same = [record for record in resumed["trials"] if record in result["trials"]]
    assert len(same) == len(kept)  # to the second: they were not run again


def test_hopeless_trials_are_stopped_and_never_selected(data, address):
    Path("space.test").write_text("learning_rate choice [0.01, 1e-6, 1e-7, 1e-8]\n")
    keys = data | {"epochs": 20, "stopping_step": 20}
    result = tune("DeepFM", "tiny", "space.test", config_dict=keys, tool="Ray", ray_address=address, grace_epochs=1)
    status = {record["status"] for record in result["trials"]}
    stopped = [record for record in result["trials"] if record["status"] == "stopped"]
    assert status == {"finished", "stopped"} and len(result["trials"]) == 4
    assert all(0 < record["epochs"] < 20 and 0 < record["score"] < 1 for record in stopped)
    chosen = result["trials"][result["selected"]["trial"] - 1]
    assert chosen["status"] == "finished" and chosen["epochs"] == 20
