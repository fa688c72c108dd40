"""A model's line, an epoch's line, the hint, the last line."""

import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SMALL_GENCI, stop_after, tiny_rows, write_dataset
from torch import nn

from recbole_genci.config import Config
from recbole_genci.quick_start import resume, run
from recbole_genci.training import console as lines_module
from recbole_genci.training import trainer
from recbole_genci.training.console import (
    EpochLines,
    Heading,
    duration,
    early_best_hint,
    legend,
    telling_time,
)
from recbole_genci.training.weight_decay import Decaying

ML_100K = 59_169  # training rows


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | {
        "epochs": 3,
        "stopping_step": 5,
    }


@pytest.fixture
def console(caplog):
    """The lines that the console was given, without colours."""
    caplog.set_level("INFO")
    return lambda: [
        re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage())
        for record in caplog.records
        if record.name != "recbole_genci.details"
    ]


def epochs_of(lines):
    return [line for line in lines if line.startswith("epoch ")]


NUMBER = r"\d+\.\d{4}"
TIME = r"(\d+\.\d s|\d+ (s|min))"


def test_an_epoch_is_one_line_counted_from_1(keys, console):
    result = run(
        "LR", "tiny", config_dict={key: keys[key] for key in keys if key != "mlp_hidden_size"}
    )[0]
    lines = epochs_of(console())
    assert len(lines) == 3 == result["epochs"]
    for number, line in enumerate(lines, start=1):
        best = rf"best {NUMBER} \(epoch [1-{number}]\)"
        end = "end" if number == 3 else TIME
        form = (
            rf"epoch {number}  loss {NUMBER}  AUC {NUMBER} LogLoss {NUMBER}  {best}  {TIME}  "
            rf"patience [3-6] \({end}\)"
        )
        assert re.fullmatch(form, line), line
    text = "\n".join(console())
    assert not re.search(
        r"evaluating|valid_score|valid result|Saving current|Finished training|epoch 0|Sigmoid\(\)",
        text,
    )
    log = Path(result["folder"], "run.log").read_text()
    assert (
        all(line in log for line in lines)
        and "(sigmoid): Sigmoid()" in log
        and "epoch 3 in full: {'auc': " in log
    )
    assert "\x1b" not in log and "epoch 0" not in log
    best = float(re.search(rf"best ({NUMBER})", lines[-1])[1])
    assert best == pytest.approx(result["best_valid"]["auc"], abs=1e-4)
    assert f"best {best:.4f} (epoch {result['best_epoch']})" in lines[-1]


def test_parts_of_a_loss_and_the_generator_are_named(keys, console):
    run("GenCI", "tiny", config_dict=keys | SMALL_GENCI | {"epochs": 2})
    lines = epochs_of(console())
    assert len(lines) == 2
    assert re.match(
        rf"epoch 1  L_CTR {NUMBER}  mu \* L_NTP {NUMBER}  eta \* L_SR {NUMBER}  "
        rf"L_base {NUMBER}  AUC ",
        lines[0],
    )
    words = [line for line in console() if line.startswith("generator")]
    share = r"\d+\.\d%"
    assert len(words) == 2 and re.fullmatch(
        rf"generator: its 2 guesses name the clicked item in {share} of \d+ clicks \(the most "
        rf"popular items: {share}\), and the item's kind \(its first code\) in {share} \(the "
        rf"most popular kinds: {share}\); see docs/experiments.md, .*",
        words[0],
    )
    assert re.fullmatch(
        rf"generator: clicked item {share} \(popular {share}\), "
        rf"its kind {share} \(popular {share}\)",
        words[1],
    )


def test_the_heading_says_which_of_how_many_and_where_values_come_from(keys, console):
    words = ["--learning_rate=0.02"]
    keys = {key: keys[key] for key in keys if key != "mlp_hidden_size"} | {"epochs": 1}
    run(
        "LR,FM", "tiny", config_dict=keys | {"seeds": 2, "seed": 7, "weight_decay": 0.1}, argv=words
    )
    lines = [line for line in console() if "learning_rate" in line]
    assert [line.split(":")[0] for line in lines] == [
        "LR, model 1 of 2, seed 7 (1 of 2)",
        "FM, model 2 of 2, seed 7 (1 of 2)",
        "LR, model 1 of 2, seed 8 (2 of 2)",
        "FM, model 2 of 2, seed 8 (2 of 2)",
    ]
    parameters = r"[\d,]+ parameters, cpu, 1 thread, "
    assert re.fullmatch(
        rf".*: {parameters}learning_rate 0.02 \(command line\), weight_decay 0.1 \(config_dict\)",
        lines[0],
    )


def without_sizes(keys):
    return {key: keys[key] for key in keys if key != "mlp_hidden_size"} | {"epochs": 1}


def test_the_legend_has_a_sentence_for_each_way_to_end():
    names = ("LR", "DeepFM", "DIN")
    configs = {each: Config(each, "ml-100k", None, {"stopping_step": 4}) for each in names}
    ends = "raining ends when validation AUC has not improved for 5 evaluations, or after epoch"
    assert legend(configs).startswith(f"T{ends} 300. At the end of a line, ")
    configs["DeepFM"]["epochs"] = 2
    start = f"LR, DIN: t{ends} 300. DeepFM: t{ends} 2. At the end of a line, "
    assert legend(configs).startswith(start)


def test_a_decay_of_nothing_is_not_shown_as_one(keys, console):
    """Of LR nothing decays but its first-order weights; a teacher has vectors of its own."""
    keys = without_sizes(keys) | {"weight_decay_of": "vectors"}
    said = "weight_decay_of is vectors, and LR has none; weight_decay_of: embeddings lets its"
    warning = f"weight_decay: this key does nothing for LR: {said} weights decay."

    def lines_of(models, more):
        before = len(console())
        run(models, "tiny", config_dict=keys | more)
        return console()[before:]

    lines = lines_of("LR,DeepFM", {"weight_decay": "60/rows", "seeds": 2})
    headings = [line for line in lines if "parameters, cpu" in line]
    assert [f"nothing decays ({said}" in line for line in headings] == [True, False] * 2
    assert ["weight_decay 60/rows = 0.16 of vectors (conf" in line for line in headings] == [
        False,
        True,
    ] * 2
    assert lines.count(warning) == 1
    for more in ({"weight_decay_of": "embeddings"}, {"weight_decay_of": None}, {"sr_weight": 1.0}):
        lines = lines_of("LR", more | {"weight_decay": 0.1})
        assert not any("nothing" in line for line in lines)
        assert any("weight_decay 0.1" in line for line in lines)
    lines = lines_of("LR", {"recipe": "regularised"})  # the user has not set it
    assert not any("this key does nothing" in line for line in lines)
    assert any("nothing decays" in line for line in lines)


def test_a_tuned_value_names_its_file_and_a_trial_its_own():
    keys = {"learning_rate": 0.5, "recipe": "tuned"}
    config = Config("DeepFM", "ml-100k", config_dict=keys)
    decay = "weight_decay 0.0001 of embeddings (tuned/ml-100k/DeepFM.yaml)"
    rest = [decay, "dropout_prob 0.3 (tuned/ml-100k/DeepFM.yaml)"]
    assert list(Heading.of(config).settings.values()) == ["learning_rate 0.5 (config_dict)", *rest]
    heading = Heading.of(config, "trial 4", {"learning_rate": "this trial"})
    assert heading.name == "DeepFM, trial 4"
    assert list(heading.settings.values()) == ["learning_rate 0.5 (this trial)", *rest]


def test_a_decay_by_rows_is_shown_as_the_number_that_it_is():
    config = Config("DeepFM", "ml-100k", config_dict={"weight_decay": "30/rows"})
    assert "weight_decay 30/rows = 0.0052 of vectors (config_dict), " in Heading.of(config).line(
        nn.Linear(2, 1), config, 5_800, Decaying("vectors")
    )


def test_a_decay_by_rows_of_a_vector_is_shown_from_the_smallest_table_to_the_largest():
    config = Config("DeepFM", "ml-100k")
    assert config["weight_decay"] == "10000/rows/rows_per_vector"
    for sizes, shown in (
        ([50, 9, 20], " = 0.0009 to 0.005"),
        ([50], " = 0.005"),
        ([], ""),  # nobody knows which decay
    ):
        line = Heading.of(config).line(nn.Linear(2, 1), config, 10_000, Decaying("vectors", sizes))
        assert f"weight_decay 10000/rows/rows_per_vector{shown} of vectors (recipe" in line


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("LR", []),
        ("DeepFM", ["dropout_prob 0.3"]),
        ("GenCI", ["dropout_prob 0.3"]),
        ("AutoInt", ["dropout_probs [0.3, 0.3, 0.3]"]),
        ("FiGNN", ["hidden_dropout_prob 0.3"]),
        ("AFN", ["dnn_dropout_prob 0.3", "dropout_prob 0.3"]),
    ],
)
def test_the_heading_names_the_dropout_that_the_recipe_gives_to_the_model(model, shown):
    settings = ", ".join(Heading.of(Config(model, "ml-100k")).settings.values())
    assert [each for each in re.split(r"\), ", settings) if "dropout" in each] == [
        f"{each} (recipe regularised" for each in shown
    ]
    assert settings.startswith("learning_rate 0.002 ") and "weight_average 0.5 " in settings


def test_the_heading_names_the_dropout_of_a_model_of_ones_own():
    Path("my_net.py").write_text(
        "from recbole_genci.model.base import ClickModel\nclass MyNet(ClickModel): pass\n"
    )
    Path("MyNet.yaml").write_text("my_dropout: 0.1  # (float in [0, 1)) In the hidden layer.\n")
    settings = Heading.of(Config("my_net.py:MyNet", "ml-100k")).settings
    assert settings["my_dropout"] == "my_dropout 0.1 (default)"


def test_trials_say_their_number_and_what_the_trial_has_set(keys, console):
    from recbole_genci.tuning.search import tune

    Path("space.test").write_text("learning_rate choice [0.01]\n")
    Path("own.yaml").write_text("weight_average: 0.25\n")
    words = ["--flatten_history=True"]
    result = tune("DeepFM", "tiny", "space.test", "own.yaml", keys | {"epochs": 1}, words)
    first, selected = [line for line in console() if "parameters, cpu" in line]
    settings = (
        "learning_rate 0.01 (this trial), weight_decay 0 (recipe paper), dropout_prob 0.2 "
        "(default), weight_average 0.25 (own.yaml), flatten_history True (command line)"
    )
    assert first.startswith("DeepFM, trial 1, seed 2020: ") and first.endswith(settings)
    assert selected.startswith("DeepFM, the selected trial, seed 2020: ") and selected.endswith(
        settings
    )
    assert len(epochs_of(console())) == 1 and not any("Sigmoid()" in line for line in console())
    folder = Path(result["selected"]["folder"])
    assert "Sigmoid()" in (folder / "run.log").read_text()
    assert "Sigmoid()" not in (folder.parents[2] / "search.log").read_text()


def test_runs_of_an_experiment_say_their_number_and_what_the_experiment_has_set(keys, console):
    from recbole_genci.experiments.command import experiment

    experiment(
        "compare",
        "tiny",
        ["LR", "DeepFM"],
        1,
        config_dict=keys | {"epochs": 1, "learning_rate": 0.25},
    )
    lines = [line for line in console() if "parameters, cpu" in line]
    assert [line.split(":")[0] for line in lines] == [
        "LR, run 1 of 2, seed 2020",
        "DeepFM, run 2 of 2, seed 2020",
    ]
    assert all(
        "learning_rate 0.25 (config_dict), weight_decay 0 (recipe paper)" in line for line in lines
    )


def test_a_resumed_run_counts_on_from_its_last_epoch(keys, console, monkeypatch, caplog):
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            run("DeepFM", "tiny", config_dict=keys)
    (folder,) = Path("saved").iterdir()
    caplog.clear()
    resume(folder)
    assert f"Resuming {folder} after epoch 2." in console()
    assert [line.split("  ")[0] for line in epochs_of(console())] == ["epoch 3"]
    said = "\n".join(console())
    assert "learning_rate 0.005 (the run's config.yaml)" in said
    assert f"{folder}/config.yaml" not in said


def lines_of(monkeypatch, console, scores, epochs, stopping_step, eval_step=1, seconds=10.0):
    """The lines of a training whose validation scores are these, each epoch of which takes
    ``seconds``.
    """
    now = [0.0]
    monkeypatch.setattr(
        "recbole_genci.training.console.time",
        SimpleNamespace(time=lambda: now[0], perf_counter=lambda: now[0]),
    )
    config = {"metrics": ["AUC"], "loss_decimal_place": None}
    model = SimpleNamespace(loss_names=None)
    state = SimpleNamespace(
        config=config,
        model=model,
        objective=model,
        epochs=epochs,
        stopping_step=stopping_step,
        eval_step=eval_step,
        cur_step=0,
        best_valid_score=-1.0,
    )
    lines, scores = EpochLines(state), iter(scores)
    for epoch in range(epochs):
        began = now[0]
        now[0] += seconds
        lines.trained(epoch, began, 0.5)
        if (epoch + 1) % eval_step:
            continue
        score = next(scores)
        better = score >= state.best_valid_score
        state.cur_step = 0 if better else state.cur_step + 1
        state.best_valid_score = max(score, state.best_valid_score)
        lines.evaluated(epoch, {"auc": score})
        if state.cur_step > stopping_step:
            break
    return epochs_of(console())


def test_patience_and_time_left_are_those_of_a_run_that_improves_no_more(monkeypatch, console):
    lines = lines_of(
        monkeypatch, console, [0.6, 0.7, 0.65, 0.64, 0.63], epochs=300, stopping_step=2
    )
    assert [line.split("  ", 3)[3] for line in lines] == [
        "best 0.6000 (epoch 1)  10 s  patience 3 (30 s)",
        "best 0.7000 (epoch 2)  10 s  patience 3 (30 s)",
        "best 0.7000 (epoch 2)  10 s  patience 2 (20 s)",
        "best 0.7000 (epoch 2)  10 s  patience 1 (10 s)",
        "best 0.7000 (epoch 2)  10 s  patience 0 (end)",
    ]


def test_the_last_epoch_bounds_the_time_left(monkeypatch, console):
    lines = lines_of(monkeypatch, console, [0.6, 0.7], epochs=2, stopping_step=2)
    assert [line.split("  ")[-1] for line in lines] == ["patience 3 (10 s)", "patience 3 (end)"]


def test_a_long_first_epoch_says_how_long_it_takes(keys, monkeypatch, console):
    seen = iter([0, 1, 12, 24, 36, 48, 60])  # when it began, and when each batch came
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: next(seen))
        assert list(telling_time(list("abcdef"), 2)) == list("abcdef")
    assert epochs_of(console()) == ["epoch 3  training it takes about 72 s here"]
    monkeypatch.setattr(lines_module, "_SILENCE", -1)
    run("DeepFM", "tiny", config_dict=keys | {"train_batch_size": 32})
    told = [line for line in epochs_of(console())[1:] if "training it takes about" in line]
    assert len(told) == 1 and told[0].startswith("epoch 1  ")


def test_epochs_without_an_evaluation_have_their_line_too(monkeypatch, console):
    lines = lines_of(monkeypatch, console, [0.6, 0.5], epochs=4, stopping_step=2, eval_step=2)
    assert lines == [
        "epoch 1  loss 0.5000  10 s",
        "epoch 2  loss 0.5000  AUC 0.6000  best 0.6000 (epoch 2)  10 s  patience 3 (20 s)",
        "epoch 3  loss 0.5000  10 s",
        "epoch 4  loss 0.5000  AUC 0.5000  best 0.6000 (epoch 2)  10 s  patience 2 (end)",
    ]


@pytest.mark.parametrize(
    ("best", "epochs", "hinted"),
    [(1, 4, True), (2, 3, True), (3, 6, False), (2, 2, False), (1, 1, False)],
)
def test_a_best_epoch_that_comes_early_is_worth_a_hint(best, epochs, hinted):
    config = Config("LR", "tiny", config_dict={"data_path": "."})
    hint = early_best_hint(config, best, epochs, ML_100K, Decaying("vectors"), 2)
    assert (hint is not None) == hinted
    if hinted:
        assert hint == (
            f"LR was best in epoch {best} of {epochs}: it learns too fast, or overfits. Try a "
            "smaller learning_rate (now 0.002) or a larger weight_decay (now 10000/rows/"
            "rows_per_vector); run_hyper.py searches them by validation."
        )
        without = early_best_hint(config, best, epochs, ML_100K, Decaying("embeddings"), 2)
        assert "or weight_decay_of: embeddings (now vectors, of which LR has none);" in without
        assert "larger weight_decay" not in without


@pytest.mark.parametrize(
    ("limit", "stopping_step", "eval_step", "hinted"),
    [
        (3, 1, 1, True),  # early stopping ended it, in its last epoch
        (4, 5, 1, True),  # it was ended before the last epoch
        (3, 2, 1, False),
        (3, 10, 1, False),
        (3, 1, 2, False),
    ],
)
def test_there_is_no_hint_if_epochs_ended_the_run(limit, stopping_step, eval_step, hinted):
    keys = {"epochs": limit, "eval_step": eval_step}
    config = Config("LR", "tiny", config_dict={"data_path": ".", **keys})
    hint = early_best_hint(config, 1, 3, ML_100K, Decaying("vectors"), stopping_step)
    assert (hint is not None) == hinted


@pytest.mark.parametrize(("rows", "hinted"), [(508, False), (9_216, False), (9_217, True)])
def test_an_epoch_of_few_steps_is_no_sign_of_learning_too_fast(rows, hinted):
    config = Config("DIN", "tiny", config_dict={"data_path": "."})
    hint = early_best_hint(config, 1, 2, rows, Decaying("vectors"), 2)
    assert (hint is not None) == hinted
    smaller = Config("DIN", "tiny", config_dict={"data_path": ".", "train_batch_size": 32})
    assert "a larger weight_decay (now 10000/rows/rows_per_vector)" in early_best_hint(
        smaller, 1, 2, 508, Decaying("vectors"), 2
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("LR", "or weight_decay_of: embeddings (now vectors, of which LR has none);"),
        ("DeepFM", " or a larger dropout_prob (now 0.2);"),
        ("AutoInt", " or a larger dropout_probs (now [0.2, 0.2, 0.2]);"),
    ],
)
def test_the_hint_names_keys_that_the_model_reads(model, said, keys, console, monkeypatch):
    scores = iter([0.7, 0.6])
    original = trainer.CTRTrainer._valid_epoch

    def worse(self, valid_data, show_progress=False):
        return next(scores), original(self, valid_data, show_progress)[1]

    monkeypatch.setattr(trainer.CTRTrainer, "_valid_epoch", worse)
    keys = {key: keys[key] for key in keys if key != "mlp_hidden_size" or model != "LR"}
    keys |= {"weight_decay_of": "vectors", "learning_rate": 1.0, "stopping_step": 0}
    run(model, "tiny", config_dict=keys)
    (hint,) = [line for line in console() if " was best in epoch 1 of 2: " in line]
    assert said in hint


def test_the_last_line_of_a_run_names_figures_and_folder(keys, console):
    result = run("DeepFM", "tiny", config_dict=keys)[0]
    (line,) = [line for line in console() if "Everything is in" in line]
    assert re.fullmatch(
        rf"DeepFM, seed 2020: test AUC {NUMBER}, LogLoss {NUMBER}; best epoch [1-3] of 3, "
        rf"{TIME} "
        rf"of training. Everything is in {result['folder']}/",
        line,
    )


def test_durations_are_short():
    assert [duration(seconds) for seconds in (3.2, 700, 12_600)] == ["3 s", "12 min", "3.5 h"]


def test_what_the_first_optimiser_of_a_process_costs_is_not_charged_to_a_model(keys, monkeypatch):
    made, original = [], torch.optim.Optimizer.add_param_group

    def slow_at_first(self, group):
        made.append(type(self))
        original(self, group)

    # A clock that the first optimiser of the process, and nothing else, moves.
    clock = SimpleNamespace(perf_counter=lambda: 100.0 * bool(made), strftime=time.strftime)
    monkeypatch.setattr("recbole_genci.training.trainer.time", clock)
    monkeypatch.setattr(torch.optim.Optimizer, "add_param_group", slow_at_first)
    del keys["mlp_hidden_size"]
    (result,) = run("LR", "tiny", config_dict=keys | {"epochs": 1})
    assert len(made) > 1 and result["training_s"] == 0
