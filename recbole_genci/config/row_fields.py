"""What rows have: a user, an item and a time; and what cannot be done where one of them is missing.

``USER_ID_FIELD``, ``ITEM_ID_FIELD`` and ``TIME_FIELD`` name their columns; None (``~``) says that
rows have none, as those of Criteo. Users and items are there together or not at all, as RecBole
demands (dataset.py:143).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_genci.config.metric_names import GAUC
from recbole_genci.config.values import ALL_COLUMNS
from recbole_genci.model.base import flattens_history, reads_histories
from recbole_genci.utils.atomic_files import read_header
from recbole_genci.utils.config_like import ConfigLike

USER, ITEM, TIME = "USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"
_NOUNS = {USER: "user", ITEM: "item", TIME: "time"}
_EVERYTHING = ("", "[0,inf)", "(-inf,inf)")  # intervals that leave no row out


def settle(final: dict[str, Any], said: Mapping[str, Any]) -> list[str]:
    """Choose what rows without a time or a user need, where the user did not say it.

    Args:
        final: all keys; ``TIME_FIELD`` and ``eval_args`` may change.
        said: the keys that the user set.

    Returns:
        list: a sentence for the log about each choice.
    """
    chosen = []
    time, args, asked = final[TIME], dict(final["eval_args"]), said.get("eval_args") or {}
    why = f"{TIME}: rows have no time"
    if time is not None and TIME not in said:
        columns = _columns_read(final)
        if columns is not None and time not in columns:
            final[TIME] = None
            why = f"{TIME}: no column '{time}' is read, so rows have no time"
    is_split = final.get("benchmark_filename") is None
    if final[TIME] is None and "order" not in asked and "TS" not in (args.get("split") or ()):
        args["order"] = "RO"
        if is_split:
            chosen.append(f"{why}; the split is random (eval_args: order RO).")
    if final[USER] is None and "group_by" not in asked and args.get("group_by") == "user":
        args["group_by"] = "none"
        if is_split:
            chosen.append(
                f"{USER}: rows have no user; the split is one of all rows, not of each user's "
                "(eval_args: group_by none)."
            )
    final["eval_args"] = args
    return chosen


def _columns_read(final: Mapping[str, Any]) -> set[str] | None:
    """The columns of the .inter file that ``load_col`` reads; None if the file is not there.

    It is downloaded later, or its absence is the error that a person must see first.
    """
    name, parts = final["dataset"], final.get("benchmark_filename")
    ending = f"{parts[0]}.inter" if parts else "inter"
    file = Path(final["data_path"]) / f"{name}.{ending}"
    if not file.is_file():
        return None
    listed = final.get("load_col")
    columns = ALL_COLUMNS if listed is None else listed.get("inter", ())
    if columns == ALL_COLUMNS:
        columns = read_header(file, final["field_separator"], final.get("encoding") or "utf-8")
    return set(columns) - set((final.get("unload_col") or {}).get("inter", ()))


def check_row_fields(config: ConfigLike, model_class: type) -> None:
    """Refuse what needs a user, an item or a time that the rows do not have.

    Args:
        config: a Config whose keys are final.
        model_class: the model.

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
    _check_model(config, model_class, lacking[0])
    _check_split(config)
    if USER in lacking:
        _check_without_ids(config)


def _check_model(config: ConfigLike, model_class: type, key: str) -> None:
    if reads_histories(model_class, config):
        by, instead = "", "choose a model without histories, such as DeepFM"
        if flattens_history(model_class, config):
            by, instead = " with flatten_history", "set flatten_history to False"
        raise ValueError(
            f"{key}: {config['model']}{by} reads the earlier clicks of a row's user, and these "
            f"rows have no {_NOUNS[key]}. Name its column by {key} and read it by load_col: "
            f"{{inter: [...]}}, or {instead}."
        )
    if config["double_tower"] and key != TIME:
        raise ValueError(
            f"{key}: {config['model']} has a tower of users and one of items (double_tower), and "
            f"these rows have no {_NOUNS[key]}. Choose another model, such as DeepFM."
        )


def _check_split(config: ConfigLike) -> None:
    args = config["eval_args"]
    mode = next(iter(args["split"]))
    if config[TIME] is None and (args["order"] == "TO" or mode == "TS"):
        what = "split TS" if mode == "TS" else "order TO"
        raise ValueError(
            f"eval_args: {what} needs a time, and the rows have none ({TIME}). Use order RO with "
            f"split {{'RS': [0.8, 0.1, 0.1]}}, or name the column by {TIME} and read it by "
            "load_col: {inter: [...]}."
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
