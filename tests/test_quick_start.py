"""The command from end to end: small data for every branch, the real ml-100k for the main job."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_GENCI, tiny_rows, write_dataset
from safetensors.torch import load_file

import recbole_genci
from recbole_genci.cli import main
from recbole_genci.config import Config
from recbole_genci.experiments.command import prepare as prepare_experiment
from recbole_genci.experiments.definition import chosen
from recbole_genci.experiments.request import ExperimentArguments
from recbole_genci.plan import prepare
from recbole_genci.quick_start import run
from recbole_genci.training.run_folder import config_as_yaml

ROOT = Path(recbole_genci.__file__).parent.parent


@pytest.fixture
def tiny(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | SMALL_GENCI


def test_several_models_run_on_the_same_rows_and_leave_one_table(tiny, tmp_path):
    names = ("LR", "DeepFM", "DIN", "DIEN", "GenCI")
    runs = run(",".join(names), "tiny", config_dict=tiny | {"seeds": 2})
    assert [(r["model"], r["seed"]) for r in runs] == [
        (name, seed) for seed in (2020, 2021) for name in names
    ]
    assert len({r["data_fingerprint"] for r in runs}) == 1
    for result in runs:
        folder = Path(result["folder"])
        assert json.loads((folder / "metrics.json").read_text()) == result
        expected = {
            "model.safetensors",
            "data.safetensors",
            "config.yaml",
            "metrics.json",
            "run.log",
            "tensorboard",
            ".lock",
        }
        own = {"semantic_ids", "diagnostics.json"} if result["model"] == "GenCI" else set()
        assert {p.name for p in folder.iterdir()} == expected | own
        assert (
            0 < result["test"]["auc"] < 1
            and result["test"]["logloss"] > 0
            and result["latency_s"] > 0
        )
        assert (
            result["rows_per_s"] > 0 and "torch" in result["versions"] and result["best_epoch"] == 1
        )
        assert (result["semantic_ids"] is not None) == (result["model"] == "GenCI")
    (results,) = (tmp_path / "results").iterdir()
    table = (results / "table.md").read_text()
    assert (
        all(f"| {name} |" in table for name in ("LR", "DeepFM", "DIN", "DIEN", "GenCI"))
        and "±" in table
    )
    assert "python run_recbole_genci.py --model=LR,DeepFM,DIN,DIEN,GenCI --dataset=tiny" in table
    csv = (results / "table.csv").read_text().splitlines()
    mean = np.mean([r["test"]["auc"] for r in runs if r["model"] == "GenCI"])
    assert float(csv[5].split(",")[1]) == pytest.approx(mean) and f"| GenCI | {mean:.4f}" in table


@pytest.mark.parametrize("command", ["run", "experiment"])
def test_the_configuration_of_another_models_run_is_warned_of(command, tiny, tmp_path, caplog):
    if command == "experiment":
        pytest.importorskip("matplotlib", reason="an experiment draws")
    keys = {key: tiny[key] for key in ("load_col", "train_batch_size", "gpu_id", "data_path")}
    keys |= {"MAX_ITEM_LIST_LENGTH": 5}
    file = tmp_path / "config.yaml"
    file.write_text(config_as_yaml(Config("LR", "tiny", config_dict=keys)))

    def said(*models):
        caplog.clear()
        if command == "run":
            plan = prepare(list(models), "tiny", [str(file)])
            decay = plan.configs[models[0]]["weight_decay"]
            assert decay == "10000/rows/rows_per_vector"  # of LR's recipe
        else:
            arguments = ExperimentArguments(
                dataset="tiny", models=list(models), seeds=1, config_files=[str(file)]
            )
            prepare_experiment(chosen("compare"), arguments)
        return [line for line in caplog.messages if line.startswith("config_files: ")]

    (line,) = said("FM", "LR", "FwFM")
    assert line == (
        f"config_files: {file} is the configuration of LR; for FM, FwFM too all its values count "
        "as set by you, and so beat the defaults and the recipe that FM, FwFM would have."
    )
    assert len(said("FM")) == 1 and said("LR") == []
    file.write_text(file.read_text().replace("model: LR\n", ""))
    assert said("FM") == []


def test_the_command_and_the_curves_are_the_runs_own(tiny, tmp_path):
    (tmp_path / "more.yaml").write_text("epochs: 1\n")
    plan = prepare("LR,GenCI", "tiny", [str(tmp_path / "more.yaml")], tiny)
    assert f"--dataset=tiny --config_files={tmp_path}/more.yaml" in plan.command
    assert prepare("LR,GenCI", "tiny", str(tmp_path / "more.yaml"), tiny).command == plan.command
    runs = run("LR,GenCI", "tiny", config_dict=tiny)
    for result in runs:
        assert len(list(Path(result["folder"]).glob("tensorboard/events*"))) == 1
        assert "checkpoint_dir" not in (Path(result["folder"]) / "config.yaml").read_text()
    assert not Path("log_tensorboard").exists()


def test_same_seed_same_metrics_and_another_seed_others(tiny):
    keep = ("test", "best_valid", "best_epoch", "semantic_ids", "data_fingerprint")
    first, again = (run("GenCI", "tiny", config_dict=tiny | {"epochs": 2})[0] for _ in range(2))
    assert {k: first[k] for k in keep} == {k: again[k] for k in keep}
    other = run(
        "GenCI", "tiny", config_dict=tiny | {"epochs": 2, "seed": 7, "tokenizer_seed": 2020}
    )[0]
    assert other["test"] != first["test"] and other["semantic_ids"] == first["semantic_ids"]


def test_a_pretrained_teacher_is_trained_first_and_frozen(tiny):
    result = run("GenCI", "tiny", config_dict=tiny | {"sr_base": "pretrained"})[0]
    folder = Path(result["folder"])
    teacher, whole = (
        load_file(folder / "teacher/model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    for name, weight in teacher.items():
        assert (whole[f"teacher.{name}"] == weight).all()


def test_loss_parts_are_logged_by_name(tiny):
    result = run("GenCI", "tiny", config_dict=tiny)[0]
    log = (Path(result["folder"]) / "run.log").read_text()
    assert all(name in log for name in ("L_CTR", "mu * L_NTP", "eta * L_SR")) and "\x1b" not in log


def test_a_data_path_inside_the_datasets_folder_is_told_from_one_without(tiny, tmp_path, capsys):
    folder = Path(tiny["data_path"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/tiny.inter").write_bytes((folder / "tiny/tiny.inter").read_bytes())
    for given, message in {
        folder / "tiny": f"Give the folder above it, --data_path={folder}.",
        folder / "tiny/tiny.inter": "tiny.inter is a file. Give the folder that holds tiny/.",
        tmp_path / "other": f"--data_path={tmp_path}, and call this one {tmp_path / 'tiny'}.",
    }.items():
        assert main(["--model=LR", "--dataset=tiny", f"--data_path={given}"]) == 2
        shown = capsys.readouterr().err
        assert f"data_path: {given}" in shown and message in shown
    # A dataset that could be downloaded is not, into a folder below its own.
    (tmp_path / "other/ml-1m.inter").touch()
    assert main(["--model=LR", "--dataset=ml-1m", f"--data_path={tmp_path / 'other'}"]) == 2
    assert "is the folder of the dataset itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model=GenCl", "--dataset=ml-100k"], "model: 'GenCl'"),
        (
            ["--model=GenCI", "--dataset=ml-100"],
            "dataset: there is no folder .*Did you mean 'ml-100k'",
        ),
        (["--model=GenCI"], "--dataset is missing"),
        (["--model=LR", "--data_path=x", "--data_seed=3"], "is missing, .*--dataset=ml-100k\\. ?$"),
        (
            ["--model=LR", "--datset=shop"],
            "is missing, .* You gave --datset; did you mean",
        ),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--embeding_size=8"],
            "Did you mean 'embedding_size'",
        ),
        (["--model=GenCI", "--dataset=ml-100k", "--text_encoder=./no/such/folder"], "text_encoder"),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--item_text_fields=['titel']"],
            "item_text_fields.*movie_title|titel",
        ),
        (["--model=LR,LR", "--dataset=ml-100k"], "names a model twice"),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--semantic_id_path=nowhere"],
            "semantic_id_path: there is no folder nowhere",
        ),
        (
            ["--model=GenCI", "--dataset=ml-100k", "--intent_heads=7"],
            "intent_heads: 7 does not divide intent_width",
        ),
    ],
)
def test_a_bad_request_is_one_sentence_and_leaves_nothing(words, message, capsys, tmp_path):
    import re

    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("recbole_genci: ") and re.search(message, error.replace("\n", " ")), (
        error
    )
    assert not list(tmp_path.glob("dataset/semantic_ids/*/manifest.json"))
    assert not list(tmp_path.glob("saved/**/*.safetensors")) and not (tmp_path / "results").exists()


def test_a_class_named_as_python_imports_it_is_written_as_it_should_be(capsys, tmp_path):
    (tmp_path / "my_models.py").write_text("import torch\n\nclass Net(torch.nn.Module):\n")
    for name, said in (
        ("my_models.Net", "my_models:Net."),
        ("my_models.py", "my_models.py:Class"),
        ("Net", "my_models:Net."),
    ):
        assert main([f"--model={name}", "--dataset=ml-100k"]) == 2
        assert f"path/to/file.py:Class, here {said}" in capsys.readouterr().err
    assert main(["--model=Ne", "--dataset=ml-100k"]) == 2
    assert "path/to/file.py:Class." in capsys.readouterr().err


def test_importing_the_plugin_needs_no_ray():
    code = (
        "import sys; sys.modules['ray'] = None; import recbole_genci; "
        "recbole_genci.run; "
        "recbole_genci.Config; print('ok')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.strip() == "ok", done.stderr


def test_denormal_numbers_are_flushed_while_training(tiny):
    torch.set_flush_denormal(False)
    tiny_number = torch.tensor([1e-39])
    assert (tiny_number * 0.5).item() > 0
    prepare(
        "LR",
        "tiny",
        config_dict={
            k: v for k, v in tiny.items() if k not in SMALL_GENCI and k != "mlp_hidden_size"
        },
    )
    assert (tiny_number * 0.5).item() == 0


def test_a_model_that_fails_leaves_the_finished_ones_and_says_how_to_table_them(
    tiny, monkeypatch, caplog
):
    from recbole_genci.quick_start import execute
    from recbole_genci.report import main as report

    keys = {k: v for k, v in tiny.items() if k not in SMALL_GENCI}
    plan = prepare("LR,DeepFM", "tiny", config_dict=keys | {"seeds": 2})
    with monkeypatch.context() as patched:

        def break_down(self, interaction):
            raise RuntimeError("out of memory")

        patched.setattr(
            "recbole.model.context_aware_recommender.deepfm.DeepFM.calculate_loss", break_down
        )
        with pytest.raises(RuntimeError, match="out of memory") as caught:
            execute(plan)
    (advice,) = caught.value.__notes__
    files = re.search(r"Finished: LR seed 2020; .* recbole_genci\.report (\S+)\nNot begun", advice)
    assert files is not None and report([files[1]]) == 0
    assert [(run["model"], run["seed"]) for run in execute(plan)] == [
        ("LR", 2020),
        ("DeepFM", 2020),
        ("LR", 2021),
        ("DeepFM", 2021),
    ]


def test_models_of_one_run_must_share_their_rows():
    from recbole_genci.config import Config
    from recbole_genci.plan import check_same_rows

    configs = {name: Config(name, "ml-100k") for name in ("LR", "DIN")}
    check_same_rows(configs)
    configs["DIN"]["threshold"] = {"rating": 3}
    with pytest.raises(ValueError, match="threshold: LR has .* but DIN has"):
        check_same_rows(configs)
    for key, value in {
        "discretization": {"age": {"method": "ED", "bucket": 3}},
        "numerical_features": ["age"],
        "encoding": "utf-16",
        "seq_len": {"class": 2},
        "history_labels": "all",
        "metric_decimal_place": 2,
        "seeds": 2,
        "results_dir": "elsewhere",
    }.items():
        configs = {name: Config(name, "ml-100k") for name in ("LR", "DIN")}
        configs["DIN"][key] = value
        with pytest.raises(ValueError, match=f"{key}: LR has .* but DIN has"):
            check_same_rows(configs)


@pytest.mark.slow
def test_genci_and_deepfm_learn_the_real_ml100k(tmp_path):
    """One epoch each is far above chance, on the same rows, from texts to metrics.

    By default tests/test_notebook.py says the same.
    """
    # Shorter histories than the protocol's 50: a test must not take minutes where cores are shared.
    keys = {"epochs": 1, "rqvae_epochs": 20, "latency_repeats": 1, "MAX_ITEM_LIST_LENGTH": 10}
    runs = run("DeepFM,GenCI", "ml-100k", config_dict=keys)
    for result in runs:
        assert 0.75 < result["test"]["auc"] < 0.95
    assert runs[0]["data_fingerprint"] == runs[1]["data_fingerprint"]
    manifests = list((tmp_path / "dataset/semantic_ids").glob("ml-100k-*/manifest.json"))
    assert len(manifests) == 1 and runs[1]["semantic_ids"] is not None


@pytest.mark.parametrize("key", ["results_dir", "checkpoint_dir"])
def test_a_folder_that_cannot_be_written_is_found_out_before_training(key, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--model=LR", "--dataset=ml-100k", f"--{key}={tmp_path}/file/results"]) == 2
    assert f"{key}: nothing can be written into {tmp_path}/file/results" in capsys.readouterr().err


def test_neither_can_an_experiments(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert (
        main(
            [
                "--experiment=compare",
                "--models=LR",
                "--dataset=ml-100k",
                f"--results_dir={tmp_path}/file/results",
            ]
        )
        == 2
    )
    assert (
        f"results_dir: nothing can be written into {tmp_path}/file/results"
        in capsys.readouterr().err
    )


def test_no_model_at_all_is_one_sentence(tiny):
    with pytest.raises(ValueError, match="^model: none is named. Give at least one"):
        run([], "tiny", config_dict=tiny)
