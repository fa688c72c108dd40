"""Trie and constrained beam search, against Python sets and exhaustive enumeration."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import next_states

from recbole_genci.model.genci.decoding import Trie, beam_search


@st.composite
def catalogues(draw):
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    row = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    rows = draw(st.lists(row, min_size=1, max_size=25, unique=True))
    return sizes, rows


def table_model(sizes, seed):
    """A model that scores every code by an arbitrary function of its prefix, as logits_fn and as a
    plain function.
    """

    def weights(prefix):
        generator = torch.Generator().manual_seed(seed + hash(prefix) % 100003)
        return torch.randn(sizes[len(prefix)], generator=generator)

    def logits_fn(level, prefix, parent, undecided):
        return torch.stack(
            [torch.stack([weights(tuple(beam)) for beam in row.tolist()]) for row in prefix]
        )

    return logits_fn, weights


def exhaustive(sizes, rows, weights):
    """Log-probability of every item by definition."""
    result = {}
    for row in rows:
        total = 0.0
        for level in range(len(sizes)):
            prefix = row[:level]
            allowed = sorted({other[level] for other in rows if other[:level] == prefix})
            scores = weights(prefix)[allowed].double().log_softmax(0)
            total += scores[allowed.index(row[level])].item()
        result[row] = total
    return result


@settings(max_examples=80)
@given(catalogues())
def test_trie_equals_a_set_of_prefixes_and_a_dictionary_of_items(catalogue):
    sizes, rows = catalogue
    trie = Trie(torch.tensor(rows), sizes)
    states = {(): 0}
    for level, size in enumerate(sizes):
        prefixes = sorted({row[:level] for row in rows})
        for prefix in prefixes:
            following = next_states(trie, torch.tensor(states[prefix]), level).tolist()
            assert len(following) == size
            for code, state in enumerate(following):
                assert (state >= 0) == ((*prefix, code) in {row[: level + 1] for row in rows})
                states[(*prefix, code)] = state
        numbers = [states[prefix] for prefix in sorted({row[: level + 1] for row in rows})]
        assert numbers == list(
            range(trie.starts[level + 1], trie.starts[level + 1] + trie.counts[level + 1])
        )
    for prefix, state in states.items():
        if 0 <= state and len(prefix) < len(sizes):
            below = sum(row[: len(prefix)] == prefix for row in rows)
            assert trie.has_one_item[state] == (below == 1)
    leaves = torch.tensor([states[row] for row in rows])
    assert trie.items(leaves).tolist() == list(range(len(rows)))


@settings(max_examples=60)
@given(catalogues(), st.integers(0, 1000), st.integers(0, 8))
def test_wide_beam_equals_exhaustive_ranking_and_sums_to_one(catalogue, seed, extra):
    sizes, rows = catalogue
    logits_fn, weights = table_model(sizes, seed)
    beams = beam_search(logits_fn, Trie(torch.tensor(rows), sizes), 3, len(rows) + extra)
    exact = exhaustive(sizes, rows, weights)
    ranking = sorted(rows, key=lambda row: (-exact[row], row))
    assert beams.codes.shape == (3, len(rows) + extra, len(sizes))
    assert beams.valid.sum(1).tolist() == [len(rows)] * 3
    found = beams.codes[0, : len(rows)].tolist()
    assert [exact[tuple(codes)] for codes in found] == pytest.approx(
        [exact[row] for row in ranking], abs=1e-5
    )
    assert sorted(map(tuple, found)) == sorted(rows)
    assert beams.log_probs[0, : len(rows)].tolist() == pytest.approx(
        [exact[tuple(codes)] for codes in found], abs=1e-5
    )
    assert beams.items[0, : len(rows)].tolist() == [rows.index(tuple(codes)) for codes in found]
    assert beams.log_probs.exp().sum(1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert (beams.codes[:, len(rows) :] == -1).all() and (beams.items[:, len(rows) :] == -1).all()
    assert (beams.log_probs[:, len(rows) :] == -math.inf).all()


@settings(max_examples=40)
@given(catalogues(), st.integers(0, 1000), st.integers(1, 5))
def test_narrow_beam_equals_a_plain_python_beam_search(catalogue, seed, width):
    sizes, rows = catalogue
    logits_fn, weights = table_model(sizes, seed)
    frontier = [((), 0.0)]
    for level in range(len(sizes)):
        grown = []
        for prefix, score in frontier:
            allowed = sorted({row[level] for row in rows if row[:level] == prefix})
            log_probs = weights(prefix)[allowed].double().log_softmax(0).tolist()
            grown += [
                ((*prefix, code), score + gain)
                for code, gain in zip(allowed, log_probs, strict=True)
            ]
        frontier = sorted(grown, key=lambda beam: (-beam[1], beam[0]))[:width]
    beams = beam_search(logits_fn, Trie(torch.tensor(rows), sizes), 1, width)
    assert [tuple(codes) for codes in beams.codes[0][beams.valid[0]].tolist()] == [
        prefix for prefix, _ in frontier
    ]
    assert beams.log_probs[0][beams.valid[0]].tolist() == pytest.approx(
        [score for _, score in frontier], abs=1e-5
    )


def test_equal_scores_are_ordered_by_code_and_rows_do_not_influence_each_other():
    rows = torch.tensor(
        [[2, 1], [0, 1], [2, 0], [0, 0]]
    )  # balanced: every item has probability 1/4

    def flat(level, prefix, parent, undecided):
        return torch.zeros(*prefix.shape[:2], 3)

    beams = beam_search(flat, Trie(rows, [3, 3]), 2, 3)
    assert beams.codes.tolist() == [[[0, 0], [0, 1], [2, 0]]] * 2
    assert beams.items.tolist() == [[3, 1, 2]] * 2


def test_equal_scores_from_unequal_parents_are_still_ordered_by_code():
    rows = torch.tensor([[2, 0], [1, 1], [1, 0], [0, 0]])  # 1/4; 1/2 * 1/2 twice; 1/4

    def logits(level, prefix, parent, undecided):
        return torch.tensor([0.0, math.log(2) if level == 0 else 0.0, 0.0]).expand(
            *prefix.shape[:2], 3
        )

    beams = beam_search(logits, Trie(rows, [3, 3]), 1, 4)
    assert len(set(beams.log_probs[0].tolist())) == 1
    assert beams.codes[0].tolist() == [[0, 0], [1, 0], [1, 1], [2, 0]]


def test_one_item_and_many_beams_gives_one_certain_beam():
    trie = Trie(torch.tensor([[3, 6]]), [7, 7])
    beams = beam_search(lambda level, prefix, *_: torch.randn(*prefix.shape[:2], 7), trie, 2, 5)
    assert beams.codes[:, 0].tolist() == [[3, 6]] * 2
    assert beams.log_probs[:, 0].tolist() == [0.0, 0.0]
    assert beams.valid.tolist() == [[True, False, False, False, False]] * 2


def test_pruned_branch_that_dies_leaves_invalid_beams_not_invented_items():
    rows = torch.tensor([[0, 0], [1, 0], [1, 1], [1, 2]])

    def logits(level, prefix, parent, undecided):
        return torch.tensor([9.0, 0.0, 0.0]).expand(*prefix.shape[:2], 3)

    one_path = beam_search(logits, Trie(rows, [3, 3]), 1, 1)
    assert one_path.codes.tolist() == [[[0, 0]]]
    three = beam_search(logits, Trie(rows[:2], [3, 3]), 1, 3)
    assert three.valid.tolist() == [[True, True, False]]


@pytest.mark.parametrize("value", [float("nan"), -float("nan")])
def test_nan_scores_stay_visible(value):
    trie = Trie(
        torch.tensor([[1, 0], [2, 2]]), [4, 3]
    )  # most codes are not allowed, and their scores are NaN as well
    beams = beam_search(
        lambda level, prefix, *_: torch.full((1, prefix.shape[1], 4 - level), value), trie, 1, 2
    )
    assert beams.log_probs.isnan().all() and beams.valid.all() and beams.items.tolist() == [[0, 1]]


def test_parent_index_names_the_beam_each_prefix_extends():
    torch.manual_seed(0)
    rows, seen = torch.cartesian_prod(*(torch.arange(4) for _ in range(3))), []

    def logits(level, prefix, parent, undecided):
        if parent is not None:
            previous = seen[-1].gather(1, parent.unsqueeze(-1).expand(-1, -1, level - 1))
            assert torch.equal(previous, prefix[:, :, :-1])
        seen.append(prefix)
        return torch.randn(*prefix.shape[:2], 4)

    beam_search(logits, Trie(rows), 5, 3)
    assert [prefix.shape[1] for prefix in seen] == [1, 3, 3]


@pytest.mark.parametrize(
    "codes, sizes, message",
    [
        ([[0, 1], [0, 1]], [2, 2], "repeat another item's codes, e.g. rows .0, 1."),
        ([[0, 1], [0, 2]], [2, 2], "first row 1: .0, 2."),
        ([[0, -1]], [2, 2], "first row 0"),
        ([[0, 1]], [2], "N = len.level_sizes., got .*.1, 2. and level_sizes .2."),
    ],
)
def test_faulty_code_tables_are_refused_by_name(codes, sizes, message):
    with pytest.raises(ValueError, match=message):
        Trie(torch.tensor(codes), sizes)


def test_empty_and_floating_tables_are_refused():
    with pytest.raises(ValueError, match="non-empty int64"):
        Trie(torch.empty(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="non-empty int64"):
        Trie(torch.zeros(1, 3))


def test_wrong_number_of_beams_or_scores_is_refused():
    trie = Trie(torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        beam_search(lambda *_: torch.zeros(1, 1, 2), trie, 1, 0)
    with pytest.raises(ValueError, match="level 0: expected float32"):
        beam_search(lambda *_: torch.zeros(1, 1, 3), trie, 1, 1)


def test_trie_buffers_follow_the_module_and_are_not_saved():
    trie = Trie(torch.tensor([[0, 1], [1, 0]]))
    assert trie.state_dict() == {}
    assert {name for name, _ in trie.named_buffers()} == {
        "leaf_item",
        "has_one_item",
        "first_child",
        "code_of",
    }
