"""Two processes train as one does: the same batches, gradients, batch statistics, scores and
metrics.
"""

import functools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import yaml
from conftest import SMALL_GENCI, make_model, tiny_rows, write_dataset
from safetensors.torch import load_file
from torch.multiprocessing.spawn import ProcessExitedException

from recbole_genci import load
from recbole_genci.cli import main
from recbole_genci.config import Config
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.evaluation.scoring import score_rows
from recbole_genci.model.layers.dice import Dice
from recbole_genci.quick_start import run
from recbole_genci.training import launch
from recbole_genci.training.launch import _shared_settings
from recbole_genci.training.run import train_and_evaluate
from recbole_genci.training.run_folder import config_as_yaml
from recbole_genci.training.stopped import ProcessDied
from recbole_genci.utils.distributed import ALONE, GlobalBatchNorm1d, Processes

pytestmark = pytest.mark.timeout(900)  # starting processes takes long on a busy machine

NO_DROPOUT = {"dropout_prob": 0.0, "intent_dropout": 0.0, "sr_dropout_prob": 0.0}


@pytest.fixture
def keys(tmp_path):
    """729 training rows; no click of a held-out row equals another without one in user, item and
    history.

    Such a pair has one score, which rounding may split on one processor and not on another: half a
        pair of AUC.
    """
    rows = tiny_rows(num_users=9, num_items=60, rows_per_user=101, seed=9)
    return write_dataset(tmp_path / "data", rows, num_items=60) | {"epochs": 2, "stopping_step": 9}


def in_two_processes(work, *arguments):
    """Call ``work(processes, *arguments)`` in two processes that have met; what they return, by
    rank.
    """
    meeting = Path("meeting").resolve()
    torch.multiprocessing.spawn(_meet, args=(meeting, work, arguments), nprocs=2)
    return [torch.load(f"{meeting}-{rank}", weights_only=True) for rank in range(2)]


def _meet(rank, meeting, work, arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    torch.save(work(Processes(rank, 2), *arguments), f"{meeting}-{rank}")
    dist.destroy_process_group()


SHAPES = [(7, 3), (6, 3, 4)]
FEW_ROWS = [3, 2, 1]  # two and one, one and one, one and none


def norm_of_share(processes, shape):
    torch.manual_seed(1)
    x, upstream = torch.randn(shape) * 3 + 5, torch.randn(shape)
    norm = (
        torch.nn.BatchNorm1d(shape[1])
        if processes.size == 1
        else GlobalBatchNorm1d(torch.nn.BatchNorm1d(shape[1]), None)
    )
    share = x[processes.rank :: processes.size].clone().requires_grad_()
    y = norm(share)
    (y * upstream[processes.rank :: processes.size]).sum().backward()
    norm(share)
    return y.detach(), share.grad, norm.weight.grad, norm.bias.grad, norm.state_dict()


def dice_of_share(processes, rows):
    """Dice over a process's share of few rows: what it gives, its gradient and running means."""
    torch.manual_seed(2)
    x = torch.randn(rows, 3) * 3 + 5
    dice = Dice(3)
    torch.nn.init.constant_(dice.alpha, 0.25)
    if processes.size == 2:
        dice.norm = GlobalBatchNorm1d(dice.norm, None)
    share = x[processes.rank :: processes.size].clone().requires_grad_()
    y = dice(share)
    y.square().sum().backward()
    return y.detach(), share.grad, dice.alpha.grad, dice.norm.running_mean.clone()


def scores_and_calls(processes, keys):
    """Scores and labels of the test rows, and the sizes of the batches that this process has
    predicted.
    """
    config = Config("DIN", "tiny", config_dict=keys)
    parts = create_dataset(config).build()
    model, _ = make_model("DIN", parts, keys)
    seen, predict = [], model.predict
    model.predict = lambda batch: seen.append(len(batch)) or predict(batch)
    return *score_rows(
        model, create_loaders(config, parts)[2], config["device"], processes=processes
    ), seen


def metrics_of_two_runs(processes, keys):
    config = Config("DIN", "tiny", config_dict=keys | {"dropout_prob": 0.3})
    parts = create_dataset(config).build()
    runs = [train_and_evaluate(config, parts, processes=processes) for _ in range(2)]
    return [(run["best_valid"], run["best_epoch"], run["test"]) for run in runs]


def refused_settings(processes):
    """What is said of settings of which the second process has another, or none."""
    processes.check_same_settings({"epochs": 2, "metrics": ["AUC"]})
    said = []
    for mine in ({"epochs": 2 + processes.rank}, {"epochs": 2} if processes.is_first else {}):
        try:
            processes.check_same_settings({"metrics": ["AUC"], **mine})
        except ValueError as error:
            said.append(str(error))
    return said


def everything(processes, keys):
    norms = [norm_of_share(processes, shape) for shape in SHAPES]
    return (
        (norms, [dice_of_share(processes, rows) for rows in FEW_ROWS]),
        scores_and_calls(processes, keys),
        metrics_of_two_runs(processes, keys),
        refused_settings(processes),
    )


def test_two_processes_normalise_score_and_repeat_as_one_does(keys):
    keys |= {"eval_batch_size": 32}
    found = in_two_processes(everything, keys)
    for number, shape in enumerate(SHAPES):
        y, gradient, weight, bias, state = norm_of_share(ALONE, shape)
        norms = [norms[number] for (norms, _), *_ in found]
        near = {"rtol": 1e-4, "atol": 1e-5}
        for rank, (share, of_share, *_, same) in enumerate(norms):
            torch.testing.assert_close(share, y[rank::2], **near)
            torch.testing.assert_close(of_share, gradient[rank::2], **near)
            torch.testing.assert_close(dict(same), dict(state), **near)
        torch.testing.assert_close(norms[0][2] + norms[1][2], weight, **near)
        torch.testing.assert_close(norms[0][3] + norms[1][3], bias, **near)
    for number, rows in enumerate(FEW_ROWS):
        y, gradient, alpha, mean = dice_of_share(ALONE, rows)
        shares = [dice[number] for (_, dice), *_ in found]
        for rank, (share, of_share, _, same) in enumerate(shares):
            torch.testing.assert_close(share, y[rank::2], **near)
            torch.testing.assert_close(of_share, gradient[rank::2], **near)
            torch.testing.assert_close(same, mean, **near)
        torch.testing.assert_close(shares[0][2] + shares[1][2], alpha, **near)
    # Each row is predicted once, and as by one process.
    scores, labels, seen = scores_and_calls(ALONE, keys)
    for _, (others, same, _), *_ in found:
        assert torch.equal(others, scores) and torch.equal(same, labels)
    half = len(seen) // 2
    assert found[0][1][2] == seen[:half] and found[1][1][2] == seen[half:] and len(seen) >= 3
    # The same seed gives the same metrics, in both processes.
    assert found[0][2][0] == found[0][2][1] == found[1][2][0] == found[1][2][1]
    for *_, said in found:
        assert [each.partition(". ")[0] for each in said] == [
            "epochs: the processes have different values, 2 and 3",
            "epochs: the processes have different values, 2 and none",
        ]


def test_machines_must_have_the_same_settings_but_their_own_places(keys, tmp_path):
    file = tmp_path / "config.yaml"
    saved = yaml.safe_load(config_as_yaml(Config("DIN", "tiny", config_dict=keys)))
    found = []
    for place in ("here", "there"):  # with a person's own metric
        own = [f"{tmp_path}/{place}.py:mine"]
        saved |= {"metrics": ["AUC", *own], "valid_metric": own[0], "data_path": place}
        file.write_text(yaml.safe_dump(saved))
        found.append(_shared_settings(file))
    assert found[0] == found[1]
    for key in "epochs train_batch_size eval_batch_size shard_rows learning_rate seeds".split():
        assert found[0][key] == saved[key]
    assert saved.keys() - found[0].keys() >= {"data_path", "nproc", "offset", "gpu_id", "worker"}


def test_shares_are_the_batches_of_one_process_and_leave_no_row_out(tmp_path):
    """The last batch has two rows, fewer than there are processes."""
    size = 34
    keys = write_dataset(tmp_path / "data", tiny_rows(num_users=8, rows_per_user=101)) | {
        "train_batch_size": size
    }
    config = Config("DIN", "tiny", config_dict=keys)
    parts = create_dataset(config).build()

    def batches(processes):
        train = create_loaders(config, parts, processes=processes)[0]
        return [
            [
                tuple(row)
                for row in zip(b["user_id"].tolist(), b["item_id"].tolist(), b["label"].tolist())
            ]
            for b in train
        ]

    whole, *shares = (batches(p) for p in (ALONE, *(Processes(rank, 3) for rank in range(3))))
    full = len(whole) - 1
    assert (
        [len(batch) for batch in whole] == [size] * full + [2]
        and full == 19
        and all(len(share) == 20 for share in shares)
    )
    for number in range(full):  # one after another: what lies together stays together
        assert sum((share[number] for share in shares), []) == whole[number]
        assert {len(share[number]) for share in shares} == {size // 3, size // 3 + 1}
    assert all(share[full] == whole[full] for share in shares)
    for count in range(2, 30):  # no share has one row
        given = SimpleNamespace(collate_fn=list)
        Processes(1, 3).share_training(given)
        assert len(given.collate_fn(range(count))) == (count if count < 6 else (count + 1) // 3)


def train_and_keep(config, parts, semantic_ids, folder, processes, heading):
    """``train_and_evaluate`` of a process, which also leaves the weights that it ends with."""
    from recbole_genci.training import run as training

    fit = training.CTRTrainer.fit

    def fit_and_keep(self, *args, **kwargs):
        result = fit(self, *args, **kwargs)
        torch.save(self.model.state_dict(), folder / f"weights-{processes.rank}")
        return result

    training.CTRTrainer.fit = fit_and_keep
    return train_and_evaluate(
        config, parts, semantic_ids, folder=folder, processes=processes, heading=heading
    )


def test_two_processes_end_with_the_weights_and_metrics_of_one(keys, monkeypatch):
    # Adam steps by the sign of a gradient that is all rounding (biases before batch normalisation);
    # SGD does not.
    keys |= (
        NO_DROPOUT
        | SMALL_GENCI
        | {"train_batch_size": 128, "eval_batch_size": 32, "learner": "sgd", "learning_rate": 0.05}
    )
    alone = run("DIN,GenCI", "tiny", config_dict=keys)
    monkeypatch.setattr("recbole_genci.quick_start.train_and_evaluate", train_and_keep)
    together = run("DIN,GenCI", "tiny", config_dict=keys | {"nproc": 2})
    # GenCI's mean next-item loss is over each process's clicks; all else differs by the order of
    # sums.
    for one, two, near in zip(alone, together, (1e-5, 1e-3)):
        folder = Path(two["folder"])
        first, second = (
            torch.load(folder / f"weights-{rank}", weights_only=True) for rank in range(2)
        )
        assert first.keys() == second.keys() and all(
            torch.equal(first[k], second[k]) for k in first
        )
        assert one["best_epoch"] == two["best_epoch"]
        best, expected = (
            load_file(Path(run["folder"]) / "model.safetensors") for run in (two, one)
        )
        assert best.keys() == expected.keys()
        assert max((best[k].float() - expected[k].float()).abs().max() for k in best) < near
        for metric in (
            "auc",
            "logloss",
        ):  # AUC of 48 rows steps by 0.002 where two of them change places
            assert two["test"][metric] == pytest.approx(one["test"][metric], abs=10 * near)
            assert two["best_valid"][metric] == pytest.approx(
                one["best_valid"][metric], abs=10 * near
            )
        # What is left is what one process leaves, and left by one of the two.
        left, expected = (
            {path.name for path in Path(run["folder"]).iterdir()} for run in (two, one)
        )
        assert left == expected | {"weights-0", "weights-1"} and (two["nproc"], one["nproc"]) == (
            2,
            1,
        )
        assert json.loads((folder / "metrics.json").read_text())["folder"] == two["folder"]
        assert not folder.is_absolute()  # as one process names it
        log = (folder / "run.log").read_text()
        assert (
            log.count("INFO  epoch 1  ") == 1
            and " in each of 2 processes, learning_rate 0.05 (config_dict)" in log
        )
        assert load(folder).evaluate() == two["test"]
    assert len(list(Path("results").iterdir())) == 2


def die(config, parts, semantic_ids, folder, processes, heading, how):
    if processes.rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise FloatingPointError("no more numbers")
    return train_and_evaluate(
        config, parts, semantic_ids, folder=folder, processes=processes, heading=heading
    )


@pytest.mark.slow  # tests/training/test_failures.py has the same with a run of its own
@pytest.mark.parametrize(("how", "message"), [("killed", "SIGKILL"), ("raises", "no more numbers")])
def test_a_process_that_dies_ends_the_run_with_its_error(how, message, keys, monkeypatch):
    monkeypatch.setattr(
        "recbole_genci.quick_start.train_and_evaluate", functools.partial(die, how=how)
    )
    with pytest.raises(Exception, match=message):
        run("DeepFM", "tiny", config_dict=keys | {"nproc": 2})
    assert not list(Path("saved").glob("*/metrics.json")) and not Path("results").exists()


@pytest.mark.parametrize(
    ("code", "name", "kind", "said"),
    [
        (-9, "SIGKILL", ProcessDied, "of 2 ended by SIGKILL, .* for want of memory: lower nproc"),
        (-7, "SIGBUS", ProcessDied, "by SIGBUS, .* for want of memory: lower nproc"),
        (-11, "SIGSEGV", ProcessDied, r"by SIGSEGV, and the others were ended\.$"),
        (143, None, ProcessDied, r"with exit status 143, and the others were ended\.$"),
        (1, None, RuntimeError, "with exit status 1, .* What it printed above says why"),
        (7, None, RuntimeError, "with exit status 7, .* What it printed above says why"),
    ],
)
def test_memory_is_only_named_where_it_may_have_been_that(tmp_path, code, name, kind, said):
    error = launch._in_words(ProcessExitedException("", 0, 1, code, name), tmp_path, 2)
    assert type(error) is kind and re.search(said, str(error)), error
    assert ("memory" in str(error)) == (name in ("SIGKILL", "SIGBUS"))


GUARD = 'nproc: each process that .* imports it again.* below the line: if __name__ == "__main__":'


def test_a_script_without_a_guard_is_told_so_before_anything_is_read(tmp_path, monkeypatch):
    current = multiprocessing.current_process()
    monkeypatch.setattr(current, "_inheriting", True, raising=False)
    for call in (lambda: run("LR", "other"), lambda: main(["--model=LR", "--dataset=other"])):
        with pytest.raises(RuntimeError, match=GUARD):
            launch.check_is_guarded()
        # A process of nproc tells the one that has started it, without a traceback.
        with launch._failures_told_in(tmp_path), monkeypatch.context() as patch:
            patch.setattr(os, "_exit", sys.exit)
            with pytest.raises(SystemExit) as end:
                call()
        assert end.value.code == 1
        died = ProcessExitedException("", 0, 1, 1)
        assert re.fullmatch(GUARD, str(launch._in_words(died, tmp_path, 2)))
        for file in tmp_path.glob("failure-*"):
            file.unlink()


@pytest.mark.slow
def test_a_script_without_a_guard_ends_with_that_sentence(keys, tmp_path):
    script = tmp_path / "script.py"
    settings = {**keys, "nproc": 2, "gpu_id": ""}
    script.write_text(f"from recbole_genci import run\nrun('LR', 'tiny', config_dict={settings})\n")
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    said = [line for line in ended.stderr.splitlines() if line.startswith("RuntimeError: ")]
    assert ended.returncode == 1 and len(said) == 1, ended.stderr
    assert "that script.py starts" in said[0] and "memory" not in ended.stderr
    assert "bootstrapping" not in ended.stderr


def test_a_deprecation_that_is_meant_is_not_shown():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Processes(0, 2).shared_loss(OneLoss())
    finally:
        dist.destroy_process_group()


class OneLoss(torch.nn.Module):
    """A model whose loss uses all its parameters."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def calculate_loss(self, batch):
        return self.weight.sum()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"nproc": 0}, "nproc: 0"),
        ({"local_rank": 0}, "local_rank: the processes number themselves"),
        ({"nproc": 2, "world_size": 1}, "world_size: 1"),
        ({"nproc": 1, "world_size": 2}, "port: several machines"),
        ({"offset": 1}, "offset: 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(words, message, keys):
    with pytest.raises(ValueError, match=message):
        Config("DIN", "tiny", config_dict=keys | words)


def test_a_run_of_several_processes_is_not_resumed(keys, capsys):
    Path("stopped").mkdir()
    Path("stopped/config.yaml").write_text(
        json.dumps({"model": "DIN", "dataset": "tiny", "nproc": 2})
    )
    assert (
        main(["--resume=stopped"]) == 2
        and "trained by several processes" in capsys.readouterr().err
    )
