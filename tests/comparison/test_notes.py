"""Sentences beside the comparison table, in its files and on a console."""

import pytest
from finished_runs import CONFIG, finished_run, write_run

from recbole_genci.comparison.files import save_comparison
from recbole_genci.comparison.notes import missing_rela_impr, notes
from recbole_genci.comparison.table import comparison_table
from recbole_genci.report import main


@pytest.mark.parametrize(
    ("base", "shown"), [(0.551, True), (0.55, False), (0.5, False), (0.3, False)]
)
def test_there_is_no_rela_impr_over_a_base_near_a_guess_and_it_says_so(
    base, shown, tmp_path, capsys
):
    machine = {"cpu_count": 1, "threads": 1, "gpu": None}
    more = {"machine": machine, "git_revision": "r"}
    runs = [finished_run("LR", 1, base) | more, finished_run("FM", 1, 0.67) | more]
    assert ("RelaImpr [%]" in comparison_table(runs)) == shown
    assert not missing_rela_impr(comparison_table(runs[1:]))  # where no base is, none is missed
    assert not missing_rela_impr(comparison_table(runs[:1]))
    shown_table = "\n".join([*map(str, save_comparison(runs, tmp_path, "command"))])
    said = f"No RelaImpr: the AUC of LR, its base, is {base:.4f}. Up to 0.55 it is too near 0.5"
    files = []
    for run in runs:
        files.append(str(tmp_path / f"{run['model']}.json"))
        write_run(tmp_path / f"{run['model']}.json", run)
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
    more = {"machine": machine, "git_revision": "r", "config": CONFIG | {"epochs": 2}}
    ended_early = CONFIG | {"epochs": 9}
    runs = [
        finished_run("LR", 1, 0.7) | more,
        finished_run("FM", 1, 0.7) | more,
        finished_run("LR", 2, 0.7) | more,
        finished_run("FM", 2, 0.7) | more | {"best_epoch": 1},
        finished_run("DIN", 1, 0.7) | more | {"config": ended_early},
    ]
    said = (
        "LR, FM (1 of 2 seeds): the last epoch (2) was the best, so training may not have ended; "
        "set more --epochs."
    )
    _, (shown,) = save_comparison(runs, tmp_path, "command")
    files = []
    for number, each in enumerate(runs):
        files.append(str(tmp_path / f"{number}.json"))
        write_run(tmp_path / f"{number}.json", each)
    assert main(files) == 0
    pages = [(tmp_path / name).read_text() for name in ("table.md", "report.html")]
    assert all(said in text for text in [shown, *pages, capsys.readouterr().out])
    assert not notes(runs[3:], comparison_table(runs[3:]))
    # Of five epochs the second and the fourth are evaluated.
    seldom = [each | {"config": CONFIG | {"epochs": 5, "eval_step": 2}} for each in runs]
    assert not notes(seldom[:1], comparison_table(seldom[:1]))
    seldom[0]["best_epoch"] = 4
    (said,) = notes(seldom[:1], comparison_table(seldom[:1]))
    assert said.startswith("LR: the last evaluated epoch (4) was the best, so training may not")
