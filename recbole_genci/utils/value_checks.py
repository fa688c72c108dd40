"""Checks of single values, and the sentences that refuse them."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from numbers import Integral, Real

import numpy as np

from recbole_genci.utils.config_like import ConfigLike

#: RecBole's token of ID 0; no user, item or word of a dataset may have it.
PAD_TOKEN = "[PAD]"

#: For messages about a value that should be a list: ``[a, b]`` on a command line is a text.
LIST_HINT = " On a command line quote its words: \"['word', 'word']\"."


#: The longest name of a file or folder that file systems take, in bytes.
LONGEST_NAME = 255


def quoted(text: str) -> str | None:
    """The text of a list or mapping with its bare words quoted: ``{'a': ['b']}`` for ``{a: [b]}``.

    None if the text is no list or mapping even so.
    """
    word = r"""'[^']*'|"[^"]*"|[^\s{}\[\],:'"]+"""

    def quote(match: re.Match) -> str:
        try:
            ast.literal_eval(match[0])
        except (ValueError, SyntaxError):
            return repr(match[0])
        return match[0]

    mended = re.sub(word, quote, text)
    try:
        value = ast.literal_eval(mended)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return str(value) if isinstance(value, (list, dict)) else None


def check_file_names(key: str, path: object) -> None:
    """Refuse a path with a name that no file system takes.

    Raises:
        ValueError: names the key and the length.
    """
    for name in str(path).replace("\\", "/").split("/") if isinstance(path, str) else ():
        if len(name.encode(errors="surrogatepass")) > LONGEST_NAME or "\0" in name:
            length = f"{len(name)} letters" if "\0" not in name else "a NUL character"
            raise ValueError(
                f"{key}: the name '{name[:40]}...' has {length}; a file or folder may have "
                f"{LONGEST_NAME}. Give a shorter name."
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest of ``known``, or an empty string."""
    match = closest(name, known)
    return f" Did you mean '{match}'?" if match else ""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The closest of ``known``, in any case; None if none is close."""
    known = {str(k).lower(): str(k) for k in known}
    match = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.6)
    return known[match[0]] if match else None


def shortened(value: object) -> str:
    """``value`` as Python writes it, cut where it would fill the screen."""
    if isinstance(value, np.generic):
        value = value.item()
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more than 4300 digits, a deep list
        return f"a very large {type(value).__name__}"
    if "\n" in text:  # a table or an array, which would make several lines of a sentence
        text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def is_whole(value: object, minimum: int = 1) -> bool:
    """Whether ``value`` is a whole number (Python's or numpy's, not a bool) >= ``minimum``."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= minimum


def is_number(value: object) -> bool:
    """Whether ``value`` is a number, Python's or numpy's, not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_divides(config: ConfigLike, key: str, width_key: str) -> None:
    """Refuse a number of heads, blocks or the like that does not divide a width."""
    if config[width_key] % config[key]:
        raise ValueError(
            f"{key}: {config[key]} does not divide {width_key}, which is {config[width_key]}."
        )
