"""Whether the machine or a run's own values made it fail, and how tables name the error."""

from __future__ import annotations

import logging

from safetensors import SafetensorError

from recbole_genci.utils.answers import is_in_words

# A run's values may name a missing file, or a folder where a file should be.
_CAUSED_BY_VALUES = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def is_of_the_machine(error: BaseException) -> bool:
    """Whether the machine failed (disk, memory), not the run's values or its model's code.

    The runs after it would then fail, too. A GPU out of memory counts as the values' fault.
    """
    is_machine = isinstance(error, (OSError, MemoryError, SafetensorError))
    return is_machine and not isinstance(error, _CAUSED_BY_VALUES)


def as_recorded(error: BaseException) -> str:
    """An error in the form of tables and journals."""
    return f"{type(error).__name__}: {error}"


def log_failure(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Log that something failed: in one sentence if the error says why, else with its traceback.

    The traceback of the first kind, of training that diverged for example, is logged at the level
    DEBUG.

    Args:
        logger: where.
        what: a sentence that says what failed.
        error: why.
    """
    if is_in_words(error):
        logger.error(f"{what} {error}")
        logger.debug(what, exc_info=error)
    else:
        logger.error(what, exc_info=error)
