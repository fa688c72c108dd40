"""The tokenizer's configuration keys, and which of them decide the codes.

Kinds and defaults are in the table of keys (`recbole_genci.config.keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_genci.config.keys import key_table, keys_with
from recbole_genci.tokenizer.encoding.encoders import is_array_file
from recbole_genci.tokenizer.encoding.lsa import LSA
from recbole_genci.utils.atomic_files import encoding_of, read_header

_FIELDS = "item_text_fields"
#: Every configuration key that this package reads, except `semantic_id_dir` and
#: `semantic_id_path`.
TOKENIZER_KEYS = keys_with("tokenizer")
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


_WITHOUT_TEXTS = (
    "Without texts: --text_encoder=vectors.npy takes vectors of the items, one a row, whose ids "
    "are in vectors.txt, one a line; --semantic_id_path takes ready semantic IDs."
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
        raise ValueError(f"{_FIELDS}: not set. {_what_to_give(config)}")
    if settings["text_encoder_ids"] is not None and not own_vectors:
        raise ValueError(
            "text_encoder_ids: it names the items of a .npy file, but text_encoder is "
            f"{settings['text_encoder']!r}. Give a .npy file there, or leave text_encoder_ids out."
        )
    return settings


def _what_to_give(config: Mapping[str, Any]) -> str:
    """Where a dataset's texts may be, or what semantic IDs are made of without texts."""
    folder, name = (config[key] if key in config else None for key in ("data_path", "dataset"))
    columns = "Give a list of columns of the .item file"
    if folder is None or not Path(folder).is_dir():  # it is downloaded later
        return f"{columns}. {_WITHOUT_TEXTS}"
    file = Path(folder) / f"{name}.item"
    if not file.is_file():
        return (
            f"It names columns of {file} that make an item's text, and there is no such file. "
            "Write it; of tables, prepare --format=table makes it by --items, which may be the "
            f"file of rows itself. {_WITHOUT_TEXTS}"
        )
    header = read_header(file, config["field_separator"], encoding_of(config))
    texts = [field for field in header if field != config["ITEM_ID_FIELD"]]
    return f"{columns}, {file}; it has {', '.join(texts) or 'none but ids'}. {_WITHOUT_TEXTS}"


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
