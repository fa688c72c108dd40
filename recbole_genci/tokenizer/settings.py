"""The tokenizer's configuration keys, and which of them decide the codes.

Kinds and defaults are in the table of keys (`recbole_genci.config.keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_genci.config.keys import key_table
from recbole_genci.tokenizer.encoding.encoders import is_array_file
from recbole_genci.tokenizer.encoding.lsa import LSA

_FIELDS = "item_text_fields"
#: Every configuration key that this package reads, except `semantic_id_dir` and
#: `semantic_id_path`.
TOKENIZER_KEYS = frozenset(
    {
        "text_encoder",
        "text_encoder_ids",
        _FIELDS,
        "lsa_dim",
        "text_encoder_batch_size",
        "quantizer",
        "num_codebooks",
        "codebook_size",
        "codebook_dim",
        "codebook_balance",
        "codebook_update",
        "rqvae_hidden_size",
        "rqvae_epochs",
        "rqvae_learning_rate",
        "rqvae_batch_size",
        "rqvae_commitment",
        "spread_collisions",
        "collision_codebook_size",
        "tokenizer_seed",
        "tokenizer_threads",
    }
)
#: Settings that change the speed of a build, but not its codes.
_NOT_CONTENT = ("text_encoder_batch_size",)
_RQVAE_ONLY = (
    "codebook_dim",
    "codebook_update",
    "rqvae_hidden_size",
    "rqvae_epochs",
    "rqvae_learning_rate",
    "rqvae_batch_size",
    "rqvae_commitment",
)


def tokenizer_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the tokenizer's settings from a configuration and check them; missing keys have
    defaults.

    Args:
        config: a mapping, or RecBole's Config, whose ``config[key]`` is None for a missing key.

    Raises:
        ValueError: a value has the wrong type or range, or two values exclude each other; names
            key, value and what is expected.
    """
    table = key_table()
    settings: dict[str, Any] = {}
    for name in sorted(TOKENIZER_KEYS):
        value = config[name] if name in config else None
        value = table[name].default if value is None else value
        table[name].check(value)
        settings[name] = list(value) if isinstance(value, (list, tuple)) else value
    own_vectors = is_array_file(settings["text_encoder"])
    if settings[_FIELDS] is None and not own_vectors:
        raise ValueError(f"{_FIELDS}: not set. Give a list of columns of the .item file.")
    if settings["text_encoder_ids"] is not None and not own_vectors:
        raise ValueError(
            "text_encoder_ids: it names the items of a .npy file, but text_encoder is "
            f"{settings['text_encoder']!r}. Give a .npy file there, or leave text_encoder_ids out."
        )
    return settings


def content_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide the codes.

    Left out are batch sizes, paths of files that are compared by content, and unused settings.
    """
    unread = set(_NOT_CONTENT)
    if settings["quantizer"] != "rqvae":
        unread.update(_RQVAE_ONLY)
    if settings["text_encoder"] != LSA:
        unread.add("lsa_dim")
    if is_array_file(settings["text_encoder"]):
        unread.update(("text_encoder", "text_encoder_ids"))
    return {key: settings[key] for key in sorted(settings) if key not in unread}
