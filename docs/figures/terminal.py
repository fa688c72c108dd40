"""Draw a run's output as docs/figures/terminal.svg: ``python docs/figures/terminal.py``.

terminal.ansi is what the README's first command printed in a terminal (``script -qc COMMAND FILE``
writes such a file). Here it is shortened: dots stand for lines that are left out, and times are
left out because another machine has others. Needs rich, of the extra ``docs``.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

FOLDER = Path(__file__).parent
WIDTH = 118  # of the longest epoch's line
COMMAND = "\x1b[1m$ python run_recbole_genci.py --model=GenCI --dataset=ml-100k\x1b[0m"
#: Epochs that are shown, and the only one whose line about the generator is.
EPOCHS, GENERATOR = ("1", "2", "21", "24"), "21"


def logical_lines(captured: str) -> list[str]:
    """The lines as they were logged: continued ones begin with four spaces in a terminal."""
    return re.sub(r"\r?\n    (?=\S)", " ", captured).replace("\r", "").splitlines()


def abridged(lines: list[str]) -> list[str]:
    """The lines that the picture shows."""
    kept, epoch = [COMMAND], ""
    for line in lines:
        plain = re.sub(r"\x1b\[[\d;]*m", "", line)
        if match := re.match(r"epoch (\d+) ", plain):
            epoch = match[1]
            if epoch in EPOCHS:
                kept.append(re.sub(r" \(epoch \d+\)  .*$", "", line))
            elif kept[-1] != "...":
                kept.append("...")
        elif plain.startswith("generator"):
            if epoch == GENERATOR:
                kept.append(re.sub(r"; see .*$", "", line))
        elif plain.startswith("| "):
            # without latency, training and seeds
            kept.append("|".join(line.split("|")[:6]) + "|")
        elif not re.match(r"WARNING|Training ends|part +$", plain):
            kept.append(re.sub(r", \d+ min of training", "", line))
    return kept


def main() -> None:
    captured = (FOLDER / "terminal.ansi").read_text(encoding="utf-8")
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    for line in abridged(logical_lines(captured)):
        console.print(Text.from_ansi(line), soft_wrap=False)
    svg = console.export_svg(title="GenCI on MovieLens-100k", theme=MONOKAI, unique_id="run")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S)  # no request to a font server
    (FOLDER / "terminal.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
