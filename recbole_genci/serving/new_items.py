"""Add items to a loaded run: codes by its frozen tokenizer, embeddings by what they share."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.loaders import model_view
from recbole_genci.data.table import Table, joined
from recbole_genci.serving.features import FeatureReader
from recbole_genci.serving.given_cells import as_names, check_distinct, is_missing, untyped_hint
from recbole_genci.serving.requests import rows_of_table
from recbole_genci.serving.row_files import read_table
from recbole_genci.serving.saved_run import SavedRun
from recbole_genci.serving.unseen import (
    COHORTS,
    MEAN,
    PADDING,
    Segment,
    embedding_segments,
    field_sizes,
    stand_ins,
    trained_ids,
)
from recbole_genci.tokenizer.artifact.append import with_items as coded_items
from recbole_genci.tokenizer.artifact.frozen import Artifact
from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.encoding.text import ItemTable
from recbole_genci.utils.value_checks import PAD_TOKEN, shortened
from recbole_genci.utils.words import counted, listed

_logger = logging.getLogger(__name__)


def run_with_items(
    run: SavedRun, items: pd.DataFrame | str | Path, unseen: str | None = None
) -> SavedRun:
    """A run whose catalogue has further items; see ``Ranker.with_items``."""
    if run.parts[0].iid_field is None:
        raise ValueError(
            "items: the run's rows have no item (ITEM_ID_FIELD), so none can be added."
        )
    how = _choice(run, unseen)
    frame = _new_items(run, _frame(run, items))
    tokens = frame[run.parts[0].iid_field].tolist()
    artifact = None if run.semantic_ids is None else _coded(run, frame)
    parts = _parts(run, frame, tokens)
    semantic_ids = None if artifact is None else artifact.ids
    model = _model(run, parts, semantic_ids, len(tokens), how)
    _logger.info(
        f"{counted(len(tokens), 'item')} added, the catalogue has "
        f"{parts[0].item_num - 1 - len(parts[0].only_aliases)}. A "
        f"new item's own embedding: {_WORDS[how]}."
    )
    return replace(
        run,
        parts=parts,
        model=model,
        semantic_ids=semantic_ids,
        artifact=artifact,
        has_new_items=True,
    )


#: Best by validation on ml-100k with hidden items, most of all for GenCI (benchmarks/unseen.py).
UNSEEN_ITEMS = PADDING

_MOST_NAMES = 5  # of columns that are missing

_WORDS = {
    PADDING: "that of a missing item, the padding's",
    MEAN: "the mean of the items in training",
    COHORTS: "the mean over the items in training that share a code, level by level",
}


def _choice(run: SavedRun, unseen: str | None) -> str:
    choices = (PADDING, MEAN) if run.semantic_ids is None else (PADDING, MEAN, COHORTS)
    if unseen is None:
        return UNSEEN_ITEMS
    if unseen not in choices:
        more = "" if run.semantic_ids else f" {run.config['model']} reads no semantic IDs."
        raise ValueError(f"unseen: {shortened(unseen)} is not one of {', '.join(choices)}.{more}")
    return unseen


# -------------------------------------------------------------------- what is given


def _frame(run: SavedRun, items: pd.DataFrame | str | Path) -> pd.DataFrame:
    if isinstance(items, (str, Path)):
        return read_table(Path(items), run.config)
    if not isinstance(items, pd.DataFrame):
        raise ValueError(f"items: {shortened(items)} is neither a DataFrame nor a file.")
    return items.reset_index(drop=True)


def _new_items(run: SavedRun, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of items that the run does not have, with their names as texts."""
    field = run.parts[0].iid_field
    check_distinct(list(frame), "items")
    if field not in frame:
        raise ValueError(
            f"items: there is no column '{field}'; there are {list(frame)}.{untyped_hint(frame)}"
        )
    names = as_names(frame[field], field)
    bad = [name for name in names if not name or name == PAD_TOKEN or "\n" in name]
    if bad:
        raise ValueError(f"items: {shortened(bad[0])} in column '{field}' is no name of an item.")
    if len(set(names)) < len(names):
        twice = pd.Series(names)[pd.Series(names).duplicated()].iloc[0]
        raise ValueError(f"items: '{twice}' stands there twice; give each item once.")
    all_tokens, others = run.parts[0].field2id_token[field], run.parts[0].only_aliases
    if taken := sorted(set(names) & set(all_tokens[others.start : others.stop])):
        raise ValueError(
            f"items: '{taken[0]}' stands only in columns of alias_of_item_id in training, and "
            "cannot be added. Leave it out, or train a run anew in which it is an item."
        )
    known = pd.Series(names).isin(all_tokens).to_numpy()
    if known.all():
        raise ValueError(
            f"items: the run has all of the {len(names)} items already; there is nothing to add."
        )
    if known.any():
        _logger.info(
            f"items: {known.sum()} of {len(names)} are items of the run, and stay as they are."
        )
    return frame.assign(**{field: names})[~known].reset_index(drop=True)


# -------------------------------------------------------------------- semantic IDs


def _no_columns(names: Sequence[str]) -> str:
    named = listed([f"'{name}'" for name in names], _MOST_NAMES)
    return f"there {'is no column' if len(names) == 1 else 'are no columns'} {named}"


def _coded(run: SavedRun, frame: pd.DataFrame) -> Artifact:
    """The run's semantic IDs with those of new items."""
    artifact = run.tokenizer()
    fields = artifact.settings["item_text_fields"] or []  # a .npy of vectors needs none
    if lacking := [field for field in fields if field not in frame]:
        raise ValueError(
            f"items: {_no_columns(lacking)}. Semantic IDs of this run are made of the "
            f"texts in {', '.join(fields)}.{untyped_hint(frame)}"
        )
    tokens = frame[run.parts[0].iid_field].tolist()
    texts = item_table(frame, run).texts(fields, tokens)
    substitutes = texts.from_others + texts.from_token
    if fields and substitutes:
        _logger.warning(
            f"items: {substitutes} of {len(tokens)} have no text in {', '.join(fields)}; they are "
            f"described by their other columns ({texts.from_others}) or by their id alone "
            f"({texts.from_token})."
        )
    return coded_items(artifact, tokens, texts.texts, run.config["device"], "the run")


def item_table(frame: pd.DataFrame, run: SavedRun) -> ItemTable:
    """A frame of items as the tokenizer reads .item files."""
    whole, separator = run.parts[0], run.config["seq_separator"]

    def written(cell: object) -> str:
        if isinstance(cell, (list, tuple, np.ndarray)):
            return separator.join(map(written, cell))
        if isinstance(cell, (float, np.floating)) and cell.is_integer():
            return str(int(cell))  # as in atomic files, whatever pandas made of a missing cell
        return str(cell)

    texts = {}
    for field in frame:
        cells = frame[field].astype(object).where(~is_missing(frame[field]), "")
        texts[field] = [written(cell) for cell in cells]
    rows = {row[0]: list(row) for row in zip(texts[whole.iid_field], *texts.values())}
    # The id comes first only to be the key.
    header = {
        field: whole.given_type(field).value if field in whole.field2type else "token_seq"
        for field in frame
    }
    return ItemTable(
        Path("items"), header, whole.iid_field, {k: row[1:] for k, row in rows.items()}, separator
    )


# -------------------------------------------------------------------- rows and vocabularies


def _parts(run: SavedRun, frame: pd.DataFrame, tokens: Sequence[str]) -> list[CTRDataset]:
    """The run's parts with a larger catalogue."""
    whole = run.parts[0]
    names = np.array([*whole.field2id_token[whole.iid_field], *tokens])
    number = {token: place for place, token in enumerate(names)}
    same = list(whole.alias["item_id"])
    changed = {
        "field2id_token": whole.field2id_token | dict.fromkeys(same, names),
        "field2token_id": whole.field2token_id | dict.fromkeys(same, number),
        "item_feat": _item_features(run, frame),
    }
    parts = []
    for part in run.parts:
        part = copy.copy(part)
        vars(part).update(changed)
        parts.append(part)
    return parts


def _item_features(run: SavedRun, frame: pd.DataFrame) -> Table | None:
    whole, table = run.parts[0], run.parts[0].item_feat
    if table is None:
        return None
    reader = FeatureReader(run.parts)
    # The padding's row, 0, has what a missing feature is in training.
    base = rows_of_table(table, np.zeros(len(frame), dtype=np.int64))
    fields = [name for name in table.interaction if name != whole.iid_field]
    given = {name: frame[name] for name in fields if name in frame}
    if lacking := [name for name in fields if name not in given]:
        _logger.warning(
            f"items: {_no_columns(lacking)}; "
            f"{'the feature counts' if len(lacking) == 1 else 'the features count'} as missing."
            f"{untyped_hint(frame)}"
        )
    more = reader.table(base, given, "items", frame[whole.iid_field].tolist())
    reader.warn_of_unknown()
    more.interaction[whole.iid_field] = torch.arange(len(frame)) + whole.item_num
    return Table({name: joined([table[name], more[name]]) for name in table.interaction})


# -------------------------------------------------------------------- the model


def _model(
    run: SavedRun,
    parts: Sequence[CTRDataset],
    semantic_ids: SemanticIDs | None,
    count: int,
    how: str,
) -> AbstractRecommender:
    """The run's model, made anew for the larger catalogue."""
    before = model_view(run.config, run.parts[0], run.semantic_ids)
    now = model_view(run.config, parts[0], semantic_ids)
    with torch.random.fork_rng(devices=[]):
        model = run.config.model_class(run.config, now).to(run.config["device"])
    codes = None
    if how == COHORTS:
        known = before.item_num
        assert now.semantic_ids is not None  # `_choice` refuses cohorts without codes
        codes = now.semantic_ids[:known], now.semantic_ids[known:]
    trained = trained_ids(before, before.iid_field)
    tables = embedding_segments(run.model, field_sizes(before))
    grown = {*before.alias["item_id"], before.iid_field + run.config["LIST_SUFFIX"]}
    weights = {}
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    for name, value in run.model.state_dict().items():
        if value.shape == shapes.get(name):
            weights[name] = value
        elif name in tables:
            weights[name] = _grown(value, tables[name], grown, how, trained, count, codes)
    model.take_over(run.model, weights)
    wrong = [name for name in shapes if name not in weights or weights[name].shape != shapes[name]]
    if wrong:
        raise ValueError(
            f"items: {wrong[0]} of {run.config['model']} depends on the number of items, and how "
            "new ones get theirs is not known. A model of your own says so by id_tables or "
            "take_over (recbole_genci.model.base)."
        )
    model.load_state_dict(weights)
    return model.eval()


def _grown(
    values: Tensor,
    segments: Sequence[Segment],
    grown: set[str],
    how: str,
    trained: Tensor,
    count: int,
    codes: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """An embedding table with rows for new items behind those of each field of items."""
    rows = []
    for segment in segments:
        rows.append(values[segment.rows])
        if segment.field in grown:
            rows.append(stand_ins(values[segment.rows], how, trained, count, codes))
    return torch.cat(rows)
