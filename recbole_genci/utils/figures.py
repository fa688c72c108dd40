"""Draw figures off screen, independent of a caller's own figures, and write them as PNG files."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_genci.utils.writing import write_atomically

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

INSTALL = "pip install matplotlib"


def can_draw() -> bool:
    """Whether matplotlib is installed (``INSTALL`` brings it)."""
    return importlib.util.find_spec("matplotlib") is not None


def row_of_axes(
    columns: int, width: float, height: float, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of ``width`` x ``height`` inches with ``columns`` axes in one row.

    ``options`` are those of ``Figure.subplots``. Returns ``(figure, axes [columns])``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False, **options)[0]


def save(figure: Figure, file: str | Path, dpi: int = 150, colours: int = 256) -> None:
    """Write a figure as PNG of at most ``colours`` colours; the same figure gives the same bytes.

    Shades at the edges of letters and lines count, so that 32 are enough for four colours of dots.
    """
    from PIL import Image  # matplotlib requires it

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    image = Image.open(drawn).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    write_atomically(Path(file), lambda path: image.save(path, format="PNG", optimize=True))
