"""Runs that may stand in one line of the comparison table."""

import pytest
from finished_runs import CONFIG, finished_run, write_run

from recbole_genci.comparison.notes import notes
from recbole_genci.comparison.table import comparison_table
from recbole_genci.report import main


def test_runs_of_other_settings_are_no_seeds_of_one_line(capsys, tmp_path):
    config = CONFIG | {"learning_rate": 0.01, "dropout_prob": 0.1, "gpu_id": "0"}

    def of(seed, model="LR", rows="r" * 64, **keys):
        settings = config | {"seed": seed, "epochs": 9} | keys
        more = {"rows_fingerprint": rows, "config": settings}
        return finished_run(model, seed, 0.7) | more

    same = [
        of(1),
        of(2, gpu_id="1", recipe="paper", lsa_dim=3, sr_weight=0),
        of(3),
    ]
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
    runs[2]["config"]["train_batch_size"] = 64
    files = []
    for run in runs:
        file = tmp_path / run["model"] / "metrics.json"
        file.parent.mkdir()
        write_run(file, run)
        files.append(str(file))
    assert main(files) == 0
    said = capsys.readouterr().out
    assert "histories of the rows: LR, FM (rows rrrrrrrrrrrr); DIN (rows ssssssssssss)." in said
    assert "same metric (valid_metric): LR, FM by AUC; DIN by LogLoss." in said
    assert (
        "the same train_batch_size, which decides how many steps an epoch has: LR, FM 1024; "
        in said
    )
    assert "metric_decimal_place" not in said
    assert notes(runs[:2], comparison_table(runs[:2])) == []
