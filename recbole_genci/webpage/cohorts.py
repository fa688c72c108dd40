"""A browser of cohorts: the items behind each code of each level, by their texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.webpage.page import Section, paragraph, text

_TITLE = "Cohorts"
_LARGEST = 100  # cohorts of a level
_ITEMS = 20  # of a cohort


def cohort_browser(ids: SemanticIDs, texts: Mapping[str, str]) -> Section:
    """The section with the largest cohorts of each level.

    Args:
        ids: the semantic IDs.
        texts: an item's text by its id; an item without one is shown by its id.
    """
    levels = "".join(_level(ids, texts, level) for level in range(ids.num_levels - 1))
    about = (
        f"A cohort holds all items that share one code at a level. These are the largest "
        f"{_LARGEST} of each level, with up to {_ITEMS} items each; semantic IDs "
        f"{ids.digest[:12]}, {len(ids):,} items."
    )
    field = (
        '<p><input type="search" data-filters="cohort-list" placeholder="part of a title" '
        'aria-label="show cohorts with"></p>'
    )
    body = f'{paragraph(about)}{field}<div id="cohort-list">{levels}</div>'
    return Section("cohorts", _TITLE, body)


def _level(ids: SemanticIDs, texts: Mapping[str, str], level: int) -> str:
    codes = ids.codes[:, level]
    count = np.bincount(codes, minlength=ids.level_sizes[level])
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(count)
    shown = [
        _cohort(ids, texts, int(code), order[ends[code] - count[code] : ends[code]])
        for code in np.argsort(-count, kind="stable")[:_LARGEST]
        if count[code]
    ]
    return f"<h3>Level {level + 1}</h3>{''.join(shown)}"


def _cohort(ids: SemanticIDs, texts: Mapping[str, str], code: int, rows: np.ndarray) -> str:
    tokens = [ids.item_tokens[row] for row in rows[:_ITEMS]]
    items = "".join(f"<li>{text(texts.get(token, token))}</li>" for token in tokens)
    more = f"<li>and {len(rows) - _ITEMS} more</li>" if len(rows) > _ITEMS else ""
    first = text(texts.get(tokens[0], tokens[0]))
    return (
        f"<details><summary>Code {code}, {len(rows)} items, such as {first}</summary>"
        f"<ul>{items}{more}</ul></details>"
    )
