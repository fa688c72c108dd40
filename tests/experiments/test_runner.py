"""Experiments on small data, from request to table: stopped and gone on with, shared, failing,
incomplete.
"""

import csv
import errno
import json
import logging
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_GENCI, tiny_rows, write_dataset
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci import load
from recbole_genci.experiments import command, experiment, paper
from recbole_genci.experiments.command import main
from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.records import read_runs
from recbole_genci.experiments.reports import compare, sweep
from recbole_genci.experiments.runner import Runner
from recbole_genci.experiments.significance import holm
from recbole_genci.training import resuming
from recbole_genci.training import run as training
from recbole_genci.utils.lock import LOCK_FILE, only_process
from recbole_genci.utils.provenance import provenance


def gauc_by_hand(users, labels, scores):
    total, weight = 0.0, 0
    for user in np.unique(users):
        own = users == user
        if 0 < labels[own].mean() < 1:
            total, weight = (
                total + own.sum() * roc_auc_score(labels[own], scores[own]),
                weight + own.sum(),
            )
    return total / weight


PLAIN = ("valid AUC", "AUC of averaged logits", "LogLoss of averaged logits")
ENDS = (" 95 % from", " 95 % to")
SAME = (
    "model",
    "seed",
    "config_hash",
    "data_fingerprint",
    "semantic_ids",
    "test",
    "best_valid",
    "best_epoch",
    "epochs",
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One small dataset and its semantic IDs for all tests; each has results of its own."""
    return (
        write_dataset(tmp_path_factory.mktemp("data"), tiny_rows(rows_per_user=40))
        | SMALL_GENCI
        | {"diagnostic_rows": 0, "train_batch_size": 128}
    )


@pytest.fixture
def data(shared, monkeypatch, quick_figures):
    origin = provenance()  # takes a second where many packages are installed
    monkeypatch.setattr(training, "provenance", lambda: origin)
    return dict(shared)


@pytest.fixture
def outcomes(monkeypatch):
    """What reports have made of each experiment that was carried out, in order."""
    seen, original = [], command.execute
    monkeypatch.setattr(command, "execute", lambda *work: seen.append(original(*work)) or seen[-1])
    return seen


@pytest.fixture
def trained(monkeypatch):
    """The models and seeds that are trained, in order."""
    seen, original = [], resuming.train_and_evaluate

    def train(config, *args, **kwargs):
        seen.append((config["model"], config["seed"]))
        return original(config, *args, **kwargs)

    monkeypatch.setattr(resuming, "train_and_evaluate", train)
    return seen


def same(records):
    return [
        {key: record[key] for key in SAME}
        for record in sorted(records, key=lambda each: each["config_hash"])
    ]


def cells(table):
    return [
        [entry.strip() for entry in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("| ")
    ]


def test_a_table_says_what_the_runs_say(data):
    (result,) = experiment("compare", "tiny", ["LR", "DeepFM", "GenCI"], 2, config_dict=data)
    folder = Path("results/compare-tiny")
    assert {path.name for path in folder.iterdir()} == {
        "table.md",
        "table.csv",
        "table.tex",
        "differences.csv",
        "differences.tex",
        "report.html",
        "compare.png",
        "differences.png",
        "runs.jsonl",
        "runs",
        "experiment.log",
        LOCK_FILE,
    }
    records = read_runs(folder)
    assert [(r["seed"], r["model"]) for r in records] == [
        (s, m) for s in (2020, 2021) for m in ("LR", "DeepFM", "GenCI")
    ]
    for record in records:
        run = load(folder / record["folder"])
        scores, labels = run.predict("test")
        users = run.parts[2].inter_feat["user_id"].numpy()
        assert (np.load(folder / record["folder"] / "test_scores.npy") == scores.numpy()).all()
        expected = {
            **run.evaluate("test"),
            "gauc": gauc_by_hand(users, labels.numpy(), scores.numpy()),
        }
        assert record["test"] == pytest.approx(expected) and record["seed"] == run.config["seed"]
        assert {
            "versions",
            "git_revision",
            "finished_at",
            "config_hash",
            "data_fingerprint",
            "latency_s",
        } <= set(record)
    text, rows = (
        (folder / "table.md").read_text(),
        list(csv.DictReader((folder / "table.csv").open())),
    )
    for name, row in zip(("LR", "DeepFM", "GenCI"), rows):
        auc = [record["test"]["auc"] for record in records if record["model"] == name]
        assert row["model"] == name and float(row["AUC"]) == pytest.approx(np.mean(auc))
        assert (
            float(row["AUC sd"]) == pytest.approx(np.std(auc, ddof=1)) and row["runs"] == "2 seeds"
        )
        assert f"| {name} | {np.mean(auc):.4f} ± {np.std(auc, ddof=1):.4f} |" in text
    assert (
        "seeds 2020, 2021" in text
        and "--experiment=compare --dataset=tiny --models=LR,DeepFM,GenCI --seeds=2" in text
    )
    assert (
        records[0]["data_fingerprint"][:12] in text
        and "GAUC is the mean" in text
        and "no figures for tiny" in text
        and "stand beside" not in text
    )
    page = (folder / "report.html").read_text()
    origin = page[page.index('<section id="origin">') :]
    for said in (records[0]["data_fingerprint"][:12], records[0]["git_revision"], "torch 2"):
        assert said in origin and said in text
    assert page.count("<tr class=highlighted>") == 1  # GenCI's results, none of its differences
    assert "AUC of the seeds&#x27; ensemble" in page and "AUC of averaged logits" not in page
    tested = list(csv.DictReader((folder / "differences.csv").open()))
    assert [(row["line"], row["minus"]) for row in tested] == [("GenCI", "LR"), ("GenCI", "DeepFM")]
    by_name = dict(zip(("LR", "DeepFM", "GenCI"), rows))
    for row in tested:
        for metric in ("AUC", "LogLoss", "GAUC"):
            difference = float(by_name["GenCI"][metric]) - float(by_name[row["minus"]][metric])
            assert float(row[f"{metric} difference"]) == pytest.approx(difference, abs=1e-6)
            low, high = (float(row[f"{metric} difference 95 % {end}"]) for end in ("from", "to"))
            assert low < high
        assert row["AUC t-test over seeds, p"] == "" and float(row["AUC p"]) <= float(
            row["AUC p, Holm"]
        )
    for name, row in by_name.items():  # two seeds' logits averaged
        scores = [
            np.load(folder / r["folder"] / "test_scores.npy").astype(float)
            for r in records
            if r["model"] == name
        ]
        logits = np.mean([np.log(each / (1 - each)) for each in scores], axis=0)
        _, labels = load(folder / records[0]["folder"]).predict("test")
        mean = 1 / (1 + np.exp(-logits))
        auc, loss = roc_auc_score(labels, mean), log_loss(labels, mean)
        assert float(row["AUC of averaged logits"]) == pytest.approx(auc)
        assert float(row["LogLoss of averaged logits"]) == pytest.approx(loss, rel=1e-5)
    assert result.failed == () and (folder / "compare.png").read_bytes()[:4] == b"\x89PNG"


def test_figures_of_the_paper_stand_beside_ours_where_it_has_them(data, monkeypatch):
    printed = {
        table: {"tiny": entries["ml-1m"]}
        for table, entries in paper._tables().items()
        if "ml-1m" in entries
    }
    monkeypatch.setattr(paper, "_tables", lambda: printed)
    experiment("compare", "tiny", ["LR", "GenCI"], 1, config_dict=data)
    _, genci = csv.DictReader(Path("results/compare-tiny/table.csv").open())
    shown = [genci[f"paper {name}"] for name in ("AUC", "LogLoss", "RelaImpr [%]", "latency [s]")]
    assert shown == ["0.8964", "0.3507", "10.82", "0.48"]
    assert float(genci["AUC - paper"]) == pytest.approx(float(genci["AUC"]) - 0.8964)
    experiment("ablation", "tiny", seeds=1, config_dict=data)
    full, without, *rest = csv.DictReader(Path("results/ablation-tiny/table.csv").open())
    assert [row["variant"] for row in rest] == ["w/o LT-Intent", "w/o SR", "w/o NTP", "SR alone"]
    assert rest[-1]["paper AUC"] == ""  # the paper has no such line
    assert (full["paper AUC"], full["paper AUC - full"], without["paper AUC"]) == (
        "0.8964",
        "",
        "0.8935",
    )
    assert float(without["paper AUC - full"]) == pytest.approx(-0.0029)
    assert float(rest[-1]["GAUC - full"]) == pytest.approx(
        float(rest[-1]["GAUC"]) - float(full["GAUC"])
    )
    rows = list(csv.DictReader(Path("results/ablation-tiny/differences.csv").open()))
    names = ["GenCI", "w/o ST-Intent", "w/o LT-Intent", "w/o SR", "w/o NTP", "SR alone"]
    assert [(row["line"], row["minus"]) for row in rows] == [
        *((name, "GenCI") for name in names[1:]),
        *((name, "SR alone") for name in names[1:-1]),
    ]  # a pair once
    of_control, of_part = float(rows[4]["AUC difference"]), float(rows[0]["AUC difference"])
    assert of_control == pytest.approx(float(rest[-1]["AUC - full"]), abs=1e-6)
    assert float(rows[5]["AUC difference"]) == pytest.approx(of_part - of_control, abs=1e-9)
    assert float(without["AUC - full"]) == pytest.approx(float(without["AUC"]) - float(full["AUC"]))
    for name in ("compare", "ablation"):
        text = Path(f"results/{name}-tiny/table.md").read_text()
        assert "Columns named `paper` are from the paper's Table" in text and "| 0.8964 |" in text
        page = Path(f"results/{name}-tiny/report.html").read_text()
        assert "Columns named <code>paper</code>" in page
    text = Path("results/compare-tiny/table.md").read_text()
    assert "its figures stand beside AUC" in text
    # Each run had one epoch.
    assert re.search(
        r"^- LR, .*GenCI.*: the last epoch \(1\) was the best, so training may", text, re.M
    )


def test_a_sweep_of_one_key_is_a_table_and_a_curve(data, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        sweep,
        "curve",
        lambda file, title, key, values, panels: drawn.append((file.name, key, values, panels)),
    )
    experiment("mu", "tiny", seeds=2, config_dict=data)
    rows = list(csv.DictReader(Path("results/mu-tiny/table.csv").open()))
    assert [row["value"] for row in rows] == ["0.01", "0.1", "1.0", "2.0", "5.0"] and {
        row["key"] for row in rows
    } == {"mu"}
    ((name, key, values, panels),) = drawn
    assert (name, key, values) == ("mu.png", "mu", [0.01, 0.1, 1.0, 2.0, 5.0])
    records = read_runs(Path("results/mu-tiny"))
    for row, value, shown in zip(rows, values, panels[0].series[0].values):
        aucs = [record["test"]["auc"] for record in records if record["settings"] == {"mu": value}]
        valid = [
            record["best_valid"]["auc"] for record in records if record["settings"] == {"mu": value}
        ]
        assert len(aucs) == 2 and float(row["AUC"]) == pytest.approx(np.mean(aucs)) == shown.value
        assert float(row["AUC sd"]) == pytest.approx(np.std(aucs, ddof=1)) == shown.error
        assert float(row["valid AUC"]) == pytest.approx(np.mean(valid))


def test_the_csv_and_the_markdown_agree_entry_by_entry(data):
    experiment("extraction", "tiny", seeds=2, config_dict=data)
    folder = Path("results/extraction-tiny")
    first, further = (folder / "table.md").read_text().split("\n## differences\n")
    head, _, *shown = cells(first)
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert len(shown) == len(rows) == 5
    for entries, row in zip(shown, rows):
        for name, entry in zip(head, entries):
            plain, _, error = name.partition(" (± ")
            value = row[plain]
            if error and value:
                form = "+.4f" if "full" in plain else ".4f"
                value = f"{float(value):{form}} ± {float(row[f'{plain} {error[:-1]}']):.4f}"
            elif value and plain in PLAIN:
                value = f"{float(value):.4f}"
            assert entry == (value or "–")
        assert 0 < float(row["LogLoss recalibrated"]) <= float(row["LogLoss"]) + 1e-6
    head, _, *shown = cells(further)
    compared = list(csv.DictReader((folder / "differences.csv").open()))
    for entries, row in zip(shown, compared, strict=True):
        by_head = dict(zip(head, entries, strict=True))
        for metric in ("AUC", "LogLoss", "GAUC"):
            name = f"{metric} difference"
            value, low, high = (float(row[f"{name}{end}"]) for end in ("", *ENDS))
            assert by_head[f"{name} (95 %)"] == f"{value:+.4f} ({low:+.4f} to {high:+.4f})"
    full, without = (
        {r["seed"]: r["test"]["auc"] for r in read_runs(folder) if r["settings"] == settings}
        for settings in ({"intent_extraction": "hierarchical"}, {"intent_extraction": "target"})
    )
    difference = np.array([without[seed] - full[seed] for seed in (2020, 2021)])
    assert float(rows[2]["AUC - full"]) == pytest.approx(difference.mean())
    assert float(rows[2]["AUC - full se"]) == pytest.approx(difference.std(ddof=1) / np.sqrt(2))


def test_experiments_share_their_runs_rows_and_semantic_ids(data, trained, monkeypatch, caplog):
    built, made = [], []
    from recbole_genci.experiments import cache

    originals = cache.prepare_rows, cache.prepare_semantic_ids
    monkeypatch.setattr(
        cache, "prepare_rows", lambda config: built.append(1) or originals[0](config)
    )
    monkeypatch.setattr(
        cache, "prepare_semantic_ids", lambda *args: made.append(1) or originals[1](*args)
    )
    experiment("compare", "tiny", ["LR", "GenCI"], 1, config_dict=data)
    assert trained == [("LR", 2020), ("GenCI", 2020)] and (len(built), len(made)) == (1, 1)
    # The full model is there, four variants are new.
    caplog.set_level(logging.INFO)
    experiment("extraction", "tiny", seeds=1, config_dict=data)
    assert len(trained) == 6 and (len(built), len(made)) == (2, 2)
    assert "Experiment extraction: 5 runs, 1 there already; about" in caplog.text
    full = read_runs(Path("results/extraction-tiny"))[0]
    assert full["taken_from"] == "compare-tiny" and full["folder"].startswith(
        "../compare-tiny/runs/"
    )
    assert (
        load(Path("results/extraction-tiny") / full["folder"]).evaluate()["auc"]
        == full["test"]["auc"]
    )
    assert (
        "Some runs are those of compare-tiny"
        in Path("results/extraction-tiny/table.md").read_text()
    )
    # Analyses of those runs train nothing, neither does the same request again.
    experiment("intents", "tiny", config_dict=data)
    experiment("volatility", "tiny", ["LR", "GenCI"], 1, config_dict=data)
    experiment("compare", "tiny", ["GenCI", "LR"], 1, config_dict=data)
    assert len(trained) == 6 and [
        row[0] for row in cells(Path("results/compare-tiny/table.md").read_text())[2:4]
    ] == [
        "GenCI",
        "LR",
    ]
    # Another learning rate is another run.
    experiment("intents", "tiny", config_dict=data | {"learning_rate": 0.001})
    assert len(trained) == 7


@pytest.mark.parametrize(
    "kept",
    [
        {"test_scores.npy"},
        pytest.param({"test_scores.npy", "metrics.json", "config.yaml"}, marks=pytest.mark.slow),
    ],
    ids=len,
)
def test_scores_alone_make_tables_but_no_analysis_of_a_model(kept, data, trained, caplog):
    """As in records that somebody published: what needs the model trains it anew instead of dying
    of its absence.
    """
    experiment("compare", "tiny", ["LR", "GenCI"], 1, config_dict=data)
    experiment("intents", "tiny", config_dict=data)
    for folder in Path("results/compare-tiny/runs").glob("*/*"):
        for file in folder.iterdir():
            if file.is_file() and file.name not in kept:
                file.unlink()
    trained.clear()
    experiment("volatility", "tiny", ["LR", "GenCI"], 1, config_dict=data)
    assert trained == []
    experiment("intents", "tiny", config_dict=data)
    assert (
        trained == [("GenCI", 2020)]
        and "has lost model.safetensors: what is missing is made again" in caplog.text
    )
    (record,) = read_runs(Path("results/intents-tiny"))
    assert record["taken_from"] is None and Path("results/intents-tiny/intents.png").is_file()


def test_a_run_that_was_killed_goes_on_from_its_last_epoch(data, monkeypatch, caplog):
    data |= {"epochs": 3, "stopping_step": 9}
    models = ["LR", "DeepFM", "DIN"]
    experiment("compare", "tiny", models, 1, config_dict=data | {"results_dir": "whole"})
    original = training.CTRTrainer.fit

    def fit_and_die(self, *args, callback_fn=None, **kwargs):
        def die(epoch, score):
            if type(self.model).__name__ == "DeepFM" and epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        return original(self, *args, callback_fn=die, **kwargs)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(training.CTRTrainer, "fit", fit_and_die)
        experiment("compare", "tiny", models, 1, config_dict=data)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    folder = Path("results/compare-tiny")
    assert [record["model"] for record in read_runs(folder)] == ["LR"] and not (
        folder / "table.md"
    ).exists()
    starts = []

    def fit(self, *args, **kwargs):
        starts.append(self.start_epoch)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(training.CTRTrainer, "fit", fit)
    caplog.set_level(logging.INFO)
    experiment("compare", "tiny", models, 1, config_dict=data)
    assert starts == [2, 0]  # DeepFM after its epochs 0 and 1, then DIN; LR is kept
    assert "3 runs, 1 there already" in caplog.text
    records, whole = read_runs(folder), read_runs(Path("whole/compare-tiny"))
    assert same(records) == same(whole)
    assert [record["resumed"] for record in records] == [False, True, False]
    ours, wholes = (
        cells((path / "compare-tiny/table.md").read_text())
        for path in map(Path, ("results", "whole"))
    )
    figures = [number for number, name in enumerate(ours[0]) if not name.startswith("latency")]
    assert [[row[number] for number in figures] for row in ours] == [
        [row[number] for number in figures] for row in wholes
    ]


def test_a_run_killed_before_its_record_is_only_read(data, trained, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(
            Runner, "_score", lambda *args: os._exit
        )  # any value that is no dict ends the run there
        experiment("compare", "tiny", ["LR"], 1, config_dict=data)
    assert read_runs(Path("results/compare-tiny"))[0]["status"] == "failed" and len(trained) == 1
    experiment("compare", "tiny", ["LR"], 1, config_dict=data)
    (record,) = read_runs(Path("results/compare-tiny"))
    assert record["status"] == "finished" and record["error"] is None and len(trained) == 1


NOT_FINITE = FloatingPointError("its loss is not finite")


def failing(model, seeds, monkeypatch, error=NOT_FINITE):
    """Let a model fail with some seeds."""
    original = resuming.train_and_evaluate

    def train(config, *args, **kwargs):
        if config["model"] == model and config["seed"] in seeds:
            raise error
        return original(config, *args, **kwargs)

    monkeypatch.setattr(resuming, "train_and_evaluate", train)


def test_a_failing_model_is_reported_and_the_others_finish(data, monkeypatch, capsys, tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text(json.dumps(data))
    words = [
        "--experiment=compare",
        "--dataset=tiny",
        "--models=LR,DeepFM,DIN",
        "--seeds=2",
        f"--config_files={file}",
    ]
    with monkeypatch.context() as patched:
        failing("DeepFM", {2020, 2021}, patched)
        assert main(words) == 1
    error = capsys.readouterr().err
    assert (
        "2 runs failed; the first, DeepFM seed 2020: FloatingPointError: its loss is not finite"
        in error
    )
    text = Path("results/compare-tiny/table.md").read_text()
    assert re.search(
        r"\| DeepFM( \| –)+ \| failed; FloatingPointError: its loss is not finite \|", text
    )
    assert (
        "**2 of 6 runs failed**" in text
        and ". 2 of 6 runs failed;" in Path("results/compare-tiny/report.html").read_text()
        and text.count("| 2 seeds |") == 2
        and re.search(r"\| (LR \| DIN|DIN \| LR) \|", text)
    )
    failed = [
        record for record in read_runs(Path("results/compare-tiny")) if record["status"] == "failed"
    ]
    assert len(failed) == 2 and all(
        "FloatingPointError" in record["error"] and record["versions"] for record in failed
    )
    assert {record["data_fingerprint"] for record in read_runs(Path("results/compare-tiny"))} == {
        failed[0]["data_fingerprint"]
    }
    # The same command tries them again, and only them.
    assert main(words) == 0
    text = Path("results/compare-tiny/table.md").read_text()
    assert text.count("| 2 seeds |") == 3 and "failed" not in text
    assert len(read_runs(Path("results/compare-tiny"))) == 6


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError("8 GiB")]
)
def test_a_failure_of_the_machine_ends_the_experiment_and_is_no_fault_of_a_model(
    error, data, trained, monkeypatch, capsys, tmp_path
):
    file = tmp_path / "keys.yaml"
    file.write_text(json.dumps(data | {"epochs": 1}))
    words = ["--experiment=compare", "--dataset=tiny", "--models=LR,DeepFM", "--seeds=2"]
    words += [f"--config_files={file}"]
    with monkeypatch.context() as patched:
        failing("DeepFM", {2020}, patched, error)
        assert main(words) == 1
    assert "Go on by: python run_recbole_genci.py --experiment=compare" in capsys.readouterr().err
    (record,) = read_runs(Path("results/compare-tiny"))
    assert (record["model"], record["status"]) == ("LR", "finished")
    trained.clear()
    assert main(words) == 0
    assert trained == [("DeepFM", 2020), ("LR", 2021), ("DeepFM", 2021)]


@pytest.mark.parametrize("base", [0.56, 0.55, 0.4, float("nan")])
def test_the_table_has_no_rela_impr_over_a_base_near_a_guess(base, data, outcomes):
    experiment("compare", "tiny", ["LR", "DeepFM"], 1, config_dict=data)
    (outcome,) = outcomes
    for record in outcome.runs.values():
        if record["model"] == "LR":
            record["test"]["auc"] = base
    made = compare.report(outcome, Path("results/compare-tiny"))
    has = "RelaImpr [%]" in [column.name for column in made.tables["table"].columns]
    said = [each for each in made.remarks if each.startswith("No RelaImpr: ")]
    assert has == (base == 0.56) and len(said) == (not has)
    assert ("RelaImpr (Eq. 13) is taken over LR's mean AUC." in made.remarks) == has


def test_a_line_that_lacks_a_seed_is_not_averaged(data, outcomes, monkeypatch):
    failing("DeepFM", {2021}, monkeypatch)
    (result,) = experiment("compare", "tiny", ["LR", "DeepFM"], 3, config_dict=data)
    (outcome,) = outcomes
    (failed,) = result.failed
    assert (failed.variant, failed.model, failed.seed) == ("DeepFM", "DeepFM", 2021)
    assert [run.seed for run in result.variants["DeepFM"]] == [2020, 2022] and len(result.runs) == 5
    line = Variant("DeepFM", "DeepFM")
    assert (
        not outcome.complete(line)
        and outcome.mean(line, "auc") is None
        and outcome.number(line, "latency_s") is None
    )
    folder = Path("results/compare-tiny")
    aucs = {
        r["seed"]: r["test"]["auc"]
        for r in read_runs(folder)
        if r["model"] == "DeepFM" and r["status"] == "finished"
    }
    status = f"incomplete, 2 of 3 seeds (2020: AUC {aucs[2020]:.4f}, 2022: AUC {aucs[2022]:.4f})"
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert (
        rows[1]["AUC"] == rows[1]["LogLoss"] == rows[1]["GAUC"] == "" and status in rows[1]["runs"]
    )
    text = (folder / "table.md").read_text()
    assert status in text and f"{np.mean(list(aucs.values())):.4f} ±" not in text
    assert "\n\nAll models on the same rows. Test" in text  # there are no differences
    assert "![All models on the same rows.](compare.png)" in text
    assert "fewer than two lines" in text and not (folder / "differences.csv").exists()


def test_an_encoder_out_of_reach_fails_its_lines_alone(data, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from recbole_genci.experiments import definition

    original = definition.read("cohorts")
    swept = [
        line
        for line in original.variants
        if line.swept in ("text_encoder", "history_tokens") and "minilm" not in line.name
    ]
    small = definition.Definition(**vars(original) | {"variants": tuple(swept)})
    monkeypatch.setattr("recbole_genci.experiments.command.chosen", lambda name: [small])
    keys = data | {"text_encoder": "lsa"}
    (result,) = experiment("cohorts", "tiny", seeds=1, config_dict=keys)
    (failed,) = result.failed
    (line,) = [line for line in swept if line.name == failed.variant]
    assert line.keys == {"text_encoder": "sentence-transformers/sentence-t5-base"}
    assert "cannot be loaded" in failed.error and result.variants[failed.variant] == ()
    assert len(result.variants) == 4 and len(result.runs) == 2
    rows = list(csv.DictReader(Path("results/cohorts-tiny/table.csv").open()))
    assert [bool(row["AUC"]) for row in rows] == [True, False, True, True]
    assert (
        rows[0]["AUC"] == rows[2]["AUC"] != rows[3]["AUC"]
    )  # lsa and item are the full model: one run
    assert len(list(Path("results/cohorts-tiny/runs").iterdir())) == 2


def test_volatility_measures_each_group_on_the_stored_scores(data, outcomes):
    experiment("volatility", "tiny", ["LR", "DeepFM"], 2, config_dict=data)
    (outcome,) = outcomes
    from recbole_genci.evaluation.volatility import groups, user_volatility

    row = list(csv.DictReader(Path("results/volatility-tiny/table.csv").open()))[1]
    of_rows = groups(user_volatility(outcome.parts), outcome.test_users)
    for group in ("fast", "slow"):
        chosen = of_rows == group
        aucs = [
            roc_auc_score(outcome.test_labels[chosen], scores[chosen])
            for scores in outcome.scores(Variant("DeepFM", "DeepFM"))
        ]
        assert float(row[f"{group} AUC"]) == pytest.approx(np.mean(aucs))
        assert float(row[f"{group} AUC sd"]) == pytest.approx(np.std(aucs, ddof=1))
    differences = list(csv.DictReader(Path("results/volatility-tiny/differences.csv").open()))
    lines = list(csv.DictReader(Path("results/volatility-tiny/table.csv").open()))
    valid = {
        name: np.mean([r["best_valid"]["auc"] for r in outcome.of_variant(Variant(name, name))])
        for name in ("LR", "DeepFM")
    }
    best = max(valid, key=valid.get)  # GenCI, which the experiment is about, is not among them
    (other,) = set(valid) - {best}
    by_name = {line["model"]: line for line in lines}
    for group, found in zip(("fast", "slow"), differences, strict=True):
        assert (found["users"], found["line"], found["minus"]) == (
            f"{group}-changing",
            best,
            other,
        )
        for metric in ("AUC", "LogLoss", "GAUC"):
            of = [float(by_name[name][f"{group} {metric}"]) for name in (best, other)]
            assert float(found[f"{metric} difference"]) == pytest.approx(of[0] - of[1], abs=1e-9)
        low, high = (float(found[f"AUC difference 95 % {end}"]) for end in ("from", "to"))
        assert low < high
    text = Path("results/volatility-tiny/table.md").read_text()
    assert f"those of {best}, the best by validation AUC" in text
    assert (
        f"{len(np.unique(outcome.test_users[of_rows == 'fast']))} users with "
        f"{(of_rows == 'fast').sum()} rows" in text
    )


def test_statistics_counts_the_rows_and_trains_nothing(tmp_path, trained):
    rows = [
        ["u0", "i0", 1, 10],
        ["u0", "i1", 0, 20],
        ["u0", "i2", 1, 30],
        ["u0", "i0", 1, 40],
        ["u1", "i0", 1, 10],
        ["u1", "i1", 1, 20],
        ["u1", "i1", 0, 30],
        ["u1", "i3", 0, 40],
    ]
    keys = write_dataset(tmp_path / "data", rows) | {
        "eval_args": {"split": {"LS": "valid_and_test"}}
    }
    keys.pop("mlp_hidden_size")
    experiment("statistics", "tiny", config_dict=keys)
    whole, train, valid, test = csv.DictReader(Path("results/statistics-tiny/table.csv").open())
    assert [whole[name] for name in ("users", "items", "interactions")] == ["2", "4", "8"]
    assert (
        float(whole["Avg.n"]) == 4
        and float(whole["sparsity [%]"]) == 0
        and float(whole["positives [%]"]) == 62.5
    )
    assert (
        float(whole["mean history"]) == np.mean([0, 1, 1, 2, 0, 1, 2, 2])
        and float(whole["empty history [%]"]) == 25
    )
    assert [part["interactions"] for part in (train, valid, test)] == ["4", "2", "2"] and test[
        "items"
    ] == "2"
    assert trained == [] and "paper users" not in whole


def test_all_runs_each_experiment_and_shares_the_full_model(data, trained, monkeypatch):
    from recbole_genci.experiments import definition

    few = [definition.read(name) for name in ("statistics", "compare", "intents")]
    monkeypatch.setattr("recbole_genci.experiments.command.chosen", lambda name: few)
    results = experiment("all", "tiny", ["LR", "GenCI"], 1, config_dict=data)
    assert [result.name for result in results] == [each.name for each in few]
    assert trained == [("LR", 2020), ("GenCI", 2020)]  # intents reads the full model of compare
    assert all((result.folder / "table.md").is_file() for result in results)


def test_of_all_experiments_one_that_the_items_do_not_allow_is_left_out(
    data, trained, monkeypatch, caplog
):
    from recbole_genci.experiments import definition

    few = [definition.read(name) for name in ("volatility", "statistics")]
    monkeypatch.setattr("recbole_genci.experiments.command.chosen", lambda name: few)
    data["load_col"] = data["load_col"] | {"item": ["item_id", "year"]}
    results = experiment("all", "tiny", ["LR"], 1, config_dict=data)
    assert [result.name for result in results] == ["statistics"] and not trained
    assert (
        "Experiment volatility is left out. volatility_field: dataset tiny has no loaded item field"
        in caplog.text
    )


def test_two_processes_never_share_a_folder(data, tmp_path, capsys):
    file = tmp_path / "keys.yaml"
    file.write_text(json.dumps(data))
    words = [
        "--experiment=compare",
        "--dataset=tiny",
        "--models=LR",
        "--seeds=1",
        f"--config_files={file}",
    ]
    with only_process(Path("results/compare-tiny")):
        assert main(words) == 2
        assert "another process is at work in results/compare-tiny/" in capsys.readouterr().err
    assert main(words) == 0
    with only_process(Path("results/compare-tiny")):  # it is free again
        pass


def test_lines_of_a_persons_choice_are_compared_with_all_others(data, trained):
    models = ["LR", "DeepFM", "FM"]
    experiment("compare", "tiny", models, 1, config_dict=data, against=["FM", "LR"])
    rows = list(csv.DictReader(Path("results/compare-tiny/differences.csv").open()))
    pairs = [(row["line"], row["minus"]) for row in rows]
    assert pairs == [("FM", "LR"), ("FM", "DeepFM"), ("LR", "DeepFM")]  # a pair once
    p_values = [float(row["AUC p"]) for row in rows]
    corrected = [float(row["AUC p, Holm"]) for row in rows]
    assert corrected == pytest.approx(holm(p_values))  # of all three pairs
    assert corrected[p_values.index(min(p_values))] == pytest.approx(min(1, 3 * min(p_values)))
    auc = {run["model"]: run["test"]["auc"] for run in read_runs(Path("results/compare-tiny"))}
    for one, other in pairs:
        row = rows[pairs.index((one, other))]
        assert float(row["AUC difference"]) == pytest.approx(auc[one] - auc[other], abs=1e-6)
    table = Path("results/compare-tiny/table.md").read_text()
    assert "Differences are those of FM, LR, the lines that the experiment is about." in table
    # Another choice trains nothing.
    experiment("compare", "tiny", models, 1, config_dict=data, against="DeepFM")
    rows = list(csv.DictReader(Path("results/compare-tiny/differences.csv").open()))
    assert [row["line"] for row in rows] == ["DeepFM"] * 2 and len(trained) == 3


def test_what_an_earlier_request_left_does_not_stay_beside_the_new_table(data, trained):
    experiment("compare", "tiny", ["LR", "DeepFM"], 1, config_dict=data)
    folder = Path("results/compare-tiny")
    assert (folder / "differences.csv").is_file() and (folder / "differences.png").is_file()
    one = next(csv.DictReader((folder / "differences.csv").open()))["line"]
    about = f"All models on the same rows, with the paired difference of {one} to every other."
    text = (folder / "table.md").read_text()
    assert f"\n\n{about} Test split" in text and f"![{about}](compare.png)" in text
    drawn = "Paired differences of test AUC and LogLoss, with 95 % intervals over users."
    assert f"![{drawn}](differences.png)" in text
    assert about in (folder / "report.html").read_text() and "GenCI" not in text
    own = [folder / name for name in ("mine.csv", "mine.tex", "mine.png", "settings.csv")]
    for file in own:
        file.touch()
    (result,) = experiment("compare", "tiny", ["LR"], 1, config_dict=data)
    assert not list(folder.glob("differences.*")) and len(trained) == len(read_runs(folder)) == 2
    assert all(file.is_file() for file in own) and list(result.tables) == ["table"]
