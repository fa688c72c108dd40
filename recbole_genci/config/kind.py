"""The kind of a configuration key: which values it accepts, in words that people and code read.

In a properties file the kind stands in brackets at the start of the key's comment, as in RecBole's
own files:

    num_beams: 4        # (int >= 1) Generated semantic IDs per history.
    dropout_prob: 0.2   # (float in [0, 1)) Of the prediction MLP.
    sr_loss: bce        # (str: bce | mse) Between student and teacher.
    volatility_field: ~ # (str or ~) Item field of genres.
    cin_layer_size: []  # (list of int >= 1) Sizes of the CIN's layers.
    threshold: ~        # (dict like {rating: 4}) Which column makes the label.
    normalize_field: ~  # (list of str or [] or ~) A kind, or another; [] is the empty list.
    topk: [10]          # (no effect, list of int >= 1) Checked, although nothing here reads it.
    weight_decay: 0.0   # (float >= 0 or float/rows) A number, or a text (see ``per_rows``).

A whole number is below 2**31, a number within float32, unless the range says otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, NamedTuple

from recbole_genci.utils.value_checks import LIST_HINT, quoted, shortened

#: The kind of a key that nothing here reads.
NO_EFFECT = "no effect"
#: Torch counts in 32 bits here and there, and models compute in float32.
_LARGEST = {"int": 2**31 - 1, "float": 3.4028234e38}
_PER_ROWS = "float/rows"
_BASES = ("bool", "int", "float", "str", "list", "dict", "[]", "any", _PER_ROWS, NO_EFFECT)
_NUMBER = r"[-+]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|inf)"
_PER_ROWS_TEXT = re.compile(rf"({_NUMBER}) */ *rows( */ *rows_per_vector)?", re.ASCII)
_BOUND = re.compile(rf"(>=|>)\s*({_NUMBER})")
#: Words for kinds, ours and others'. A bracket that begins with one is meant as a kind.
_FIRST_WORD = re.compile(
    r"\s*(int(eger)?|float|double|number|str(ing)?|bool(ean)?|list|tuple|dict(ionary)?)\b",
    re.IGNORECASE,
)
_FORMS = "(int >= 1), (float in [0, 1)), (bool), (str: a | b), (list of int >= 1) or (str or ~)"
_INTERVAL = re.compile(rf"in ([\[(])({_NUMBER}),\s*({_NUMBER})([\])])")


@dataclass(frozen=True)
class Kind:
    """A kind of value and its range.

    Attributes:
        base: ``bool``, ``int``, ``float``, ``str``, ``list``, ``dict``, ``[]`` for an empty list,
            ``float/rows`` for a text that ``per_rows`` reads, ``any``,
            ``union`` of other kinds, or ``no effect`` for a key that nothing here reads.
        low, high: ends of a number's range; None if the range is open on that side.
        holds_low, holds_high: whether the ends belong to the range.
        choices: the texts that are allowed; empty if any text is.
        element: the kind of a list's entries; None if they may be anything.
        example: an example of a mapping.
        alternatives: the kinds of a union.
        optional: whether None (``~``) is allowed too.
        has_effect: whether anything here reads the key.
        words: the words in the comment.
    """

    base: str
    low: float | None = None
    high: float | None = None
    holds_low: bool = True
    holds_high: bool = True
    choices: tuple[str, ...] = ()
    element: Kind | None = None
    example: str = ""
    alternatives: tuple[Kind, ...] = ()
    optional: bool = False
    has_effect: bool = True
    words: str = ""

    @classmethod
    def of(cls, words: str) -> Kind:
        """The kind that ``words`` say, for options that no properties file lists.

        Raises:
            ValueError: they say none.
        """
        kind = parse_kind(words)
        if kind is None:
            raise ValueError(f"'({words})' says no kind of value.")
        return kind

    def accepts(self, value: Any) -> bool:
        """Whether ``value`` is of this kind; numpy's numbers count as Python's."""
        if self.base in ("any", NO_EFFECT):
            return True
        if value is None:
            return self.optional
        if self.base == "[]":
            return isinstance(value, (list, tuple)) and not value
        if self.base == "union":
            return any(kind.accepts(value) for kind in self.alternatives)
        if self.base == _PER_ROWS:
            return per_rows(value) is not None
        if self.base == "bool":
            return isinstance(value, bool)
        if self.base in ("int", "float"):
            number = Integral if self.base == "int" else Real
            return (
                isinstance(value, number) and not isinstance(value, bool) and self._in_range(value)
            )
        if self.base == "str":
            return (
                isinstance(value, str)
                and not _unwritable(value)
                and (not self.choices or value in self.choices)
            )
        if self.base == "list":
            return isinstance(value, (list, tuple)) and (
                self.element is None or len(value) > 0 and all(map(self.element.accepts, value))
            )
        return isinstance(value, Mapping)

    def _in_range(self, value: Any) -> bool:
        try:
            finite = math.isfinite(value)
        except OverflowError:  # a whole number beyond all floats
            finite = self.base == "int"
        if not finite:
            return False
        if self.high is None and abs(value) > _LARGEST[self.base]:
            return False
        above = self.low is None or value > self.low or self.holds_low and value == self.low
        below = self.high is None or value < self.high or self.holds_high and value == self.high
        return above and below

    def expected(self) -> str:
        """The accepted values as the end of a sentence: ``a whole number of at least 1``."""
        words = self._expected()
        return f"{words}, or None (~)" if self.optional else words

    def _expected(self) -> str:
        if self.base == "[]":
            return "an empty list"
        if self.base == "union":
            has_list = any(kind.element is not None for kind in self.alternatives)
            between = ", or " if has_list else " or "  # what follows a list is no entry of it
            return between.join(kind.expected() for kind in self.alternatives)
        if self.base == _PER_ROWS:
            written = "written like 200/rows or 10000/rows/rows_per_vector"
            return f"a number for all training rows, {written}"
        if self.base == "bool":
            return "True or False"
        if self.base in ("int", "float"):
            return ("a whole number" if self.base == "int" else "a number") + self._range()
        if self.base == "str":
            return f"one of {', '.join(self.choices)}" if self.choices else "a text"
        if self.base == "list":
            return (
                "a list"
                if self.element is None
                else f"a list of one or more entries, each {self.element.expected()}"
            )
        return f"of the form {self.example}" if self.example else "a mapping {name: value}"

    def _range(self) -> str:
        low = _shown(self.low)
        if self.high is not None:
            end = f"{'' if self.holds_high else 'below '}{_shown(self.high)}"
            if self.low is None:
                return f" of at most {end}" if self.holds_high else f" {end}"
            return f" {'from' if self.holds_low else 'above'} {low} to {end}"
        return "" if not low else f" of at least {low}" if self.holds_low else f" above {low}"

    def refusal(self, key: str, value: object) -> str:
        """The sentence that refuses ``value``."""
        takes_lists = "list" in {self.base, *(kind.base for kind in self.alternatives)}
        is_written_list = takes_lists and isinstance(value, str) and value.startswith("[")
        hint = LIST_HINT if is_written_list else ""
        if isinstance(value, str) and (character := _unwritable(value)):
            hint = f" It holds {character!r}, which no file can hold."
        if self.base == "dict" and isinstance(value, str) and (mended := quoted(value)):
            hint = f' On a command line quote the words too: --{key}="{mended}".'
        is_switch = self.base == "bool" and not self.optional
        problem = "neither True nor False" if is_switch else f"not {self.expected()}"
        if self._holds_too_large(value):
            hint = f" The largest number that it may be is {self._largest()}."
        return f"{key}: {shortened(value)} is {problem}.{hint}"

    def _holds_too_large(self, value: object) -> bool:
        if self.base == "list":
            entries = value if isinstance(value, (list, tuple)) else ()
            return self.element is not None and any(map(self.element._holds_too_large, entries))
        if self.base not in _LARGEST or self.high is not None or isinstance(value, bool):
            return False
        return isinstance(value, (int, float)) and value > _LARGEST[self.base]

    def _largest(self) -> str:
        base = self.element.base if self.element else self.base
        return f"{_LARGEST[base]:.2g}" if base == "float" else str(_LARGEST[base])

    def check(self, key: str, value: object) -> None:
        """Refuse a value of another kind.

        Raises:
            ValueError: names the key, the value and what is expected.
        """
        if not self.accepts(value):
            raise ValueError(self.refusal(key, value))


def parse_kind(text: str) -> Kind | None:
    """The kind that the words in a comment's bracket describe; None if they describe none.

    Raises:
        ValueError: the words begin like a kind but are none.
    """
    kind = _parsed(text)
    if kind is None:
        check_comment(text)
    return kind and replace(kind, words=text.strip())


def check_comment(text: str) -> None:
    """Refuse a comment in brackets that begins like a kind.

    Raises:
        ValueError: it does; says what kinds look like.
    """
    if word := _FIRST_WORD.match(text):
        raise ValueError(
            f"'({shortened(text)[1:-1]})' begins with '{word[1]}', like the kind of a key, but is "
            f"none. A kind is written like {_FORMS}; a comment begins with another word."
        )


def _parsed(text: str) -> Kind | None:
    words, optional = _without_suffix(text.strip())
    if words.startswith(f"{NO_EFFECT}, "):
        kind = _parsed(text.strip().removeprefix(f"{NO_EFFECT}, "))
        return kind and replace(kind, has_effect=False)
    if " or " in words and len(kinds := _alternatives(words)) > 1:
        return Kind("union", alternatives=kinds, optional=optional)
    if words in ("string", NO_EFFECT):  # RecBole's word for a text, and a base of two words
        base = "str" if words == "string" else words
        return Kind(base, optional=optional, has_effect=base != NO_EFFECT)
    base, _, rest = words.partition(" ")
    base, colon, tail = base.partition(":")
    if base not in _BASES:
        return None
    rest = (tail + " " + rest).strip() if colon else rest.strip()
    choices = tuple(word.strip() for word in rest.split("|"))
    if colon and base == "str" and all(choices):
        return Kind("str", choices=choices, optional=optional)
    if not rest and not colon:
        return Kind(base, optional=optional)
    if base in ("int", "float"):
        return Kind(base, **_range_of(rest, text), optional=optional)
    if base == "list" and rest.startswith("of "):
        element = parse_kind(rest[3:])
        if element is not None:
            return Kind("list", element=element, optional=optional)
    if base == "dict" and rest.startswith("like "):
        return Kind("dict", example=rest[5:], optional=optional)
    raise ValueError(
        f"'({text})' begins like the kind of a key, but '{rest}' says no range, choice or element. "
        f"A kind is written like {_FORMS}; a comment begins with another word."
    )


def _alternatives(words: str) -> tuple[Kind, ...]:
    """The kinds in ``list of str or str``; none if one part is no kind."""
    kinds = [parse_kind(part) for part in words.split(" or ")]
    return tuple(kind for kind in kinds if kind) if all(kinds) else ()


def _without_suffix(words: str) -> tuple[str, bool]:
    for suffix in (" or ~", " or None"):
        if words.endswith(suffix):
            return words.removesuffix(suffix), True
    return words, False


def _range_of(words: str, text: str) -> dict:
    low, high, holds_low, holds_high = None, None, True, True
    if match := _BOUND.fullmatch(words):
        low, holds_low = float(match[2]), match[1] == ">="
    elif match := _INTERVAL.fullmatch(words):
        low, holds_low = float(match[2]), match[1] == "["
        high, holds_high = float(match[3]), match[4] == "]"
    if match is None or (low is not None and high is not None and low > high):
        raise ValueError(f"'({text})': '{words}' is no range; write >= 1, > 0 or in [0, 1).")
    # Infinity is open: no kind of number takes it.
    return {
        "low": None if low == -math.inf else low,
        "high": None if high == math.inf else high,
        "holds_low": holds_low,
        "holds_high": holds_high,
    }


class PerRows(NamedTuple):
    """A number to be divided by the number of training rows, and by the rows of a vector or not."""

    number: float
    per_vector: bool


def per_rows(value: object) -> PerRows | None:
    """What ``200/rows`` or ``10000/rows/rows_per_vector`` says; None for any other value."""
    match = _PER_ROWS_TEXT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 0 <= float(match[1]) <= _LARGEST["float"]:
        return None
    return PerRows(float(match[1]), match[2] is not None)


def _unwritable(text: str) -> str:
    """A character that neither a path nor a file in UTF-8 may hold; empty if there is none."""
    return next((c for c in text if c == "\0" or "\ud800" <= c <= "\udfff"), "")


def _shown(end: float | None) -> str:
    if end is None:
        return ""
    return str(int(end)) if end.is_integer() else str(end)
