"""Console and log files. Handlers sit on the root logger; loggers carry their module's name.

Colours and progress bars go to terminals only, and details to a run's file only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO

from recbole.utils.logger import RemoveColorFilter, log_colors_config, set_color
from tqdm import tqdm

_DETAILS = "recbole_genci.details"
_INDENT = "    "  # before the rest of a folded line


def details() -> logging.Logger:
    """The logger for lines of ``run.log`` only: the model's modules, all digits of an epoch."""
    logger = logging.getLogger(_DETAILS)
    logger.propagate = False
    return logger


def start_console(level: str | None) -> None:
    """Send the root logger's records to the console, unless the host program has a handler.

    Args:
        level: the lowest level of the root logger, and so of RecBole's loggers and ours; INFO if
            None.
    """
    # RecBole converts read-only numpy views to tensors it never writes to (dataset.py:2202).
    warnings.filterwarnings(
        "ignore", message="The given NumPy array is not writable", category=UserWarning
    )
    root = logging.getLogger()
    root.setLevel((level or "INFO").upper())
    for client in ("httpx", "httpx2"):  # the hub's client; they log each request
        logging.getLogger(client).setLevel(max(root.level, logging.WARNING))
    if not root.handlers:
        root.addHandler(_Console(sys.stderr))


def print_if_quiet(result: object) -> None:
    """Print a command's result if the log does not show it (``state: WARNING``)."""
    if not logging.getLogger().isEnabledFor(logging.INFO):
        print(result)


def shows_colours(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to write colour codes to ``stream``: by default if it is a terminal.

    The environment variable ``NO_COLOR`` (no-color.org) turns colours off and ``FORCE_COLOR`` turns
    them on; an empty variable counts as unset.
    """
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


def fold(line: str, width: int) -> str:
    """Break a long line for a terminal of ``width`` columns, between groups or else between words.

    Two spaces separate groups.
    """
    if "\n" in line or _columns(line) <= width:
        return line
    gap = "  " if "  " in line else " "
    first, *rest = line.split(gap)
    lines = [first]
    for piece in rest:
        if _columns(lines[-1] + gap + piece) <= width:
            lines[-1] += gap + piece
        else:
            lines.append(_INDENT + piece)
    return "\n".join(lines)


def _columns(text: str) -> int:
    return len(_without_colours(text))


def _without_colours(text: str) -> str:
    record = logging.makeLogRecord({"msg": text})
    RemoveColorFilter().filter(record)
    return record.msg


def _width(terminal: TextIO) -> int:
    try:
        columns = os.get_terminal_size(terminal.fileno()).columns
    except OSError:
        columns = 0
    return columns or shutil.get_terminal_size().columns


class _Console(logging.StreamHandler):
    """A handler that writes between progress bars.

    A terminal gets folded lines without the time; a file or a pipe gets one line per record.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.terminal = stream.isatty()
        if self.terminal:
            form, date = "%(level_prefix)s%(message)s", None
            self.addFilter(_prefix_level)
        else:
            form, date = "%(asctime)s %(levelname)s  %(message)s", "%d %b %H:%M"
        self.setFormatter(
            (_ColourFormatter if shows_colours(stream) else _PlainFormatter)(form, date)
        )

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return fold(text, _width(self.stream)) if self.terminal else text

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def _prefix_level(record: logging.LogRecord) -> bool:
    record.level_prefix = "" if record.levelno == logging.INFO else f"{record.levelname}: "
    return True


class _ColourFormatter(logging.Formatter):
    """Colours levels as RecBole does. RecBole uses colorlog, which from version 6 on also reads the
    environment, so that its formatter cannot decide alone here.
    """

    def format(self, record: logging.LogRecord) -> str:
        colour = log_colors_config.get(record.levelname)
        text = super().format(record)
        return set_color(text, colour, highlight=False) if colour else text


class _PlainFormatter(logging.Formatter):
    """Formats a copy without colours; RecBole's own filter would change the console's text too."""

    def format(self, record: logging.LogRecord) -> str:
        plain = logging.makeLogRecord(record.__dict__ | {"msg": record.getMessage(), "args": None})
        RemoveColorFilter().filter(plain)
        return super().format(plain)


class _LogFile(logging.FileHandler):
    """A handler that, where its file cannot be written, says so once and gives up.

    ``logging`` would print a traceback for each record.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.setLevel(logging.CRITICAL + 1)
        print(
            f"recbole_genci: {self.baseFilename} could not be written ({error.strerror}); it ends "
            "here.",
            file=sys.stderr,
        )

    def close(self) -> None:
        with contextlib.suppress(OSError):  # said by handleError
            super().close()


@contextlib.contextmanager
def log_file(file: Path, with_details: bool = False) -> Iterator[None]:
    """Also write all records to ``file``, inside the block only; ``with_details`` adds
    ``details()``.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(file, encoding="utf-8")
    handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s  %(message)s"))
    loggers = [logging.getLogger(), details()] if with_details else [logging.getLogger()]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


Message = tuple[str, int, str]  # name of the logger, level, text


@contextlib.contextmanager
def recorded() -> Iterator[list[Message]]:
    """Collect what is logged inside the block, from the level INFO on."""
    messages: list[Message] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append((record.name, record.levelno, record.getMessage()))

    recorder = Recorder(level=logging.INFO)
    logging.getLogger().addHandler(recorder)
    try:
        yield messages
    finally:
        logging.getLogger().removeHandler(recorder)


def say_again(messages: Iterable[Message]) -> None:
    """Log what ``recorded`` has collected."""
    for name, level, text in messages:
        logging.getLogger(name).log(level, text)
