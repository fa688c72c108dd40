"""Every place of dropout in generator and cohort attention, counted in a training pass."""

import pytest
import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from recbole_genci.model.genci import numerics, t5
from recbole_genci.model.genci.cohort import CohortAttention
from recbole_genci.model.genci.memory import Memory

# All sizes differ, so that a shape tells its place.
HISTORIES, POSITIONS, WIDTH, HEADS, HIDDEN, TARGETS = 3, 5, 8, 2, 13, 4


@pytest.fixture
def drawn(monkeypatch):
    """Shapes and probabilities of the dropout masks that a pass draws, in order."""
    calls, draw = [], numerics._keep_scale

    def recorded(x, p):
        calls.append((tuple(x.shape), p))
        return draw(x, p)

    monkeypatch.setattr(numerics, "_keep_scale", recorded)
    return calls


def places_in_transformers(is_decoder, layers, monkeypatch):
    """How often a training pass of transformers' T5 stack calls dropout."""
    config = T5Config(
        vocab_size=8,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=HIDDEN,
        num_layers=layers,
        num_heads=HEADS,
        dropout_rate=0.1,
        is_decoder=is_decoder,
        use_cache=False,
        is_encoder_decoder=False,
    )
    config._attn_implementation = "eager"
    calls, original = [], torch.nn.functional.dropout

    def counted(x, p=0.5, training=True, inplace=False):
        calls.append(p)
        return original(x, p, training, inplace)

    stack = T5Stack(config).train()
    memory = (
        {"encoder_hidden_states": torch.randn(HISTORIES, POSITIONS, WIDTH)} if is_decoder else {}
    )
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "dropout", counted)
        stack(inputs_embeds=torch.randn(HISTORIES, POSITIONS, WIDTH), **memory)
    return len(calls)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_encoder_drops_where_t5_does(layers, drawn, monkeypatch):
    encoder = t5.T5Encoder(WIDTH, layers, HEADS, HIDDEN, 0.1, POSITIONS).train()
    encoder(torch.randn(HISTORIES, POSITIONS, WIDTH))
    stream = (HISTORIES, POSITIONS, WIDTH)
    layer = [
        (HISTORIES, HEADS, POSITIONS, POSITIONS),
        stream,
        (HISTORIES, POSITIONS, HIDDEN),
        stream,
    ]
    assert drawn == [(shape, 0.1) for shape in [stream, *layer * layers, stream]]
    assert len(drawn) == places_in_transformers(False, layers, monkeypatch)


@pytest.mark.parametrize("layers", [1, 3])
def test_the_decoder_drops_where_t5_does(layers, drawn, monkeypatch):
    decoder = t5.T5Decoder(WIDTH, layers, HEADS, HIDDEN, 0.1, TARGETS).train()
    memory = torch.randn(HISTORIES, POSITIONS, WIDTH)
    mask = torch.ones(HISTORIES, POSITIONS, dtype=torch.bool)
    decoder(torch.randn(HISTORIES, TARGETS, WIDTH), Memory.of(memory, mask))
    stream = (HISTORIES, TARGETS, WIDTH)
    rows = TARGETS * HEADS  # position and head share a dimension in composed attention
    layer = [(HISTORIES, rows, TARGETS), stream, (HISTORIES, rows, POSITIONS), stream]
    layer += [(HISTORIES, TARGETS, HIDDEN), stream]
    assert drawn == [(shape, 0.1) for shape in [stream, *layer * layers, stream]]
    assert len(drawn) == places_in_transformers(True, layers, monkeypatch)


@pytest.mark.parametrize("variant", ["hierarchical", "literal", "target", "mean"])
def test_the_cohort_attention_drops_both_its_attention_weights(variant, drawn):
    beams, levels, rows = 2, 3, 7
    model = CohortAttention(WIDTH, HIDDEN, HEADS, 0.3, variant).train()
    model(
        cohorts=torch.randn(HISTORIES, beams, levels, WIDTH),
        beam_log_probs=torch.randn(HISTORIES, beams),
        beam_valid=torch.ones(HISTORIES, beams, dtype=torch.bool),
        history=Memory.of(
            torch.randn(HISTORIES, POSITIONS, HIDDEN),
            torch.ones(HISTORIES, POSITIONS, dtype=torch.bool),
        ),
        target=torch.randn(rows, WIDTH),
        history_index=torch.randint(HISTORIES, (rows,)),
    )
    refine = ((HISTORIES, beams * levels * HEADS, POSITIONS), 0.3)
    extract = ((rows, beams * levels, 1, HEADS), 0.3)  # one group of levels
    expected = {
        "hierarchical": [refine, extract],
        "literal": [refine, extract],
        "target": [extract],
    }
    assert drawn == expected.get(variant, [])


def test_an_evaluation_pass_drops_nothing(drawn):
    encoder = t5.T5Encoder(WIDTH, 2, HEADS, HIDDEN, 0.5, POSITIONS).eval()
    encoder(torch.randn(HISTORIES, POSITIONS, WIDTH))
    assert drawn == []
