"""Colours, folding, and what goes to which log."""

import io
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from recbole.utils import set_color
from tqdm import tqdm

import recbole_genci
import recbole_genci.experiments.command
import recbole_genci.tuning.command
from recbole_genci import cli, experiments, tuning
from recbole_genci.utils import logs
from recbole_genci.utils.logs import details, fold, log_file, shows_colours


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def console(monkeypatch):
    """Start the console on a stream, where the root logger has no other handler, and return that
    logger.
    """
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", root.level)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def start(stream):
        monkeypatch.setattr(root, "handlers", [])  # pytest's, which come anew when the test begins
        monkeypatch.setattr("sys.stderr", stream)
        logs.start_console("INFO")
        return root

    return start


def written(stream, console):
    root = console(stream)
    root.info(set_color("epoch 1", "green") + "  loss 0.5")
    root.warning("few rows")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "environ", "colours"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": "0"}, False),  # any value
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (Terminal(), {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_and_for_who_wants_them(
    stream, environ, colours, monkeypatch, console
):
    assert shows_colours(stream, environ) == colours
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    text = written(type(stream)(), console)
    assert ("\x1b" in text) == colours
    assert ("\x1b[0;33m" in text) == ("\x1b[1;32m" in text) == colours  # of a level, in a message


def test_a_terminal_gets_the_message_and_a_file_the_time_and_the_level(monkeypatch, console):
    monkeypatch.setenv("NO_COLOR", "1")
    assert written(Terminal(), console) == "epoch 1  loss 0.5\nWARNING: few rows\n"
    first, second = written(io.StringIO(), console).splitlines()
    assert (
        first.endswith(" INFO  epoch 1  loss 0.5")
        and second.endswith(" WARNING  few rows")
        and first[0].isdigit()
    )


def test_a_line_is_written_between_bars(monkeypatch, console):
    stream = Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    root = console(stream)
    with tqdm(total=3, file=stream, leave=False, mininterval=0, miniters=1, ncols=60) as bar:
        bar.update()
        root.info("a line")
        bar.update()
    shown, cleared = stream.getvalue().split("a line\n")[0], stream.getvalue().split("\r")
    assert (
        shown.endswith("\r") and shown.split("\r")[-2].strip() == ""
    )  # the bar was blanked, the cursor is at its start
    assert cleared[-1] == "" and cleared[-2].strip() == ""  # and it is gone when it ends


def test_long_lines_are_folded_between_groups_or_words():
    assert (
        fold("short", 10) == "short" and fold("two\nlines of a table", 5) == "two\nlines of a table"
    )
    assert fold("epoch 1  L_CTR 0.5  AUC 0.8", 20) == "epoch 1  L_CTR 0.5\n    AUC 0.8"
    assert fold("some words that go on", 12) == "some words\n    that go\n    on"
    assert fold("a_path/that/is/never/broken", 12) == "a_path/that/is/never/broken"
    assert (
        fold(f"{set_color('epoch 1', 'green')}  loss 0.5", 18)
        == f"{set_color('epoch 1', 'green')}  loss 0.5"
    )


def test_details_go_to_the_file_that_asks_for_them_alone(tmp_path, console):
    stream = io.StringIO()
    root = console(stream)
    with log_file(tmp_path / "search.log"), log_file(tmp_path / "run.log", with_details=True):
        root.info(set_color("seen", "blue"))
        details().info("LR(\n  (sigmoid): Sigmoid()\n)")
    details().info("after the run")
    root.info("after the run")
    run, search = ((tmp_path / name).read_text() for name in ("run.log", "search.log"))
    assert "seen" in run and "(sigmoid)" in run and "seen" in search and "(sigmoid)" not in search
    assert (
        "(sigmoid)" not in stream.getvalue() and "after" not in run and "\x1b" not in run + search
    )


@pytest.mark.parametrize("level, count", [("INFO", 2), ("WARNING", 1)])
def test_records_carry_their_module_and_the_consoles_level_holds_for_all(level, count, tmp_path):
    root, before = logging.getLogger(), logging.getLogger().level
    records = logging.getLogger("recbole_genci.data.summary")
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    root.addHandler(handler)
    try:
        logs.start_console(level)
        with log_file(tmp_path / "run.log"):
            records.info("rows")
            records.warning("one class")
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    assert [record.name for record in kept] == ["recbole_genci.data.summary"] * count
    assert len((tmp_path / "run.log").read_text().splitlines()) == count


def test_every_logger_of_the_package_is_its_modules():
    # Those that it writes to; the loggers of others, which it may silence, are fetched in lists.
    package = Path(recbole_genci.__file__).parent
    files = [file for file in package.rglob("*.py") if file.name != "logs.py"]
    calls = [
        call
        for file in files
        for call in re.findall(r"= logging\.getLogger\((.*?)\)", file.read_text(encoding="utf-8"))
    ]
    assert len(calls) > 20 and set(calls) == {"__name__"}


@pytest.mark.parametrize(("level", "printed"), [("INFO", ""), ("WARNING", "what\n")])
def test_a_command_with_a_quiet_log_prints_its_result(level, printed, monkeypatch, caplog, capsys):
    outcome = SimpleNamespace(result=lambda: "what", failed=list)
    monkeypatch.setattr(tuning.command, "execute", lambda search: "what")
    monkeypatch.setattr(experiments.command, "execute", lambda request, cache: outcome)
    caplog.set_level(level)
    for done in (
        lambda: cli._done(lambda: "what"),
        lambda: tuning.command._done(None),
        lambda: experiments.command._done(experiments.command.Prepared([None], None)),
    ):
        assert done() == 0 and capsys.readouterr().out == printed
