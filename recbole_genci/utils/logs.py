"""Console and per-run log files. Colours and progress bars are for terminals, details for the run's
file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from recbole.utils.logger import RemoveColorFilter, log_colors_config, set_color
from tqdm import tqdm

_DETAILS = "recbole_genci.details"
_INDENT = "    "  # of a line's continuation


def details() -> logging.Logger:
    """The logger of what only ``run.log`` shall hold: the model's modules, all digits of an epoch."""
    logger = logging.getLogger(_DETAILS)
    logger.propagate = False
    return logger


def start_console(level: str | None) -> None:
    """Send the root logger to the console, unless the host program has set it up already."""
    # RecBole converts read-only numpy views to tensors it never writes to (dataset.py:2202).
    warnings.filterwarnings(
        "ignore", message="The given NumPy array is not writable", category=UserWarning
    )
    root = logging.getLogger()
    root.setLevel((level or "INFO").upper())
    if not root.handlers:
        root.addHandler(_Console(sys.stderr))


def shows_colours(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to write colour codes to ``stream``: to terminals only, never with ``NO_COLOR``
    (no-color.org), always with ``FORCE_COLOR``; an empty variable counts as none.
    """
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


def fold(line: str, width: int) -> str:
    """Break one long line for a terminal of ``width`` columns: between groups, which two spaces
    separate, or else words.
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
    """Writes between progress bars. A terminal gets folded lines without time; a file or a pipe one
    line a record.
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
    """Levels in RecBole's colours. colorlog's formatter, which RecBole uses, asks the environment
    too from version 6 on.
    """

    def format(self, record: logging.LogRecord) -> str:
        colour = log_colors_config.get(record.levelname)
        text = super().format(record)
        return set_color(text, colour, highlight=False) if colour else text


class _PlainFormatter(logging.Formatter):
    """Formats a copy without colours; RecBole's own filter would strip them from the console too."""

    def format(self, record: logging.LogRecord) -> str:
        plain = logging.makeLogRecord(record.__dict__ | {"msg": record.getMessage(), "args": None})
        RemoveColorFilter().filter(plain)
        return super().format(plain)


@contextlib.contextmanager
def log_file(file: Path, with_details: bool = False) -> Iterator[None]:
    """Also write the root logger to ``file``, and if asked ``details()``, inside the block only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
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
