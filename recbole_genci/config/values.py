"""Values of the wrong kind, refused by their key before RecBole reads them: it dies of them, or takes them for something else."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from recbole_genci.utils.validation import LIST_HINT, is_number, is_whole, nearest

_FIELDS, _SOURCES = "{field: value}", "{inter: [...], user: [...], item: [...]}"

#: Keys that hold a mapping, with the form to show.
_MAPPINGS = {
    "eval_args": "{split: {'RS': [0.8, 0.1, 0.1]}, order: TO, group_by: user, mode: labeled}", "threshold": "{rating: 4}",
    "val_interval": "{rating: '[4,inf)'}", "load_col": _SOURCES, "unload_col": _SOURCES, "unused_col": _SOURCES,
    "discretization": "{field: {method: ED, bucket: 10}}", "fill_nan": _FIELDS, "seq_len": "{field: length}",
    "clip_grad_norm": "{max_norm: 5.0}",
}  # fmt: skip

#: Keys that hold a list.
_LISTS = ("numerical_features", "normalize_field", "benchmark_filename", "additional_feat_suffix")

#: Keys that RecBole lists and nothing reads, with what does their work.
_WITHOUT_EFFECT = {
    "config_file": "files are given by config_files", "device": "the GPU is chosen by gpu_id, and gpu_id: '' is the CPU",
}  # fmt: skip

#: Keys whose default is a text, and for which none at all has a meaning.
_MAY_BE_NONE = ("gpu_id", "state", "volatility_field", "RATING_FIELD")

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_INTERVALS = ("val_interval", "user_inter_num_interval", "item_inter_num_interval")


def check_kinds(final: Mapping, given: Mapping, defaults: Mapping) -> None:
    """Refuse values that are not of their key's kind.

    Args:
        final: all keys.
        given: those that the user gave, by file, dict or command line.
        defaults: those of the properties. One that is true or false, a number or a text says what its key takes.

    Raises:
        ValueError: names the key, its value and what it may be.
    """
    for key, instead in _WITHOUT_EFFECT.items():
        if given.get(key) is not None:
            raise ValueError(f"{key}: nothing reads this key; {instead}. Leave it out.")
    for key, value in given.items():
        default = defaults.get(key)
        if isinstance(default, bool) and not isinstance(value, bool):
            raise ValueError(f"{key}: {value!r} is neither True nor False.")
        if isinstance(default, Real) and not isinstance(default, bool) and not is_number(value):
            raise ValueError(f"{key}: {value!r} is not a number; the default is {default}.")
    for key, form in _MAPPINGS.items():
        value = given.get(key, final.get(key))  # of eval_args that are no mapping, none have come into the final keys
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{key}: {value!r} is not of the form {form}.")
    for key in _LISTS:
        if final.get(key) is not None and not isinstance(final[key], (list, tuple)):
            raise ValueError(f"{key}: {final[key]!r} is not a list.{LIST_HINT}")
    if not isinstance(final.get("data_path"), str):
        raise ValueError(f"data_path: {final.get('data_path')!r} is not the path of a folder.")
    if str(final.get("state") or "INFO").upper() not in _LEVELS:
        raise ValueError(f"state: {final['state']!r} is not one of {', '.join(_LEVELS)}.")
    if not isinstance(final.get("valid_metric"), str):
        raise ValueError(f"valid_metric: {final.get('valid_metric')!r} is not the name of a metric.")
    _check_parts(final)
    _check_filters(final)
    for key, value in given.items():  # last, as some of these keys have sentences of their own above
        default = defaults.get(key)
        if isinstance(default, str) and value is None and key not in (*_MAY_BE_NONE, *_INTERVALS):
            raise ValueError(f"{key}: None is no value of this key; the default is {default!r}. Leave the key out for it.")


def _check_parts(final: Mapping) -> None:
    """The parts of mappings: RecBole ignores those it does not know."""
    sources = ["inter", "user", "item", *(final.get("additional_feat_suffix") or ())]
    for key, known in {"eval_args": ["split", "order", "group_by", "mode"], "load_col": sources, "unload_col": sources,
                       "unused_col": sources}.items():  # fmt: skip
        for part in final.get(key) or {}:
            if part not in known:
                raise ValueError(f"{key}: '{part}' is not one of its parts, {', '.join(known)}.{nearest(str(part), known)}")
    for key in ("load_col", "unload_col"):
        for source, fields in (final.get(key) or {}).items():
            if fields is not None and not (isinstance(fields, (list, tuple)) and all(isinstance(field, str) for field in fields)):
                raise ValueError(f"{key}: {fields!r} for '{source}' is not a list of columns, as [user_id, item_id] is.")
    for field, length in (final.get("seq_len") or {}).items():
        if not is_whole(length):
            raise ValueError(f"seq_len: {length!r} for '{field}' is not a whole number of at least 1.")
    for key in ("field_separator", "seq_separator"):
        if not isinstance(final.get(key), str) or not final[key]:
            raise ValueError(f"{key}: {final.get(key)!r} is not a text that divides {key.partition('_')[0]}s.")
    if final.get("threshold") is not None and len(final["threshold"]) != 1:
        raise ValueError(f"threshold: {dict(final['threshold'])} does not name one column; a label is made of one, as in "
                         "{rating: 4}.")  # fmt: skip
    for field, value in (final.get("threshold") or {}).items():
        if not is_number(value):
            raise ValueError(f"threshold: {value!r} for '{field}' is not a number.")
    for field, value in (final.get("discretization") or {}).items():
        if not isinstance(value, Mapping) or value.get("method") not in ("ED", "LD"):
            raise ValueError(f"discretization: {value!r} for '{field}' is neither of the form {{method: ED, bucket: 10}} nor "
                             "{method: LD}.")  # fmt: skip


def _check_filters(final: Mapping) -> None:
    """Filters: of a malformed one RecBole keeps all rows, or drops others than asked for."""
    for key in _INTERVALS:
        values = final.get(key)
        for field, value in (values if isinstance(values, Mapping) else {None: values}).items():
            is_set_of_tokens = field is not None and isinstance(value, (list, tuple))
            if value is not None and not is_set_of_tokens and not _is_intervals(value):
                where = f" for '{field}'" if field is not None else ""
                raise ValueError(f"{key}: {value!r}{where} is not an interval such as '[5,inf)', nor several separated by ';'.")
    if final.get("rm_dup_inter") not in (None, "first", "last"):
        raise ValueError(f"rm_dup_inter: {final['rm_dup_inter']!r} is neither first nor last. Leave it unset to keep all rows.")
    files = final.get("benchmark_filename")
    if files is None:
        return
    if len(files) != 3:
        raise ValueError(f"benchmark_filename: {list(files)!r} does not name three files, for training, validation and test: "
                         "[train, valid, test] reads <dataset>.train.inter and so on.")  # fmt: skip
    for key in (*_INTERVALS, "rm_dup_inter"):
        if final.get(key) and str(final[key]).replace(" ", "") not in ("[0,inf)", "(-inf,inf)"):
            raise ValueError(f"{key}: rows of benchmark_filename are taken as they are, so that {final[key]!r} would do nothing. "
                             f"Set {key} to None (~), and filter the files yourself.")  # fmt: skip


def _is_intervals(value) -> bool:
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
