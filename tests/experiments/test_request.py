"""What can be asked for, what is refused before any work, and when two runs are the same run."""

import importlib.util
import re
import shlex

import pytest
import yaml
from conftest import interrupted

from recbole_genci.cli import main as quick_start
from recbole_genci.config import Config
from recbole_genci.data.fingerprint import rows_fingerprint
from recbole_genci.experiments import command, experiment
from recbole_genci.experiments.cache import DataCache
from recbole_genci.experiments.command import main
from recbole_genci.experiments.definition import ORDER, describe, folder, known_experiments, read
from recbole_genci.experiments.identity import effective_keys, run_hash
from recbole_genci.experiments.request import ExperimentArguments, check_request
from recbole_genci.model.registry import get_model


def test_every_experiment_of_the_paper_is_defined():
    assert sorted(known_experiments()) == sorted(ORDER)
    for name in known_experiments():
        definition = read(name)
        assert definition.about.endswith(".") and definition.paper and definition.notes
        assert all(
            isinstance(note.text, str) and note.text.endswith(".") for note in definition.notes
        )  # a colon makes a YAML mapping
        assert len({line.name for line in definition.variants}) == len(definition.variants)
        assert importlib.util.find_spec(f"recbole_genci.experiments.reports.{definition.report}")
        known = {
            "about",
            "paper",
            "report",
            "seeds",
            "notes",
            "rows",
            "models",
            "model",
            "lines",
            "sweep",
            "against",
        }
        assert set(yaml.safe_load((folder() / f"{name}.yaml").read_text())) <= known
        assert name in describe(name)
        assert set(definition.against) <= {line.name for line in definition.variants}


@pytest.mark.parametrize("name", ORDER)
def test_every_line_is_a_configuration_that_ml100k_can_run(name):
    request = check_request(read(name), ExperimentArguments("ml-100k", seeds=None))
    assert len(request.seeds) == (read(name).seeds or 1)
    for line in request.variants:
        config = request.configs[line.name]
        assert {key: config[key] for key in line.keys} == line.keys and config[
            "model"
        ] == line.model


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--experiment=compair"], "experiment: 'compair'.*Did you mean 'compare'"),
        (["--experiment=compare", "--model=LR"], "model: .*--models"),
        (["--experiment=compare", "--models=LR,GenCl"], "model: 'GenCl'.*Did you mean 'GenCI'"),
        (["--experiment=compare", "--models=LR,LR"], "names LR twice"),
        (["--experiment=compare", "--models="], "models: it is empty. Name models"),
        (
            ["--experiment=compare", "--models=AutoInt,AutoInt+"],
            "'AutoInt' and 'AutoInt\\+' would be the same run",
        ),
        (["--experiment=ablation", "--models=LR"], "variants of GenCI.*leave --models out"),
        (["--experiment=statistics", "--models=LR"], "are no models"),
        (["--experiment=compare", "--seeds=0"], "seeds: 0"),
        (["--experiment=compare", "--seeds=many"], "seeds: 'many'"),
        (["--experiment=compare", "--seeds=1,2"], "seeds: .1, 2. is .* --seed=1 --seeds=2"),
        (["--experiment=intents", "--seeds=3"], "takes one seed"),
        (
            ["--experiment=compare", "--models=GenCI", "--embeding_size=8"],
            "Did you mean 'embedding_size'",
        ),
        (["--experiment=mu", "--mu=1"], "mu: experiment 'mu' sets it in every line"),
        (["--experiment=ablation", "--eta=0"], "'GenCI' and 'w/o SR' would be the same run.*--eta"),
        (["--experiment=compare", "--resume=saved/x"], "resume: "),
        (["--experiment=intents", "--intent_heads=7"], "intent_heads: 7"),
        (
            ["--experiment=compare", "--models=GenCI", "--dataset=ml-100"],
            "dataset: there is no folder .*Did you mean 'ml-100k'",
        ),
        (["--experiment=compare", "nonsense"], "not of the form"),
        (
            ["--experiment=compare", "--nproc=2"],
            "nproc: an experiment trains each run in one process",
        ),
        (
            ["--experiment=volatility", "--volatility_field=nope"],
            "volatility_field: 'nope' is no loaded item field",
        ),
        (
            ["--experiment=cohorts", "--semantic_id_path=x"],
            "semantic_id_path: experiment 'cohorts'.*leave --semantic_id_path",
        ),
        (
            ["--experiment=intents", "--use_short_term=False"],
            "use_short_term: with use_short_term: False GenCI has no such",
        ),
    ],
)
def test_a_bad_request_is_one_sentence_and_leaves_nothing(words, message, capsys, tmp_path):
    words = (
        words
        if any(word.startswith("--dataset") for word in words)
        else [*words, "--dataset=ml-100k"]
    )
    assert quick_start(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("recbole_genci: ") and re.search(message, error.replace("\n", " ")), (
        error
    )
    assert list(tmp_path.iterdir()) == []


def test_without_dataset_or_matplotlib_nothing_begins(monkeypatch, capsys, tmp_path):
    assert main(["--experiment=compare"]) == 2 and "--dataset is missing" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--experiment=compare", "--dataset=ml-100k"]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_help_tells_what_an_experiment_does(capsys):
    assert quick_start(["--help", "--experiment=ablation"]) == 0
    printed = capsys.readouterr().out
    assert (
        "w/o ST-Intent" in printed
        and "Table 4" in printed
        and "--seeds" in printed
        and "compare:" not in printed
    )
    assert (
        quick_start(["--help", "--experiment=all"]) == 0 and "compare:" in capsys.readouterr().out
    )
    assert quick_start(["--help"]) == 0 and "--experiment" in capsys.readouterr().out


def test_a_lines_own_keys_beat_the_command_line_and_all_takes_what_one_alone_refuses():
    definition = read("ablation")
    request = check_request(definition, ExperimentArguments("ml-100k", argv=["--mu=0.5"]))
    assert {
        line.name: request.configs[line.name]["mu"]
        for line in request.variants
        if "mu" in line.keys
    } == {"w/o NTP": 0, "SR alone": 0}
    assert request.configs["GenCI"]["mu"] == 0.5
    sweep = check_request(
        read("mu"),
        ExperimentArguments("ml-100k", argv=["--mu=0.5"], models=["LR"], seeds=2),
        [definition],
    )
    assert [sweep.configs[line.name]["mu"] for line in sweep.variants] == [
        0.01,
        0.1,
        1.0,
        2.0,
        5.0,
    ] and len(sweep.seeds) == 2


def test_seeds_may_be_asked_for_in_a_file_or_a_dict(tmp_path):
    file = tmp_path / "more.yaml"
    file.write_text("seeds: 5\n")
    compare, intents = read("compare"), read("intents")
    assert (
        len(check_request(compare, ExperimentArguments("ml-100k", config_files=[str(file)])).seeds)
        == 5
    )
    assert (
        len(
            check_request(
                compare, ExperimentArguments("ml-100k", config_dict={"seeds": 1, "mu": 0.2})
            ).seeds
        )
        == 1
    )
    assert (
        len(
            check_request(
                compare, ExperimentArguments("ml-100k", seeds=2, config_files=[str(file)])
            ).seeds
        )
        == 2
    )
    with pytest.raises(ValueError, match="seeds: experiment 'intents' takes one seed"):
        check_request(intents, ExperimentArguments("ml-100k", config_files=[str(file)]))


def test_among_all_experiments_the_one_about_semantic_ids_makes_its_own():
    asked = ExperimentArguments("ml-100k", argv=["--semantic_id_path=given"])
    mu, cohorts = (
        check_request(read(name), asked, [read("intents")]) for name in ("mu", "cohorts")
    )
    assert {config["semantic_id_path"] for config in mu.configs.values()} == {"given"}
    assert {config["semantic_id_path"] for config in cohorts.configs.values()} == {None}


class IDs:
    digest, level_sizes = "d" * 64, (4, 4, 4, 8)


def digest(model, ids=None, seed=1, rows="r", compared=("GenCI", "LR"), **keys):
    return run_hash(
        Config(model, "ml-100k", config_dict=keys, compared_models=compared), seed, rows, ids
    )


def test_the_same_run_has_the_same_hash():
    whole = digest("GenCI", IDs)
    assert (
        digest(
            "GenCI",
            IDs,
            checkpoint_dir="elsewhere",
            results_dir="r",
            latency_repeats=9,
            show_progress=True,
        )
        == whole
    )
    assert (
        digest(
            "GenCI",
            IDs,
            compared=(),
            text_encoder="minilm",
            eval_batch_size=7,
            seeds=3,
            seed=1,
            mu=1,
        )
        == whole
    )
    assert digest("LR", mu=5, text_encoder="minilm") == digest("LR")
    assert digest("AutoInt+") == digest("AutoInt") and digest("AFN+") == digest(
        "AFN", ensemble_dnn=True
    )


def test_a_model_that_was_mended_is_another_run(monkeypatch):
    mended = digest("DCNV2")
    monkeypatch.setattr(get_model("DCNV2"), "revision", 1)
    assert digest("DCNV2") != mended


def test_another_run_has_another_hash():
    class Others(IDs):
        digest = "e" * 64

    class Wider(IDs):
        level_sizes = (5, 4, 4, 8)

    hashes = [
        digest("GenCI", IDs),
        digest("GenCI", IDs, seed=2),
        digest("GenCI", IDs, rows="s"),
        digest("GenCI", IDs, mu=2),
        digest("GenCI", Others),
        digest("GenCI", Wider),
        digest("GenCI"),
        digest("GenCI", text_encoder="minilm"),
        digest("GenCI", IDs, MAX_ITEM_LIST_LENGTH=20),
        digest("GenCI", IDs, learning_rate=0.1),
        digest("LR"),
        digest("DIN"),
        digest("GenCI", IDs, stopping_step=5),
        digest("AFN"),
        digest("AFN+"),
    ]
    assert len(set(hashes)) == len(hashes)


def test_rows_are_told_apart_by_labels_and_by_features(tiny_parts):
    parts, _ = tiny_parts
    before = rows_fingerprint(parts)
    assert rows_fingerprint(parts) == before
    parts[0].item_feat["year"][3] += 1
    other = rows_fingerprint(parts)
    parts[2].inter_feat[parts[2].label_field][0] = 1 - parts[2].inter_feat[parts[2].label_field][0]
    assert len({before, other, rows_fingerprint(parts)}) == 3


def test_keys_that_decide_nothing_are_left_out():
    keys = effective_keys(Config("GenCI", "ml-100k"))
    assert {
        "learning_rate",
        "mu",
        "eval_args",
        "load_col",
        "threshold",
        "history_labels",
        "epochs",
    } <= set(keys)
    assert not {
        "seed",
        "data_path",
        "device",
        "codebook_size",
        "gpu_id",
        "latency_repeats",
        "checkpoint_dir",
    } & set(keys)


def arguments_of_experiments(monkeypatch):
    """The arguments of experiments from now on, which prepare nothing."""
    asked, nothing = [], command.Prepared([], DataCache())
    monkeypatch.setattr(
        command, "prepare", lambda name, arguments: asked.append(arguments) or nothing
    )
    return asked


def test_models_are_named_in_one_text_too(tmp_path, monkeypatch):
    asked = arguments_of_experiments(monkeypatch)
    for models in ("LR, DeepFM", ["LR", "DeepFM"]):
        assert experiment("compare", "ml-100k", models) == []
    assert [arguments.models for arguments in asked] == [["LR", "DeepFM"]] * 2
    assert "--models=LR,DeepFM" in asked[0].command
    with pytest.raises(ValueError, match="^config_dict: .1. is not a mapping of keys"):
        experiment("compare", "ml-100k", config_dict=[1])


def test_models_may_name_a_line_of_the_experiment():
    arguments = ExperimentArguments("ml-100k", models=["LR", "SR alone", "DIN"])
    request = check_request(read("compare"), arguments)
    assert [line.name for line in request.variants] == ["LR", "SR alone", "DIN"]
    control = request.configs["SR alone"]
    assert control["model"] == "GenCI" and control["mu"] == 0
    assert not control["use_short_term"] and not control["use_long_term"]
    # The same run in every table that has it.
    ablation = check_request(read("ablation"), ExperimentArguments("ml-100k"))
    same = (run_hash(each, 1, "r", IDs) for each in (control, ablation.configs["SR alone"]))
    assert len(set(same)) == 1
    with pytest.raises(ValueError, match="models: SR alone, SR alone names SR alone twice"):
        check_request(
            read("compare"), ExperimentArguments("ml-100k", models=["SR alone", "SR alone"])
        )


def test_against_names_the_lines_that_all_others_are_compared_with():
    def asked(name, models, *ones):
        return check_request(read(name), ExperimentArguments("ml-100k", models, against=ones))

    models = ["LR", "SR alone", "GenCI"]
    assert asked("compare", models).definition.against == ("GenCI",)
    found = asked("compare", models, "LR", "SR alone").definition
    assert found.against == ("LR", "SR alone") and read("compare").against == ("GenCI",)
    assert asked("volatility", None, "DIN").definition.against == ("DIN",)
    with pytest.raises(
        ValueError, match="^against: 'DIN' is no line of this table. Its lines are LR,"
    ):
        asked("compare", models, "DIN")
    with pytest.raises(ValueError, match="^against: LR, LR names LR twice"):
        asked("compare", models, "LR", "LR")
    with pytest.raises(ValueError, match="^models: 'LR,,DIN' has an empty name"):
        asked("compare", ["LR", "", "DIN"], "LR")
    with pytest.raises(
        ValueError, match="^against: experiment 'mu' compares no models, as compare and"
    ):
        asked("mu", None, "GenCI")
    # With other experiments it is about those that compare models.
    arguments = ExperimentArguments("ml-100k", against=["DIN"])
    request = check_request(read("ablation"), arguments, [read("compare")])
    assert request.definition.against == ("GenCI", "SR alone")


def test_against_is_part_of_the_command(monkeypatch):
    asked = arguments_of_experiments(monkeypatch)
    assert experiment("compare", "ml-100k", "LR,DIN", against="DIN, LR") == []
    assert asked[0].against == ["DIN", "LR"] and "--against=DIN,LR" in asked[0].command
    words = shlex.split(asked[0].command)[2:]
    command.main(words)
    assert asked[1].against == ["DIN", "LR"] and asked[1].command == asked[0].command


def test_an_empty_list_of_models_or_lines_is_refused(capsys, monkeypatch):
    said = {"against": "against: it is empty. Name lines of the table"}
    said["models"] = "models: it is empty. Name models"
    for key, words in said.items():
        assert command.main(["--experiment=compare", "--dataset=ml-100k", f"--{key}="]) == 2
        assert words in capsys.readouterr().err
    monkeypatch.setattr(command, "prepare", interrupted)  # where a table of all lines would begin
    for key, words in said.items():
        for nothing in ([], (), "", " "):
            with pytest.raises(ValueError, match=f"^{words}"):
                experiment("compare", "ml-100k", **{key: nothing})
