"""Ray on a cluster of two nodes: the trials of a search without it; dying, hopeless and failing
ones; killed and resumed.

Starting the cluster and its workers takes most of the time; `RAY_raylet_start_wait_time_s` is for
busy machines.
"""

import json
import os
from pathlib import Path

import pytest
from conftest import SMALL_GENCI, tiny_rows, write_dataset

import recbole_genci
from recbole_genci import load
from recbole_genci.tuning.command import main
from recbole_genci.tuning.search import resume_search, tune

try:
    import ray.tune
    from ray import cluster_utils
except (
    ImportError,
    AttributeError,
) as error:  # no ray; or ray 2.6, which reads names that numpy 2 has not
    pytest.skip(f"ray.tune cannot be imported: {error}", allow_module_level=True)

from recbole_genci.tuning import ray_backend  # noqa: E402

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def address():
    """A cluster of two nodes of one CPU each, on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        root = str(Path(recbole_genci.__file__).parent.parent)
        patch.setenv(
            "PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        )
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "300")
        node = {"num_cpus": 1, "object_store_memory": 100_000_000}
        cluster = cluster_utils.Cluster(
            initialize_head=True, head_node_args=node | {"include_dashboard": False}
        )
        cluster.add_node(**node)
        yield cluster.address
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def connection(address):
    """One connection for several searches, which then share worker processes; a host program may
    have one too.
    """
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, configure_logging=False)


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | {"epochs": 2}


def outcomes(result):
    own = ("training_s", "node", "curve")
    return [{k: v for k, v in record.items() if k not in own} for record in result["trials"]]


def test_two_nodes_give_the_trials_of_one_process(data, connection):
    Path("space.test").write_text(
        "learning_rate choice [0.001, 0.01]\nlearner choice ['adam', 'sparse_adam']\n"
    )
    alone = tune("DeepFM", "tiny", "space.test", config_dict=data)
    Path("keys.yaml").write_text(json.dumps(data))
    words = [
        "--model=DeepFM",
        "--dataset=tiny",
        "--params_file=space.test",
        "--config_files=keys.yaml",
    ]
    assert main([*words, "--tool=Ray", "--results_dir=with_ray", "--grace_epochs=9"]) == 0
    (folder,) = Path("with_ray").iterdir()
    result = json.loads((folder / "hyper_result.json").read_text())
    assert {record["node"] for record in result["trials"]} == {
        node["NodeID"] for node in ray.nodes()
    }
    assert (
        outcomes(result) == outcomes(alone)
        and result["selected"]["test"] == alone["selected"]["test"]
    )
    failed = [record for record in result["trials"] if record["status"] == "failed"]
    assert len(failed) == 2 and all("sparse_adam" in record["error"] for record in failed)
    # The selected one is a finished run, the others keep their configuration and log; as without
    # Ray.
    assert load(result["selected"]["folder"]).evaluate() == result["selected"]["test"]
    assert len(list(folder.glob("trials/*/*/model.safetensors"))) == 1
    assert (
        len(list(folder.glob("trials/*/*/run.log")))
        == len(list(folder.glob("trials/*/*/config.yaml")))
        == 2
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        p.name for p in next(Path("results").iterdir()).iterdir()
    )


def test_a_search_whose_journal_lacks_trials_runs_those_alone(data, connection):
    Path("space.test").write_text("learning_rate choice [0.001, 0.01]\n")
    result = tune("DeepFM", "tiny", "space.test", config_dict=data, tool="Ray", grace_epochs=9)
    folder = Path(result["selected"]["folder"]).parents[2]
    lines = (folder / "trials.jsonl").read_text().splitlines()
    kept = [line for line in lines if f'"trial": {result["selected"]["trial"]},' not in line][:1]
    (folder / "trials.jsonl").write_text("\n".join(kept) + "\n")
    resumed = resume_search(folder)
    assert (
        outcomes(resumed) == outcomes(result)
        and resumed["selected"]["test"] == result["selected"]["test"]
    )
    same = [record for record in resumed["trials"] if record in result["trials"]]
    assert len(same) == len(kept)  # to the second: they were not run again


def test_semantic_ids_travel_with_the_rows_and_a_worker_that_dies_is_a_failed_trial(
    data, connection, monkeypatch
):
    run_trial = ray_backend.run_trial

    def die(inputs, judge, number, *rest):
        if number == 2:
            os._exit(1)
        return run_trial(inputs, judge, number, *rest)

    monkeypatch.setattr(ray_backend, "run_trial", die)
    Path("space.test").write_text("mu choice [0.1, 1.0, 2.0]\n")
    result = tune(
        "GenCI", "tiny", "space.test", config_dict=data | SMALL_GENCI, tool="Ray", grace_epochs=9
    )
    assert [record["status"] for record in result["trials"]] == ["finished", "failed", "finished"]
    assert "WorkerCrashedError" in result["trials"][1]["error"]
    run = load(result["selected"]["folder"])
    assert (
        run.evaluate() == result["selected"]["test"]
        and run.semantic_ids.digest == result["semantic_ids"]
    )


def test_a_failure_of_a_workers_machine_ends_the_search_without_an_outcome(
    data, connection, monkeypatch
):
    def fail(shared, params, *rest):
        raise OSError(28, "No space left on device")

    run_trial = ray_backend.run_trial

    def run_on_a_full_disk(*args):
        from recbole_genci.tuning import trial as of_worker

        with pytest.MonkeyPatch.context() as patch:  # the process goes on to other tests
            patch.setattr(of_worker, "train", fail)
            return run_trial(*args)

    monkeypatch.setattr(ray_backend, "run_trial", run_on_a_full_disk)
    Path("space.test").write_text("learning_rate choice [0.001]\n")
    with pytest.raises(
        ray_backend.trial.MachineFailed,
        match="trial 1 could not be run here .OSError: .*No space left",
    ):
        tune("DeepFM", "tiny", "space.test", config_dict=data, tool="Ray")
    (folder,) = Path("results").iterdir()
    assert not (folder / "trials.jsonl").exists()


def test_hopeless_trials_are_stopped_and_never_selected(data, connection):
    Path("space.test").write_text(
        "learning_rate choice [1e-6, 1e-7, 0.01, 1e-8]\n"
    )  # 0.01 comes first
    keys = data | {"epochs": 8, "stopping_step": 8}
    result = tune("DeepFM", "tiny", "space.test", config_dict=keys, tool="Ray", grace_epochs=1)
    stopped = [record for record in result["trials"] if record["status"] == "stopped"]
    assert {record["status"] for record in result["trials"]} == {"finished", "stopped"} and len(
        result["trials"]
    ) == 4
    assert all(
        0 < record["best_epoch"] <= record["epochs"] < 8 and 0 < record["score"] < 1
        for record in stopped
    )
    chosen = result["trials"][result["selected"]["trial"] - 1]
    assert chosen["status"] == "finished" and chosen["epochs"] == 8


def test_what_a_cluster_cannot_give_is_refused_before_anything_is_read(address, capsys):
    ray.shutdown()  # so that the address is what is used
    Path("space.test").write_text("mu choice [0.1, 1.0]\n")
    words = ["--model=GenCI", "--dataset=nowhere", "--params_file=space.test", "--tool=Ray"]
    assert (
        main([*words, f"--ray_address={address}", "--cpus_per_trial=2"]) == 2
    )  # two nodes of one each
    assert "a trial asks for 2 CPUs and 0 GPUs, which no node has" in capsys.readouterr().err


OWN = """
from my_helper import scale
from recbole_genci.model.base import ClickModel

class Mine(ClickModel):
    def forward(self, interaction):
        return self.first_order_linear(interaction).squeeze(-1) * self.scale

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.scale = scale * config["my_scale"]
"""


def test_workers_find_a_model_and_a_metric_of_ones_own(data, connection, tmp_path, monkeypatch):
    for folder, name in ((tmp_path / "one", "my_ray_module"), (tmp_path / "two", "my_ray_file")):
        folder.mkdir()
        (folder / f"{name}.py").write_text(OWN.replace("my_helper", f"{name}_helper"))
        (folder / f"{name}_helper.py").write_text(
            "scale = 2.0\n\ndef rate(labels, probabilities):\n    return labels.mean()\n"
        )
        (folder / "Mine.yaml").write_text("my_scale: 1.0\n")
    Path("space.test").write_text("my_scale choice [0.5, 1.0]\n")
    del data["mlp_hidden_size"]
    Path("keys.yaml").write_text(json.dumps(data))
    monkeypatch.chdir(tmp_path / "one")  # workers have other current folders
    more = {"metrics": ["AUC", "LogLoss", "my_ray_module_helper:rate"]}
    results = [
        tune(model, "tiny", "../space.test", ["../keys.yaml"], more, tool=tool)
        for model in ("my_ray_module:Mine", "../two/my_ray_file.py:Mine")
        for tool in ("Hyperopt", "Ray")
    ]
    assert all(record["status"] == "finished" for result in results for record in result["trials"])
    assert len({json.dumps(result["selected"]["test"]) for result in results}) == 1
    assert (
        "rate" in results[1]["selected"]["test"]
        and len({record["node"] for record in results[1]["trials"]}) >= 1
    )
    assert load(results[1]["selected"]["folder"]).evaluate() == results[1]["selected"]["test"]


def test_a_class_that_workers_cannot_import_is_refused(data):
    from recbole_genci.model.base import ClickModel

    class Local(ClickModel):
        pass

    del data["mlp_hidden_size"]
    Path("space.test").write_text("learning_rate choice [0.001]\n")
    with pytest.raises(
        ValueError, match="^model: Local exists in this process alone, .* tool: Ray"
    ):
        tune(Local, "tiny", "space.test", config_dict=data, tool="Ray")
