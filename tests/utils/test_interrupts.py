"""Ctrl-C and SIGTERM at many moments of every command: no traceback, the status, one sentence, and
the command in it goes on."""

import contextlib
import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL_GENCI, tiny_rows, write_dataset

import recbole_genci
from recbole_genci import data, experiments, plan, quick_start, tokenizer
from recbole_genci.cli import main
from recbole_genci.data.prepare import output
from recbole_genci.data.prepare.__main__ import main as prepare_dataset
from recbole_genci.tokenizer.command import main as tokenize
from recbole_genci.training import checkpoint, stopped
from recbole_genci.training import run as training
from recbole_genci.tuning.command import main as tune
from recbole_genci.utils import interrupts, writing
from recbole_genci.utils.lock import only_process

ROOT = Path(recbole_genci.__file__).parent.parent
SAME = (
    "test",
    "best_valid",
    "best_epoch",
    "epochs",
    "data_fingerprint",
    "semantic_ids",
    "seed",
    "model",
)
GENCI = ["--model=GenCI", *(f"--{key}={value}" for key, value in SMALL_GENCI.items())]
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


def signalled(function, signum, moment, before=True):
    """``function`` with a signal to this process in its call number ``moment``, from 1, before or
    after its work."""
    calls = 0

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if before and calls == moment:
            os.kill(os.getpid(), signum)
        result = function(*args, **kwargs)
        if not before and calls == moment:
            os.kill(os.getpid(), signum)
        return result

    return wrapped


def run_in_child(command, argv, patches=()) -> tuple[int, str]:
    """Call ``command(argv)`` in a child with patches ``(object, name, replacement)``: its exit
    status and stderr."""
    file = Path("stderr.txt")
    child = os.fork()
    if child == 0:
        error = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(error, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for target, name, replacement in patches:
            setattr(target, name, replacement)
        status = 99
        with contextlib.suppress(BaseException):
            status = command(argv)
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status), f"ended by signal {os.WTERMSIG(status)}"
    return os.WEXITSTATUS(status), file.read_text()


def sentence(error: str, signum) -> str:
    """What the command says at its end."""
    assert "Traceback" not in error and "Exception ignored" not in error, error
    _, _, said = error.partition(f"recbole_genci: stopped by {NAMES[signum]}. ")
    assert said and "recbole_genci: " not in said, error
    return said.rstrip()


def words_of(said: str) -> list[str]:
    """The words, after the script, of the command that a sentence prints."""
    python, _, *words = shlex.split(re.search(r"Go on by: (.*?)(?:\n|$)", said)[1])
    assert python == "python"
    return words


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


def metrics_of(folder: Path) -> dict:
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: metrics[name] for name in SAME}


@pytest.fixture
def argv(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=30)) | {
        "epochs": 3,
        "stopping_step": 9,
        "dropout_prob": 0.2,
        "train_batch_size": 64,
        "show_progress": True,
    }
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump(keys))
    return ["--dataset=tiny", f"--config_files={tmp_path / 'keys.yaml'}"]


#: Where a run of GenCI is stopped: (what is patched, which call, before its work?), and whether the
#: run can be resumed.
MOMENTS = {
    "reading rows": ((plan, "prepare_parts"), 1, True, False),
    "after reading rows": ((plan, "log_summary"), 1, False, False),
    "building IDs": ((tokenizer.build, "encode_texts"), 1, False, False),
    "writing IDs": ((tokenizer.artifact.files.os, "rename"), 1, True, False),
    "first batch": ((torch.optim.Adam, "step"), None, True, False),
    "second epoch": ((training.CTRTrainer, "_train_epoch"), 2, False, True),
    "validation": ((training.CTRTrainer, "_valid_epoch"), 2, True, True),
    "writing the first state": ((checkpoint, "save_file"), 1, True, True),
    "renaming a state": ((writing.os, "replace"), "training.safetensors", True, True),
    "after the last epoch": ((training.CTRTrainer, "fit"), 1, False, True),
    "testing": ((training, "measure_latency"), 1, True, True),
    "writing metrics.json": ((training, "write_json"), 1, False, None),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The metrics of the run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    keys = (
        write_dataset(folder / "data", tiny_rows(rows_per_user=30))
        | SMALL_GENCI
        | {
            "epochs": 3,
            "stopping_step": 9,
            "dropout_prob": 0.2,
            "train_batch_size": 64,
            "checkpoint_dir": str(folder / "saved"),
            "results_dir": str(folder / "results"),
        }
    )
    (run,) = quick_start.run("GenCI", "tiny", config_dict=keys)
    return metrics_of(Path(run["folder"]))


#: Of each kind one; the others are slow tests.
QUICK = ("reading rows", "building IDs", "second epoch", "renaming a state", "writing metrics.json")


@pytest.mark.parametrize(
    "moment",
    [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MOMENTS],
)
def test_a_run_goes_on_from_wherever_it_was_stopped(moment, argv, whole, tmp_path):
    signum = list(NAMES)[list(MOMENTS).index(moment) % 2]
    (target, name), call, before, resumable = MOMENTS[moment]
    function = getattr(target, name)
    if call is None:  # the tokenizer has its own optimiser

        def replacement(self, *args, **kwargs):
            if len(self.param_groups[0]["params"]) > 20:
                os.kill(os.getpid(), signum)
            return function(self, *args, **kwargs)
    elif isinstance(call, str):

        def replacement(source, goal):
            if Path(goal).name == call:
                os.kill(os.getpid(), signum)
            return function(source, goal)
    else:
        replacement = signalled(function, signum, call, before)
    status, error = run_in_child(main, [*GENCI, *argv], [(target, name, replacement)])
    said = sentence(error, signum)
    assert status == 128 + signum and not leftovers(tmp_path)
    folders = list(Path("saved").glob("*"))
    if resumable:
        (folder,) = folders
        assert words_of(said) == [f"--resume={folder}"] and not (folder / "metrics.json").exists()
        status, error = run_in_child(main, words_of(said))
        assert status == 0, error
        (table,) = Path("results").glob(
            "tiny-*/table.md"
        )  # as a run that was not stopped leaves it
        assert "| GenCI |" in table.read_text()
        assert f"Command: `python run_recbole_genci.py --resume={folder}`" in table.read_text()
    elif resumable is None:
        (folder,) = folders
        table = f"python -m recbole_genci.report {folder}/metrics.json"
        assert f"Finished: GenCI seed 2020; their table: {table}" in said
    else:
        assert "--resume" not in said and (
            "started anew" in said if folders else "give the same command again" in said
        )
        assert run_in_child(main, [*GENCI, *argv])[0] == 0
        (folder,) = [each for each in Path("saved").iterdir() if each not in folders]
    assert metrics_of(folder) == whole


def test_the_sentence_of_several_models_names_what_has_finished_and_what_has_not_begun(
    argv, tmp_path, capsys
):
    from recbole_genci.report import main as report

    replacement = signalled(training.CTRTrainer, signal.SIGINT, 3)
    status, error = run_in_child(
        main, ["--model=DeepFM,DIN", *argv, "--seeds=2"], [(training, "CTRTrainer", replacement)]
    )
    said = sentence(error, signal.SIGINT)
    assert (
        status == 130
        and "DeepFM seed 2021 has to be started anew: no epoch had ended in saved/DeepFM" in said
    )
    assert "Finished: DeepFM seed 2020, DIN seed 2020; their table: " in said and said.endswith(
        "Not begun: DIN seed 2021"
    )
    assert report(shlex.split(re.search(r"recbole_genci.report (.*?)\nNot", said)[1])) == 0
    assert "| DIN |" in capsys.readouterr().out


def test_an_exception_that_python_drops_is_raised_again(argv):
    class Dropped:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0)

    original = training.CTRTrainer._train_epoch

    sent = []

    def train_epoch(*args, **kwargs):
        if not sent:  # a second signal would end the command at once
            sent.append(Dropped())
            sent[0] = None
        return original(*args, **kwargs)

    status, error = run_in_child(
        main,
        ["--model=DeepFM", *argv, "--epochs=500"],
        [(training.CTRTrainer, "_train_epoch", train_epoch)],
    )
    assert status == 143 and sentence(error, signal.SIGTERM)


def test_a_second_signal_ends_a_command_at_once(argv):
    def write_for_ever(path):
        os.kill(os.getpid(), signal.SIGINT)  # waits for the end of the file
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still here")

    def in_a_file(*args):
        writing.write_atomically(Path("file"), write_for_ever)

    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(BaseException):
            interrupts.answered(in_a_file)([])
        os._exit(99)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT


def test_a_search_goes_on_by_the_command_it_prints(argv, tmp_path):
    (tmp_path / "space").write_text("learning_rate choice [0.01, 0.003, 0.001]\n")
    asked = ["--model=DeepFM", *argv, f"--params_file={tmp_path / 'space'}"]
    assert run_in_child(tune, asked)[0] == 0
    (whole,) = Path("results").iterdir()
    for signum, call in (
        (signal.SIGINT, 5),
        (signal.SIGTERM, 9),
    ):  # of 9 epochs: in the second trial and the third
        before = set(Path("results").iterdir())
        patch = (
            training.CTRTrainer,
            "_train_epoch",
            signalled(training.CTRTrainer._train_epoch, signum, call),
        )
        status, error = run_in_child(tune, asked, [patch])
        (folder,) = set(Path("results").iterdir()) - before
        assert status == 128 + signum and words_of(sentence(error, signum)) == [
            f"--resume_search={folder}"
        ]
        assert run_in_child(tune, [f"--resume_search={folder}"])[0] == 0
        one, other = (
            json.loads((each / "hyper_result.json").read_text()) for each in (whole, folder)
        )
        keep = ("trial", "params", "score", "valid", "test")
        assert {key: one["selected"][key] for key in keep} == {
            key: other["selected"][key] for key in keep
        }
        assert [each["score"] for each in one["trials"]] == [
            each["score"] for each in other["trials"]
        ]


def test_an_experiment_goes_on_by_the_command_it_prints(argv, tmp_path):
    pytest.importorskip("matplotlib")
    asked = ["--experiment=compare", *argv, "--models=DeepFM,DIN", "--seeds=1"]
    assert run_in_child(main, [*asked, "--results_dir=whole"])[0] == 0
    patch = (
        training.CTRTrainer,
        "_train_epoch",
        signalled(training.CTRTrainer._train_epoch, signal.SIGTERM, 5),
    )
    status, error = run_in_child(main, asked, [patch])
    assert status == 143
    words = words_of(sentence(error, signal.SIGTERM))
    assert run_in_child(main, words)[0] == 0
    read = experiments.records.read_runs
    one, other = (read(Path(folder) / "compare-tiny") for folder in ("whole", "results"))
    assert [(run["model"], run["test"]) for run in one] == [
        (run["model"], run["test"]) for run in other
    ] and len(one) == 2


@pytest.mark.parametrize("name", ["write_interactions", "write_table", "os.rename"])
def test_a_dataset_is_prepared_whole_or_not_at_all(name, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "ratings.dat").write_text("1::10::5::978300760\n2::20::3::978302109\n")
    (raw / "movies.dat").write_text(
        "10::Toy Story (1995)::Animation\n20::Heat (1995)::Action|Crime\n"
    )
    (raw / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    target, attribute = (output.os, "rename") if name == "os.rename" else (data.prepare.build, name)
    asked = [
        "--format=movielens",
        f"--input={raw}",
        "--dataset=ml",
        f"--output={tmp_path / 'made'}",
    ]
    patch = target, attribute, signalled(getattr(target, attribute), signal.SIGINT, 1)
    status, error = run_in_child(prepare_dataset, asked, [patch])
    assert status == 130 and "give the same command again" in sentence(error, signal.SIGINT)
    assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())
    assert run_in_child(prepare_dataset, asked)[0] == 0


def test_the_tokenizer_leaves_no_half_artifact(argv, tmp_path):
    rename = tokenizer.artifact.files.os.rename
    status, error = run_in_child(
        tokenize, argv, [(os, "rename", signalled(rename, signal.SIGTERM, 1))]
    )
    assert (
        status == 143
        and "give the same command again" in sentence(error, signal.SIGTERM)
        and not leftovers(tmp_path)
    )
    assert not list((tmp_path / "data/semantic_ids").glob("tiny-*"))
    assert run_in_child(tokenize, argv)[0] == 0
    assert len(list((tmp_path / "data/semantic_ids").glob("tiny-*"))) == 1


def start(words, tmp_path, script="run_recbole_genci.py"):
    """The real command in a session of its own, its output by line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
        cwd=tmp_path,
    )


@pytest.mark.parametrize(("signum", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_processes_that_train_together_end_together(signum, to_all, argv, tmp_path):
    """A terminal sends Ctrl-C to all of them, `kill` a signal to the first alone."""
    words = [
        "--model=DeepFM",
        *argv,
        "--nproc=2",
        "--epochs=5000",
        "--stopping_step=5000",
        "--show_progress=False",
    ]
    command, said = start(words, tmp_path), []
    guard = threading.Timer(120, command.kill)
    guard.start()
    for line in command.stdout:
        said.append(line)
        if "epoch 3 " in line:
            children = [
                int(pid)
                for task in Path(f"/proc/{command.pid}/task").iterdir()
                for pid in (task / "children").read_text().split()
            ]
            os.killpg(command.pid, signum) if to_all else os.kill(command.pid, signum)
            break
    said += command.stdout.readlines()
    guard.cancel()
    assert command.wait() == 128 + signum
    assert "several processes (nproc) keep no training state" in sentence("".join(said), signum)
    assert len(children) >= 2
    for _ in range(50):  # the system's own book-keeping of a process that has ended
        alive = [
            pid
            for pid in children
            if Path(f"/proc/{pid}").exists()
            and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        ]
        if not alive:
            break
        time.sleep(0.1)
    assert not alive and not leftovers(tmp_path)
    (folder,) = (tmp_path / "saved").iterdir()
    with only_process(folder):  # it is free again
        pass


def begins_to_import(command) -> bool:
    """Whether a process has loaded a library; on a busy machine Python itself takes seconds."""
    libraries = Path(f"/proc/{command.pid}/maps")
    return "site-packages" in libraries.read_text() if libraries.exists() else True


@pytest.mark.parametrize("delay", [0.0, 0.2, 1.5])
def test_ctrl_c_while_the_libraries_are_imported_says_one_line(delay, argv, tmp_path):
    command = start(["--model=DeepFM", *argv, "--epochs=5000", "--stopping_step=5000"], tmp_path)
    while not begins_to_import(command):
        time.sleep(0.05)
    time.sleep(delay)
    os.killpg(command.pid, signal.SIGINT)
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 130 and sentence(said, signal.SIGINT)


def test_a_program_that_uses_the_package_keeps_its_handlers(argv):
    before = {each: signal.getsignal(each) for each in NAMES}
    seen = {}

    def look(model, *rest, original=training.CTRTrainer, **keys):
        seen.update({each: signal.getsignal(each) for each in NAMES})
        return original(model, *rest, **keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "CTRTrainer", look)
        keys = yaml.safe_load(Path(argv[1].partition("=")[2]).read_text())
        quick_start.run("DeepFM", "tiny", config_dict=keys)
        assert seen == before
        assert main(["--model=DeepFM", *argv]) == 0
        assert all(seen[each] != before[each] for each in NAMES)
        seen.clear()
        thread = threading.Thread(target=main, args=(["--model=DeepFM", *argv],))
        thread.start()
        thread.join()
        assert seen == before
    assert {each: signal.getsignal(each) for each in NAMES} == before


def test_an_ignored_signal_stays_ignored():
    with pytest.MonkeyPatch.context():
        before = signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # as `nohup` and a shell's `&` start a command
        try:
            with interrupts.as_exceptions():
                assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)


def test_the_command_that_goes_on_names_a_model_of_ones_own(tmp_path):
    """A folder may not import code by itself, so the printed command has to name it."""
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "training.safetensors").write_text("")
    references = {"MyNet": "my_models:MyNet", "LR": "LR"}
    for name, words in (
        ("MyNet", [f"--resume={folder}", "--model=my_models:MyNet"]),
        ("LR", [f"--resume={folder}"]),
    ):
        assert words_of(stopped.of_runs([(name, 2020)], [], folder, references=references)) == words
