"""The command that makes one table of runs that were started separately."""

import json

import pytest
from finished_runs import finished_run, write_run

from recbole_genci.comparison.table import comparison_table
from recbole_genci.report import main


def test_published_scores_stand_beside_ours(tmp_path, capsys):
    for model, auc in (("LR", 0.7), ("DCNV2", 0.8)):
        write_run(tmp_path / f"{model}.json", finished_run(model, 1, auc))
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


def test_runs_on_other_rows_or_twice_the_same_run_are_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="saved/LR1 .*saved/DIN1"):
        comparison_table([finished_run("LR", 1, 0.7), finished_run("DIN", 1, 0.7, "e" * 64)])
    with pytest.raises(ValueError, match="LR with seed 1 is given twice"):
        comparison_table([finished_run("LR", 1, 0.7), finished_run("LR", 1, 0.7)])
    file = tmp_path / "metrics.json"
    write_run(file, finished_run("LR", 1, 0.7))
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
    (tmp_path / "runs.json").write_text(json.dumps([finished_run("LR", 1, 0.7)]))
    assert (
        main([str(tmp_path / "runs.json")]) == 2
        and "has no 'model'. Give the metrics.json" in capsys.readouterr().err
    )
