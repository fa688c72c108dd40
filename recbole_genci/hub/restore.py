"""Make the rows and texts of a run that was pushed without them, from the dataset's files."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from recbole_genci.config import Config
from recbole_genci.config.added_keys import keys_before
from recbole_genci.config.config import TRUST
from recbole_genci.data.dataset import create_dataset
from recbole_genci.data.download import check_dataset
from recbole_genci.data.storage import store_parts
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.artifact.files import TEXT_DIGESTS, read_text_digests
from recbole_genci.tokenizer.artifact.published import text_digests
from recbole_genci.tokenizer.source import item_texts
from recbole_genci.training.saved_files import check_config, check_files, read_metrics
from recbole_genci.utils.layout import CONFIG_FILE, DATA_FILE, METRICS_FILE, SEMANTIC_ID_FOLDER
from recbole_genci.utils.mappings import read_mapping
from recbole_genci.utils.own_code import permitted_model

_logger = logging.getLogger(__name__)

_REMEDY = "Pull the run again."


def restore_data(
    folder: Path,
    name: str,
    data_path: str | Path,
    model: str | type | None = None,
    trust_code: bool = False,
) -> None:
    """Write the rows of the run in ``folder``, exactly those that it was trained on, and the texts.

    Args:
        folder: the run's folder.
        name: where it came from, for errors.
        data_path: the folder that holds that of the dataset; a known dataset is downloaded.
        model, trust_code: as for ``load``.

    Raises:
        ValueError: the dataset is not there, or gives other rows.
    """
    metrics = read_metrics(folder / METRICS_FILE, _REMEDY)
    saved = read_mapping(folder / CONFIG_FILE, ["model", "dataset"], _REMEDY)
    check_config(folder / CONFIG_FILE, saved, metrics["config"])
    reference = permitted_model(saved, Path(name), model, trust_code)
    here: dict[str, Any] = {"data_path": str(data_path), "prepared_rows_dir": None, TRUST: True}
    here |= {"nproc": 1, "world_size": -1, "offset": 0, "port": None}
    here |= keys_before(saved, reference)
    config = Config(reference, saved["dataset"], [str(folder / CONFIG_FILE)], here)
    check_dataset(config)
    parts = create_dataset(config).build()
    store_parts(parts, folder / DATA_FILE)
    try:
        check_files(folder, metrics, _REMEDY)
    except ValueError as error:
        raise ValueError(
            f"data_path: {Path(data_path) / saved['dataset']} gives other rows than the run was "
            f"trained on. It was made with {metrics.get('versions')}; take the same files of the "
            "dataset, or ask the run's owner to push it with --with_data=True."
        ) from error
    if metrics["semantic_ids"]:
        _restore_texts(folder / SEMANTIC_ID_FOLDER, config, Path(parts[0].item_file))


def _restore_texts(folder: Path, config: Config, item_file: Path) -> None:
    """Write the items' texts into the semantic IDs in ``folder``, if their digests are there."""
    ids = SemanticIDs.load(folder)
    if TEXT_DIGESTS not in ids.manifest["files"]:
        return
    found = item_texts(config, ids, item_file)
    texts = [found.get(token, "") for token in ids.item_tokens]
    same = (text_digests(texts)[:, None] == read_text_digests(folder)).any(axis=1)
    if not np.all(same):
        _logger.warning(
            f"{(~same).sum()} of {len(same)} items have other texts in {item_file} than in the "
            "run, so that the texts are left out. Items cannot be added to this run."
        )
        return
    whole = folder.with_name(f"{folder.name}-with-texts")
    ids.save_with_tokenizer(whole, lambda: found)
    shutil.rmtree(folder)
    whole.rename(folder)
