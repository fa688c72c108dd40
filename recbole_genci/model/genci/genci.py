"""GenCI: generative user intent, semantic interest cohorts and CTR prediction in one model (WWW
'26).

Reads like section 2 of the paper: ``forward`` is Eq. 4-10, ``calculate_loss`` Eq. 1, 2, 11, 12.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.model.init import xavier_normal_initialization
from recbole.model.layers import MLPLayers
from torch import nn

from recbole_genci.model.base import ClickModel
from recbole_genci.model.batch_columns import (
    HISTORY_INDEX,
    HISTORY_LENGTH,
    HISTORY_SEGMENT,
    SEGMENT_LENGTH,
    SEGMENTS,
)
from recbole_genci.model.genci import settings
from recbole_genci.model.genci.cohort import CohortAttention, CohortTable
from recbole_genci.model.genci.decoding import Beams, Trie
from recbole_genci.model.genci.fusion import IntentScale, candidate_log_probs
from recbole_genci.model.genci.generation import generate
from recbole_genci.model.genci.intent import EncodedHistory, IntentGenerator
from recbole_genci.model.genci.prefixes import prefix_codes
from recbole_genci.model.layers.device import on_cpu
from recbole_genci.model.teacher import build_teacher
from recbole_genci.utils.config_like import ConfigLike
from recbole_genci.utils.static import is_static

# Beams times codes that are scored at once: 32 MB for each of the search's few arrays.
MAX_BEAM_CELLS = 2**23
_MLP_ROWS = 2**10


class Prediction(NamedTuple):
    """What Eq. 10 reads of a batch of B rows, and what it was made from.

    Attributes:
        inputs: in the order of Eq. 10: ``long_term`` ``[B, m]``, ``short_term`` ``[B, d]`` (or
            ``[B, (N-1) d]`` with ``cohort_fusion: concat``) and ``candidate`` ``[B, N]``, scaled,
            if the model reads them, and ``fields`` ``[B, F * d]``.
        encoded: the U histories, if something reads them.
        history_index: ``[B]``, which of them each row has.
        beams: of the short-term intent, if the model has one.
    """

    inputs: dict[str, torch.Tensor]
    encoded: EncodedHistory | None
    history_index: torch.Tensor | None
    beams: Beams | None


class GenCI(ClickModel):
    """Generative Modeling of User Interest Shift via Cohort-based Intent Learning.

    Sizes: B rows, U <= B distinct histories among them, H history items, N levels of a semantic ID,
    k beams, d embedding size, m width of the T5.

    Args:
        config: see ``properties/model/GenCI.yaml`` for every key.
        dataset: a training part whose ``semantic_ids`` ``[num_items, N]`` is set, as
            ``CTRDataset.view`` does.

    Raises:
        ValueError: settings that do not fit together, as ``check_settings`` says.
    """

    codes: torch.Tensor
    item_prefixes: torch.Tensor | None

    reads_semantic_ids = reads_distinct_histories = generates_items = has_intents = True
    regularises_itself = True
    loss_names = ("L_CTR", "mu * L_NTP", "eta * L_SR", "L_base")

    def __init__(self, config: ConfigLike, dataset: Dataset) -> None:
        super().__init__(config, dataset)
        del self.first_order_linear  # of RecBole's FM family; Eq. 10 has no first-order term
        self.mu, self.eta, self.sr_loss = config["mu"], config["eta"], config["sr_loss"]
        self.use_long_term, self.use_short_term = config["use_long_term"], config["use_short_term"]
        self.candidate_log_probs = config["candidate_log_probs"]
        self.reads_generator = settings.reads_generator(config)
        self.cohort_gradient = config["cohort_gradient"]
        self.item_field = config["ITEM_ID_FIELD"]

        codes = dataset.semantic_ids
        self.register_buffer("codes", codes, persistent=False)
        self.num_items = len(codes)
        first = int(self.token_field_offsets[self.token_field_names.index(self.item_field)])
        self.item_rows = slice(first, first + self.num_items)  # of the table of all token fields
        self.num_beams = min(config["num_beams"], self.num_items - 1)  # more would never be valid
        # Parts are built in this order, as it decides which random numbers each one starts from.
        self._build_generator(config)
        self._build_short_term(config)
        self._build_prediction(config)
        self.teacher = None
        if self.eta > 0:
            self.teacher = build_teacher(config, dataset, dropout_prob=config["sr_dropout_prob"])
        self.teacher_is_pretrained = self.eta > 0 and config["sr_base"] == "pretrained"

    def _build_generator(self, config: ConfigLike) -> None:
        """The encoder and decoder of Eq. 4 and 6, and the trie of semantic IDs to search."""
        sizes = (self.codes.max(dim=0).values + 1).tolist()
        self.intent: IntentGenerator | None = None
        self.trie: Trie | None = None
        if settings.has_generator(config):
            self.intent = IntentGenerator(
                sizes,
                width=config["intent_width"],
                num_layers=config["intent_layers"],
                num_heads=config["intent_heads"],
                feed_forward_size=config["intent_feed_forward_size"],
                dropout=config["intent_dropout"],
                max_history=config["MAX_ITEM_LIST_LENGTH"],
                history_tokens=config["history_tokens"],
                causal=config["history_attention"] == "causal",
                item_size=self.embedding_size if config["share_item_embeddings"] else 0,
            )
        if settings.searches(config):
            self.trie = Trie(self.codes[1:], sizes)

    def _build_short_term(self, config: ConfigLike) -> None:
        """The cohorts of Eq. 7, and the attention of Eq. 8 and 9."""
        self.register_buffer("item_prefixes", None, persistent=False)
        self.cohort_table: CohortTable | None = None
        self.cohort_attention: CohortAttention | None = None
        if not self.use_short_term:
            return
        of_cohorts = self.codes
        if config["cohorts"] == "prefix":
            of_cohorts = self.item_prefixes = prefix_codes(self.codes)
        cohort_sizes = (of_cohorts.max(dim=0).values + 1).tolist()
        self.cohort_table = CohortTable(of_cohorts, cohort_sizes)
        xavier_variance = 2 / sum(self.token_embedding_table.embedding.weight.shape)
        self.cohort_attention = CohortAttention(
            self.embedding_size,
            config["intent_width"],
            num_heads=config["attention_heads"],
            dropout=config["dropout_prob"],
            variant=config["intent_extraction"],
            residual=config["cohort_residual"],
            eps=self.cohort_table.epsilon(xavier_variance),
            by_level=config["cohort_fusion"] == "concat",
            scale=config["cohort_scale"],
        )

    def _build_prediction(self, config: ConfigLike) -> None:
        """The scaled inputs and the MLP of Eq. 10."""
        num_levels = self.codes.shape[1]
        vectors = num_levels - 1 if config["cohort_fusion"] == "concat" else 1
        long_size = config["intent_width"] if self.use_long_term else 0
        short_size = self.embedding_size * vectors if self.use_short_term else 0
        candidate_size = num_levels if self.candidate_log_probs else 0
        fields_size = self.num_feature_field * self.embedding_size
        # Transformer states have a standard deviation of 1, and initial field embeddings one of
        # 1/40: without a scale the intents would dominate the first layer. The scale is not
        # learned, as a few steps of Adam could change the sign of a small one.
        self.intent_scale = config["intent_scale"]
        self.scale_long_term, self.scale_short_term = (
            IntentScale(size, self.intent_scale, bool(size) and config["intent_norm"])
            for size in (long_size, short_size)
        )
        self.mlp = MLPLayers(
            [long_size + short_size + candidate_size + fields_size, *config["mlp_hidden_size"]],
            config["dropout_prob"],
        )
        self.predict_layer = nn.Linear(config["mlp_hidden_size"][-1], 1)
        for own in (
            self.token_embedding_table,
            self.mlp,
            self.predict_layer,
            *self._other_embedding_tables(),
        ):
            own.apply(xavier_normal_initialization)

    @classmethod
    def check_settings(cls, config: ConfigLike) -> None:
        settings.check_settings(config)

    @classmethod
    def switched_off(cls, config: ConfigLike) -> dict[str, str]:
        return settings.switched_off(config)

    @classmethod
    def segment_clicks(cls, config: ConfigLike) -> int:
        return settings.segment_clicks(config)

    def _other_embedding_tables(self) -> list[nn.Module]:
        names = ("float_embedding_table", "token_seq_embedding_table", "float_seq_embedding_table")
        return [getattr(self, name) for name in names if hasattr(self, name)]

    # ------------------------------------------------------------------ Eq. 4 - 10

    def forward(self, interaction: Interaction) -> torch.Tensor:
        """Click logits ``[B]``."""
        return self.click_logits(self.prediction_inputs(interaction).inputs)

    def click_logits(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Logits ``[B]`` of ``Prediction.inputs`` (Eq. 10)."""
        joined = torch.cat(list(inputs.values()), dim=-1)
        # In prediction a part at a time, whose layers stay in the processor's cache: 1.3 times as
        # fast for the 10,000 rows of one ranked user.
        in_parts = on_cpu(joined) and not (torch.is_grad_enabled() or is_static())
        rows = joined.split(_MLP_ROWS) if in_parts else [joined]
        logits = [self.predict_layer(self.mlp(some)) for some in rows]
        return (logits[0] if len(logits) == 1 else torch.cat(logits)).squeeze(-1)

    def prediction_inputs(self, interaction: Interaction, encode: bool = False) -> Prediction:
        """Make the vectors that Eq. 10 concatenates.

        Args:
            encode: encode histories even if no input reads them.
        """
        encoded = history_index = beams = None
        if self.intent is not None and (self.reads_generator or encode):
            encoded, history_index = self.encode_histories(interaction)  # Eq. 4
        inputs = {}
        if self.use_long_term:
            assert encoded is not None
            inputs["long_term"] = self.scale_long_term(encoded.last[history_index])  # Eq. 5: H_LTI
        if self.use_short_term:
            assert encoded is not None and history_index is not None
            beams = self.generate_beams(encoded)  # Eq. 6
            refined = self.short_term_intent(interaction, encoded, history_index, beams)
            inputs["short_term"] = self.scale_short_term(refined)  # Eq. 7 - 9: H_STI
        if self.candidate_log_probs:
            assert self.intent is not None and encoded is not None and history_index is not None
            joint = self.candidate_log_probs == "joint"
            codes = self.codes[interaction[self.item_field]]
            log_probs = candidate_log_probs(self.intent, encoded, history_index, codes, joint=joint)
            inputs["candidate"] = log_probs * self.intent_scale
        fields = self.concat_embed_input_fields(interaction)  # [B, F, d]: E_u, E_v, the context
        inputs["fields"] = fields.flatten(1)
        return Prediction(inputs, encoded, history_index, beams)

    def encode_histories(self, interaction: Interaction) -> tuple[EncodedHistory, torch.Tensor]:
        """Encode each distinct history of the batch once, or each segment (Eq. 4).

        Returns:
            the U encoded histories and ``history_index`` ``[B]``, which of them each row has.
        """
        assert self.intent is not None
        items = interaction[SEGMENTS]
        codes, shared = self.codes[items], None
        if self.intent.item_projection is not None:
            shared = F.embedding(items, self.item_embeddings())
        # Codes were checked when they were loaded, and lengths are those of the loader.
        encoded = self.intent.encode(codes, interaction[SEGMENT_LENGTH], shared, checked=False)
        if self.intent.causal:
            encoded = self.intent.prefixes(
                encoded, interaction[HISTORY_SEGMENT], interaction[HISTORY_LENGTH]
            )
        return encoded, interaction[HISTORY_INDEX]

    def generate_beams(self, encoded: EncodedHistory) -> Beams:
        """The ``num_beams`` most probable semantic IDs of each history, codes ``[U, k, N]`` (Eq.
        6).

        Generation is free-running in training too, as teacher-forced codes would leak the row's own
        item.
        """
        parts = list(self._search(encoded, self.num_beams))
        return parts[0] if len(parts) == 1 else Beams(*map(torch.cat, zip(*parts, strict=True)))

    def _search(self, encoded: EncodedHistory, num_beams: int) -> Iterator[Beams]:
        """The beams of ``encoded``, of as many histories at a time as ``MAX_BEAM_CELLS`` allows."""
        assert self.intent is not None and self.trie is not None
        if is_static():  # the number of histories would decide about the number of parts
            yield generate(self.intent, encoded, self.trie, num_beams)
            return
        chunk = max(1, MAX_BEAM_CELLS // (num_beams * max(self.intent.level_sizes)))
        histories = torch.arange(len(encoded.mask), device=encoded.mask.device)
        for part in histories.split(chunk):
            some = encoded if len(part) == len(histories) else encoded.rows(part)
            yield generate(self.intent, some, self.trie, num_beams)

    def short_term_intent(
        self,
        interaction: Interaction,
        encoded: EncodedHistory,
        history_index: torch.Tensor,
        beams: Beams,
    ) -> torch.Tensor:
        """H_STI ``[B, d]``, or ``[B, (N-1) d]`` with ``cohort_fusion: concat``: look up the cohorts
        of the generated semantic IDs, and attend (Eq. 7 - 9).
        """
        assert self.cohort_table is not None and self.cohort_attention is not None
        items = self.item_embeddings()
        if not self.cohort_gradient:
            items = items.detach()
        codes = beams.codes
        if self.item_prefixes is not None:
            codes = self.item_prefixes[beams.items + 1]  # item 0, of an invalid beam, has -1
        cohorts = self.cohort_table.of_codes(items, codes)  # Eq. 7: E_C [U, k, N-1, d]
        return self.cohort_attention(
            cohorts,
            beams.log_probs,
            beams.valid,
            encoded.memory(),
            items[interaction[self.item_field]],
            history_index,
        )  # Eq. 8, 9

    def item_embeddings(self) -> torch.Tensor:
        """ID embeddings of all items ``[num_items, d]``, a slice of RecBole's one table for all
        token fields.
        """
        return self.token_embedding_table.embedding.weight[self.item_rows]

    # ------------------------------------------------------------------ Eq. 1, 2, 11, 12

    def calculate_loss(self, interaction: Interaction) -> tuple[torch.Tensor, ...]:
        """The parts of Eq. 12, whose sum RecBole's trainer minimises.

        Returns:
            L_CTR (Eq. 1), mu * L_NTP (Eq. 2), eta * L_SR (Eq. 11), and the base model's own loss,
            which shares no weight with the rest; 0 where a part is switched off.
        """
        label = interaction[self.LABEL]
        seen = self.prediction_inputs(interaction, encode=self.mu > 0)
        logits = self.click_logits(seen.inputs)
        ctr = F.binary_cross_entropy_with_logits(logits, label)
        ntp = regularisation = base = torch.zeros_like(ctr)
        if self.mu > 0:
            assert seen.encoded is not None and seen.history_index is not None
            codes = self.codes[interaction[self.item_field]]
            ntp = self._next_item_loss(seen.encoded, seen.history_index, codes, label)
        if self.eta > 0:
            regularisation, base = self.self_supervised_regularisation(interaction, logits, label)
        return ctr, self.mu * ntp, self.eta * regularisation, base

    def _next_item_loss(
        self,
        encoded: EncodedHistory,
        history_index: torch.Tensor,
        codes: torch.Tensor,
        label: torch.Tensor,
    ) -> torch.Tensor:
        """Eq. 2 over the clicked rows of ``[B]``, mean over levels.

        On a GPU all rows are decoded, since counting the clicked ones would wait for it.
        """
        assert self.intent is not None
        clicked = label == 1
        if on_cpu(codes):
            return self.intent.ntp_loss(encoded, history_index[clicked], codes[clicked]).mean()
        losses = self.intent.ntp_loss(encoded, history_index, codes, reduction="none").mean(1)
        return (losses * clicked).sum() / clicked.sum().clamp(min=1)

    def self_supervised_regularisation(
        self, interaction: Interaction, logits: torch.Tensor, label: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pull the model's logits ``[B]`` towards those of the teacher on the raw fields (Eq. 11).

        Returns:
            L_SR, and the teacher's own loss (0 when it was pretrained).
        """
        assert self.teacher is not None
        if self.teacher_is_pretrained:
            self.teacher.eval()
            with torch.no_grad():
                teacher_logits = self.teacher(interaction)
            base = torch.zeros_like(teacher_logits).mean()
        else:
            teacher_logits = self.teacher(interaction)
            base = F.binary_cross_entropy_with_logits(teacher_logits, label)
            teacher_logits = teacher_logits.detach()
        if self.sr_loss == "mse":
            return F.mse_loss(logits, teacher_logits), base
        return F.binary_cross_entropy_with_logits(logits, torch.sigmoid(teacher_logits)), base

    def take_over(self, trained: Self, weights: dict[str, torch.Tensor]) -> None:
        """A code that no item had gets the mean embedding of its level's codes.

        As an output, that is the mean of the level's scores.
        """
        if self.cohort_attention is not None:
            assert trained.cohort_attention is not None
            self.cohort_attention.eps = trained.cohort_attention.eps  # of the training's cohorts
        name = "intent.token_embedding.weight"
        if self.intent is not None and name not in weights:
            assert trained.intent is not None
            weights[name] = trained.intent.embeddings_for(self.intent.level_sizes)

    def precompute(self) -> None:
        """The means of all cohorts (Eq. 7)."""
        if self.cohort_table is not None:
            self.cohort_table.precompute(self.item_embeddings())

    def freeze_teacher(self) -> None:
        """Stop training the base model of Eq. 11, once it has been pretrained."""
        assert self.teacher is not None
        self.teacher.requires_grad_(False)

    # ------------------------------------------------------------------ the generator by itself

    @torch.no_grad()
    def generate_items(
        self, interaction: Interaction, num_beams: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The items that the generator expects next (Eq. 6), independent of the rows' own items.

        Args:
            num_beams: width of the search and of the result; from ``num_items - 1`` on the ranking
                is exact.
        Returns:
            item ids ``[B, num_beams]``, most probable first, filled up with 0, and their
            log-probabilities, -inf for 0.
        Raises:
            ValueError: the generator is neither trained nor read (``mu: 0`` and
                ``use_short_term: False``).
        """
        if self.trie is None:
            raise ValueError(
                "mu: with mu: 0 and use_short_term: False this model has no generator to recall "
                "items by."
            )
        encoded, history_index = self.encode_histories(interaction)
        # The codes are dropped: in a search as wide as the catalogue they need most of the memory.
        found, log_probs = zip(
            *((beams.items, beams.log_probs) for beams in self._search(encoded, num_beams)),
            strict=True,
        )
        items = torch.cat(found) + 1  # the trie's row 0 is item 1
        return items[history_index], torch.cat(log_probs)[history_index]

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Log-probability of every item's whole semantic ID given each row's history ``[B,
        num_items]``.

        The scores are exact: nothing is pruned, and every prefix of the corpus is decoded once per
        distinct history. The probabilities of a row sum to 1 over the corpus; padding, item 0, has
        -inf.
        """
        items, log_probs = self.generate_items(interaction, self.num_items - 1)
        scores = log_probs.new_full((len(items), self.num_items), -torch.inf)
        return scores.scatter_(1, items, log_probs)

    @torch.no_grad()
    def observe_generator(self, interaction: Interaction) -> dict[str, torch.Tensor] | None:
        """The columns that the contract documents, ``ntp_loss`` by Eq. 2 and the teacher's by Eq.
        11; None with the generator switched off.
        """
        if self.intent is None or self.trie is None:
            return None
        inputs, encoded, history_index, beams = self.prediction_inputs(interaction)
        if encoded is None or history_index is None:
            encoded, history_index = self.encode_histories(interaction)
        if beams is None:
            beams = self.generate_beams(encoded)
        clicked = interaction[self.LABEL] == 1
        codes = self.codes[interaction[self.item_field]]
        seen = {
            "label": interaction[self.LABEL],
            "probability": torch.sigmoid(self.click_logits(inputs)),
            "item": interaction[self.item_field],
            "codes": codes,
            "beam_items": (beams.items + 1)[history_index],
            "beam_codes": beams.codes[history_index],
            "ntp_loss": self.intent.ntp_loss(
                encoded, history_index[clicked], codes[clicked], reduction="none"
            ),
        }
        if self.teacher is not None:
            seen["teacher_probability"] = torch.sigmoid(self.teacher(interaction))
        return seen

    @torch.no_grad()
    def first_layer_shares(
        self, interaction: Interaction, item_fields: Collection[str]
    ) -> dict[str, torch.Tensor]:
        """What each input of Eq. 10 adds to the prediction MLP's first layer: the blocks of ``W
        [H_LTI; H_STI; E_u; E_v]``.

        Args:
            item_fields: names of the target item's fields, whose embeddings are E_v; names that are
                no feature are ignored.

        Returns:
            dict of ``[B, h]``, h the width of the layer: ``long_term`` and ``short_term``, where
            the model reads them, ``item`` (E_v) and ``rest`` (E_u, the context, and the
            candidate's log-probabilities). Their sum and the layer's bias are its output, dropout
            apart.
        """
        inputs = self.prediction_inputs(interaction).inputs
        layer = next(module for module in self.mlp.mlp_layers if isinstance(module, nn.Linear))
        weights = dict(
            zip(inputs, layer.weight.split([part.shape[1] for part in inputs.values()], dim=1))
        )
        # The order of concat_embed_input_fields (abstract_recommender.py:534, 609, 581).
        names = (
            self.token_seq_field_names
            + self.token_field_names
            + self.float_seq_field_names
            + self.float_field_names
        )
        of_item = torch.tensor([name in item_fields for name in names], device=layer.weight.device)
        of_item = of_item.repeat_interleave(self.embedding_size)
        fields = inputs.pop("fields")
        shares = {name: F.linear(part, weights[name]) for name, part in inputs.items()}
        shares["item"] = F.linear(fields * of_item, weights["fields"])
        shares["rest"] = F.linear(fields * ~of_item, weights["fields"])
        if "candidate" in shares:
            shares["rest"] += shares.pop("candidate")
        return shares
