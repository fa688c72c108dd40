"""A cache of rows and semantic IDs, which all experiments of one command share."""

from __future__ import annotations

import json
import logging

from recbole_genci.config import Config
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.fingerprint import rows_fingerprint
from recbole_genci.data.prepared import shaping_keys
from recbole_genci.plan import prepare_rows, prepare_semantic_ids
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS
from recbole_genci.tokenizer.source import asks_for_settings
from recbole_genci.utils.logs import start_console

_logger = logging.getLogger(__name__)


class DataCache:
    """Prepares rows once per data configuration, semantic IDs once per tokenizer configuration."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[list[CTRDataset], str]] = {}
        self._ids: dict[str, SemanticIDs | None] = {}

    def rows(self, config: Config) -> tuple[list, str]:
        """The training, validation and test part, and their ``rows_fingerprint``."""
        keys = [*shaping_keys(config), "data_path", "dataset"]
        key = json.dumps({name: config[name] for name in keys}, sort_keys=True, default=str)
        if key not in self._rows:
            start_console(config["state"])
            parts = prepare_rows(config)
            self._rows[key] = parts, rows_fingerprint(parts)
        return self._rows[key]

    def semantic_ids(self, config: Config, published: bool = True) -> SemanticIDs | None:
        """The semantic IDs that the configuration's model reads; None if it reads none.

        ``published`` as for ``find_semantic_ids``.

        Raises:
            ValueError, FileNotFoundError, ImportError, RuntimeError: the encoder is not available,
                or the fit failed.
        """
        if not config.model_class.reads_semantic_ids:
            return None
        parts, fingerprint = self.rows(config)
        keys = {key: config[key] for key in [*TOKENIZER_KEYS, "semantic_id_path"]}
        key = json.dumps(
            [fingerprint, keys, asks_for_settings(config), published], sort_keys=True, default=str
        )
        if key not in self._ids:
            if not published:  # the experiment makes several sets of IDs, one after another
                _logger.info(
                    f"Semantic IDs for {config['model']}: {config['text_encoder']}, "
                    f"{config['quantizer']}, {config['num_codebooks']} x "
                    f"{config['codebook_size']} codes."
                )
            self._ids[key] = prepare_semantic_ids(config, parts[0], published)
        return self._ids[key]
