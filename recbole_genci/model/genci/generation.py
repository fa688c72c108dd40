"""Generate the items that a history's owner may click next (Eq. 6).

Symbols: U histories, k beams, k' beams that a step continues, m width, K_n codes at level n.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_genci.model.genci.decoding import Beams, Trie, beam_search, evaluation_mode
from recbole_genci.model.genci.intent import EncodedHistory, IntentGenerator
from recbole_genci.model.genci.t5 import Past
from recbole_genci.model.layers.device import on_cpu

# Each undecided beam reads a copy of its history's states, which pays below this share of them.
MOST_UNDECIDED = 0.75


@torch.no_grad()
def generate(
    generator: IntentGenerator, encoded: EncodedHistory, trie: Trie, num_beams: int
) -> Beams:
    """The ``num_beams`` most probable items of each history, without teacher forcing, gradient or
    dropout.

    Each step decodes one position per beam; the generator's training mode is restored. ``encoded``
    is used as it is: from training mode it carries that pass's dropout.

    Raises:
        ValueError: a trie of other level sizes, or ``num_beams`` < 1.
    """
    if trie.level_sizes != generator.level_sizes:
        raise ValueError(
            f"the trie has level sizes {trie.level_sizes}, the generator {generator.level_sizes}"
        )
    steps = _Steps(generator, encoded)
    with evaluation_mode(generator.decoder):
        return beam_search(
            steps.logits, trie, encoded.mask.shape[0], num_beams, encoded.states.device
        )


class _Steps:
    """The decoder's steps of one search, whose state they keep.

    On a CPU decided beams are left out where they are many. A GPU would have to be waited for, and
    does not gain.
    """

    def __init__(self, generator: IntentGenerator, encoded: EncodedHistory) -> None:
        self.generator, self.encoded, self.memory = generator, encoded, encoded.memory()
        self.past: Past | None = None
        self.width = 1  # k' of the last step
        self.place: Tensor | None = None  # [U * k'] of the last step's beams in `past`; None: all

    def logits(
        self, level: int, prefix: Tensor, parent: Tensor | None, undecided: Tensor
    ) -> Tensor:
        """Scores ``[U, k', K_level]`` as :func:`beam_search` asks for them."""
        model = self.generator
        rows, width = undecided.shape
        if parent is None:
            tokens = prefix.new_full((rows, 1), model.start_token)
        else:
            tokens = prefix[:, :, -1].reshape(-1, 1) + model.offsets[level - 1]
            first = self.width * torch.arange(rows, device=parent.device).unsqueeze(1)
            beam = (parent + first).flatten()  # of the last step, that each beam extends
            self.width = width
            if on_cpu(undecided) and (
                self.place is not None or undecided.sum() < MOST_UNDECIDED * undecided.numel()
            ):
                return self._undecided_logits(level, tokens, beam, undecided)
            assert self.past is not None
            if width > 1 or parent.shape[1] > 1:
                self.past = self.past.of_rows(beam)
        hidden, self.past = model.decoder(model.embed(tokens), self.memory, self.past)
        return model.logits(hidden.view(rows, width, model.width), level)

    def _undecided_logits(
        self, level: int, tokens: Tensor, beam: Tensor, undecided: Tensor
    ) -> Tensor:
        """The same with a step for the undecided beams only; 0 for the others."""
        assert self.past is not None
        model = self.generator
        chosen = undecided.flatten().nonzero().squeeze(1)
        logits = self.encoded.states.new_zeros(undecided.numel(), model.level_sizes[level])
        if len(chosen) == 0:
            return logits.view(*undecided.shape, -1)
        history = chosen // undecided.shape[1]
        source = beam[chosen] if self.place is None else self.place[beam[chosen]]
        hidden, self.past = model.decoder(
            model.embed(tokens[chosen]),
            self.encoded.rows(history).memory(),
            self.past.of_rows(source),
        )
        self.place = torch.empty_like(beam)  # never read where a beam is decided
        self.place[chosen] = torch.arange(len(chosen))
        logits[chosen] = model.logits(hidden.squeeze(1), level)
        return logits.view(*undecided.shape, -1)
