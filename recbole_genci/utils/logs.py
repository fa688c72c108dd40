"""Console and per-run log files, in RecBole's colours."""

from __future__ import annotations

import contextlib
import logging
import warnings
from pathlib import Path

import colorlog
from recbole.utils.logger import RemoveColorFilter, log_colors_config


def start_console(level: str | None) -> None:
    """Send the root logger to the console, unless the host program has set it up already."""
    # RecBole converts read-only numpy views to tensors it never writes to (dataset.py:2202).
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
    root = logging.getLogger()
    root.setLevel((level or "INFO").upper())
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(colorlog.ColoredFormatter("%(log_color)s%(asctime)s %(levelname)s  %(message)s", "%d %b %H:%M",
                                                       log_colors=log_colors_config))  # fmt: skip
        root.addHandler(handler)


class _PlainFormatter(logging.Formatter):
    """Formats a copy without colours; RecBole's own filter would strip them from the console too."""

    def format(self, record):
        plain = logging.makeLogRecord(record.__dict__ | {"msg": record.getMessage(), "args": None})
        RemoveColorFilter().filter(plain)
        return super().format(plain)


@contextlib.contextmanager
def log_file(file: Path):
    """Also write the root logger to ``file``, inside the block only."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s  %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
