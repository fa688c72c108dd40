"""Draw GenCI as docs/figures/model-light.svg and model-dark.svg: ``python docs/figures/model.py``.

Pure Python; the same files each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

FOLDER = Path(__file__).parent
WIDTH, HEIGHT = 950, 450
ATTENTION = ("cohorts read the clicks (Eq. 8),", "the target item reads", "the cohorts (Eq. 9)")
LEVELS = ("#4c78a8", "#f58518", "#54a24b", "#9d9d9d")  # of a semantic ID's codes


class Colours(NamedTuple):
    """Of one variant."""

    text: str
    faint: str
    line: str
    box: str
    intent: str
    click: str


VARIANTS = {
    "light": Colours("#1f2328", "#59636e", "#818b98", "#f6f8fa", "#fff1e5", "#dafbe1"),
    "dark": Colours("#f0f6fc", "#9198a1", "#7d8590", "#151b23", "#3d2a16", "#12351f"),
}


def picture(colours: Colours) -> str:
    """The whole figure as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="Helvetica, Arial, sans-serif">',
        "<title>GenCI: from item texts to a click probability</title>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="{colours.line}"/>'
        "</marker></defs>",
        _box(colours, 20, 30, 170, 60, "Item texts", "Toy Story. Comedy. 1995"),
        _arrow(colours, (105, 90), (105, 150)),
        _label(colours, 113, 124, "RQ-VAE, Eq. 3"),
        _box(colours, 20, 150, 170, 72, "Semantic IDs", ""),
        *_codes(41, 186, (12, 201, 7, 0)),
        _arrow(colours, (190, 186), (250, 186)),
        _label(colours, 202, 178, "clicks"),
        _box(colours, 250, 150, 160, 72, "T5 encoder", "reads the user's clicks", "Eq. 4"),
        _arrow(colours, (330, 150), (330, 102)),
        _box(colours, 250, 30, 160, 72, "T5 decoder", "generates the next IDs", "Eq. 2, 6"),
        _arrow(colours, (410, 66), (470, 66)),
        _label(colours, 420, 58, "beams"),
        _box(colours, 470, 30, 210, 72, "Cohorts", "of items with one code, Eq. 7"),
        *_cohorts(colours, 499, 82),
        _arrow(colours, (575, 102), (575, 150)),
        _arrow(colours, (410, 186), (470, 186)),
        _box(colours, 470, 150, 210, 88, "Cohort attention", *ATTENTION),
        _arrow(colours, (680, 172), (730, 172)),
        _box(colours, 730, 150, 170, 44, "Short-term intent", "", fill=colours.intent),
        _arrow(colours, (330, 222), (330, 253), (730, 253)),
        _label(colours, 470, 268, "last position, Eq. 5"),
        _box(colours, 730, 231, 170, 44, "Long-term intent", "", fill=colours.intent),
        _arrow(colours, (815, 275), (815, 306)),
        _arrow(colours, (900, 172), (930, 172), (930, 328), (900, 328)),
        _box(colours, 20, 306, 200, 44, "User, item, context", ""),
        _arrow(colours, (220, 328), (730, 328)),
        _label(colours, 470, 321, "embeddings"),
        _box(colours, 730, 306, 170, 44, "MLP, Eq. 10", ""),
        _arrow(colours, (815, 350), (815, 386)),
        _box(colours, 730, 386, 170, 44, "Click probability", "", fill=colours.click),
        _arrow(colours, (105, 350), (105, 408), (250, 408)),
        _box(colours, 250, 386, 160, 44, "DeepFM teacher", ""),
        _arrow(colours, (410, 408), (730, 408), dashed=True),
        _label(colours, 470, 401, "regularises, Eq. 11"),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _box(
    colours: Colours,
    x: int,
    y: int,
    width: int,
    height: int,
    title: str,
    *words: str,
    fill: str | None = None,
) -> str:
    """A box with a title, at its top if words follow, and the words below it."""
    words = tuple(word for word in words if word)
    middle = x + width / 2
    top = y + 22 if words or height > 60 else y + height / 2 + 5
    lines = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" '
        f'fill="{fill or colours.box}" stroke="{colours.line}"/>',
        f'<text x="{middle:g}" y="{top:g}" text-anchor="middle" font-size="15" '
        f'font-weight="bold" fill="{colours.text}">{escape(title)}</text>',
    ]
    lines += [
        f'<text x="{middle:g}" y="{y + 40 + 16 * number}" text-anchor="middle" font-size="12" '
        f'fill="{colours.faint}">{escape(word)}</text>'
        for number, word in enumerate(words)
    ]
    return "\n".join(lines)


def _label(colours: Colours, x: int, y: int, word: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="12" fill="{colours.faint}">{escape(word)}</text>'


def _arrow(colours: Colours, *points: tuple[int, int], dashed: bool = False) -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{colours.line}" stroke-width="1.6" '
        f'marker-end="url(#tip)"{dashes}/>'
    )


def _codes(x: int, y: int, codes: tuple[int, ...]) -> list[str]:
    """A semantic ID as one chip for each level."""
    return [
        f'<rect x="{x + 33 * level}" y="{y}" width="29" height="22" rx="4" fill="{colour}"/>'
        f'<text x="{x + 33 * level + 14.5:g}" y="{y + 15}" text-anchor="middle" font-size="11" '
        f'fill="white">{code}</text>'
        for level, (colour, code) in enumerate(zip(LEVELS, codes, strict=True))
    ]


def _cohorts(colours: Colours, x: int, y: int) -> list[str]:
    """Three groups of items, one for each level but the last."""
    return [
        f'<circle cx="{x + 56 * level + 12 * item + 5}" cy="{y + 6}" r="4" fill="{LEVELS[level]}"/>'
        for level in range(3)
        for item in range(4)
    ]


if __name__ == "__main__":
    for name, variant in VARIANTS.items():
        (FOLDER / f"model-{name}.svg").write_text(picture(variant), encoding="utf-8")
