"""Pictures off screen: figures apart from those a caller has open, written as PNG whole or not at
all.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_genci.utils.files import write_atomically

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

INSTALL = "pip install 'recbole_genci[plots]'"


def can_draw() -> bool:
    """Whether matplotlib is installed (``INSTALL`` brings it)."""
    return importlib.util.find_spec("matplotlib") is not None


def row_of_axes(
    columns: int, width: float, height: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """``(figure, axes [columns])``, ``width`` x ``height`` inches; ``options`` as of
    ``Figure.subplots``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False, **options)[0]


def save(figure: Figure, file: str | Path, dpi: int = 150) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    write_atomically(
        Path(file),
        lambda path: figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None}),
    )
