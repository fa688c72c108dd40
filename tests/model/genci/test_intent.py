"""The generator: encoding, next-item loss, scoring and generation agree with each other and with
definitions.
"""

from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from references import score_codes

from recbole_genci.model.genci.decoding import Trie
from recbole_genci.model.genci.generation import generate
from recbole_genci.model.genci.intent import EncodedHistory, IntentGenerator
from recbole_genci.model.genci.memory import Memory

SIZES = [5, 7, 3]


def generator(history_tokens="item", dropout=0.0, **options):
    torch.manual_seed(0)
    options = {"width": 16, "num_heads": 2, "feed_forward_size": 32, "max_history": 12, **options}
    return IntentGenerator(
        options.pop("sizes", SIZES), history_tokens=history_tokens, dropout=dropout, **options
    )


def random_histories(rows, width=12, sizes=SIZES, seed=1):
    source = torch.Generator().manual_seed(seed)
    codes = torch.stack(
        [torch.randint(size, (rows, width), generator=source) for size in sizes], -1
    )
    length = torch.randint(0, width + 1, (rows,), generator=source)
    length[0] = 0
    return codes.masked_fill((torch.arange(width) >= length[:, None]).unsqueeze(-1), -1), length


def random_items(count, sizes=SIZES, seed=2):
    every = torch.cartesian_prod(*(torch.arange(size) for size in sizes))
    return every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:count]]


both = pytest.mark.parametrize("history_tokens", ["item", "code"])


@both
def test_encoding_depends_on_neither_padding_nor_batch_order_nor_batch_size(history_tokens):
    model = generator(history_tokens).eval()
    codes, length = random_histories(9)
    together = model.encode(codes, length)
    assert together.states.shape[:2] == together.mask.shape
    order = torch.randperm(9)
    shuffled = model.encode(codes[order], length[order])
    torch.testing.assert_close(shuffled.states, together.states[order], atol=1e-5, rtol=0)
    junk = torch.where(codes < 0, 99, codes)  # what lies beyond the length is never read
    torch.testing.assert_close(
        model.encode(junk, length).states, together.states, atol=1e-5, rtol=0
    )
    for row in range(9):
        alone = model.encode(codes[row : row + 1, : length[row]], length[row : row + 1])
        positions = alone.states.shape[1]
        step = len(SIZES) if history_tokens == "code" else 1
        assert positions == max(int(length[row]) * step, 1) and bool(alone.mask.all())
        torch.testing.assert_close(
            alone.states[0], together.states[row, :positions], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(alone.last[0], together.last[row], atol=1e-5, rtol=0)
        assert together.mask[row].sum() == positions
        assert (together.states[row, positions:] == 0).all()
        assert torch.equal(together.last[row], together.states[row, positions - 1])


@both
@pytest.mark.parametrize("in_order_of_length", [True, False])
@pytest.mark.parametrize("chunk_positions", [1, 40, 100])
def test_chunked_encoding_equals_unchunked_in_value_and_gradient(
    history_tokens, chunk_positions, in_order_of_length
):
    codes, length = random_histories(10)
    if in_order_of_length:
        order = length.argsort()
        codes, length = codes[order], length[order]
    whole, chunked = (
        generator(history_tokens, chunk_positions=0),
        generator(history_tokens, chunk_positions=chunk_positions),
    )
    results = [model.encode(codes, length) for model in (whole, chunked)]
    torch.testing.assert_close(results[0].states, results[1].states, atol=1e-6, rtol=1e-5)
    assert torch.equal(results[0].mask, results[1].mask)
    probe = torch.randn_like(results[0].states)
    for result in results:
        ((result.states * probe).sum() + result.last.sum()).backward()
    for (name, first), second in zip(
        whole.encoder.named_parameters(), chunked.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(first.grad, second.grad, atol=1e-4, rtol=1e-4, msg=name)


@both
def test_batch_of_empty_histories_reads_only_the_start_token(history_tokens):
    model = generator(history_tokens).eval()
    encoded = model.encode(torch.full((3, 12, 3), -1), torch.zeros(3, dtype=torch.int64))
    assert encoded.states.shape == (3, 1, 16) and bool(encoded.mask.all())
    without_columns = model.encode(
        torch.empty(3, 0, 3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    )
    assert torch.equal(encoded.last, without_columns.last)
    with torch.no_grad():
        model.token_embedding.weight[model.empty_token].normal_()
    assert not torch.allclose(model.encode(*random_histories(2)).last[0], encoded.last[0])


def test_item_mode_reads_the_sum_and_code_mode_the_order_of_the_codes():
    codes = torch.tensor([[[1, 2, 0], [4, 6, 2]]])
    swapped = codes.flip(1)
    for history_tokens in ("item", "code"):
        model = generator(history_tokens).eval()
        length = torch.tensor([2])
        assert model.encode(codes, length).states.shape[1] == (2 if history_tokens == "item" else 6)
        assert not torch.allclose(
            model.encode(codes, length).last, model.encode(swapped, length).last, atol=1e-3
        )
    model = generator("item").eval()
    seen = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.encode(codes, torch.tensor([2]))
    table = model.token_embedding.weight
    expected = 4.0 * (table[1 + 1] + table[1 + 5 + 2] + table[1 + 5 + 7 + 0])  # sqrt(16) = 4
    torch.testing.assert_close(seen[0][0, 0], expected)


@both
def test_items_own_embeddings_are_added_to_each_of_their_positions(history_tokens, monkeypatch):
    model = generator(history_tokens, item_size=4, chunk_positions=40).eval()
    codes, length = random_histories(9)
    vectors = torch.randn(9, 12, 4, generator=torch.Generator().manual_seed(3))
    in_groups = model.encode(codes, length, vectors)
    model.chunk_positions = 0
    at_once = model.encode(codes, length, vectors)
    torch.testing.assert_close(at_once.states, in_groups.states, atol=1e-5, rtol=0)
    monkeypatch.setattr(model.encoder, "forward", lambda embedded, mask=None: embedded)
    states = model.encode(codes, length, vectors).states
    for row, clicks in enumerate(length.tolist()):
        if clicks == 0:
            expected = model.token_embedding.weight[model.empty_token].unsqueeze(0)
        else:
            of_codes = model.token_embedding(codes[row, :clicks] + model.offsets)
            own = model.item_projection(vectors[row, :clicks])
            if history_tokens == "code":
                expected = (of_codes + own.unsqueeze(1)).flatten(0, 1)
            else:
                expected = of_codes.sum(1) + own
        found = states[row, : len(expected)]
        torch.testing.assert_close(found, expected * 4.0, atol=1e-5, rtol=1e-5)  # sqrt(16)
    with pytest.raises(ValueError, match="item_vectors"):
        model.encode(codes, length)


@both
def test_gradient_reaches_every_parameter(history_tokens):
    model = generator(history_tokens, dropout=0.1)
    codes, length = random_histories(64)
    encoded = model.encode(codes, length)
    model.ntp_loss(encoded, torch.arange(64), random_items(64)).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    grad = model.token_embedding.weight.grad
    assert (grad[0] == 0).all() and (grad[1:].abs().amax(1) > 0).all()


def test_ntp_loss_is_the_cross_entropy_of_each_level_by_hand():
    model = generator().eval()
    encoded = model.encode(*random_histories(4))
    index, targets = torch.tensor([2, 0, 2, 3, 1]), random_items(5)
    losses = model.ntp_loss(encoded, index, targets)
    by_hand = torch.zeros(3)
    starts = [1, 1 + 5, 1 + 5 + 7]
    for row, codes in zip(index.tolist(), targets.tolist(), strict=True):
        tokens = [model.start_token] + [starts[level] + codes[level] for level in range(2)]
        embedded = model.token_embedding(torch.tensor([tokens])) * 4.0
        memory, mask = encoded.states[row : row + 1], encoded.mask[row : row + 1]
        for level in range(3):
            # Later codes are not even given.
            hidden, _ = model.decoder(embedded[:, : level + 1], Memory.of(memory, mask))
            table = model.token_embedding.weight[starts[level] : starts[level] + SIZES[level]]
            by_hand[level] -= (hidden[0, -1] @ table.T).log_softmax(0)[codes[level]].detach() / 5
    torch.testing.assert_close(losses, by_hand, atol=1e-5, rtol=1e-5)
    total = score_codes(model, encoded, index, targets)
    torch.testing.assert_close(losses.sum(), -total.mean(), atol=1e-5, rtol=1e-5)


def test_ntp_loss_of_no_rows_is_zero_and_differentiable():
    model = generator()
    encoded = model.encode(*random_histories(2))
    losses = model.ntp_loss(
        encoded, torch.empty(0, dtype=torch.int64), torch.empty(0, 3, dtype=torch.int64)
    )
    assert losses.tolist() == [0.0, 0.0, 0.0]
    losses.mean().backward()
    assert (model.token_embedding.weight.grad == 0).all()


@pytest.mark.parametrize("bad", [[-1, 0, 0], [0, 7, 0], [0, 0, -1]])
def test_targets_outside_their_level_are_refused(bad):
    model = generator()
    encoded = model.encode(*random_histories(2))
    with pytest.raises(IndexError):
        model.ntp_loss(encoded, torch.tensor([0]), torch.tensor([bad]))


def test_equal_target_counts_take_the_shared_path_with_the_same_result():
    model = generator().eval()
    encoded, targets = model.encode(*random_histories(4)), random_items(8)
    index = torch.tensor([3, 1, 0, 2, 2, 0, 3, 1])
    shared = score_codes(model, encoded, index, targets)
    single = torch.stack(
        [score_codes(model, encoded, index[i : i + 1], targets[i : i + 1])[0] for i in range(8)]
    )
    torch.testing.assert_close(shared, single, atol=1e-5, rtol=1e-5)
    a, b = model.ntp_loss(encoded, index, targets), model.ntp_loss(encoded, index[:7], targets[:7])
    last = model.ntp_loss(encoded, index[7:], targets[7:])
    torch.testing.assert_close(a, (7 * b + last) / 8, atol=1e-5, rtol=1e-5)


@both
@pytest.mark.parametrize("sizes, count", [([5, 7, 3], 30), ([6, 3], 18), ([4, 4, 4, 2], 1)])
def test_wide_beam_search_equals_exact_scoring_of_every_item(history_tokens, sizes, count):
    model = generator(history_tokens, sizes=sizes).eval()
    with torch.no_grad():
        model.token_embedding.weight.mul_(4)  # decided preferences
    items, rows = random_items(count, sizes), 6
    trie = Trie(items, sizes)
    encoded = model.encode(*random_histories(rows, sizes=sizes))
    index = torch.arange(rows).repeat_interleave(count)
    exact = score_codes(model, encoded, index, items.repeat(rows, 1), trie).view(rows, count)
    torch.testing.assert_close(exact.detach().exp().sum(1), torch.ones(rows))
    beams = generate(model, encoded, trie, count + 3)
    assert beams.valid.sum(1).tolist() == [count] * rows
    ranked = exact.detach().sort(dim=1, descending=True, stable=True)
    torch.testing.assert_close(beams.log_probs[:, :count], ranked.values, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(
        exact.detach().gather(1, beams.items[:, :count]), ranked.values, atol=1e-4, rtol=1e-5
    )
    assert torch.equal(items[beams.items[:, :count]], beams.codes[:, :count])
    assert (beams.items[:, count:] == -1).all() and (beams.log_probs[:, count:] == -torch.inf).all()
    if len(items) > 1:
        assert beams.log_probs[:, 0].exp().min() > 1.5 / count


def test_one_beam_is_greedy_decoding():
    model = generator().eval()
    items = random_items(40)
    encoded = model.encode(*random_histories(8))
    beams = generate(model, encoded, Trie(items, SIZES), 1)
    rows = [tuple(row) for row in items.tolist()]
    for row in range(8):
        prefix = ()
        for level in range(3):
            allowed = sorted({other[level] for other in rows if other[:level] == prefix})
            full = [
                next(other for other in rows if other[: level + 1] == (*prefix, code))
                for code in allowed
            ]
            tokens = [model.start_token] + [
                int(model.offsets[n]) + code for n, code in enumerate(prefix)
            ]
            memory = encoded.states[row : row + 1], encoded.mask[row : row + 1]
            hidden, _ = model.decoder(
                model.token_embedding(torch.tensor([tokens])) * 4.0, Memory.of(*memory)
            )
            table = model.token_embedding.weight[model.level_starts[level] :]
            best = max(full, key=lambda other: (hidden[0, -1] @ table[other[level]]).item())
            prefix = (*prefix, best[level])
        assert tuple(beams.codes[row, 0].tolist()) == prefix


def test_score_of_codes_outside_the_trie_is_minus_infinity():
    model = generator().eval()
    encoded = model.encode(*random_histories(2))
    trie = Trie(torch.tensor([[0, 0, 0], [1, 1, 1]]), SIZES)
    scores = score_codes(
        model, encoded, torch.tensor([1, 1]), torch.tensor([[0, 0, 1], [1, 1, 1]]), trie
    )
    assert scores[0] == -torch.inf and torch.isfinite(scores[1])
    outside = score_codes(model, encoded, torch.tensor([1]), torch.tensor([[2, 0, 1]]), trie)
    assert outside.tolist() == [-torch.inf]


def test_generation_has_no_gradient_and_no_dropout_and_restores_every_mode():
    model = generator(dropout=0.5)
    codes, length = random_histories(6)
    trie = Trie(random_items(50), SIZES)
    encoded = model.encode(codes, length)
    model.decoder.layers[0].eval()
    modes = [module.training for module in model.modules()]
    first, second = generate(model, encoded, trie, 5), generate(model, encoded, trie, 5)
    assert torch.equal(first.log_probs, second.log_probs) and not first.log_probs.requires_grad
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ValueError, match="num_beams"):
        generate(model, encoded, trie, 0)
    assert [module.training for module in model.modules()] == modes
    encoded.states.sum().backward()  # the shared encoder pass is still differentiable


def test_dropout_is_active_in_training_and_absent_in_evaluation():
    model = generator(dropout=0.3)
    batch = random_histories(5)
    assert not torch.equal(model.encode(*batch).states, model.encode(*batch).states)
    model.eval()
    assert torch.equal(model.encode(*batch).states, model.encode(*batch).states)


@pytest.mark.parametrize("history_tokens", ["item", pytest.param("code", marks=pytest.mark.slow)])
def test_generator_overfits_distinct_targets_to_perfect_greedy_recall(history_tokens):
    sizes = [8, 8, 8, 2]
    model = generator(
        history_tokens, dropout=0.1, sizes=sizes, width=32, feed_forward_size=64, max_history=8
    )
    items = random_items(60, sizes)
    source = torch.Generator().manual_seed(4)
    codes, length = (
        items[torch.randint(60, (32, 6), generator=source)],
        torch.randint(1, 7, (32,), generator=source),
    )
    targets, trie = items[:32], Trie(items, sizes)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model.ntp_loss(model.encode(codes, length), torch.arange(32), targets).mean().backward()
        optimizer.step()
    model.eval()
    encoded = model.encode(codes, length)
    assert model.ntp_loss(encoded, torch.arange(32), targets).mean() < 0.05
    assert generate(model, encoded, trie, 1).items[:, 0].tolist() == list(range(32))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_heads": 3}, "num_heads must divide width"),
        ({"history_tokens": "word"}, "'code' or 'item', got 'word'"),
        ({"sizes": []}, "level_sizes"),
        ({"sizes": [4, 0]}, "level_sizes"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"max_history": 0}, "max_history"),
        ({"chunk_positions": -1}, "chunk_positions"),
    ],
)
def test_impossible_settings_are_refused_with_their_value(options, message):
    with pytest.raises(ValueError, match=message):
        generator(**options)


def test_impossible_batches_are_refused():
    model = generator()
    codes, length = random_histories(4)
    with pytest.raises(ValueError, match="lengths must lie in 0..12, got 0..13"):
        model.encode(codes, torch.tensor([0, 13, 1, 1]))
    with pytest.raises(ValueError, match="history items hold a code outside"):
        model.encode(codes.clamp(min=0) + 5, length)
    with pytest.raises(ValueError, match="history_codes must be int64"):
        model.encode(codes[:, :, :2], length)
    with pytest.raises(ValueError, match="length must be integer .4."):
        model.encode(codes, length[:3])
    encoded = model.encode(codes, length)
    assert isinstance(encoded, EncodedHistory)
    with pytest.raises(ValueError, match="expected history_index"):
        model.ntp_loss(encoded, torch.tensor([0, 1]), torch.tensor([[0, 0, 0]]))
    with pytest.raises(ValueError, match="level sizes"):
        generate(model, encoded, Trie(torch.tensor([[0, 0]])), 1)


def test_initial_loss_is_that_of_a_nearly_uniform_guess():
    model = IntentGenerator([256, 256, 256, 16]).eval()
    torch.manual_seed(0)
    codes = torch.stack([torch.randint(size, (64, 20)) for size in model.level_sizes], -1)
    encoded = model.encode(codes, torch.full((64,), 20))
    losses = model.ntp_loss(encoded, torch.arange(64), codes[:, 0])
    uniform = torch.tensor(model.level_sizes).float().log()
    assert ((losses - uniform).abs() < 0.5).all()
    assert F.cosine_similarity(encoded.last[0], encoded.last[1], dim=0) < 0.9


@pytest.mark.parametrize("sizes", [[9, 5, 3], [6, 5, 4, 1], [5, 1, 7, 1, 1], [8, 4, 1, 3]])
@pytest.mark.parametrize("count", [1, 4, 12, 30])
def test_beams_with_one_item_left_need_no_decoder(monkeypatch, sizes, count):
    model = generator(sizes=sizes).eval()
    with torch.no_grad():
        model.token_embedding.weight.mul_(4)
    trie = Trie(random_items(count, sizes), sizes)
    encoded = model.encode(*random_histories(9, sizes=sizes))
    for num_beams in (1, 3, count + 2):
        monkeypatch.setattr("recbole_genci.model.genci.generation.on_cpu", lambda x: False)
        every = generate(model, encoded, trie, num_beams)
        monkeypatch.setattr("recbole_genci.model.genci.generation.on_cpu", lambda x: True)
        monkeypatch.setattr("recbole_genci.model.genci.generation.MOST_UNDECIDED", 1.0)
        positions = []
        with watched(model.decoder, positions):
            some = generate(model, encoded, trie, num_beams)
        assert torch.equal(every.codes, some.codes) and torch.equal(every.items, some.items)
        assert torch.equal(every.valid, some.valid)
        torch.testing.assert_close(every.log_probs, some.log_probs, atol=1e-5, rtol=1e-5)
        if count == 1:
            assert positions == [9]  # the first step, that all share


@contextmanager
def watched(decoder, positions):
    """Note how many positions each call of the decoder reads."""
    handle = decoder.register_forward_pre_hook(lambda _, given: positions.append(len(given[0])))
    try:
        yield
    finally:
        handle.remove()


def test_last_levels_of_one_code_are_not_decoded_and_lose_nothing():
    model = generator(sizes=[5, 7, 1, 1]).eval()
    encoded, positions = model.encode(*random_histories(4, sizes=[5, 7, 1, 1])), []
    index, targets = torch.tensor([2, 0, 2]), random_items(3, [5, 7, 1, 1])
    start = torch.full((3, 1), model.start_token)
    tokens = torch.cat([start, targets[:, :3] + model.offsets[:3]], 1)
    memory = encoded.states[index], encoded.mask[index]
    hidden, _ = model.decoder(model.embed(tokens), Memory.of(*memory))
    whole = [F.cross_entropy(model.logits(hidden[:, n], n), targets[:, n]) for n in range(4)]
    model.decoder.register_forward_pre_hook(lambda _, given: positions.append(given[0].shape[1]))
    losses = model.ntp_loss(encoded, index, targets)
    assert positions == [2]
    torch.testing.assert_close(losses, torch.stack(whole), atol=1e-6, rtol=1e-6)
    assert losses[2:].tolist() == [0, 0]
    with pytest.raises(IndexError):
        model.ntp_loss(encoded, index[:1], torch.tensor([[0, 0, 0, 1]]))
    positions.clear()
    generate(model, encoded, Trie(random_items(20, [5, 7, 1, 1]), [5, 7, 1, 1]), 3)
    assert positions == [1, 1]
