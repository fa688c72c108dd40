"""What rows have: a user, an item and a time; and what cannot be done where one of them is missing.

``USER_ID_FIELD``, ``ITEM_ID_FIELD`` and ``TIME_FIELD`` name their columns; None (``~``) says that
rows have none, as those of Criteo. Users and items are there together or not at all, as RecBole
demands (dataset.py:143).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from recbole_genci.config.metric_names import GAUC
from recbole_genci.config.values import ALL_COLUMNS
from recbole_genci.model.base import flattens_history, reads_histories
from recbole_genci.utils.atomic_files import encoding_of, read_header
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.value_checks import closest, nearest

USER, ITEM, TIME = "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"
_NOUNS = {USER: "user", ITEM: "item", TIME: "time"}
_EVERYTHING = ("", "[0,inf)", "(-inf,inf)")  # intervals that leave no row out


class Choices(NamedTuple):
    """What was chosen because rows lack something.

    Attributes:
        chosen: by its key, a sentence for the log about each choice.
        remedies: by the key of what rows lack, how a column of the file would be read for it.
    """

    chosen: dict[str, str]
    remedies: dict[str, str]


def settle(final: dict[str, Any], said: Mapping[str, Any]) -> Choices:
    """Choose what rows without a time or a user need, where the user did not say it.

    Args:
        final: all keys; ``TIME_FIELD`` and ``eval_args`` may change.
        said: the keys that the user set.

    """
    chosen, remedies = {}, {}
    time, args, asked = final[TIME], dict(final["eval_args"]), said.get("eval_args") or {}
    why = f"{TIME}: rows have no time"
    if time is not None and TIME not in said and not _is_listed(final, time):
        columns = _columns(final)
        # A listed column that is not there is a slip, which the reading of the file explains.
        if columns is not None and time not in columns.read and columns.are_there:
            final[TIME] = None
            why = f"{TIME}: no column '{time}' is read, so rows have no time"
            if time in columns.there:
                remedies[TIME] = how_to_read(final, time)
            elif other := closest(time, columns.there):
                unread = other not in columns.read
                more = f" and {_load_col(final, columns, other)}" if unread else ""
                remedies[TIME] = f"If '{other}' is the time, set {TIME}: {other}{more}."
    is_split = final.get("benchmark_filename") is None
    if final[TIME] is None and "order" not in asked and "TS" not in (args.get("split") or ()):
        args["order"] = "RO"
        if is_split:
            remedy = f" {remedies[TIME]} {TIME}: ~ says it is meant." if TIME in remedies else ""
            chosen[TIME] = f"{why}; the split is random (eval_args: order RO).{remedy}"
    if final[USER] is None and "group_by" not in asked and args.get("group_by") == "user":
        args["group_by"] = "none"
        if is_split:
            chosen[USER] = (
                f"{USER}: rows have no user; the split is one of all rows, not of each user's "
                "(eval_args: group_by none)."
            )
    final["eval_args"] = args
    return Choices(chosen, remedies)


def _is_listed(final: Mapping[str, Any], field: str) -> bool:
    """Whether ``load_col`` names a column, so that the file need not be opened."""
    listed = (final.get("load_col") or {}).get("inter", ())
    return listed != ALL_COLUMNS and field in listed


class _Columns(NamedTuple):
    """The columns of the file of rows: those that are there, and those that are read."""

    file: Path
    there: list[str]
    read: list[str]

    @property
    def are_there(self) -> bool:
        """Whether the file has all columns that are to be read."""
        return set(self.read) <= set(self.there)


def _columns(final: Mapping[str, Any]) -> _Columns | None:
    """None if the file is not there.

    It is downloaded later, or its absence is the error that a person must see first.
    """
    name, parts = final["dataset"], final.get("benchmark_filename")
    ending = f"{parts[0]}.inter" if parts else "inter"
    file = Path(final["data_path"]) / f"{name}.{ending}"
    if not file.is_file():
        return None
    listed = final.get("load_col")
    there = list(read_header(file, final["field_separator"], encoding_of(final)))
    read = ALL_COLUMNS if listed is None else listed.get("inter", ())
    left_out = (final.get("unload_col") or {}).get("inter", ())
    read = [each for each in (there if read == ALL_COLUMNS else read) if each not in left_out]
    return _Columns(file, there, read)


def how_to_read(final: Mapping[str, Any], field: str) -> str:
    """Say which columns the file of rows has and which are read, and how ``field`` is.

    Args:
        final: all keys.
        field: a column that is not read.
    """
    columns = _columns(final)
    if columns is None:
        return "It must be in load_col: {inter: [...]}."
    file, there, read = columns
    if field not in there:
        reads = f", of which load_col reads {', '.join(read)}" if set(read) != set(there) else ""
        return f"{file} has {', '.join(there)}{reads}.{nearest(field, there)}"
    if field in (final.get("unload_col") or {}).get("inter", ()):
        return f"{file} has '{field}', but unload_col leaves it out; take it out of unload_col."
    return (
        f"{file} has '{field}', but load_col reads only {', '.join(read) or 'nothing'}. Set "
        f"{_load_col(final, columns, field)}."
    )


def _load_col(final: Mapping[str, Any], columns: _Columns, field: str) -> str:
    """The key ``load_col`` that reads one more column of the file of rows."""
    value = {**(final.get("load_col") or {}), "inter": [*columns.read, field]}
    return f"load_col: {yaml.safe_dump(value, default_flow_style=True, width=math.inf).strip()}"


def check_row_fields(
    config: ConfigLike, model_class: type, remedies: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse what needs a user, an item or a time that the rows do not have.

    Args:
        config: a Config whose keys are final.
        model_class: the model.
        remedies: those of ``settle``.

    Raises:
        ValueError: names the key, and says what to do.
    """
    lacking = [key for key in (USER, ITEM, TIME) if config[key] is None]
    if (USER in lacking) != (ITEM in lacking):
        there, gone = (ITEM, USER) if USER in lacking else (USER, ITEM)
        raise ValueError(
            f"{gone}: it names no column, but {there} is '{config[there]}'. Name both, or set both "
            f"to ~ and read '{config[there]}' by load_col as a feature like any other."
        )
    if not lacking:
        return
    _check_model(config, model_class, lacking[0], remedies)
    _check_split(config, remedies)
    if USER in lacking:
        _check_without_ids(config)


def _remedy(key: str, remedies: Mapping[str, str]) -> str:
    """What to do about a column that rows lack, as the beginning of a sentence."""
    named = f"Name its column by {key} and read it by load_col: {{inter: [...]}}"
    return remedies.get(key, named).rstrip(".")


def _check_model(
    config: ConfigLike, model_class: type, key: str, remedies: Mapping[str, str]
) -> None:
    if reads_histories(model_class, config):
        by, instead = "", "choose a model without histories, such as DeepFM"
        if flattens_history(model_class, config):
            by, instead = " with flatten_history", "set flatten_history to False"
        raise ValueError(
            f"{key}: {config['model']}{by} reads the earlier clicks of a row's user, and these "
            f"rows have no {_NOUNS[key]}. {_remedy(key, remedies)}, or {instead}."
        )
    if config["double_tower"] and key != TIME:
        raise ValueError(
            f"{key}: {config['model']} has a tower of users and one of items (double_tower), and "
            f"these rows have no {_NOUNS[key]}. Choose another model, such as DeepFM."
        )


def _check_split(config: ConfigLike, remedies: Mapping[str, str]) -> None:
    args = config["eval_args"]
    mode = next(iter(args["split"]))
    if config[TIME] is None and (args["order"] == "TO" or mode == "TS"):
        what = "split TS" if mode == "TS" else "order TO"
        raise ValueError(
            f"eval_args: {what} needs a time, and the rows have none ({TIME}). "
            f"{_remedy(TIME, remedies)}, or use order RO with split {{'RS': [0.8, 0.1, 0.1]}}."
        )
    if config[USER] is None and (args["group_by"] == "user" or mode in ("LS", "TS")):
        what = f"split {mode}" if mode in ("LS", "TS") else "group_by user"
        raise ValueError(
            f"eval_args: {what} needs a user, and the rows have none ({USER}). Use group_by none "
            "with split {'RS': [0.8, 0.1, 0.1]}."
        )


def _check_without_ids(config: ConfigLike) -> None:
    if GAUC.lower() in [str(name).lower() for name in config["metrics"]]:
        raise ValueError(
            f"metrics: {GAUC} is the mean of users' AUCs, and the rows have no user ({USER}). "
            "Leave it out."
        )
    for key in ("user_inter_num_interval", "item_inter_num_interval", "rm_dup_inter"):
        if str(config[key] or "").replace(" ", "") not in _EVERYTHING:
            raise ValueError(
                f"{key}: {config[key]!r} looks at rows of one user or item, and the rows have "
                f"neither ({USER}, {ITEM}). Set it to ~."
            )
    for key in ("alias_of_user_id", "alias_of_item_id"):
        if config[key]:
            raise ValueError(
                f"{key}: {list(config[key])} would share the IDs of a column that the rows do not "
                f"have ({USER}, {ITEM}). Leave it out."
            )
    for source, key in (("user", USER), ("item", ITEM)):
        if (config["load_col"] or {}).get(source):
            raise ValueError(
                f"load_col: a .{source} file describes the {source}s of rows, and the rows have "
                f"none ({key}). Leave '{source}' out, or name the column by {key}."
            )
