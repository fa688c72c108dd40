"""The contract of a model: everything that the package asks a model, with defaults.

A model of your own is a subclass of ``ClickModel`` that defines ``forward`` and declares what it
reads. A RecBole ``ContextRecommender`` works unchanged: ``contract_of`` adds the defaults. Outside
the registry a model's name is only the default of a command or a table (GenCI, LR).

Two analyses of GenCI itself know more of it: ``evaluation.intent_sensitivity`` calls its methods,
and ``evaluation.intents`` reads two of its keys.

Sizes: B rows of a batch, H history items, N levels of a semantic ID, k beams.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Self

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import ContextRecommender
from recbole.utils import InputType

from recbole_genci import compat
from recbole_genci.model.batch_columns import (
    BATCH_COLUMNS,
    HISTORY_NUMBER,
    HISTORY_SEMANTIC_IDS,
    SEMANTIC_IDS,
)
from recbole_genci.utils.config_like import ConfigLike

compat.keep_constants_on_the_device()


class ModelContract:
    """What a model may declare. Every name but ``teacher`` has a default, so a model states only
    what differs.

    Attributes:
        reads_history: batches have the row's earlier clicks under RecBole's names: ``item_id_list``
            ``[B, H]`` (oldest first, then 0 as padding) and their number ``item_length``
            ``[B]``. Read by ``CTRDataset.view``.
        reads_negatives: like ``reads_history``; batches also have an item that was not clicked for
            each earlier click, ``neg_item_id_list`` ``[B, H]``, and ``item_length`` is at least 1,
            which packed sequences need. Read by ``CTRDataset.view``.
        reads_semantic_ids: like ``reads_history``; batches also have ``semantic_ids`` ``[B, N]`` of
            the row's item, ``history_semantic_ids`` ``[B, H, N]`` (-1 on padding) and
            ``history_number`` ``[B]``, which is the same number for equal histories. The model's
            ``dataset`` has ``semantic_ids`` ``[num_items, N]``. Read by loaders, and by the code
            that prepares semantic IDs.
        reads_distinct_histories: batches have each distinct history once, instead of the columns
            above. ``segments`` ``[G, L]`` are sequences of clicked items, padded with 0, and
            ``segment_length`` ``[G]`` are their lengths. History u is the first
            ``history_length[u]`` clicks of segment ``history_segment[u]`` (both ``[U]``). Row b has
            history ``history_index[b]`` (``[B]``). Segments and histories are sorted by length; the
            empty history has length 0. With ``cuda_graphs`` on a GPU, empty histories that no row
            has fill U up to a multiple of 128. See ``segment_clicks``. Read by
            ``CTRDataset.view``.
        reads_row_features: whether it reads features that belong to a row, not to its user or item.
            ``plan.prepare`` tells whoever loads some.
        fixed_history_width: whether H is ``MAX_ITEM_LIST_LENGTH`` for every batch, for models that
            keep something of that width. Else H is the length of the batch's longest history, at
            least 2. Read by ``CTRDataset.view``.
        revision: revision of what the model computes. Raise it when the class computes something
            else under the same settings: runs of another revision are neither loaded nor reused
            from an experiment's records.
        regularises_itself: whether the model's own loss has a self-supervised regularisation (Eq.
            11), so that ``sr_weight`` adds none. Read by ``training.regularisation``.
        loss_names: names for the log, if ``calculate_loss`` returns a tuple; None for RecBole's.
        teacher_is_pretrained: whether ``teacher`` is trained before the model, by the same trainer
            with early stopping. Read once by ``train_and_evaluate``.
        teacher: a module that a model sets where ``teacher_is_pretrained``.
        generates_items: whether the model has ``generate_items``. Read by ``Ranker.recommend`` and
            ``SavedRun.recall``.
        has_intents: whether the model has ``first_layer_shares``. Read by
            ``recbole_genci.evaluation.intents``.
        id_tables: embedding modules of the model's own, outside RecBole's layers, that have a row
            for each id of a field: ``{"towers.user": "user_id"}``. Read by
            ``recbole_genci.serving`` for users and items that the run does not know; without it
            they read the padding's row.
    """

    reads_history = False
    reads_negatives = False
    reads_semantic_ids = False
    reads_distinct_histories = False
    reads_row_features = True
    fixed_history_width = False
    revision = 1
    regularises_itself = False
    loss_names: tuple[str, ...] | None = None
    teacher_is_pretrained = False
    # Without a default here, which would hide the module that a model sets.
    teacher: torch.nn.Module | None
    generates_items = False
    has_intents = False
    id_tables: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def check_settings(cls, config: ConfigLike) -> None:
        """Refuse settings of the model's own that do not fit together; ``Config`` has checked each
        key on its own, by the kind and range that the properties files give.

        Every command calls it before any data is read.

        Raises:
            ValueError: a setting cannot work; names the key, its value and what it may be.
        """

    @classmethod
    def switched_off(cls, config: ConfigLike) -> Mapping[str, str]:
        """The model's keys that have no effect because of the value of another, each with a
        sentence that names it. ``plan.prepare`` warns whoever has set one.
        """
        return {}

    @classmethod
    def segment_clicks(cls, config: ConfigLike) -> int:
        """For a model that reads distinct histories: how many clicks a segment moves on by.

        1 makes every history a segment of its own. With more, histories that end within so many
        clicks of a user are prefixes of one segment, for models that encode a sequence once and
        read it up to any click; see ``data.history.clicks_read``. Read by ``CTRDataset.view``.
        """
        return 1

    def load_initial_weights(self) -> None:
        """Load initial weights, if the model's settings name a file.

        Called once for a new run, and once before it to try the model. A resumed or loaded run has
        its own weights.

        Raises:
            FileNotFoundError, ValueError: the file is missing or wrong; names the key and the file.
        """

    def freeze_teacher(self) -> None:
        """Stop training ``teacher``; called by ``train_and_evaluate`` after its pretraining."""

    def precompute(self) -> None:
        """Compute once what depends on weights alone.

        Called by ``recbole_genci.serving`` on a copy of the model that is exported: it only
        predicts, and its weights no longer change.
        """

    def take_over(self, trained: Self, weights: dict[str, torch.Tensor]) -> None:
        """Complete the weights of this model, which is made for more items than ``trained`` was.

        Called by ``recbole_genci.serving`` when items are added to a run. Only a model with weights
        or settings that depend on the number of items or on semantic IDs needs it.

        Args:
            trained: the run's model; it must not change.
            weights: those of ``trained`` by name, on its device. Embedding tables have rows for
                the new items already; weights whose shape is another here are missing.
        """

    def observe_generator(self, interaction: Interaction) -> dict[str, torch.Tensor] | None:
        """The input of ``recbole_genci.evaluation.diagnostics`` for a batch.

        Returns:
            dict: ``label`` and ``probability`` ``[B]``; the rows' ``item`` ``[B]`` and ``codes``
                ``[B, N]``; ``beam_items`` ``[B, k]`` and ``beam_codes`` ``[B, k, N]``, 0 and -1 for
                an invalid beam; ``ntp_loss`` ``[P, N]`` of the P clicked rows; and
                ``teacher_probability`` ``[B]``, if there is a teacher. None for a model without a
                generator.
        """
        return None

    def generate_items(
        self, interaction: Interaction, num_beams: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The items that the model expects next, independent of the rows' own items.

        Called if ``generates_items``, by ``Ranker.recommend(candidates=...)`` and
        ``SavedRun.recall``.

        Returns:
            item ids ``[B, num_beams]``, best first, filled up with 0, and their log-probabilities.
        """
        raise ValueError(f"{type(self).__name__} generates no items.")

    def first_layer_shares(
        self, interaction: Interaction, item_fields: Collection[str]
    ) -> dict[str, torch.Tensor]:
        """What each input adds to the prediction network's first layer of h units.

        Called if ``has_intents``, by ``recbole_genci.evaluation.intents``.

        Args:
            item_fields: names of the target item's fields.

        Returns:
            dict of ``[B, h]``: ``long_term``, ``short_term``, ``item`` and ``rest``.
        """
        raise ValueError(f"{type(self).__name__} has no long-term and short-term intents.")


class _WithHistory:
    """The declaration that RecBole's DIN lacks."""

    reads_history, reads_row_features = True, False
    fixed_history_width = True  # its attention keeps a mask (layers.py:341)


class _WithNegatives:
    """The declaration that RecBole's DIEN lacks."""

    reads_history = reads_negatives = True
    reads_row_features = False
    fixed_history_width = True


_RECBOLES_HISTORY_MODELS = {
    "recbole.model.sequential_recommender.din.DIN": _WithHistory,
    "recbole.model.sequential_recommender.dien.DIEN": _WithNegatives,
}


def is_recboles_history_model(model_class: type) -> bool:
    """Whether a class is, or inherits from, RecBole's DIN or DIEN.

    They are RecBole's only sequential models that score labelled rows.
    """
    return bool(_needs_of_recboles(model_class))


def _needs_of_recboles(model_class: type) -> list[type]:
    # Compared by name, because importing them takes seconds: it imports all sequential models.
    names = (f"{each.__module__}.{each.__qualname__}" for each in model_class.__mro__)
    return [_RECBOLES_HISTORY_MODELS[name] for name in names if name in _RECBOLES_HISTORY_MODELS]


@functools.cache
def contract_of(model_class: type) -> type:
    """The class itself if it has the contract, else a subclass with the contract's defaults.

    The subclass has the same name, and the class's own declarations win.
    """
    if issubclass(model_class, ModelContract):
        return model_class
    bases = (model_class, *_needs_of_recboles(model_class)[:1], ModelContract)
    own = {
        "__module__": model_class.__module__,
        "__qualname__": model_class.__qualname__,
        "__doc__": model_class.__doc__,
        "__wrapped__": model_class,
    }
    return type(model_class.__name__, bases, own)


def reads_histories(model_class: Any, config: ConfigLike) -> bool:
    """Whether a model that has the contract reads histories under these settings.

    A model that reads semantic IDs does: it reads those of the clicked items too.
    """
    return (
        model_class.reads_history
        or model_class.reads_negatives
        or model_class.reads_semantic_ids
        or model_class.reads_distinct_histories
        or flattens_history(model_class, config)
    )


def declarations(config: ConfigLike) -> dict[str, str]:
    """Each column that a batch gets if the model declares it: its name, and the declaration's."""
    history = f"{config['ITEM_ID_FIELD']}{config['LIST_SUFFIX']}"
    return {
        history: "reads_history",
        config["ITEM_LIST_LENGTH_FIELD"]: "reads_history",
        config["NEG_PREFIX"] + history: "reads_negatives",
        **dict.fromkeys(BATCH_COLUMNS, "reads_distinct_histories"),
        **dict.fromkeys((SEMANTIC_IDS, HISTORY_SEMANTIC_IDS, HISTORY_NUMBER), "reads_semantic_ids"),
    }


def flattens_history(model_class: type, config: ConfigLike) -> bool:
    """Whether a model reads the history as one more field (``flatten_history``)."""
    return bool(config["flatten_history"]) and issubclass(model_class, ContextRecommender)


class ClickModel(ModelContract, ContextRecommender):
    """The base class of this plugin's models and of yours: ``forward`` gives click logits ``[B]``.

    ``check_settings`` is called before any data is read, and again when the model is built.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        self.check_settings(config)
        super().__init__(config, dataset)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The binary cross-entropy of the batch, a scalar."""
        logits = self.forward(interaction)
        return F.binary_cross_entropy_with_logits(logits, interaction[self.LABEL])

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Click probabilities ``[B]``."""
        return torch.sigmoid(self.forward(interaction))
