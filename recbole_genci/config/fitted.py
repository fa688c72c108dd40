"""What is fitted on training rows: ``min_count`` and ``transforms``, as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.value_checks import is_whole, nearest, shortened

#: Steps that give a number for a number.
LOG, STANDARD, MINMAX = "log", "standard", "minmax"
#: Steps that make a category of a number.
BUCKETS, CRITEO = "buckets", "criteo"
_NAMED = (LOG, STANDARD, MINMAX, CRITEO)
#: Stands for all columns that are not named.
OTHERS = "*"

#: The name of a step, and the number of buckets of `BUCKETS`, else 0.
Step = tuple[str, int]


def transforms_of(config: ConfigLike | Mapping[str, Any]) -> dict[str, list[Step]]:
    """The steps of each column that ``transforms`` names.

    ``*`` stands for all other numerical features, but those that RecBole's ``normalize_field`` and
    ``discretization`` name.
    """
    written = dict(config["transforms"] or {})
    rest = written.pop(OTHERS, None)
    if rest is not None:
        others = {*(config["normalize_field"] or ()), *(config["discretization"] or ()), *written}
        names = [name for name in config["numerical_features"] or () if name not in others]
        written = dict.fromkeys(names, rest) | written
    return {field: _steps(value) for field, value in written.items()}


def least_count(config: ConfigLike | Mapping[str, Any], field: str) -> int | None:
    """How many training rows must have a value of a column for it to keep an id; None for any.

    Columns of users' and items' ids keep all: who is merged shares a history and features.
    """
    counts = config["min_count"]
    if isinstance(counts, Mapping):
        counts = counts.get(field, counts.get(OTHERS))
    return None if counts is None or field in _ids(config) else int(counts)


def makes_tokens(steps: list[Step]) -> bool:
    """Whether a column of numbers becomes one of categories."""
    return steps[-1][0] in (BUCKETS, CRITEO)


def check_fitted(final: Mapping[str, Any]) -> None:
    """Refuse ``min_count`` and ``transforms`` that say nothing, or contradict other keys.

    Args:
        final: all keys.

    Raises:
        ValueError: names the key and the column.
    """
    written = final["transforms"] or {}
    for field, value in written.items():
        _check_steps(field, value)
    if OTHERS in written and not final["numerical_features"]:
        raise ValueError(
            "transforms: '*' stands for all columns of numerical_features, which names none. Name "
            "them there."
        )
    dropped = [name for names in (final["unused_col"] or {}).values() for name in names or ()]
    label = {final["LABEL_FIELD"], *(final["threshold"] or ())}
    for field in transforms_of(final):
        if field in label:
            key = "transforms" if field in written else "numerical_features"
            raise ValueError(
                f"{key}: '{field}' is the label, or the label is made of it; no model may "
                "read it. Leave it out."
            )
        for key in ("normalize_field", "discretization", "unused_col"):
            if field in (dropped if key == "unused_col" else final[key] or ()):
                hint = " Set normalize_field: [] to empty it." if key == "normalize_field" else ""
                raise ValueError(
                    f"transforms: '{field}' is in {key} too. Leave it out of one of them.{hint}"
                )
    _check_counts(final, dropped)


def _steps(value: Any) -> list[Step]:
    steps = value if isinstance(value, (list, tuple)) else [value]
    return [(step, 0) if isinstance(step, str) else (BUCKETS, int(step[BUCKETS])) for step in steps]


def _check_steps(field: str, value: Any) -> None:
    steps = value if isinstance(value, (list, tuple)) else [value]
    if not steps:
        raise ValueError(f"transforms: the list for '{field}' is empty. Leave the column out.")
    for step in steps:
        if isinstance(step, Mapping) and list(step) == [BUCKETS]:
            if not is_whole(step[BUCKETS], 2):
                raise ValueError(
                    f"transforms: buckets {shortened(step[BUCKETS])} for '{field}' is not a whole "
                    "number of at least 2."
                )
        elif step not in _NAMED:
            hint = nearest(step, _NAMED) if isinstance(step, str) else ""
            raise ValueError(
                f"transforms: {shortened(step)} for '{field}' is not one of {', '.join(_NAMED)} or "
                f"{{buckets: 10}}.{hint}"
            )
    for step in steps[:-1]:
        if step == CRITEO or isinstance(step, Mapping):
            raise ValueError(
                f"transforms: {shortened(step)} makes categories of '{field}', so nothing can come "
                "after it. Put it last."
            )


def _check_counts(final: Mapping[str, Any], dropped: Sequence[str]) -> None:
    counts = final["min_count"]
    if not isinstance(counts, Mapping):
        return
    cut = transforms_of(final)
    for field, count in counts.items():
        if not is_whole(count):
            raise ValueError(
                f"min_count: {shortened(count)} for '{field}' is not a whole number of at least 1."
            )
        if field in _ids(final):
            raise ValueError(
                f"min_count: '{field}' holds ids, and merging them would merge histories, features "
                "and users' AUCs. Leave rows out by user_inter_num_interval or "
                "item_inter_num_interval instead."
            )
        if field in dropped:
            raise ValueError(
                f"min_count: '{field}' is in unused_col too. Leave it out of one of them."
            )
        if field in cut and cut[field][-1][0] != CRITEO:
            raise ValueError(
                f"min_count: '{field}' is a column of numbers, of which transforms makes no "
                "categories that are counted. Leave it out."
            )


def _ids(config: ConfigLike | Mapping[str, Any]) -> set[str]:
    """The columns of users and items, and those that share their ids."""
    own = {config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]} - {None}
    return own.union(config["alias_of_user_id"] or (), config["alias_of_item_id"] or ())
