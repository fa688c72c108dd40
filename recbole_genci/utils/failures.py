"""Whether the machine or a run's own values made it fail, and how tables name the error."""

from __future__ import annotations

from safetensors import SafetensorError

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
