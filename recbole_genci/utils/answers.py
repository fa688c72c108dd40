"""One voice for all commands: what a person or a machine can mend is one sentence on stderr.

``answering`` makes a command of a function that checks a request and returns the work. A wrong
request has exit status 2, also one that only the work finds wrong (`Refused`), and work that fails
has 1. The code that knows how to go on says so in a note on
the exception, which a notebook shows too. Errors of other kinds are faults of this package, and
show their traceback, as all do with ``--state=DEBUG``.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from recbole_genci.utils import interrupts

REFUSED, FAILED = 2, 1
#: Errors that a request, a file or a machine can cause.
ANSWERED = (ValueError, OSError, ImportError, RuntimeError, MemoryError, FloatingPointError)
#: The word that asks any command for this package's version.
VERSION = "--version"
_NAME = __name__.partition(".")[0]
_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_PYTHON = os.path.dirname(os.__file__)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MEMORY_WORDS = ("can't allocate memory", "out of memory", "not enough memory")
_DEBUG = re.compile(r"--?state[=\s]+DEBUG\b", re.IGNORECASE)

Work = Callable[[], int]


class Refused(ValueError):
    """A request that cannot be met, as only the work could find out; its exit status is 2."""


def answering(prepare: Callable[[Sequence[str]], Work]) -> Callable[[Sequence[str]], int]:
    """Make a command's ``main`` of a function that checks its words and returns the work.

    The work returns the exit status. Errors and signals are answered in one sentence, and
    ``--version`` with the package's.
    """

    @functools.wraps(prepare)
    @interrupts.answered
    def main(argv: Sequence[str]) -> int:
        status = REFUSED
        if VERSION in argv:
            print(f"{_NAME} {sys.modules[_NAME].__version__}")
            return 0
        try:
            work = prepare(argv)
            status = FAILED
            return work()
        except ANSWERED as error:
            if _DEBUG.search(" ".join(argv)):
                raise
            print(f"recbole_genci: {sentence(error)}", file=sys.stderr)
            return REFUSED if isinstance(error, Refused) else status

    return main


def sentence(error: BaseException) -> str:
    """An error in words, with its notes."""
    return " ".join([in_words(error), *getattr(error, "__notes__", ())])


def in_words(error: BaseException) -> str:
    """An error in words: what happened, and what to do.

    Errors that this package raises say so themselves. Those of libraries are explained where it is
    known what they mean; else the place in this package is named.
    """
    if _is_memory_error(error):
        return _memory_words(error)
    if _is_ours(error):
        return str(error)
    if is_out_of_memory(error):
        return _memory_words(error)
    if isinstance(error, OSError) and error.strerror:
        return _file_words(error)
    text = " ".join(str(error).split())
    if "value cannot be converted to type" in text and "overflow" in text:
        return (
            "a number is too large for the model's weights: lower learning_rate, weight_decay or "
            "the model's own factors."
        )
    return f"{text or 'no words'} ({type(error).__name__}{_place(error)})"


def is_in_words(error: BaseException) -> bool:
    """Whether an error says itself, as this package's do, what happened: no traceback is needed."""
    return isinstance(error, ANSWERED) and _is_ours(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: the machine's or a GPU's, in Python, numpy or torch."""
    said = isinstance(error, RuntimeError) and any(
        words in str(error).lower() for words in _MEMORY_WORDS
    )
    return said or _is_memory_error(error)


def _is_memory_error(error: BaseException) -> bool:
    # torch is not imported here: a command answers before it is.
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _memory_words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    asked = re.search(r"allocate ([\d.]+ ?(?:[KMGTPE]i?B|bytes))", text)
    where = "the GPU" if "CUDA" in text or "GPU" in text else "this machine"
    what = f" ({asked[1]} were asked for at once)" if asked else ""
    return (
        f"out of memory on {where}{what}. Lower train_batch_size, eval_batch_size or the model's "
        "sizes (embedding_size, ...), or free memory."
    )


def _file_words(error: OSError) -> str:
    file = f"{error.filename}: " if error.filename is not None else "a file: "
    remedy = " Free some room on its disk." if error.errno in _NO_ROOM else ""
    return f"{file}{error.strerror}.{remedy}"


def _is_ours(error: BaseException) -> bool:
    """Whether this package or a person's own code raised the error, rather than a library."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or type(error).__module__.startswith("recbole_genci"):
        return True
    # A library in C has no frame of its own, but only a line of ours that raises begins so.
    line = frames[-1].line
    if line is not None and not line.lstrip().startswith("raise"):
        return False
    file = frames[-1].filename
    return file.startswith(_PACKAGE) or not (
        file.startswith(("<", _PYTHON)) or "site-packages" in file
    )


def _place(error: BaseException) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(_PACKAGE)
    ]
    if not frames:
        return ""
    file = frames[-1].filename.removeprefix(_PACKAGE)
    return f" at {file}, line {frames[-1].lineno}; --state=DEBUG shows more"
