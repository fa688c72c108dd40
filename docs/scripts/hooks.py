"""For MkDocs: the site holds docs/ alone, so links to other files and texts of them are rewritten.

- A link to a file that is no page of the site becomes the file's path.
- ``<!-- section of README.md: Two commands -->`` becomes that section of the README.
"""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
_OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)#\s]*)(#[^)\s]*)?\)")
_SECTION = re.compile(r"^<!-- section of README\.md: (.+) -->$", re.M)


def on_page_markdown(markdown: str, **_: object) -> str:
    """The text of a page as the site shows it."""

    def named(match: re.Match[str]) -> str:
        image, text, path = match[1], match[2], match[3]
        return f"(picture: `{path}`)" if image else f"{text} (`{path}` in the repository)"

    return _SECTION.sub(lambda match: section(match[1]), _OUTSIDE.sub(named, markdown))


def section(title: str) -> str:
    """The text below a heading of the README, its links as they are from docs/."""
    text = README.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2]
    if not text:
        raise ValueError(f"README.md has no section '{title}'")
    return re.sub(r"\]\(docs/", "](", text.partition("\n## ")[0])
