"""The generative side of GenCI: a T5 over semantic IDs (Eq. 2, 4, 5).

Symbols: U distinct histories, G sequences that hold them (with ``prefixes``; else G = U), H history
items, S encoder positions, N levels, D decoded levels, K_n codes at level n, m width, d item
embedding size, P target rows. Codes are 0-based int64, -1 is padding. In a history the most recent
item is last; padding follows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_genci.model.genci.codes import outside
from recbole_genci.model.genci.decoding import decoded_levels
from recbole_genci.model.genci.memory import Memory
from recbole_genci.model.genci.t5 import T5Decoder, T5Encoder
from recbole_genci.model.layers.device import on_cpu
from recbole_genci.model.layers.last_state import last_state
from recbole_genci.model.layers.precision import in_float32, widened
from recbole_genci.utils.static import is_static


class EncodedHistory(NamedTuple):
    """Output of :meth:`IntentGenerator.encode`, and of :meth:`IntentGenerator.prefixes`."""

    states: Tensor  # [G, S, m] H_enc, the final hidden states (Eq. 4) of G sequences
    last: Tensor  # [U, m] H_LTI, the state of the last real position (Eq. 5)
    mask: Tensor  # [U, S] bool, True at real positions; every row has at least one
    sequence: Tensor | None = None  # [U] the sequence that begins with history u; None: u

    def rows(self, index: Tensor) -> EncodedHistory:
        """The histories ``[U']`` at ``index``; sequences that histories share stay as they are."""
        own = self.sequence is None
        return EncodedHistory(
            self.states.index_select(0, index) if own else self.states,
            self.last.index_select(0, index),
            self.mask.index_select(0, index),
            None if self.sequence is None else self.sequence.index_select(0, index),
        )

    def memory(self) -> Memory:
        """H_enc as attention reads it."""
        return Memory.of(self.states, self.mask, self.sequence)


class IntentGenerator(nn.Module):
    """Encodes a click history, and predicts the next item's semantic ID code by code.

    Token 0 is padding, code c of level n is token ``1 + offset[n] + c``, and two learned tokens
    follow: the only token of an empty history, and the start of decoding. The output layer is tied
    to the code embeddings, level by level: the next-item loss then trains every code's embedding
    even where histories rarely show it, and no level can spend probability on another level's
    codes. Embeddings are multiplied by sqrt(m) on the way in (as in the original Transformer):
    Xavier makes them so small that the first layer's output would drown the items themselves.

    Args:
        level_sizes: K_n of every level.
        width: m; ``num_heads`` must divide it.
        max_history: H, the longest history accepted.
        history_tokens: ``"code"`` reads the N codes of every item in order (the paper), S <= H*N;
            ``"item"`` reads one position per item, the sum of its N code embeddings, S <= H,
            several times cheaper.
        chunk_positions: on a CPU, histories are sorted by length and encoded in groups, each cut to
            its longest history. A group has as many histories as fit into this number of positions
            if each were as long as the longest of all; 0 encodes all at once. The result is the
            same. With 6,400 the scores of a layer (2 heads) stay near 10 MB for 200 positions;
            larger groups leave the cache.
        causal: whether a position reads itself and earlier ones only, so that the states of a
            history are also those of every history that it begins with (:meth:`prefixes`).
        item_size: d, width of the items' own embeddings, which are read beside their codes; 0 reads
            codes alone, as the paper.
    Raises:
        ValueError: an argument outside its range.
    """

    offsets: Tensor
    sizes: Tensor

    def __init__(
        self,
        level_sizes: Sequence[int],
        *,
        width: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        feed_forward_size: int = 128,
        dropout: float = 0.1,
        max_history: int = 50,
        history_tokens: str = "item",
        chunk_positions: int = 6400,
        causal: bool = False,
        item_size: int = 0,
    ):
        super().__init__()
        sizes = tuple(int(size) for size in level_sizes)
        if not sizes or min(sizes) < 1:
            raise ValueError(
                "level_sizes must name at least one positive codebook size, got "
                f"{list(level_sizes)}"
            )
        counts = {"width": width, "num_layers": num_layers, "feed_forward_size": feed_forward_size}
        for name, value in {**counts, "max_history": max_history}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        if history_tokens not in ("code", "item"):
            raise ValueError(f"history_tokens must be 'code' or 'item', got {history_tokens!r}")
        if chunk_positions < 0:
            raise ValueError(f"chunk_positions must not be negative, got {chunk_positions}")
        self.level_sizes, self.width, self.max_history = sizes, width, max_history
        self.history_tokens, self.causal = history_tokens, causal
        self.chunk_positions = chunk_positions
        starts = [
            1 + sum(sizes[:level]) for level in range(len(sizes) + 1)
        ]  # first token of each level
        self.level_starts, self.empty_token, self.start_token = (
            tuple(starts[:-1]),
            starts[-1],
            starts[-1] + 1,
        )
        self.register_buffer("offsets", torch.tensor(starts[:-1]), persistent=False)
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)
        self.token_embedding = nn.Embedding(starts[-1] + 2, width, padding_idx=0)
        self.item_projection = nn.Linear(item_size, width, bias=False) if item_size else None
        positions = max_history * len(sizes) if history_tokens == "code" else max_history
        shape = (width, num_layers, num_heads, feed_forward_size, dropout)
        self.encoder = T5Encoder(*shape, max_length=positions, bidirectional=not causal)
        self.decoder = T5Decoder(*shape, max_length=len(sizes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for every matrix (see :class:`~recbole_genci.model.genci.t5.Attention` for the
        query's extra scale).
        """
        nn.init.xavier_uniform_(self.token_embedding.weight)
        with torch.no_grad():
            self.token_embedding.weight[0].zero_()
        if self.item_projection is not None:
            nn.init.xavier_uniform_(self.item_projection.weight)
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()

    @torch.no_grad()
    def embeddings_for(self, level_sizes: Sequence[int]) -> Tensor:
        """Token embeddings for levels of more codes: a new code has the mean of its level."""
        weight, parts = self.token_embedding.weight, []
        for start, size, more in zip(self.level_starts, self.level_sizes, level_sizes, strict=True):
            level = weight[start : start + size]
            parts += [level, level.mean(0, keepdim=True).expand(more - size, -1)]
        return torch.cat([weight[:1], *parts, weight[self.empty_token :]])

    def encode(
        self,
        history_codes: Tensor,
        length: Tensor,
        item_vectors: Tensor | None = None,
        *,
        checked: bool = True,
    ) -> EncodedHistory:
        """Encode each distinct history once (Eq. 4 and 5).

        Args:
            history_codes: ``[U, H, N]`` int64; positions from ``length`` on are ignored.
            length: ``[U]`` number of items; 0 reads the learned token of an empty history instead.
            item_vectors: ``[U, H, d]`` embeddings of the items, if the generator reads them.
            checked: whether values are checked, for which a GPU has to be waited for.
        Returns:
            ``states [U, S, m]``, 0 at padding, ``last [U, m]`` and ``mask [U, S]``; S is the length
            of the longest history present (times N for ``code``), at least 1, or unchecked that of
            H.
        Raises:
            ValueError: wrong shape or type, a length outside 0..H, more than ``max_history`` items
                present, or a code outside its level within the length.
        """
        items = self._checked_longest(history_codes, length) if checked else history_codes.shape[1]
        tokens, positions, longest = self._tokens(history_codes, length, items)
        vectors = self._vectors(item_vectors, length, longest)
        rows = tokens.shape[0]
        chunk = max(self.chunk_positions // longest, 1) if self.chunk_positions else rows
        mask = torch.arange(longest, device=tokens.device) < positions.unsqueeze(1)
        if not on_cpu(tokens) or rows <= chunk:
            return EncodedHistory(*self._encode(tokens[:, :longest], positions, vectors), mask)
        ordered, order = positions.sort(stable=True)
        states, last = [], []
        for chosen, several in zip(order.split(chunk), ordered.split(chunk), strict=True):
            width = int(several[-1])
            own = None if vectors is None else vectors[chosen, :width]
            part, end = self._encode(tokens[chosen, :width], several, own)
            states.append(part if width == longest else F.pad(part, (0, 0, 0, longest - width)))
            last.append(end)
        all_states, all_last = torch.cat(states), torch.cat(last)
        # Batches of the dataset come in order, which saves a copy of all states.
        if not bool((ordered == positions).all()):
            back = torch.argsort(order)
            all_states, all_last = all_states[back], all_last[back]
        return EncodedHistory(all_states, all_last, mask)

    def prefixes(self, encoded: EncodedHistory, segment: Tensor, length: Tensor) -> EncodedHistory:
        """The first items of encoded histories.

        Only for a causal encoder: its states of a prefix are those of the prefix encoded by itself.

        Args:
            encoded: G histories, as `encode` returns them.
            segment: ``[U]`` int64, which of them.
            length: ``[U]`` how many of its items; 0 only of one that is empty.
        Returns:
            ``states [G, S, m]`` as they are, ``last [U, m]`` and ``mask [U, S]`` of the U
            beginnings, and ``segment`` as their ``sequence``.
        """
        states = encoded.states
        tokens = len(self.level_sizes) if self.history_tokens == "code" else 1
        positions = (length * tokens).clamp(min=1)
        mask = torch.arange(states.shape[1], device=states.device) < positions.unsqueeze(1)
        return EncodedHistory(states, states[segment, positions - 1], mask, segment)

    def _checked_longest(self, codes: Tensor, length: Tensor) -> int:
        """Check codes and lengths of histories; the length of the longest one."""
        levels = len(self.level_sizes)
        if codes.dim() != 3 or codes.shape[2] != levels or codes.dtype != torch.int64:
            raise ValueError(
                f"history_codes must be int64 [U, H, {levels}], got {codes.dtype} "
                f"{tuple(codes.shape)}"
            )
        if length.shape != codes.shape[:1] or length.is_floating_point():
            raise ValueError(
                f"length must be integer [{codes.shape[0]}], got {length.dtype} "
                f"{tuple(length.shape)}"
            )
        if codes.shape[0] == 0:
            raise ValueError("encode needs at least one history")
        real = torch.arange(codes.shape[1], device=codes.device) < length.unsqueeze(1)
        faulty = (outside(codes, self.sizes) & real).sum()
        shortest, longest, faults = torch.stack(
            [length.min(), length.max(), faulty]
        ).tolist()  # the only wait
        if shortest < 0 or longest > min(codes.shape[1], self.max_history):
            raise ValueError(
                f"lengths must lie in 0..{min(codes.shape[1], self.max_history)}, got "
                f"{shortest}..{longest}"
            )
        if faults:
            raise ValueError(
                f"{faults} history items hold a code outside the level sizes "
                f"{list(self.level_sizes)}"
            )
        return int(longest)

    def _tokens(self, codes: Tensor, length: Tensor, items: int) -> tuple[Tensor, Tensor, int]:
        """Tokens ``[U, S]`` or ``[U, S, N]`` (``item``) of the first ``items`` items, number of
        positions ``[U]``, and S.
        """
        levels = len(self.level_sizes)
        real = torch.arange(codes.shape[1], device=codes.device) < length.unsqueeze(1)
        width = max(items, 1)
        if codes.shape[1] == 0:
            tokens = codes.new_zeros(codes.shape[0], 1, levels)
        else:
            tokens = (codes[:, :width] + self.offsets).masked_fill(~real[:, :width].unsqueeze(2), 0)
        tokens[:, 0, 0] = torch.where(length == 0, self.empty_token, tokens[:, 0, 0])
        if self.history_tokens == "item":
            return tokens, length.clamp(min=1).long(), width
        return tokens.flatten(1), (length * levels).clamp(min=1).long(), max(items * levels, 1)

    def _vectors(self, vectors: Tensor | None, length: Tensor, longest: int) -> Tensor | None:
        """What items' own embeddings add to positions ``[U, S, m]``, 0 at padding."""
        if (vectors is None) != (self.item_projection is None):
            raise ValueError("item_vectors: a generator with an item_size needs them, no other")
        if vectors is None or self.item_projection is None:
            return None
        real = torch.arange(vectors.shape[1], device=vectors.device) < length.unsqueeze(1)
        added = self.item_projection(vectors * real.unsqueeze(2))
        if self.history_tokens == "code":
            added = added.repeat_interleave(len(self.level_sizes), dim=1)
        return added[:, :longest] if added.shape[1] else added.new_zeros(len(added), 1, self.width)

    def _encode(
        self, tokens: Tensor, positions: Tensor, vectors: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """States ``[U, S, m]`` of ``tokens [U, S]`` or ``[U, S, N]``, 0 at padding, and the last
        real one's ``[U, m]``.
        """
        embedded = F.embedding(tokens, self.token_embedding.weight, padding_idx=0)
        if self.history_tokens == "item":
            embedded = embedded.sum(2)
        if vectors is not None:
            embedded = embedded + vectors
        embedded = embedded * math.sqrt(self.width)
        if on_cpu(tokens) and bool(
            (positions == tokens.shape[1]).all()
        ):  # a GPU would have to be waited for
            states = self.encoder(embedded)
        else:
            mask = torch.arange(tokens.shape[1], device=tokens.device) < positions.unsqueeze(1)
            states = self.encoder(embedded, mask).masked_fill(~mask.unsqueeze(2), 0.0)
        return states, last_state(states, positions)

    def ntp_loss(
        self,
        encoded: EncodedHistory,
        history_index: Tensor,
        target_codes: Tensor,
        reduction: str = "mean",
    ) -> Tensor:
        """Next-token loss of each level (Eq. 2), ``[N]``: teacher-forced cross-entropy, mean over
        the P rows.

        Args:
            history_index: ``[P]`` int64, the encoded history that each row reads.
            target_codes: ``[P, N]`` int64 codes of the next item, none of them padding.
            reduction: ``"mean"``, or ``"none"`` for each row's losses ``[P, N]``, whose order is
                then that of the rows.
        Returns:
            Losses ``[N]``; zeros (still attached to the graph) when P = 0.
        Raises:
            ValueError: shapes that do not fit.
            IndexError: a code outside its level.
        """
        self._check_targets(history_index, target_codes)
        levels = range(len(self.level_sizes))
        if not is_static() and len(target_codes) == 0:
            zero = self.token_embedding.weight[0].sum().mul(0)
            return zero.expand(len(levels)) if reduction == "mean" else zero.expand(0, len(levels))
        hidden, codes, order = self._teacher_forced(encoded, history_index, target_codes)
        # A level that is not decoded has one code, so that its score does not matter.
        certain = hidden.new_zeros(codes.shape[0], 1)
        scores = [self.logits(each, n) for n, each in enumerate(hidden.unbind(1))]
        scores += [certain] * (len(levels) - len(scores))
        by_level = [F.cross_entropy(scores[n], codes[:, n], reduction=reduction) for n in levels]
        losses = torch.stack(by_level, -1)
        return (
            losses
            if reduction == "mean" or order is None
            else torch.empty_like(losses).index_copy(0, order, losses)
        )

    def _check_targets(self, history_index: Tensor, codes: Tensor) -> None:
        expected = (*history_index.shape, len(self.level_sizes))
        if history_index.dim() != 1 or codes.shape != expected:
            raise ValueError(
                f"expected history_index [P] and codes [P, {len(self.level_sizes)}], "
                f"got {tuple(history_index.shape)} and {tuple(codes.shape)}"
            )

    def _teacher_forced(
        self, encoded: EncodedHistory, history_index: Tensor, codes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decoder states ``[P, D, m]`` of the D decoded levels, codes ``[P, N]`` and the order both
        are in (None = as given).

        Rows sorted by history read the encoder states in place when every history has as many
        targets; otherwise each row's states are gathered once for the whole stack.
        """
        order = None
        histories = encoded.mask.shape[0]
        if on_cpu(codes) and encoded.sequence is None and len(codes) % histories == 0:
            counts = torch.bincount(history_index, minlength=histories)
            if bool((counts == len(codes) // histories).all()):
                order = torch.argsort(history_index, stable=True)
                codes = codes[order]
        memory = (encoded.rows(history_index) if order is None else encoded).memory()
        read = decoded_levels(self.level_sizes) - 1
        start = codes.new_full((codes.shape[0], 1), self.start_token)
        tokens = torch.cat([start, codes[:, :read] + self.offsets[:read]], 1)
        hidden, _ = self.decoder(self.embed(tokens), memory)
        return hidden, codes, order

    def embed(self, tokens: Tensor) -> Tensor:
        """What the decoder reads of tokens ``[...]``: ``[..., m]``."""
        return F.embedding(tokens, self.token_embedding.weight) * math.sqrt(self.width)

    def logits(self, hidden: Tensor, level: int) -> Tensor:
        """Scores ``[..., K_level]`` of ``hidden [..., m]`` over one level's codes (tied
        embeddings); float32 in mixed precision too, as their differences are log-probabilities.
        """
        start = self.level_starts[level]
        codes = self.token_embedding.weight[start : start + self.level_sizes[level]]
        with in_float32(hidden.device):
            return F.linear(widened(hidden), codes)
