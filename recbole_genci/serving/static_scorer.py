"""A run's scorer as one module of plain tensors: what ``recbole_genci.serving.export`` exports."""

from __future__ import annotations

import builtins
import inspect
import keyword
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import FeatureType
from torch import Tensor, nn

from recbole_genci.data.batches import Batch
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.fitting import RARE_ID
from recbole_genci.data.table import Table
from recbole_genci.model.batch_columns import (
    HISTORY_INDEX,
    HISTORY_LENGTH,
    HISTORY_NUMBER,
    HISTORY_SEGMENT,
    HISTORY_SEMANTIC_IDS,
    SEGMENT_LENGTH,
    SEGMENTS,
    SEMANTIC_IDS,
)
from recbole_genci.serving.features import FeatureReader
from recbole_genci.utils.answers import Refused
from recbole_genci.utils.ragged import Ragged, RaggedBuffer

# Names that mean something else in the code that torch.export makes.
_TAKEN = frozenset(
    [*dir(builtins), "self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree"]
    # Arguments of the functions by which torch calls a module, and an ONNX program's output.
    + ["mod", "obj", "probability"]
)


@dataclass(frozen=True)
class Input:
    """One input of a `StaticScorer`.

    Attributes:
        field: the column of the run's rows that it is.
        dtype: ``int64`` or ``float64``.
        width: W of ``[B, W]``; None for ``[B]``.
        meaning: for who calls the program.
        vocabulary: the field whose vocabulary numbers it; None for other numbers.
        size: ids run from 0 to ``size - 1``; None for other numbers.
        unknown: the number of a token that its vocabulary does not have; None for other numbers.
        length_of: the field whose sequences have these lengths; None for what is no length.
        name: its name: the field's, in ASCII, with ``_`` for what cannot be part of a name.
    """

    field: str
    dtype: str
    width: int | None
    meaning: str
    vocabulary: str | None = None
    size: int | None = None
    unknown: int | None = None
    length_of: str | None = None
    name: str = ""

    @property
    def key(self) -> tuple[str, bool]:
        """Which input it is: a field, and whether it is the length of the field's sequences.

        ``field`` alone does not say so: a column of rows may have the name of a length.
        """
        return self.length_of or self.field, self.length_of is not None

    @property
    def shape(self) -> list[str | int]:
        """``["B"]`` or ``["B", W]``."""
        return ["B"] if self.width is None else ["B", self.width]


class StaticScorer(nn.Module):
    """Click probabilities ``[B]`` of rows that come as plain tensors, by name (``inputs``).

    Features of users and items, semantic IDs and weights are buffers and parameters. No value
    decides about operations or shapes, inside ``static_shapes()``.

    Args:
        model: in evaluation mode; it is not changed.
        view: the run's rows as the model reads them.
        features: reads names and values as the run does.

    Raises:
        Refused: rows have a feature whose values cannot be given.
    """

    def __init__(
        self, model: AbstractRecommender, view: CTRDataset, features: FeatureReader
    ) -> None:
        super().__init__()
        self.model, self._view, self._features = model, view, features
        self._users, self._items = (
            _Table(feat, own)
            for feat, own in (
                (view.user_feat, view.uid_field),
                (view.item_feat, view.iid_field),
            )
        )
        self.codes: Tensor | None
        codes = view.semantic_ids if view.attached.codes else None
        self.register_buffer("codes", codes, persistent=False)
        self.history_name = f"{view.iid_field}{view.config['LIST_SUFFIX']}"
        self.length_name = view.config["ITEM_LIST_LENGTH_FIELD"]
        self.longest = view.config["MAX_ITEM_LIST_LENGTH"]
        self.inputs = _with_distinct_names(self._inputs())
        self.forward = self._with_names()
        self._scales = {
            field: self._scale(field)
            for field in features.row_fields
            if view.field2type[field] in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)
            and field not in view.transforms
        }

    @property
    def reads_history(self) -> bool:
        """Whether histories are among the inputs."""
        return bool(self._view.attached)

    def _with_names(self) -> Callable[..., Tensor]:
        """``forward`` with the inputs' names, by which torch.export names a program's inputs."""
        kind = inspect.Parameter.KEYWORD_ONLY
        names = [inspect.Parameter(each.name, kind) for each in self.inputs]
        keys = {each.name: each.key for each in self.inputs}

        def forward(**inputs: Tensor) -> Tensor:
            return self._score({keys[name]: value for name, value in inputs.items()})

        vars(forward)["__signature__"] = inspect.Signature(names)
        return forward

    def _score(self, inputs: Mapping[tuple[str, bool], Tensor]) -> Tensor:
        view = self._view
        first = next(iter(inputs.values()))
        first = first if first.dim() == 1 else first[:, 0]
        columns = {view.label_field: torch.zeros_like(first, dtype=torch.float32)}
        columns |= {field: self._column(field, inputs) for field in self._features.row_fields}
        for table, field in ((self._users, view.uid_field), (self._items, view.iid_field)):
            if field is not None:
                columns |= table(inputs[field, False])
        if self.reads_history:
            columns |= self._history(inputs, inputs[view.iid_field, False])
        # Some of RecBole's models drop the dimension of a single row.
        return self.model.predict(_Rows(columns)).reshape(first.shape)

    # ---------------------------------------------------------------- inputs

    def _inputs(self) -> list[Input]:
        view = self._view
        users, items = view.uid_field, view.iid_field
        user = "The row's user; 0 is a user whom the run does not know."
        item = "The row's item, whose click is predicted; 0 is no item."
        found = []
        if users is not None:
            found = [self._ids(users, None, user), self._ids(items, None, item)]
        if self.reads_history:
            clicks = "The user's last clicks, oldest first, then 0. Leave unknown items out."
            number = f"How many items {self.history_name} has, 0 for no clicks."
            found += [
                self._ids(self.history_name, self.longest, clicks, items),
                Input(self.length_name, "int64", None, number, length_of=self.history_name),
            ]
        for field in self._features.row_fields:
            found += self._row_inputs(field)
        return found

    def _ids(
        self, name: str, width: int | None, meaning: str, vocabulary: str | None = None
    ) -> Input:
        field = vocabulary or name
        size = len(self._view.field2id_token[field])
        unknown = RARE_ID if field in self._view.rare else 0
        return Input(name, "int64", width, meaning, field, size, unknown)

    def _row_inputs(self, field: str) -> list[Input]:
        kind, longest = self._view.given_type(field), self._view.field2seqlen[field]
        if field in (self._view.config["discretization"] or {}):
            raise Refused(
                f"'{field}' was discretised in training, and a program does not cut numbers into "
                "buckets. Train without it, or without discretization."
            )
        of_rows, is_rare = f"The rows' feature '{field}'", field in self._view.rare
        if kind == FeatureType.TOKEN:
            unknown = f"0 is missing, {RARE_ID} unknown" if is_rare else "0 is missing or unknown"
            return [self._ids(field, None, f"{of_rows}; {unknown}.")]
        first = f"{of_rows}, the first {longest} of each"
        if kind == FeatureType.TOKEN_SEQ:
            unknown = f"{RARE_ID} is an unknown one" if is_rare else "Leave unknown ones out"
            return [self._ids(field, longest, f"{first}, then 0. {unknown}.")]
        if kind == FeatureType.FLOAT:
            meaning = f"{of_rows}, as in the atomic file; NaN is missing."
            return [Input(field, "float64", None, meaning)]
        number = f"How many numbers {field} has."
        return [
            Input(field, "float64", longest, f"{first}, as in the atomic file, then 0."),
            Input(f"{field}_length", "int64", None, number, length_of=field),
        ]

    def example(self, rows: int) -> dict[str, Tensor]:
        """Inputs of ``rows`` rows with different ids and numbers, and no history."""
        made = {}
        number = torch.arange(rows)
        for each in self.inputs:
            is_history = each.key[0] == self.history_name
            values = number * 0 if is_history else number
            if each.size is not None and not is_history:
                values = 1 + values % (each.size - 1) if each.size > 1 else values * 0
            if each.length_of is not None:
                values = values % 2
            values = values.to(getattr(torch, each.dtype))
            made[each.name] = values if each.width is None else _first_of(values, each.width)
        return made

    # ---------------------------------------------------------------- features of rows

    def _column(self, field: str, inputs: Mapping[tuple[str, bool], Tensor]) -> Tensor:
        """A feature of rows as models read it."""
        kind, values = self._view.field2type[field], inputs[field, False]
        if field in self._view.transforms:
            return self._transformed(field, inputs)
        if kind in (FeatureType.TOKEN, FeatureType.TOKEN_SEQ):
            return values
        low, span, mean = self._scales[field]
        numbers = (values - low) / span if span else torch.where(values.isnan(), values, 1.0)
        if kind == FeatureType.FLOAT_SEQ:
            length = inputs[field, True]
            is_real = torch.arange(values.shape[1], device=values.device) < length.unsqueeze(1)
            numbers = torch.where(is_real, numbers, 0.0).float()
            return torch.stack([numbers, is_real.float()], dim=-1)
        numbers = torch.where(values.isnan(), mean, numbers).float()
        # RecBole's pair of number and bucket; there is one bucket.
        return torch.stack([numbers, torch.ones_like(numbers)], dim=-1)

    def _transformed(self, field: str, inputs: Mapping[tuple[str, bool], Tensor]) -> Tensor:
        """A feature of ``transforms``, from numbers as they are in files."""
        transform, values = self._view.transforms[field], inputs[field, False]
        found, is_real = transform(values), torch.ones_like(values, dtype=torch.bool)
        if values.dim() > 1:
            length = inputs[field, True]
            is_real = torch.arange(values.shape[1], device=values.device) < length.unsqueeze(1)
        found = torch.where(is_real, found, 0)
        return found if transform.makes_tokens else torch.stack([found, is_real.float()], dim=-1)

    def _scale(self, field: str) -> tuple[float, float, float]:
        """What is subtracted from a feature's numbers, what divides them (0: all become 1), and
        what a missing one becomes.
        """
        low, high = self._features.scale_of(field) or (0.0, 1.0)
        is_single = self._view.field2type[field] == FeatureType.FLOAT
        return low, high - low, float(self._features.mean_of(field)) if is_single else 0.0

    # ---------------------------------------------------------------- histories

    def _history(
        self, inputs: Mapping[tuple[str, bool], Tensor], items: Tensor
    ) -> dict[str, Tensor]:
        """The history columns that ``ModelContract`` describes; each row has its own history."""
        attached, length = self._view.attached, inputs[self.history_name, True]
        clicks = inputs[self.history_name, False]
        clicks = clicks * (torch.arange(self.longest, device=clicks.device) < length.unsqueeze(1))
        columns: dict[str, Tensor] = {}
        rows = torch.arange(items.shape[0], device=items.device)
        if attached.history:
            columns |= {self.history_name: clicks, self.length_name: length}
        if attached.negatives:
            # Only a loss reads them. DIEN's length is at least 1, as in `data.batch_histories`.
            columns[self._view.config["NEG_PREFIX"] + self.history_name] = clicks
            columns[self.length_name] = length.clamp(min=1)
        if self.codes is not None:
            columns |= {SEMANTIC_IDS: self.codes[items], HISTORY_SEMANTIC_IDS: self.codes[clicks]}
            columns[HISTORY_NUMBER] = torch.where(length > 0, rows, -1)
        if attached.distinct:
            columns |= {SEGMENTS: clicks, SEGMENT_LENGTH: length, HISTORY_LENGTH: length}
            columns |= {HISTORY_INDEX: rows, HISTORY_SEGMENT: rows}
        return columns


def _with_distinct_names(inputs: Sequence[Input]) -> list[Input]:
    found: dict[str, Input] = {}
    # A column keeps its name; a length makes way.
    for each in sorted(inputs, key=lambda each: each.length_of is not None):
        # Python takes names of one NFKC form for one name, so they are made of ASCII.
        letters = unicodedata.normalize("NFKD", each.field)
        letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
        name = re.sub(r"\W", "_", letters, flags=re.ASCII)
        name = f"_{name}" if name[:1].isdigit() else name
        while name in found or name in _TAKEN or keyword.iskeyword(name):
            name += "_"
        found[name] = replace(each, name=name)
    named = {each.key: each for each in found.values()}
    return [named[each.key] for each in inputs]


def _first_of(values: Tensor, width: int) -> Tensor:
    """Sequences ``[R, width]`` of one value each, then 0."""
    return torch.nn.functional.pad(values.unsqueeze(1), (0, width - 1))


class _Rows(Batch):
    """A batch whose number of rows may be a symbol, which ``len`` would make a number."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.interaction = dict(columns)

    @property
    def length(self) -> Any:  # type: ignore[override]
        """The number of rows."""
        return next(iter(self.interaction.values())).shape[0]


class _Table(nn.Module):
    """The features of users or of items, by their ids.

    Args:
        feat: the features; None if there are none.
        field: the field of the ids.
    """

    def __init__(self, feat: Table | None, field: str) -> None:
        super().__init__()
        self._field, self._names = field, {}
        for place, (name, column) in enumerate({} if feat is None else feat.interaction.items()):
            if name == field:
                continue
            self._names[name] = f"column_{place}"
            if isinstance(column, Ragged):
                self.add_module(f"column_{place}", RaggedBuffer(column))
            else:
                self.register_buffer(f"column_{place}", column, persistent=False)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """The columns ``[B, ...]`` of ids ``[B]``, and the ids themselves."""
        return {name: getattr(self, own)[ids] for name, own in self._names.items()} | {
            self._field: ids
        }
