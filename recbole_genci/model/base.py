"""The contract of a model: everything that the rest of the package asks of one, with defaults.

A model of one's own is a ``ClickModel``: it gives ``forward`` and declares what it reads. A RecBole
``ContextRecommender`` is taken as it is: ``contract_of`` gives it the defaults. Nothing else in the
package looks a model up by its name.

Sizes: B rows of a batch, H history items, N levels of a semantic ID, k beams.
"""

from __future__ import annotations

import functools
from collections.abc import Collection

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import ContextRecommender
from recbole.utils import InputType

from recbole_genci.utils.config_like import ConfigLike


class ModelContract:
    """What a model may declare. Every name has a default, so that a model only states what is true
    of it.

    Attributes:
        reads_history: batches have the row's earlier clicks, ``item_id_list`` ``[B, H]`` (0 is
            padding, most recent last before it), and their number ``item_length`` ``[B]``, under
            RecBole's names. Read by ``CTRDataset.view``.
        reads_negatives: batches also have an item that was not clicked for each earlier click,
            ``neg_item_id_list`` ``[B, H]``; ``item_length`` is then at least 1, which packed
            sequences need. Includes the history. Read by ``CTRDataset.view``.
        reads_semantic_ids: batches also have ``semantic_ids`` ``[B, N]`` of the row's item,
            ``history_semantic_ids`` ``[B, H, N]`` (-1 on padding) and ``history_number`` ``[B]``,
            one number for equal histories; the model's ``dataset`` has ``semantic_ids``
            ``[num_items, N]``. Includes the history. Read by loaders, and by whoever prepares
            semantic IDs.
        revision: raised when the class computes something else than before under the same settings:
            runs of another revision are neither loaded nor taken from an experiment's records.
        loss_names: of the parts that ``calculate_loss`` returns as a tuple, for the log; None for
            RecBole's own words.
        teacher_is_pretrained: whether ``teacher`` is to be trained before the model. Read once by
            ``train_and_evaluate``.
        teacher: set by the model itself: what is trained first, by the same trainer and early
            stopping.
        generates_items: whether there is ``generate_items``. Read by ``Ranker.recommend`` and
            ``SavedRun.recall``.
        has_intents: whether there is ``first_layer_shares``. Read by
            ``recbole_genci.evaluation.intents``.
    """

    reads_history = False
    reads_negatives = False
    reads_semantic_ids = False
    revision = 1
    loss_names: tuple[str, ...] | None = None
    teacher_is_pretrained = False
    # No default in the class: it would hide the module that a model sets.
    teacher: torch.nn.Module | None
    generates_items = False
    has_intents = False

    @classmethod
    def check_settings(cls, config) -> None:
        """Refuse settings of the model's own that do not fit together; ``Config`` has checked each
        key on its own, by the kind and range that the properties files give.

        Called by every command before any data is read.

        Raises:
            ValueError: names the key, its value and what it may be.
        """

    def load_initial_weights(self) -> None:
        """Read weights to start from, if the model's settings name any; called once for a new run,
        and before it as a trial. A run that is resumed or loaded has its own.

        Raises:
            FileNotFoundError, ValueError: names the key and the file.
        """

    def freeze_teacher(self) -> None:
        """Stop training ``teacher``; called by ``train_and_evaluate`` once it has been
        pretrained."""

    def observe_generator(self, interaction: Interaction) -> dict[str, torch.Tensor] | None:
        """What ``recbole_genci.evaluation.diagnostics`` judges a generator by, of a batch; None for
        a model without one.

        Returns:
            dict: ``label`` and ``probability`` ``[B]``, the rows' ``item`` ``[B]`` and ``codes``
            ``[B, N]``, ``beam_items`` ``[B, k]`` (0 where invalid) and ``beam_codes`` ``[B, k, N]``
            (-1 there), ``ntp_loss`` ``[P, N]`` of the P clicked rows, and, where there is a
            teacher, ``teacher_probability`` ``[B]``.
        """
        return None

    def generate_items(
        self, interaction: Interaction, num_beams: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The items that the model expects next, whatever the rows' own items are; asked for where
        ``generates_items``.

        Called by ``Ranker.recommend(candidates=...)`` and by ``SavedRun.recall``.

        Returns:
            item ids ``[B, num_beams]``, best first, 0 where there are no more, and their
            log-probabilities.
        """
        raise ValueError(f"{type(self).__name__} generates no items.")

    def first_layer_shares(
        self, interaction: Interaction, item_fields: Collection[str]
    ) -> dict[str, torch.Tensor]:
        """What each input adds to the prediction network's first layer of h units; asked for where
        ``has_intents``.

        Called by ``recbole_genci.evaluation.intents``.

        Args:
            item_fields: names of the target item's fields.

        Returns:
            dict of ``[B, h]``: ``long_term``, ``short_term``, ``item`` and ``rest``.
        """
        raise ValueError(f"{type(self).__name__} has no long-term and short-term intents.")


class _WithHistory:
    """What RecBole's DIN needs, which says nothing about it."""

    reads_history = True


class _WithNegatives:
    """What RecBole's DIEN needs."""

    reads_history = reads_negatives = True


_RECBOLES_HISTORY_MODELS = {
    "recbole.model.sequential_recommender.din.DIN": _WithHistory,
    "recbole.model.sequential_recommender.dien.DIEN": _WithNegatives,
}


def is_recboles_history_model(model_class: type) -> bool:
    """Whether a class is RecBole's DIN or DIEN, or inherits from one: its only sequential models
    that score labelled rows."""
    return bool(_needs_of_recboles(model_class))


def _needs_of_recboles(model_class: type) -> list[type]:
    # By name: importing them takes seconds, as all of RecBole's sequential models come along.
    names = (f"{each.__module__}.{each.__qualname__}" for each in model_class.__mro__)
    return [_RECBOLES_HISTORY_MODELS[name] for name in names if name in _RECBOLES_HISTORY_MODELS]


@functools.cache
def contract_of(model_class: type) -> type:
    """The class itself if it keeps the contract, else a subclass of it, of the same name, that has
    the contract's defaults.

    What the class declares itself comes first.
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


class ClickModel(ModelContract, ContextRecommender):
    """A context-aware model whose ``forward`` gives click logits ``[B]``: the base of this plugin's
    models and of your own.

    ``check_settings`` is called before any data is read, and again when the model is made.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        self.check_settings(config)
        super().__init__(config, dataset)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Binary cross-entropy of the batch's labels, a scalar."""
        logits = self.forward(interaction)
        return F.binary_cross_entropy_with_logits(logits, interaction[self.LABEL])

    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Click probabilities ``[B]``."""
        return torch.sigmoid(self.forward(interaction))
