"""pyarrow, which reads and writes Parquet and need not be installed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

PARQUET = (".parquet", ".pq")


def pyarrow_for(file: Path, others: str = ".csv") -> ModuleType:
    """pyarrow with its Parquet module.

    Args:
        file: the file that needs it.
        others: endings of files that do without.

    Raises:
        ImportError: it is not installed; names the file.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f"{file} is a Parquet file, which needs pyarrow: pip install pyarrow; or use {others}."
        ) from error
    return pyarrow
