"""The scripts that a person starts, and the command lines that start them."""

from __future__ import annotations

import shlex

TRAIN, TUNE = "run_recbole_genci.py", "run_hyper.py"


def command_line(script: str, *words: str) -> str:
    """The command line that starts a script, as a shell takes it."""
    return shlex.join(["python", script, *words])


def words_of(command: str) -> list[str]:
    """The words behind the script of a ``command_line``, without a comment at its end."""
    return shlex.split(command, comments=True)[2:]
