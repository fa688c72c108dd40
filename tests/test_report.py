"""RelaImpr and the comparison table."""

import json
from pathlib import Path

import pytest

from recbole_genci.evaluation.metrics import rela_impr
from recbole_genci.report import (
    _page,
    aligned,
    as_markdown,
    comparison_table,
    main,
    missing_rela_impr,
    notes,
    save_comparison,
)
from recbole_genci.utils.digests import sealed


@pytest.mark.parametrize(
    ("auc", "base", "percent"),
    [
        (0.8964, 0.8577, 10.82),
        (0.8908, 0.8577, 9.25),
        (0.7519, 0.7284, 10.29),
        (0.7182, 0.6985, 9.92),
        (0.7117, 0.6985, 6.65),
    ],
)
def test_rela_impr_reproduces_the_papers_table_3(auc, base, percent):
    assert rela_impr(auc, base) == pytest.approx(percent, abs=0.005)


def test_rela_impr_refuses_a_base_no_better_than_a_guess():
    with pytest.raises(ValueError, match="0.5"):
        rela_impr(0.7, 0.5)


def result(model, seed, auc, fingerprint="f" * 64):
    return {
        "model": model,
        "seed": seed,
        "dataset": "tiny",
        "data_fingerprint": fingerprint,
        "folder": f"saved/{model}{seed}",
        "test": {"auc": auc, "logloss": 1 - auc},
        "best_valid": {"auc": auc},
        "best_epoch": 2,
        "latency_s": 0.5,
        "training_s": 9.0,
    }


def test_the_table_is_the_mean_and_deviation_over_seeds():
    runs = [
        result("LR", 1, 0.7),
        result("GenCI", 1, 0.8),
        result("LR", 2, 0.72),
        result("GenCI", 2, 0.84),
    ]
    table = comparison_table(runs)
    assert list(table.index) == ["LR", "GenCI"] and list(table["seeds"]) == [2, 2]
    assert table.loc["GenCI", "AUC"] == pytest.approx(0.82)
    assert table.loc["GenCI", "AUC sd"] == pytest.approx(0.028284, abs=1e-6)
    assert table.loc["GenCI", "RelaImpr [%]"] == pytest.approx((0.32 / 0.21 - 1) * 100)
    assert "| GenCI | 0.8200 ± 0.0283 | 0.1800 ± 0.0283 | 52.38 % |" in as_markdown(table)
    assert "±" not in as_markdown(comparison_table(runs[:2]))


def test_a_metric_that_one_seed_lacks_has_no_mean():
    runs = [result("LR", seed, 0.7) for seed in (1, 2)]
    runs[0]["test"]["gauc"], runs[1]["test"]["gauc"] = None, 0.9
    assert comparison_table(runs)["GAUC"].isna().all()
    runs[0]["test"]["gauc"] = 0.8
    assert comparison_table(runs).loc["LR", "GAUC"] == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("base", "shown"), [(0.551, True), (0.55, False), (0.5, False), (0.3, False)]
)
def test_there_is_no_rela_impr_over_a_base_near_a_guess_and_it_says_so(
    base, shown, tmp_path, capsys
):
    machine = {"cpu_count": 1, "threads": 1, "gpu": None}
    more = {"machine": machine, "git_revision": "r"}
    runs = [result("LR", 1, base) | more, result("FM", 1, 0.67) | more]
    assert ("RelaImpr [%]" in comparison_table(runs)) == shown
    assert not missing_rela_impr(comparison_table(runs[1:]))  # where no base is, none is missed
    assert not missing_rela_impr(comparison_table(runs[:1]))
    shown_table = "\n".join([*map(str, save_comparison(runs, tmp_path, "command"))])
    said = f"No RelaImpr: the AUC of LR, its base, is {base:.4f}. Up to 0.55 it is too near 0.5"
    files = []
    for run in runs:
        files.append(str(tmp_path / f"{run['model']}.json"))
        (tmp_path / f"{run['model']}.json").write_text(json.dumps(run))
    assert main(files) == 0
    texts = [
        shown_table,
        (tmp_path / "table.md").read_text(),
        capsys.readouterr().out,
    ]
    assert [said in text for text in texts] == [not shown] * 3
    assert ["| RelaImpr |" in text for text in texts] == [shown] * 3


def test_models_whose_last_epoch_was_the_best_are_named(tmp_path, capsys):
    machine = {"cpu_count": 1, "threads": 1, "gpu": None}
    more = {"machine": machine, "git_revision": "r", "config": {"epochs": 2}}
    runs = [
        result("LR", 1, 0.7) | more,
        result("FM", 1, 0.7) | more,
        result("LR", 2, 0.7) | more,
        result("FM", 2, 0.7) | more | {"best_epoch": 1},
        result("DIN", 1, 0.7) | more | {"config": {"epochs": 9}},  # early stopping ended it
        result("old", 1, 0.7) | {"machine": machine, "git_revision": "r"},
    ]
    said = (
        "LR, FM (1 of 2 seeds): the last epoch (2) was the best, so training may not have ended; "
        "set more --epochs."
    )
    _, (shown,) = save_comparison(runs, tmp_path, "command")
    files = []
    for number, each in enumerate(runs):
        files.append(str(tmp_path / f"{number}.json"))
        Path(files[-1]).write_text(json.dumps(sealed(each) if "config" in each else each))
    assert main(files) == 0
    pages = [(tmp_path / name).read_text() for name in ("table.md", "report.html")]
    assert all(said in text for text in [shown, *pages, capsys.readouterr().out])
    assert not notes(runs[3:], comparison_table(runs[3:]))


def test_the_best_epoch_of_one_seed_is_a_whole_number_and_of_several_a_mean():
    runs = [
        result("LR", 1, 0.7),
        result("LR", 2, 0.7) | {"best_epoch": 5},
        result("FM", 1, 0.8) | {"best_epoch": 10},
    ]
    table = comparison_table(runs)
    assert [line.split(",")[-4] for line in table.to_csv().splitlines()[1:]] == ["3.5", "10"]
    assert [line.split("|")[6].strip() for line in as_markdown(table).splitlines()[2:]] == [
        "3.5",
        "10",
    ]


def test_the_page_marks_genci_and_starts_with_the_best():
    runs = [result("LR", 1, 0.9), result("GenCI", 1, 0.8), result("DIN", 1, 0.85)]
    text = _page(runs, comparison_table(runs), "about\nmore", [], "command", None)
    rows = text.split("<tbody>")[1].split("</tbody>")[0].split("<tr")[1:]
    assert [row.split('"text">')[1].split("<")[0] for row in rows] == ["LR", "DIN", "GenCI"]
    assert [row.startswith(" class=highlighted") for row in rows] == [False, False, True]
    assert "GAUC" not in text
    for run in runs:
        run["test"]["gauc"] = None
    text = _page(runs, comparison_table(runs), "about", [], "command", None)
    assert "GAUC is undefined: no user has test rows of both classes." in text


def test_tables_line_up_on_a_console():
    text = aligned(
        "Test results:\n| model | AUC |\n| --- | --- |\n| DeepFM | 0.8 |\n| LR | – |\nthe end"
    )
    assert text.splitlines() == [
        "Test results:",
        "| model  | AUC |",
        "| ------ | --- |",
        "| DeepFM | 0.8 |",
        "| LR     |   – |",
        "the end",
    ]


def test_published_scores_stand_beside_ours(tmp_path, capsys):
    for model, auc in (("LR", 0.7), ("DCNV2", 0.8)):
        (tmp_path / f"{model}.json").write_text(json.dumps(result(model, 1, auc)))
    runs, file = [str(tmp_path / f"{m}.json") for m in ("LR", "DCNV2")], tmp_path / "p.csv"
    file.write_text("model,AUC,LogLoss,published as\nDCNV2,0.81,0.19,DCN-V2\n,0.9,0.1,Other\n")
    assert main([*runs, f"--published={file}"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| model | AUC | LogLoss | published AUC | published LogLoss |")
    assert table[2].startswith("| LR | 0.7000 | 0.3000 | - | - |")
    assert table[3].startswith("| DCNV2 | 0.8000 | 0.2000 | 0.8100 | 0.1900 |")
    for content, fault in (
        ("model,auc\nLR,0.7\n", "cannot be read as a CSV file with the columns model, AUC and"),
        ("model,AUC,LogLoss\nLR,x,1\n", "could not convert string to float: 'x'"),
        ("model,AUC,LogLoss\nLR,1,1\nLR,1,1\n", "has two lines for LR. Keep one."),
    ):
        file.write_text(content)
        assert main([*runs, f"--published={file}"]) == 2
        error = capsys.readouterr().err
        assert f"published: {file}" in error and fault in error and error.count("\n") == 1
    for missing in (tmp_path / "none.csv", tmp_path):
        assert main([*runs, f"--published={missing}"]) == 2
        error = capsys.readouterr().err
        assert f"published: {missing} does not exist or is no file." in error
        assert "none with --check=False" in error and error.count("\n") == 1


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_the_command_has_help(word, capsys):
    for words in ([word], ["saved/*/metrics.json", word]):
        assert main(words) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith("usage: python -m recbole_genci.report ")
        assert "--published" in printed.out and not printed.err


@pytest.mark.parametrize("word", ["--publisched=x", "--published", "--latex"])
def test_words_that_are_no_option_are_not_taken_for_files(word, capsys):
    assert main([word, "saved/LR/metrics.json"]) == 2
    assert f"command line: {word} is no option of this command" in capsys.readouterr().err


def test_runs_of_other_settings_are_no_seeds_of_one_line(capsys, tmp_path):
    config = {"learning_rate": 0.01, "dropout_prob": 0.1, "valid_metric": "AUC", "gpu_id": "0"}

    def of(seed, model="LR", rows="r" * 64, **keys):
        more = {"rows_fingerprint": rows, "config": config | {"seed": seed} | keys}
        return result(model, seed, 0.7) | more

    same = [of(1), of(2, gpu_id="1", recipe="paper", lsa_dim=3, sr_weight=0), result("LR", 3, 0.7)]
    assert list(comparison_table(same)["seeds"]) == [3]
    with pytest.raises(
        ValueError,
        match="saved/LR1 and saved/LR2 are no seeds.*of LR they differ "
        r"in dropout_prob \(0.1 and 0.2\) and learning_rate \(0.01 and 0.05\). A",
    ):
        comparison_table([of(1), of(2, learning_rate=0.05, dropout_prob=0.2)])
    with pytest.raises(ValueError, match=r"differ in sr_weight \(0 and 0.5\)."):
        comparison_table([of(1), of(2, sr_weight=0.5)])
    with pytest.raises(ValueError, match="differ in features or histories of the rows. A line"):
        comparison_table([of(1), of(2, rows="s" * 64)])
    runs = [of(1), of(1, "FM"), of(1, "DIN", "s" * 64, valid_metric="LogLoss")]
    files = []
    for run in runs:
        (tmp_path / run["model"]).mkdir()
        files.append(str(tmp_path / run["model"] / "metrics.json"))
        Path(files[-1]).write_text(json.dumps(sealed(run | {"data_sha256": ""})))
    assert main(files) == 0
    said = capsys.readouterr().out
    assert "histories of the rows: LR, FM (rows rrrrrrrrrrrr); DIN (rows ssssssssssss)." in said
    assert "same metric (valid_metric): LR, FM by AUC; DIN by LogLoss." in said
    assert notes(runs[:2], comparison_table(runs[:2])) == []


def test_runs_on_other_rows_or_twice_the_same_run_are_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="saved/LR1 .*saved/DIN1"):
        comparison_table([result("LR", 1, 0.7), result("DIN", 1, 0.7, "e" * 64)])
    with pytest.raises(ValueError, match="LR with seed 1 is given twice"):
        comparison_table([result("LR", 1, 0.7), result("LR", 1, 0.7)])
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(result("LR", 1, 0.7)))
    assert main([str(tmp_path)]) == 0 and main([str(file)]) == 0
    printed = capsys.readouterr().out
    assert "| LR | 0.7000 |" in printed and "latency" not in printed
    (tmp_path / "results").mkdir()
    (tmp_path / "results/report.html").write_text("")
    assert main([str(tmp_path / "results")]) == 2
    assert "results holds the table of several runs already" in capsys.readouterr().err
    assert main([]) == 2 and "give the metrics.json files" in capsys.readouterr().err
    assert (
        main(["nowhere.json"]) == 2
        and "nowhere.json cannot be read (No such file" in capsys.readouterr().err
    )
    (tmp_path / "runs.json").write_text(json.dumps([result("LR", 1, 0.7)]))
    assert (
        main([str(tmp_path / "runs.json")]) == 2
        and "has no 'model'. Give the metrics.json" in capsys.readouterr().err
    )
