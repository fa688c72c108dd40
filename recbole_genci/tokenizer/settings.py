"""The tokenizer's configuration keys: defaults, checks, and which of them decide the codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from recbole_genci.tokenizer.encoding.encoders import is_array_file
from recbole_genci.tokenizer.encoding.lsa import LSA
from recbole_genci.utils.validation import LIST_HINT


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _integer(least: int) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: _is_int(value, least)), f"an integer of at least {least}"


def _positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and len(value) > 0 and all(check(entry) for entry in value)


def _one_of(*choices: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in choices), f"one of {', '.join(choices)}"


_NAME = (lambda value: isinstance(value, str) and bool(value.strip())), "a non-empty string"
_NUMBER = _positive, "a number above 0"
_SWITCH = (lambda value: isinstance(value, bool)), "True or False"
_FIELDS = "item_text_fields"
# key -> (default, check, what the check asks for)
_SETTINGS: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
    "text_encoder": (LSA, *_NAME),
    "text_encoder_ids": (None, *_NAME),
    _FIELDS: (None, _list_of(_NAME[0]), "a non-empty list of columns of the .item file"),
    "lsa_dim": (64, *_integer(2)),  # scaled to length 1, vectors of width 1 would all be equal
    "text_encoder_batch_size": (64, *_integer(1)),
    "quantizer": ("rqvae", *_one_of("rqvae", "rkmeans")),
    "num_codebooks": (3, *_integer(1)),
    "codebook_size": (256, *_integer(2)),
    "codebook_dim": (32, *_integer(1)),
    "codebook_balance": ("sinkhorn", *_one_of("sinkhorn", "nearest")),
    "codebook_update": ("ema", *_one_of("ema", "gradient")),
    "rqvae_hidden_size": ([128, 64], _list_of(lambda width: _is_int(width, 1)), "a non-empty list of integers"),
    "rqvae_epochs": (200, *_integer(1)),
    "rqvae_learning_rate": (1e-3, *_NUMBER),
    "rqvae_batch_size": (1024, *_integer(1)),
    "rqvae_commitment": (0.25, *_NUMBER),
    "spread_collisions": (False, *_SWITCH),
    "collision_codebook_size": (256, *_integer(1)),
    "tokenizer_seed": (2020, *_integer(0)),
    "tokenizer_threads": (1, *_integer(1)),
}
#: Every key that this package reads of a configuration, `semantic_id_dir` and `semantic_id_path` apart.
TOKENIZER_KEYS = frozenset(_SETTINGS)
#: Settings that change how fast the same codes come about, not what they are.
_NOT_CONTENT = ("text_encoder_batch_size",)
_RQVAE_ONLY = ("codebook_dim", "codebook_update", "rqvae_hidden_size", "rqvae_epochs", "rqvae_learning_rate",
               "rqvae_batch_size", "rqvae_commitment")  # fmt: skip


def tokenizer_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer's settings out of a configuration, checked; missing keys take their defaults.

    Args:
        config: a mapping, or RecBole's Config, whose ``config[key]`` is None for a missing key.

    Raises:
        ValueError: a value of the wrong type or range, or two that exclude each other; key, value and what is expected
            are named.
    """
    settings = {}
    for key, (default, check, expected) in _SETTINGS.items():
        value = config[key] if key in config else None
        value = default if value is None else value
        if value is not None and not check(value):
            hint = LIST_HINT if isinstance(value, str) and value.startswith("[") else ""
            raise ValueError(f"The config key `{key}` must be {expected}; it is {value!r}.{hint}")
        settings[key] = list(value) if isinstance(value, (list, tuple)) else value
    own_vectors = is_array_file(settings["text_encoder"])
    if settings[_FIELDS] is None and not own_vectors:
        raise ValueError(f"The config key `{_FIELDS}` is not set: give {_SETTINGS[_FIELDS][2]}.")
    if settings["text_encoder_ids"] is not None and not own_vectors:
        raise ValueError(
            f"The config key `text_encoder_ids` names the items of a .npy file, but `text_encoder` is "
            f"{settings['text_encoder']!r}. Give a .npy file there, or leave `text_encoder_ids` out."
        )
    return settings


def content_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide the codes: all but batch sizes, paths of files known by content, and what goes unread."""
    unread = set(_NOT_CONTENT)
    if settings["quantizer"] != "rqvae":
        unread.update(_RQVAE_ONLY)
    if settings["text_encoder"] != LSA:
        unread.add("lsa_dim")
    if is_array_file(settings["text_encoder"]):
        unread.update(("text_encoder", "text_encoder_ids"))
    return {key: settings[key] for key in sorted(settings) if key not in unread}
