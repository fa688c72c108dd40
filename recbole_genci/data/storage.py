"""Store a run's rows, features and vocabularies in one file, so that it can be scored without the
raw data.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import FeatureSource, FeatureType
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from recbole_genci.config import Config
from recbole_genci.data.buckets import Buckets
from recbole_genci.data.column_names import HISTORY_END, HISTORY_START, OWN_COLUMNS
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.history import History
from recbole_genci.data.table import Column, Table, adjacent, joined
from recbole_genci.data.transforms import Transform
from recbole_genci.utils.ragged import Ragged
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.writing import write_atomically

_TABLES = ("inter_feat", "user_feat", "item_feat")
_HISTORY = ("items", "negatives", "keys")
_TIMES = "rank_times"
_NEEDED = ("scales", "buckets", "transforms", "rare")  # facts that early versions did not keep
_LENGTHS = "lengths"  # of a column of sequences, whose table holds their entries
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)


def store_parts(parts: Sequence[CTRDataset], file: Path) -> str:
    """Write the parts of ``CTRDataset.build()`` to ``file`` atomically.

    Histories are not written, since they follow from the rows. Parts that have been stored before
    are linked instead of written again, so that the models of a comparison share one file on disk.

    Returns:
        SHA-256 of the file.
    """
    whole = parts[0]
    before = getattr(whole, "stored_file", None)
    if before is not None and before.is_file() and sha256_of(before) == whole.stored_sha256:
        write_atomically(file, lambda path: _link(before, path))
        return whole.stored_sha256
    tensors, facts = _described(parts)
    write_atomically(file, lambda path: save_file(tensors, path, {"facts": json.dumps(facts)}))
    digest = sha256_of(file)
    for part in parts:
        part.stored_file, part.stored_sha256 = file, digest
    return digest


def stored_bytes(parts: Sequence[CTRDataset]) -> int:
    """About how many bytes ``store_parts`` writes. Most whole numbers need half of their eight."""
    tables = [part.inter_feat for part in parts] + [parts[0].user_feat, parts[0].item_feat]
    columns = [
        column for table in tables if table is not None for column in table.interaction.values()
    ]
    return sum(column.numel() * column.element_size() for column in columns) // 2


def load_parts(file: Path, config: Config) -> list[CTRDataset]:
    """Load the parts that ``store_parts`` has written, and attach their histories.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist: this is not the folder of a run, or its data were removed."
        )
    facts, tensors = _read(file)
    parts = _parts_of(config, facts, tensors)
    parts[0].attach_histories(parts, facts["history_source"])
    return parts


def save_prepared(
    parts: Sequence[CTRDataset], file: Path, facts: Mapping[str, Any] | None = None
) -> None:
    """Write parts with their histories as they are in memory, so that ``load_prepared`` maps them.

    Args:
        facts: JSON values of the caller's own.
    """
    history = parts[0].history
    tensors, own = _described(parts, with_histories=True)
    tensors |= {
        "history/items": history.items,
        "history/negatives": history.negatives,
        "history/keys": torch.from_numpy(history.keys),
    }
    save_file(tensors, file, {"facts": json.dumps(own | {"prepared": facts or {}})})


def load_prepared(file: Path, config: Config) -> tuple[list[CTRDataset], dict[str, Any]]:
    """The parts that ``save_prepared`` has written, mapped into memory, and the caller's facts.

    Processes share the memory. What one of them changes in it stays its own.

    Raises:
        ValueError: the file is damaged.
    """
    facts, tensors = _read(file)
    parts = _parts_of(config, facts, tensors)
    items, negatives, keys = (tensors[f"history/{name}"] for name in _HISTORY)
    history = History(items, negatives, keys.numpy(), facts["num_time_ranks"])
    for part in parts:
        part.history, part.history_source = history, facts["history_source"]
    parts[0].mapped = (file, _state(parts))
    return parts, facts["prepared"]


def mapped_file(parts: Sequence[CTRDataset]) -> Path | None:
    """The file from which ``load_prepared`` has mapped parts; None for others, for parts that were
    changed since, and if the file has gone.
    """
    file, state = getattr(parts[0], "mapped", (None, None))
    return file if file is not None and file.is_file() and state == _state(parts) else None


def _state(parts: Sequence[CTRDataset]) -> list[tuple[int, int]]:
    """Which columns parts have, and how often each was changed."""
    tables = [*(part.inter_feat for part in parts), parts[0].user_feat, parts[0].item_feat]
    columns = [each for table in tables if table is not None for each in table.interaction.values()]
    tensors = [each.values if isinstance(each, Ragged) else each for each in columns]
    return [(id(each), each._version) for each in (*tensors, parts[0].history.items)]


def _described(
    parts: Sequence[CTRDataset], with_histories: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and facts of which a file consists.

    Args:
        with_histories: keep the pointers to histories, and every type of number; else whole numbers
            get the smallest type that holds them.
    """
    whole, is_narrow = parts[0], not with_histories
    without = () if with_histories else (HISTORY_START, HISTORY_END)
    tensors = {"parts": torch.tensor([len(part) for part in parts])}
    columns: dict[str, list[str]] = {}
    for table in _TABLES:
        features = (
            [part.inter_feat for part in parts]
            if table == "inter_feat"
            else [getattr(whole, table)]
        )
        if features[0] is not None:
            columns[table] = [f for f in features[0].interaction if f not in without]
            for field in columns[table]:
                parted = [feature[field] for feature in features]
                # The parts of a split share memory: all rows need not be copied.
                column = joined(parted) if (one := adjacent(parted)) is None else one
                if isinstance(column, Ragged):
                    column = column.compact()
                    tensors[f"{_LENGTHS}/{table}/{field}"] = _smallest(column.lengths)
                    column = column.values
                tensors[f"{table}/{field}"] = _smallest(column) if is_narrow else column
    for field, tokens in whole.field2id_token.items():
        # A token comes from a cell of an atomic file, so it holds no line break and no tab.
        tensors[f"vocabulary/{field}"] = torch.frombuffer(
            bytearray("\n".join(map(str, tokens)).encode()), dtype=torch.uint8
        )
    if whole.rank_times is not None:
        tensors[_TIMES] = torch.from_numpy(whole.rank_times)
    facts: dict[str, Any] = {
        "dataset": whole.dataset_name,
        "num_time_ranks": whole.num_time_ranks,
        "history_source": whole.history_source,
        "scales": whole.scales,
        "buckets": whole.buckets,
        "transforms": {field: each.as_json() for field, each in whole.transforms.items()},
        "rare": sorted(whole.rare),
        # The order of columns is that of a model's weights; the file sorts its tensors by name.
        "columns": columns,
        "fields": {
            field: [
                whole.field2type[field].value,
                whole.field2source[field].value,
                whole.field2seqlen.get(field),
                whole.field2bucketnum.get(field),
            ]
            for field in whole.field2type
        },
    }
    if whole.only_aliases:
        facts["only_aliases"] = [whole.only_aliases.start, whole.only_aliases.stop]
    return tensors, facts


def _read(file: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(file, "pt") as stored:
            facts = json.loads(stored.metadata()["facts"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}
    except (SafetensorError, TypeError, KeyError) as error:
        raise ValueError(
            f"{file} is damaged ({error}). Copy it again or repeat the run."
        ) from error
    if missing := [name for name in _NEEDED if name not in facts]:
        raise ValueError(
            f"{file} has no '{missing[0]}': an early version of recbole_genci wrote it. Train the "
            "run anew."
        )
    return facts, tensors


def _parts_of(
    config: Config, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> list[CTRDataset]:
    whole = _StoredDataset(config, facts, tensors)
    ends = np.cumsum(tensors["parts"].tolist())
    return [
        whole.copy(whole.inter_feat[int(start) : int(end)])
        for start, end in zip([0, *ends[:-1]], ends)
    ]


class _StoredDataset(CTRDataset):
    """A CTRDataset whose tables come from a file of ``store_parts`` instead of atomic files."""

    def __init__(
        self, config: Config, facts: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
    ) -> None:
        self._facts, self._tensors = facts, tensors
        super().__init__(config)
        del self._facts, self._tensors

    def _from_scratch(self) -> None:
        self._get_preset()
        self._get_field_from_config()
        for field, (kind, source, length, buckets) in self._facts["fields"].items():
            self.field2type[field], self.field2source[field] = (
                FeatureType(kind),
                FeatureSource(source),
            )
            if length is not None:
                self.field2seqlen[field] = length
            if buckets is not None:
                self.field2bucketnum[field] = buckets
        for table in _TABLES:
            columns = {
                field: self._column(table, field) for field in self._facts["columns"].get(table, ())
            }
            setattr(self, table, Table(columns) if columns else None)
        for name, tensor in self._tensors.items():
            group, _, field = name.partition("/")
            if group == "vocabulary":
                tokens = np.array(bytes(tensor.numpy()).decode().split("\n"))
                self.field2id_token[field] = tokens
                self.field2token_id[field] = {token: number for number, token in enumerate(tokens)}
        self.num_time_ranks = self._facts["num_time_ranks"]
        times = self._tensors.get(_TIMES)
        self.rank_times = None if times is None else times.numpy()
        facts = self._facts
        self.scales = {f: (low, high) for f, (low, high) in facts["scales"].items()}
        self.buckets = {f: Buckets(*each) for f, each in facts["buckets"].items()}
        self.transforms = {f: Transform.of_json(each) for f, each in facts["transforms"].items()}
        self.rare = frozenset(facts["rare"])
        self.only_aliases = range(*facts.get("only_aliases", (0, 0)))
        self.feat_name_list = self._build_feat_name_list()
        self._init_alias()

    def _column(self, table: str, field: str) -> Column:
        column = _as_built(field, self._tensors[f"{table}/{field}"])
        lengths = self._tensors.get(f"{_LENGTHS}/{table}/{field}")
        return column if lengths is None else Ragged.of_lengths(column, lengths.long())


def _as_built(field: str, column: torch.Tensor) -> torch.Tensor:
    """A column in the type that ``CTRDataset`` gives it; not copied if it has that type."""
    if column.dtype not in _INTEGERS:
        return column
    return column.to(torch.int32 if field in OWN_COLUMNS else torch.int64)


def _smallest(column: torch.Tensor) -> torch.Tensor:
    """Convert an integer column to the smallest type that holds it; keep other columns."""
    if column.dtype != torch.int64:
        return column.contiguous()
    low, high = (int(column.min()), int(column.max())) if column.numel() else (0, 0)
    kind = next(t for t in _INTEGERS if torch.iinfo(t).min <= low and high <= torch.iinfo(t).max)
    return column.to(kind).contiguous()


def _link(source: Path, target: Path) -> None:
    """Make a hard link to a file, or a copy if the file system has no links."""
    target.unlink()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
