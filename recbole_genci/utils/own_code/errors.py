"""Errors of a person's own code, in one sentence that names its file and line."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator

from recbole_genci.utils.answers import is_out_of_memory
from recbole_genci.utils.own_code.references import name_of, reference_of
from recbole_genci.utils.own_code.sources import is_own, own_sources


def described(error: BaseException) -> str:
    """An error of a person's own code in one line: file and line in that code, type, message."""
    words = " ".join(str(error).split()) or "no words"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}."
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)
    ]
    where = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
    return f"{where}{type(error).__name__}: {words.rstrip('.')}."


@contextlib.contextmanager
def errors_in_words(key: str, what: str) -> Iterator[None]:
    """Turn any error of a person's own code inside the block into a ValueError of one sentence.

    A ValueError passes unchanged, and so does a lack of memory.
    """
    try:
        yield
    except ValueError:
        raise
    except (Exception, SystemExit) as error:  # a person's own code may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{key}: {what}: {described(error)}") from error


class OwnCodeFailed(ValueError):
    """A person's own model failed while it was trained; the sentence names its file and line."""


@contextlib.contextmanager
def errors_of_own(thing: Callable, key: str) -> Iterator[None]:
    """Turn errors that passed through the source of a person's own class into ``OwnCodeFailed``.

    For long blocks, in which other code may fail too; its errors pass unchanged, and so does a lack
    of memory.
    """
    files = {str(file) for file in own_sources(thing)}
    try:
        yield
    except (Exception, SystemExit) as error:  # a person's own code may raise anything
        passed = {
            os.path.realpath(frame.filename) for frame in traceback.extract_tb(error.__traceback__)
        }
        if is_out_of_memory(error) or not files & passed:
            raise
        raise OwnCodeFailed(f"{key}: {name_of(reference_of(thing))}: {described(error)}") from error
