"""RecBole's habits on the command line mean what --key=value means, and nothing that is typed ends
in a traceback."""

import re

import pytest
from conftest import tiny_rows, write_dataset
from hypothesis import given
from hypothesis import strategies as st

import recbole_genci
from recbole_genci.cli import main
from recbole_genci.config import known_keys, parse_argv
from recbole_genci.config.command_line import as_started, key_value_words
from recbole_genci.config.unknown_keys import WORDS_OF
from recbole_genci.data.prepare.__main__ import main as prepare
from recbole_genci.data.prepare.__main__ import read_arguments
from recbole_genci.experiments.command import _ARGUMENTS
from recbole_genci.experiments.command import main as run_experiments
from recbole_genci.export import main as export
from recbole_genci.hub.command import main as push_or_pull
from recbole_genci.model.registry import known_models
from recbole_genci.predict import main as predict
from recbole_genci.report import main as report
from recbole_genci.tokenizer.command import main as tokenize
from recbole_genci.tuning.command import _OPTIONS, _SETTINGS
from recbole_genci.tuning.command import main as tune

KEYS = st.from_regex(r"[A-Za-z_][A-Za-z_0-9]{0,12}", fullmatch=True).filter(
    lambda key: key != "group_offset"
)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_subnormal=False)).map(str)
VALUES = st.one_of(NUMBERS, st.text(max_size=12).filter(lambda text: not text.startswith("-")))


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.data())
def test_both_forms_mean_the_same(pairs, data):
    mixed = []
    for key, value in pairs.items():
        mixed += [f"--{key}={value}"] if data.draw(st.booleans()) else [f"--{key}", value]
    one = [f"--{key}={value}" for key, value in pairs.items()]
    assert key_value_words(mixed) == key_value_words(one) == one
    assert repr(parse_argv(key_value_words(mixed))) == repr(parse_argv(one))


@given(
    st.lists(
        st.one_of(
            st.text(max_size=8),
            st.sampled_from(["-m", "-d", "--", "-", "=", "--a", "--a=", "-1", "--help", "-h"]),
        )
    )
)
def test_whatever_is_typed_is_words_or_one_sentence(argv):
    try:
        words = key_value_words(argv)
    except ValueError as error:
        assert str(error).startswith("command line: ")
    else:
        assert all(
            word in ("--help", "-h")
            or re.match(r"--[^=]+=", word, re.DOTALL)
            or word.startswith("--=")
            for word in words
        )
        assert key_value_words(words) == words  # it changes nothing that is in form


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["-m", "LR", "-d", "ml-100k"], ["--model=LR", "--dataset=ml-100k"]),
        (["-m=LR", "-d=ml-100k"], ["--model=LR", "--dataset=ml-100k"]),
        (
            ["--mu", "-1", "--eta", "-1e-3", "--low", "-.5", "--high", "-inf"],
            ["--mu=-1", "--eta=-1e-3", "--low=-.5", "--high=-inf"],
        ),
        (["--config_files", "a.yaml b.yaml"], ["--config_files=a.yaml b.yaml"]),
        (
            ["--config_files", "a.yaml", "b.yaml", "-m", "LR"],
            ["--config_files=a.yaml b.yaml", "--model=LR"],
        ),
        (["--config_files=a.yaml", "b.yaml"], ["--config_files=a.yaml b.yaml"]),
        (["--group_offset", "2", "--nproc", "2"], ["--offset=2", "--nproc=2"]),
        (
            ["--threshold", "{'rating': 4}", "--encoding", ""],
            ["--threshold={'rating': 4}", "--encoding="],
        ),
        (["--a=b=c", "--d", "e=f", "-h"], ["--a=b=c", "--d=e=f", "-h"]),
    ],
)
def test_recboles_words(typed, meant):
    assert key_value_words(typed) == meant


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["--use_gpu", "--model=LR"],
            "--use_gpu has no value; the next word is '--model=LR'. Write --use_gpu=VALUE, for "
            "example --use_gpu=True.",
        ),
        (["--model=LR", "--epochs"], "--epochs has no value; it is the last word."),
        (["-m", "-d", "ml-100k"], "-m has no value; the next word is '-d'."),
        (
            ["--encoding", "-x"],
            "--encoding has no value; the next word is '-x'. Write --encoding=VALUE, for example "
            "--encoding=-x.",
        ),
        (
            ["-model=LR"],
            "'-model=LR' begins with one dash. Write --model=LR; only -m NAME and -d NAME are",
        ),
        (["LR", "--dataset=x"], "'LR' is not of the form --key=value or --key value"),
        (
            ["--mlp_hidden_size", "[64,", "64]"],
            "put the whole value in quotation marks: --mlp_hidden_size='[64, 64]'",
        ),
        (
            ["--load_col={inter:", "[user_id,", "item_id]}", "--seed", "3"],
            """in quotation marks: --load_col="{'inter': ['user_id', 'item_id']}".""",
        ),
        (["--", "x"], "'--' is not of the form"),
        ([""], "'' is not of the form"),
    ],
)
def test_what_is_ambiguous_is_one_sentence_of_every_command(typed, said, capsys):
    with pytest.raises(ValueError, match=re.escape(said)):
        key_value_words(typed)
    for command in (main, run_experiments, tune, tokenize):
        assert command(typed) == 2
        shown = capsys.readouterr().err
        assert (
            shown.startswith("recbole_genci: command line: ")
            and said in shown
            and shown.count("\n") == 1
        )
    with pytest.raises(ValueError, match=re.escape(said)):
        read_arguments(typed)


COMMANDS = (main, run_experiments, tune, tokenize, prepare, predict, export, push_or_pull, report)


@pytest.mark.parametrize("typed", [["--version"], ["--dataset=x", "--version"]])
def test_every_command_says_its_version(typed, capsys):
    for command in COMMANDS:
        assert command(typed) == 0
        assert capsys.readouterr().out == f"recbole_genci {recbole_genci.__version__}\n"


@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_what_is_misspelt_beside_help_is_refused_by_every_command(asked, capsys):
    for command, right, wrong, meant in (
        (main, "dataset=ml-100k", "datset=ml-100k", "dataset"),
        (main, "model=LR", "modle=LR", "model"),
        (main, "epochs=3", "epocs=3", "epochs"),
        (main, "num_beams=3", "num_beam=3", "num_beams"),
        (main, "experiment=mu", "experimnt=mu", "experiment"),
        (tune, "params_file=a", "param_file=a", "params_file"),
        (tune, "algo=random", "alggo=random", "algo"),
        (tokenize, "append_to=a", "apend_to=a", "append_to"),
        (predict, "input=a", "inpt=a", "input"),
        (export, "output=a", "outptu=a", "output"),
        (prepare, "schema=a", "shema=a", "schema"),
    ):
        assert command([asked, f"--{right}"]) == 0 and capsys.readouterr().out
        assert command([f"--{wrong}", asked]) == 2
        shown = capsys.readouterr()
        assert not shown.out and f"Did you mean '{meant}'?" in shown.err
        assert shown.err.startswith("recbole_genci: command line: ") and shown.err.count("\n") == 1
    assert run_experiments(["--help", "--experiment=mu", "--models=LR,GenCI", "--mu=1"]) == 0
    assert run_experiments(["--help", "--experiment=mu", "--sedes=1"]) == 2
    assert "Did you mean 'seeds'?" in capsys.readouterr().err


def test_a_word_of_another_command_is_said_to_be_its():
    experiment, search = map(set, WORDS_OF.values())
    known = known_keys(known_models(), None) | {"experiment", "trust_code"}
    assert experiment == set(_ARGUMENTS) - known
    assert search == {*_SETTINGS, *_OPTIONS} - known


def test_a_command_in_recboles_habits_records_the_one_form(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows())
    (tmp_path / "one.yaml").write_text(
        "".join(f"{key}: {value}\n" for key, value in keys.items() if value != "")
    )
    (tmp_path / "two.yaml").write_text("epochs: 1\n")
    words = [
        "-m",
        "DeepFM",
        "-d",
        "tiny",
        "--config_files",
        "one.yaml",
        "two.yaml",
        "--learning_rate",
        "0.01",
        "--gpu_id",
        "",
    ]
    assert main(words) == 0
    (table,) = tmp_path.glob("results/*/table.md")
    said = (
        "python run_recbole_genci.py --model=DeepFM --dataset=tiny "
        "'--config_files=one.yaml two.yaml' --learning_rate=0.01 --gpu_id="
    )
    assert f"Command: `{said}`" in table.read_text()
    arguments = read_arguments(
        ["--format", "movielens", "--input", "ml-1m", "-d", "ml-1m", "--max_malformed", "0"]
    )
    assert arguments["dataset"] == arguments["input"] == "ml-1m" and arguments["max_malformed"] == 0


def test_a_command_is_started_again_as_it_was(monkeypatch):
    for started, words in (
        ("/usr/bin/run_hyper", ["run_hyper"]),
        ("../run_hyper.py", ["python", "../run_hyper.py"]),
        ("/usr/bin/pytest", ["python", "run_hyper.py"]),
    ):
        monkeypatch.setattr("sys.argv", [started])
        assert as_started("run_hyper.py") == words
