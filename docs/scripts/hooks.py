"""For MkDocs: the site holds docs/ alone, so a link to another file becomes the file's path."""

from __future__ import annotations

import re

_OUTSIDE = re.compile(r"(!?)\[([^\]]*)\]\(\.\./([^)#\s]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """The text of a page as the site shows it."""

    def named(match: re.Match[str]) -> str:
        image, text, path = match[1], match[2], match[3]
        return f"(picture: `{path}`)" if image else f"{text} (`{path}` in the repository)"

    return _OUTSIDE.sub(named, markdown)
