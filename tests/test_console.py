"""What a person sees: the command in a pseudo-terminal, and with its output redirected."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import yaml
from conftest import SMALL_GENCI, tiny_rows, write_dataset

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [
    sys.executable,
    "-c",
    "import sys; from recbole_genci.cli import main; sys.exit(main(sys.argv[1:]))",
]
WORDS = [
    "--model=LR,GenCI",
    "--dataset=tiny",
    "--config_files=keys.yaml",
    "--epochs=2",
    "--weight_decay=0.001",
]


@pytest.fixture
def environment(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40)) | SMALL_GENCI
    Path("keys.yaml").write_text(yaml.safe_dump(keys))
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    plain = {
        key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")
    }
    return plain | {"PYTHONPATH": path, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}


def in_terminal(words, environment, columns=100):
    """Everything that a command writes to a terminal of so many columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=slave, stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    written = b""
    while True:
        try:
            read = os.read(master, 65536)
        except OSError:  # Linux' end of a terminal that nobody has open
            break
        if not read:
            break
        written += read
    os.close(master)
    assert process.wait() == 0, written.decode()
    return written.decode()


def rendered(written):
    """The lines that stay on the screen: what follows a carriage return is written over what stood
    there.
    """
    lines = []
    for line in written.split("\r\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


def test_a_terminal_without_colours_shows_one_line_an_epoch_and_no_rest_of_a_bar(environment):
    written = in_terminal(WORDS, environment | {"NO_COLOR": "1"})
    assert "\x1b" not in written and "Train epoch 1:" in written  # bars are there
    lines = rendered(written)
    assert not [line for line in lines if "Train epoch" in line or "Evaluate" in line]
    assert [line.split("  ")[0] for line in lines if line.startswith("epoch ")] == [
        "epoch 1",
        "epoch 2",
    ] * 2
    begins = next(number for number, line in enumerate(lines) if line.startswith("Training ends"))
    assert max(map(len, lines[begins:])) <= 100 and not [
        line for line in lines if "Sigmoid" in line or "(intent)" in line
    ]
    headings = [line for line in lines if ", model " in line]
    assert headings[0].startswith("LR, model 1 of 2, seed 2020 (1 of 1): ") and headings[
        1
    ].startswith("GenCI, model 2 of 2, ")
    text = " ".join(" ".join(lines).split())
    assert "learning_rate 0.005 (recipe paper), weight_decay 0.001 (command line)" in text
    table = [line for line in lines if line.startswith("| ")]
    assert (
        len(table) == 4
        and len(set(map(len, table))) == 1
        and re.match(r"\| LR +\| +0\.\d{4} \|", table[2])
    )


def test_redirected_output_has_no_colour_and_one_line_a_record(environment):
    done = subprocess.run(
        [*COMMAND, *WORDS], env=environment, capture_output=True, text=True, check=True
    )
    text = done.stdout + done.stderr
    assert "\x1b" not in text and "\r" not in text
    lines = [line for line in text.splitlines() if re.search(r"INFO  epoch \d", line)]
    assert len(lines) == 4 and all(
        line.count("patience") == line.count("best") == 1 for line in lines
    )
    assert "INFO  LR, model 1 of 2, seed 2020 (1 of 1): " in text and "Sigmoid" not in text
    assert (
        "At the end of a line, 'patience 2 (9 s)' means: it ends after 2 more evaluations "
        "without improvement (about 9 s, or until the last epoch if that is sooner)." in text
    )
    (log,) = Path("saved").glob("GenCI-*/run.log")
    assert "(intent): IntentGenerator(" in log.read_text() and "\x1b" not in log.read_text()


def test_a_terminal_has_colours(environment):
    written = in_terminal(
        ["--model=LR", *WORDS[1:2], "--config_files=lr.yaml", "--epochs=1"], _with_lr(environment)
    )
    assert "\x1b[1;32mepoch 1\x1b[0m" in written


def _with_lr(environment):
    keys = yaml.safe_load(Path("keys.yaml").read_text())
    Path("lr.yaml").write_text(
        yaml.safe_dump(
            {key: keys[key] for key in keys if key not in (*SMALL_GENCI, "mlp_hidden_size")}
        )
    )
    return environment
