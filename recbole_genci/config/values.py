"""Type checks of configuration values. Errors name the key.

Without them RecBole would crash on a wrong value, or silently misread it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from recbole_genci.config.fitted import check_fitted
from recbole_genci.config.keys import Key
from recbole_genci.config.kind import Kind
from recbole_genci.config.trackers import trackers
from recbole_genci.model.batch_columns import BATCH_COLUMNS
from recbole_genci.utils.value_checks import (
    check_file_names,
    is_number,
    is_whole,
    nearest,
    shortened,
)

#: Keys that RecBole lists but never reads, and what to use instead.
_INSTEAD = {
    "config_file": "give the file by --config_files={value}",
    "device": "choose a GPU by --gpu_id=0, and the CPU by --use_gpu=False",
}

#: RecBole's word in ``load_col`` for every column of a file (dataset.py:404).
ALL_COLUMNS = "*"

_COLUMNS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "LABEL_FIELD")
#: Keys that are lists of columns.
_LISTS_OF_COLUMNS = (
    "numerical_features",
    "normalize_field",
    "alias_of_user_id",
    "alias_of_item_id",
    "item_text_fields",
)
#: Arguments of torch's clip_grad_norm_ and their kinds.
_CLIPPING = {
    "max_norm": "float > 0",
    "norm_type": "float > 0",
    "error_if_nonfinite": "bool",
    "foreach": "bool or ~",
}
_SOURCES = ("inter", "user", "item")
#: The parts of mappings that RecBole reads.
_PARTS = {
    "eval_args": ("split", "order", "group_by", "mode"),
    "load_col": _SOURCES,
    "unload_col": _SOURCES,
    "unused_col": _SOURCES,
}
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_INTERVALS = ("val_interval", "user_inter_num_interval", "item_inter_num_interval")


def check_values(table: Mapping[str, Key], final: Mapping, given: Mapping) -> None:
    """Refuse values that their keys do not accept.

    Args:
        table: as ``key_table`` returns it.
        final: all keys.
        given: the keys that the user set, by file, dict or command line, or as defaults of a model
            of their own.

    Raises:
        ValueError: names the key, its value and what it may be.
    """
    for key, instead in _INSTEAD.items():
        if given.get(key) is not None:
            words = instead.format(value=given[key])
            raise ValueError(f"{key}: nothing reads this key; {words}.")
    trackers(final)
    for key, value in given.items():
        if key in ("seed", "seeds"):
            check_no_list(key, value)
        if key in table:
            table[key].check(value)
        if key.endswith(("_path", "_dir")) or key == "text_encoder":
            check_file_names(key, value)
    if str(final.get("state") or "INFO").upper() not in _LEVELS:
        raise ValueError(f"state: {final['state']!r} is not one of {', '.join(_LEVELS)}.")
    _check_parts(final)
    _check_lists_of_columns(final)
    _check_sequences(final)
    _check_threshold(final.get("threshold"))
    _check_discretization(final)
    _check_filters(final)
    _check_encoding(final.get("encoding"))
    _check_clipping(final.get("clip_grad_norm"))
    _check_column_names(final)
    check_fitted(final)


def check_no_list(key: str, value: object) -> None:
    """Refuse a list of seeds, and say how several are run.

    Args:
        key: ``seed`` or ``seeds``.
        value: its value.
    """
    if isinstance(value, (list, tuple)):
        first = value[0] if value and is_whole(value[0], 0) else 2020
        count = max(2, len(value))
        raise ValueError(
            f"{key}: {shortened(value)} is not one whole number. --seeds={count} runs seed, seed + "
            f"1, ...: --seed={first} --seeds={count} runs {first} to {first + count - 1}."
        )


def _check_encoding(encoding: str | None) -> None:
    try:
        "a".encode(encoding or "utf-8").decode(encoding or "utf-8")
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"encoding: {encoding!r} is no encoding of texts that Python knows ({error}). Give "
            "for example utf-8 or latin-1."
        ) from error


def _check_clipping(arguments: Mapping | None) -> None:
    """Check what torch's ``clip_grad_norm_`` would refuse in the first step of training."""
    if arguments is None:
        return
    for part in arguments:
        if part not in _CLIPPING:
            raise ValueError(
                f"clip_grad_norm: {part!r} is not one of its parts, "
                f"{', '.join(_CLIPPING)}.{nearest(str(part), _CLIPPING)}"
            )
    if "max_norm" not in arguments:
        raise ValueError("clip_grad_norm: max_norm is missing, as in {max_norm: 5.0}.")
    for part, value in arguments.items():
        Kind.of(_CLIPPING[part]).check(f"clip_grad_norm: {part}", value)


def _check_column_names(final: Mapping) -> None:
    """Refuse names by which one column of a batch would take the place of another."""
    columns = [key for key in _COLUMNS if final[key] is not None or key == "LABEL_FIELD"]
    for key in columns:
        if not final[key]:
            raise ValueError(f"{key}: it is empty, but it names a column. Give it a name.")
    names = [final[key] for key in columns]
    named = {**dict(zip(names, columns)), **dict.fromkeys(BATCH_COLUMNS, "")}
    attached = {"ITEM_LIST_LENGTH_FIELD": final["ITEM_LIST_LENGTH_FIELD"]}
    if final["ITEM_ID_FIELD"] is not None:
        history = final["ITEM_ID_FIELD"] + final["LIST_SUFFIX"]
        attached = {
            "LIST_SUFFIX": history,
            "NEG_PREFIX": final["NEG_PREFIX"] + history,
            **attached,
        }
    if len(set(names)) < len(names):
        first, second, *_ = (key for key in columns if names.count(final[key]) > 1)
        raise ValueError(f"{first}: {final[first]!r} is {second} too. Name another column.")
    for key in columns:
        if key != "LABEL_FIELD" and final[key] in (final.get("threshold") or {}):
            raise ValueError(
                f"{key}: {final[key]!r} is the column that threshold makes the label of, and then "
                "leaves out. Name another column."
            )
    for key, name in attached.items():
        if name in named or not name:
            taken = named.get(name) or "a column of this plugin"
            raise ValueError(
                f"{key}: with {final[key]!r} a column of histories gets the name {name!r}, which "
                f"{taken} has. Give another."
            )
        named[name] = key


def _check_parts(final: Mapping) -> None:
    """Refuse parts of mappings that RecBole does not know, as it would ignore them."""
    for key, known in _PARTS.items():
        for part in final.get(key) or {}:
            if part not in known:
                raise ValueError(
                    f"{key}: '{part}' is not one of its parts, "
                    f"{', '.join(known)}.{nearest(str(part), known)}"
                )


def _check_lists_of_columns(final: Mapping) -> None:
    """Refuse what is no list of columns, a column that is named twice, and two lists that
    contradict each other.
    """
    for key in _LISTS_OF_COLUMNS:
        _check_named_once(key, final.get(key) or ())
    for key in ("load_col", "unload_col", "unused_col"):
        for source, fields in (final.get(key) or {}).items():
            is_list = isinstance(fields, (list, tuple)) and all(
                isinstance(field, str) for field in fields
            )
            is_all = key == "load_col" and fields == ALL_COLUMNS
            if not is_list and not is_all:
                raise ValueError(
                    f"{key}: {fields!r} for '{source}' is not a list of columns, as [user_id, "
                    "item_id] is."
                )
            if not is_all:
                _check_named_once(key, fields, f" of '{source}'")
    _check_unused(final)
    both = (final.get("load_col") or {}).keys() & (final.get("unload_col") or {}).keys()
    for source in sorted(both):
        wanted, unwanted = final["load_col"][source], final["unload_col"][source]
        if wanted != ALL_COLUMNS and wanted and unwanted:
            raise ValueError(
                f"unload_col: load_col already lists the columns of '{source}' that are read. "
                "Leave out of that list what it should not read, or write load_col: "
                f"{{{source}: '*'}}."
            )


def _check_named_once(key: str, fields: Sequence[str], of_source: str = "") -> None:
    """Refuse a column that is named twice: what a key does to it would be done twice."""
    if twice := [field for field in fields if fields.count(field) > 1]:
        raise ValueError(f"{key}: '{twice[0]}'{of_source} is named twice. Name it once.")


def _check_unused(final: Mapping) -> None:
    """Refuse to drop columns that rows cannot do without."""
    ids = {"user": final["USER_ID_FIELD"], "item": final["ITEM_ID_FIELD"]}
    needed = {"inter": {*ids.values(), final["LABEL_FIELD"]}, **{k: {v} for k, v in ids.items()}}
    for source, fields in (final.get("unused_col") or {}).items():
        if kept := [field for field in fields if field in needed[source]]:
            raise ValueError(
                f"unused_col: '{kept[0]}' of '{source}' is an id or the label, without which rows "
                "say nothing. Leave it out of unused_col."
            )


def _check_sequences(final: Mapping) -> None:
    """Check the lengths of sequences and what separates their values, and columns."""
    for field, length in (final.get("seq_len") or {}).items():
        if not is_whole(length):
            raise ValueError(
                f"seq_len: {length!r} for '{field}' is not a whole number of at least 1."
            )
    for key, parts in (("field_separator", "columns"), ("seq_separator", "values of a sequence")):
        if not isinstance(final.get(key), str) or not final[key]:
            raise ValueError(
                f"{key}: {final.get(key)!r} is not a text that can stand between {parts}."
            )


def _check_threshold(threshold: Mapping | None) -> None:
    """Check that one column makes the label, by a number."""
    if threshold is not None and len(threshold) != 1:
        raise ValueError(
            f"threshold: {dict(threshold)} does not name one column; a label is made of "
            "one, as in {rating: 4}."
        )
    for field, value in (threshold or {}).items():
        if not is_number(value) or not math.isfinite(value):
            raise ValueError(f"threshold: {value!r} for '{field}' is not a number.")


def _check_discretization(final: Mapping) -> None:
    """Check each column's method, and that models read the column."""
    for field, value in (final.get("discretization") or {}).items():
        if not isinstance(value, Mapping) or value.get("method") not in ("ED", "LD"):
            raise ValueError(
                f"discretization: {value!r} for '{field}' is neither of the form "
                "{method: ED, bucket: 10} nor {method: LD}."
            )
        if value["method"] == "ED" and not is_whole(value.get("bucket")):
            raise ValueError(
                f"discretization: bucket {value.get('bucket')!r} for '{field}' is not a whole "
                "number of at least 1, the number of buckets that method ED makes."
            )
        if field not in (final.get("numerical_features") or ()):
            raise ValueError(
                f"discretization: '{field}' is not in numerical_features, so that no model reads "
                f"its numbers. Add it there: numerical_features: [..., {field}]."
            )


def _check_filters(final: Mapping) -> None:
    """Check filters, because RecBole reads a malformed one as no filter or as another one."""
    for key in _INTERVALS:
        values = final.get(key)
        for field, value in (values if isinstance(values, Mapping) else {None: values}).items():
            is_set_of_tokens = field is not None and isinstance(value, (list, tuple))
            if value is not None and not is_set_of_tokens and not _is_intervals(value):
                where = f" for '{field}'" if field is not None else ""
                raise ValueError(
                    f"{key}: {value!r}{where} is not an interval such as '[5,inf)', nor several "
                    "separated by ';'."
                )
    if final.get("rm_dup_inter") not in (None, "first", "last"):
        raise ValueError(
            f"rm_dup_inter: {final['rm_dup_inter']!r} is neither first nor last. Leave it unset to "
            "keep all rows."
        )
    files = final.get("benchmark_filename")
    if files is None:
        return
    if len(files) != 3:
        raise ValueError(
            f"benchmark_filename: {list(files)!r} does not name three files, for training, "
            "validation and test: [train, valid, test] reads <dataset>.train.inter and so on."
        )
    for key in (*_INTERVALS, "rm_dup_inter"):
        if final.get(key) and str(final[key]).replace(" ", "") not in ("[0,inf)", "(-inf,inf)"):
            raise ValueError(
                f"{key}: rows of benchmark_filename are taken as they are, so {final[key]!r} would "
                f"do nothing. Set {key} to None (~), and filter the files yourself."
            )


def _is_intervals(value: object) -> bool:
    for interval in str(value).split(";"):
        interval = interval.strip()
        ends = interval[1:-1].split(",")
        if interval[:1] not in ("(", "[") or interval[-1:] not in (")", "]") or len(ends) != 2:
            return False
        try:
            low, high = map(float, ends)
        except ValueError:
            return False
        if not low <= high:
            return False
    return True
