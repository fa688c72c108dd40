"""A small T5 encoder and decoder: RMSNorm, pre-normalisation, a relative position bias shared by
the layers.

The mathematics is that of ``transformers``' ``T5Stack`` (same parameters under the same short
names, parity tested); the order of the multiplications is chosen for short histories and few heads:

* **The decoder's projections are composed.** ``(x Wq)(y Wk)' = (x Wq Wk') y'``: the composed ``[m,
  m]`` matrix of a head is built once per pass (all steps of a generation share it), keys and values
  are never materialised, heads need no transposition, and a decoder reads a history directly from
  its encoder states however many beams share it. It costs h times the score products, which are few
  there. In the encoder every position reads all others, so it has separate queries, keys and
  values, as in any T5: with 2 heads that is a seventh faster over 200 positions, and equally fast
  over 50.
* **Gains are folded.** The gain of a norm is multiplied into the matrices that read it, not into
  every position.

Shapes: R query rows, U memory rows (R = U·G, row-major), T queries, S keys, h heads, m width.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_genci.model.genci.memory import Memory
from recbole_genci.model.genci.numerics import dropout, dropout_add, padding_bias, rms_normalize

NUM_BUCKETS = 32
MAX_DISTANCE = 128
# From this number of positions on, fused attention predicts faster than matrix products. (It has no
# gradient of the bias, so it cannot train.)
LONG = 128
FIRST_POSITIONS = 512  # whose distances are put into buckets beforehand


def relative_position_bucket(relative_position: Tensor, *, bidirectional: bool) -> Tensor:
    """Bucket numbers (int64, same shape) of key position minus query position, as in T5.

    Half of the buckets are exact, the other half grows logarithmically up to ``MAX_DISTANCE``.
    ``bidirectional`` spends half of all buckets on keys after the query; otherwise those keys fall
    into bucket 0 (a causal mask hides them).
    """
    buckets, offset = NUM_BUCKETS, torch.zeros_like(relative_position)
    if bidirectional:
        buckets //= 2
        offset = (relative_position > 0).long() * buckets
        distance = relative_position.abs()
    else:
        distance = (-relative_position).clamp(min=0)
    exact = buckets // 2
    log_ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(MAX_DISTANCE / exact)
    far = (exact + (log_ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, far)


class Gain(nn.Module):
    """The learned ``weight [m]`` of an RMSNorm, which readers fold into their own matrices."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class _Projections(nn.Module):
    """The four matrices of an attention without bias terms.

    Raises:
        ValueError: ``num_heads`` does not divide ``width``.
    """

    def __init__(self, width: int, num_heads: int, p: float):
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise ValueError(
                f"num_heads must divide width, got num_heads={num_heads} and width={width}"
            )
        self.num_heads, self.p = num_heads, p
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))

    def reset_parameters(self) -> None:
        """Xavier; the query is scaled by 1/sqrt(d_k) because T5 attention itself is not.

        Plain Xavier would start with scores of standard deviation sqrt(d_k), a saturated softmax.
        """
        for linear in (self.q, self.k, self.v, self.o):
            nn.init.xavier_uniform_(linear.weight)
        with torch.no_grad():
            self.q.weight.div_(math.sqrt(self.q.weight.shape[0] // self.num_heads))


class Attention(_Projections):
    """Multi-head T5 attention, no bias terms and no 1/sqrt(d_k), by composed projections (see the
    module docstring).
    """

    def compose(self, query_gain: Tensor, memory_gain: Tensor | None) -> tuple[Tensor, Tensor]:
        """Per-head ``gain Wq Wk' gain [h*m, m]`` and ``gain Wv Wo [m, h*m]``, both in ``F.linear``
        layout.

        The gains ``[m]`` are those of the norms before query and memory; None where the memory has
        its own already.
        """
        h, m = self.num_heads, self.q.weight.shape[1]
        q, k, v = (linear.weight.view(h, m // h, m) for linear in (self.q, self.k, self.v))
        score = torch.bmm(k.transpose(1, 2), q * query_gain)  # [h, m (memory), m (query)]
        value = torch.bmm(
            self.o.weight.view(m, h, m // h).transpose(0, 1), v
        )  # [h, m (output), m (memory)]
        if memory_gain is not None:
            score, value = score * memory_gain[:, None], value * memory_gain
        return score.reshape(h * m, m), value.transpose(0, 1).reshape(m, h * m)

    def forward(self, query: Tensor, memory: Memory, matrices: tuple[Tensor, Tensor]) -> Tensor:
        """Attend from ``query [R, T, m]`` to a memory with U readers, R = U*G; ``[R, T, m]``.

        The memory's bias is added to the scores ``[U, G*T*h, S]``, whose rows run (beam, position,
        head). ``matrices`` are those of :meth:`compose`.
        """
        (rows, _, m), h = query.shape, self.num_heads
        score, value = matrices
        seeking = F.linear(query, score).view(memory.readers, -1, m)  # [U, G*T*h, m]
        context = memory.read(seeking, self.p, self.training)
        return F.linear(context.view(rows, -1, h * m), value)


class SelfAttention(_Projections):
    """The same attention of all positions to all positions, with queries, keys and values of each
    head.
    """

    def forward(self, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        """``x [U, S, m]`` to ``[U, S, m]``; ``gain [m]`` is that of the norm before it, ``bias [1
        or U, h, S, S]``.
        """
        query, key, value = (
            self._heads(x, linear.weight * gain) for linear in (self.q, self.k, self.v)
        )
        if not self.training and x.shape[1] >= LONG:
            context = F.scaled_dot_product_attention(
                query, key, value, bias.expand(x.shape[0], -1, -1, -1), scale=1.0
            )
        else:
            weights = torch.matmul(query, key.transpose(2, 3)).add_(bias).softmax(-1)
            context = torch.matmul(dropout(weights, self.p, self.training), value)
        return self.o(context.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor, weight: Tensor) -> Tensor:
        return (
            F.linear(x, weight).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        )  # [U, h, S, m / h]


class FeedForward(nn.Module):
    """``Wo dropout(relu(Wi x))``, with the gain of the preceding norm folded into ``Wi``."""

    def __init__(self, width: int, hidden: int, p: float):
        super().__init__()
        self.wi, self.wo, self.p = (
            nn.Linear(width, hidden, bias=False),
            nn.Linear(hidden, width, bias=False),
            p,
        )

    def reset_parameters(self) -> None:
        """Xavier."""
        nn.init.xavier_uniform_(self.wi.weight)
        nn.init.xavier_uniform_(self.wo.weight)

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        """``[..., m] -> [..., m]``."""
        hidden = F.linear(x, self.wi.weight * gain).relu_()
        return self.wo(dropout(hidden, self.p, self.training))


class RelativePositionBias(nn.Module):
    """Learned bias of a head for the bucketed distance between two positions.

    Buckets are computed once, for more positions when a longer sequence comes: all of a large
    ``max_length`` would take its square in memory.
    """

    buckets: Tensor

    def __init__(self, num_heads: int, max_length: int, *, bidirectional: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(NUM_BUCKETS, num_heads))
        self.max_length, self.bidirectional = max_length, bidirectional
        buckets = self._buckets(min(max_length, FIRST_POSITIONS))
        self.register_buffer("buckets", buckets, persistent=False)

    def _buckets(self, length: int) -> Tensor:
        position = torch.arange(length)  # on the CPU: another device may round a logarithm up
        return relative_position_bucket(
            position[None, :] - position[:, None], bidirectional=self.bidirectional
        )

    def reset_parameters(self) -> None:
        """Xavier."""
        nn.init.xavier_uniform_(self.weight)

    def forward(self, start: int, stop: int) -> Tensor:
        """Bias ``[stop - start, stop, h]`` of the queries at positions start..stop-1 for the keys
        0..stop-1.
        """
        if stop > len(self.buckets):
            length = max(stop, min(2 * stop, self.max_length))
            self.buckets = self._buckets(length).to(self.buckets.device)
        return F.embedding(self.buckets[start:stop, :stop], self.weight)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, width: int, num_heads: int, feed_forward_size: int, p: float):
        super().__init__()
        self.attention_norm, self.attention = Gain(width), SelfAttention(width, num_heads, p)
        self.feed_forward_norm, self.feed_forward = (
            Gain(width),
            FeedForward(width, feed_forward_size, p),
        )
        self.p = p

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``x [U, S, m]``, ``bias [1 or U, h, S, S]``; returns ``[U, S, m]``."""
        update = self.attention(rms_normalize(x), self.attention_norm.weight, bias)
        x = dropout_add(x, update, self.p, self.training)
        update = self.feed_forward(rms_normalize(x), self.feed_forward_norm.weight)
        return dropout_add(x, update, self.p, self.training)


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to the encoded history, and feed-forward."""

    def __init__(self, width: int, num_heads: int, feed_forward_size: int, p: float):
        super().__init__()
        self.attention_norm, self.attention = Gain(width), Attention(width, num_heads, p)
        self.cross_norm, self.cross = Gain(width), Attention(width, num_heads, p)
        self.feed_forward_norm, self.feed_forward = (
            Gain(width),
            FeedForward(width, feed_forward_size, p),
        )
        self.p = p

    def compose(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The matrices of self-attention and of cross-attention (:meth:`Attention.compose`)."""
        gain = self.attention_norm.weight
        return self.attention.compose(gain, gain), self.cross.compose(self.cross_norm.weight, None)

    def forward(
        self,
        x: Tensor,
        bias: Tensor,
        memory: Memory,
        matrices: tuple,
        seen: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """``x [R, T, m]``, ``seen [R, t, m]``, ``matrices`` of :meth:`compose`; ``[R, T, m]`` and
        the new ``seen [R, t + T, m]``.

        ``seen`` holds the normalised inputs of this layer, all that composed attention needs of
        earlier positions.
        """
        normal, (own, cross) = rms_normalize(x), matrices
        seen = normal if seen is None else torch.cat([seen, normal], 1)
        update = self.attention(normal, Memory(seen, bias), own)
        x = dropout_add(x, update, self.p, self.training)
        update = self.cross(rms_normalize(x), memory, cross)
        x = dropout_add(x, update, self.p, self.training)
        update = self.feed_forward(rms_normalize(x), self.feed_forward_norm.weight)
        return dropout_add(x, update, self.p, self.training), seen


class _Stack(nn.Module):
    """What encoder and decoder share: the layers, one position bias, and the closing norm."""

    layers: Any  # ModuleList: torch knows its elements as Module alone

    def __init__(
        self,
        layer: type,
        width: int,
        num_layers: int,
        num_heads: int,
        feed_forward_size: int,
        p: float,
        max_length: int,
        bidirectional: bool,
    ) -> None:
        super().__init__()
        self.position_bias = RelativePositionBias(
            num_heads, max_length, bidirectional=bidirectional
        )
        self.layers = nn.ModuleList(
            layer(width, num_heads, feed_forward_size, p) for _ in range(num_layers)
        )
        self.final_norm, self.p = Gain(width), p
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier everywhere (the paper), gains at one, queries scaled (see :class:`Attention`)."""
        for module in self.modules():
            if isinstance(module, (_Projections, FeedForward, RelativePositionBias)):
                module.reset_parameters()
            elif isinstance(module, Gain):
                nn.init.ones_(module.weight)

    def _close(self, x: Tensor) -> Tensor:
        return dropout(rms_normalize(x) * self.final_norm.weight, self.p, self.training)


class T5Encoder(_Stack):
    """The stack that reads histories (Eq. 4).

    Args:
        bidirectional: whether a position reads all others, as in T5; else only itself and earlier
            ones, so that what follows changes no state.
    """

    def __init__(
        self,
        width: int,
        num_layers: int,
        num_heads: int,
        feed_forward_size: int,
        p: float,
        max_length: int,
        bidirectional: bool = True,
    ) -> None:
        super().__init__(
            EncoderLayer,
            width,
            num_layers,
            num_heads,
            feed_forward_size,
            p,
            max_length,
            bidirectional,
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Final hidden states ``[U, S, m]`` of embeddings ``x [U, S, m]``; ``mask [U, S]`` is True
        at real positions.

        ``mask=None`` says that every position is real, which saves a pass over the scores.
        """
        bias = (
            self.position_bias(0, x.shape[1]).permute(2, 0, 1).contiguous().unsqueeze(0)
        )  # [1, h, S, S]
        if not self.position_bias.bidirectional:
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
            bias = bias.masked_fill(later, torch.finfo(x.dtype).min)
        if mask is not None:
            bias = bias + padding_bias(mask, x.dtype).unsqueeze(
                1
            )  # [U, h, S, S], built once and shared by the layers
        x = dropout(x, self.p, self.training)
        for layer in self.layers:
            x = layer(x, bias)
        return self._close(x)


class Past(NamedTuple):
    """What a decoder's call leaves for the positions that follow."""

    # per layer [R, t, m], its normalised inputs at the t earlier positions; None before the first
    seen: list[Tensor | None]
    matrices: list[tuple]  # per layer, composed

    def of_rows(self, rows: Tensor) -> Past:
        """The past with rows ``rows [R']`` of each layer's inputs: the beams that later positions
        extend.
        """
        return self._replace(
            seen=[each if each is None else each.index_select(0, rows) for each in self.seen]
        )


class T5Decoder(_Stack):
    """Causal stack with cross-attention (Eq. 6)."""

    def __init__(
        self,
        width: int,
        num_layers: int,
        num_heads: int,
        feed_forward_size: int,
        p: float,
        max_length: int,
    ) -> None:
        super().__init__(
            DecoderLayer, width, num_layers, num_heads, feed_forward_size, p, max_length, False
        )

    def forward(self, x: Tensor, memory: Memory, past: Past | None = None) -> tuple[Tensor, Past]:
        """Decode ``x [R, T, m]`` against a memory with U readers: rows u*G..u*G+G-1 are reader u.

        Args:
            past: as returned for the t earlier positions, of the same parameters; None at the first
                one.
        Returns:
            Final hidden states ``[R, T, m]`` and the past for the next call.
        """
        if past is None:
            composed = [layer.compose() for layer in self.layers]
            past = Past([None] * len(self.layers), composed)
        start = 0 if past.seen[0] is None else past.seen[0].shape[1]
        stop = start + x.shape[1]
        bias = self.position_bias(start, stop).transpose(1, 2).reshape(-1, stop)  # [T*h, t + T]
        if x.shape[1] > 1:
            future = torch.ones(x.shape[1], stop, dtype=torch.bool, device=x.device).triu(start + 1)
            bias = bias.masked_fill(
                future.repeat_interleave(bias.shape[0] // x.shape[1], 0), torch.finfo(x.dtype).min
            )
        x = dropout(x, self.p, self.training)
        new = []
        for layer, matrices, seen in zip(self.layers, past.matrices, past.seen, strict=True):
            x, seen = layer(x, bias, memory, matrices, seen)
            new.append(seen)
        return self._close(x), past._replace(seen=new)
