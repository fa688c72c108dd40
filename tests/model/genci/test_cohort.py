"""Eq. 7-9 against plain loops, and the cases a loop would get wrong silently."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references import attend, softmax, unit

from recbole_genci.model.genci.cohort import VARIANTS, CohortAttention, CohortTable
from recbole_genci.model.genci.memory import Memory
from recbole_genci.model.genci.numerics import EPS, rms_normalize

SIZES = [4, 3, 2]  # the last level is the collision digit


def item_codes(rows=12, seed=0):
    source = torch.Generator().manual_seed(seed)
    codes = torch.stack([torch.randint(size, (rows,), generator=source) for size in SIZES], 1)
    codes[codes[:, 0] == 2, 0] = 1  # code 2 of level 1 has no item
    codes[0] = -1
    return codes


def loop_means(embeddings, codes):
    means = []
    for level in range(len(SIZES) - 1):
        for code in range(SIZES[level]):
            members = [embeddings[row] for row in range(len(codes)) if codes[row, level] == code]
            means.append(
                torch.stack(members).mean(0) if members else torch.zeros_like(embeddings[0])
            )
    return torch.stack(means)


@settings(max_examples=25)
@given(st.integers(2, 30), st.integers(0, 1000))
def test_cohort_means_equal_a_loop_over_items_with_gradients(rows, seed):
    codes = item_codes(rows, seed)
    first = torch.randn(rows, 5, dtype=torch.float64, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    table, probe = CohortTable(codes, SIZES), torch.randn(7, 5, dtype=torch.float64)
    means, expected = table(first), loop_means(second, codes)
    torch.testing.assert_close(means, expected)
    (means * probe).sum().backward()
    (expected * probe).sum().backward()
    torch.testing.assert_close(first.grad, second.grad)
    assert (means[2] == 0).all() and (first.grad[0] == 0).all()


def test_cohort_means_pass_gradcheck():
    table = CohortTable(item_codes(), SIZES)
    assert torch.autograd.gradcheck(
        table, (torch.randn(12, 3, dtype=torch.float64, requires_grad=True),)
    )


def test_table_without_items_gives_zero_means():
    table = CohortTable(torch.full((1, 3), -1), SIZES)
    embeddings = torch.randn(1, 5, requires_grad=True)
    means = table(embeddings)
    means.sum().backward()
    assert means.shape == (7, 5) and (means == 0).all() and (embeddings.grad == 0).all()


def test_gather_returns_the_mean_of_each_code_and_zeros_for_no_beam_with_gradients():
    table = CohortTable(item_codes(), SIZES)
    means = torch.randn(7, 5, requires_grad=True)
    codes = torch.tensor([[[3, 0, 1], [-1, -1, -1]], [[0, 2, 0], [0, 1, 1]]])
    gathered = table.gather(means, codes)
    assert gathered.shape == (2, 2, 2, 5)
    assert torch.equal(gathered[0, 0], torch.stack([means[3], means[4]]))
    assert torch.equal(gathered[1, 1], torch.stack([means[0], means[5]]))
    assert (gathered[0, 1] == 0).all()
    gathered.sum().backward()
    assert means.grad[:, 0].tolist() == [2, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "codes",
    [
        [[[3, 0, 1], [-1, -1, -1]], [[0, 1, 0], [3, 0, 1]]],
        [[[2, 0, 0]]],  # code 2 of level 1 has no item
        [[[-1, -1, -1]]],
        [[[code, min(code, 2), 0] for code in range(4)]],  # every cohort
    ],
)
def test_cohorts_of_a_batch_alone_are_those_of_all_cohorts_bit_for_bit(codes, monkeypatch):
    table = CohortTable(item_codes(60), SIZES)
    codes = torch.tensor(codes)
    results = []
    for few_items in (1 << 16, 0):
        monkeypatch.setattr("recbole_genci.model.genci.cohort._FEW_ITEMS", few_items)
        items = torch.randn(60, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
        cohorts = table.of_codes(items, codes)
        (cohorts * torch.linspace(-1, 1, cohorts.numel()).view_as(cohorts)).sum().backward()
        results.append((cohorts, items.grad))
    for everything, needed in zip(*results, strict=True):
        assert torch.equal(everything, needed)


def test_cohorts_that_no_beam_names_are_not_computed(monkeypatch):
    monkeypatch.setattr("recbole_genci.model.genci.cohort._FEW_ITEMS", 0)
    table, codes = CohortTable(item_codes(60), SIZES), torch.tensor([[3, 0, 1], [-1, -1, -1]])
    items = torch.randn(60, 5)
    strangers = ~((table._cohorts == 3) | (table._cohorts == 4)).any(dim=1)
    items[strangers] = torch.nan  # would spread if they were read
    assert bool(strangers.any()) and bool(torch.isfinite(table.of_codes(items, codes)).all())
    monkeypatch.setattr(table, "forward", None)
    table.of_codes(items, codes)


@pytest.mark.parametrize(
    "codes, sizes, message",
    [
        ([[0, 0, 0]], SIZES, "row 0"),
        ([[-1, -1, -1], [4, 0, 0]], SIZES, "1 rows hold codes outside .*first row 1: .4, 0, 0."),
        ([[-1, -1, -1], [0, -1, 0]], SIZES, "row 1"),
        ([[-1, -1, -1]], [4, 3], "N = len"),
        ([[-1]], [4], "N = len"),
    ],
)
def test_faulty_cohort_codes_are_refused(codes, sizes, message):
    with pytest.raises(ValueError, match=message):
        CohortTable(torch.tensor(codes), sizes)


def test_item_table_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"expected item embeddings \[12, d\]"):
        CohortTable(item_codes(), SIZES)(torch.randn(13, 4))


# ---------------------------------------------------------------- Eq. 8 and 9


def batch(rows=3, beams=2, levels=2, d=8, m=6, positions=5, targets=7, dtype=torch.float64):
    torch.manual_seed(0)
    return {
        "cohorts": torch.randn(rows, beams, levels, d, dtype=dtype),
        "beam_log_probs": torch.randn(rows, beams, dtype=dtype).log_softmax(1) - 1,
        "beam_valid": torch.ones(rows, beams, dtype=torch.bool),
        "history_states": torch.randn(rows, positions, m, dtype=dtype),
        "history_mask": torch.arange(positions) < torch.tensor([positions, 1, 3][:rows])[:, None],
        "target": torch.randn(targets, d, dtype=dtype),
        "history_index": torch.randint(rows, (targets,)),
    }


def attended(model, history_states, history_mask, **inputs):
    return model(history=Memory.of(history_states, history_mask), **inputs)


def attention(variant="hierarchical", heads=2, dropout=0.0, d=8, m=6, residual=True, scale=1.0):
    torch.manual_seed(3)
    return CohortAttention(d, m, heads, dropout, variant, residual, scale=scale).double()


def by_definition(model, inputs, heads, residual, scale=1.0):
    normal = lambda vector: scale * unit(vector)  # noqa: E731
    if model.variant == "literal":
        normal = lambda vector: vector  # noqa: E731
    values = {name: value.numpy() for name, value in inputs.items()}
    rows = []
    for target, u in zip(values["target"], values["history_index"], strict=True):
        beams = np.flatnonzero(values["beam_valid"][u])
        history = values["history_states"][u][values["history_mask"][u]]
        refined, extra = [], []
        chance = softmax(values["beam_log_probs"][u][beams])
        for beam, weight in zip(beams, chance, strict=True):
            for cohort in map(normal, values["cohorts"][u, beam]):
                if model.variant in ("hierarchical", "literal"):
                    projections = model.refine_query, model.refine_key, model.refine_value
                    kept = cohort if model.variant == "hierarchical" and residual else 0
                    cohort = attend(cohort, history, projections, heads) + kept
                refined.append(cohort)
                extra.append(np.log(weight))
        if model.variant == "mean":
            rows.append(
                (np.exp(extra)[:, None] * np.array(refined)).sum(0) / values["cohorts"].shape[2]
            )
        else:
            projections = model.target_query, model.target_key, model.target_value
            rows.append(
                attend(normal(target), np.array(refined), projections, heads, np.array(extra))
            )
    return torch.tensor(np.array(rows))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("residual", [True, False])
def test_intent_equals_the_equations_written_out_in_numpy(variant, heads, beams, residual):
    model, inputs = attention(variant, heads, residual=residual), batch(beams=beams)
    if beams > 1:
        inputs["beam_valid"][1, 2] = False
        inputs["beam_log_probs"][1, 2] = -torch.inf
        inputs["cohorts"][1, 2] = 0
    torch.testing.assert_close(
        attended(model, **inputs).detach(), by_definition(model, inputs, heads, residual)
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_cohorts_and_target_are_normalised_to_the_scale(variant):
    model, inputs = attention(variant, scale=0.3), batch(beams=3)
    torch.testing.assert_close(
        attended(model, **inputs).detach(), by_definition(model, inputs, 2, True, 0.3)
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("beams", [1, 3])
def test_by_level_each_levels_cohorts_make_an_intent_of_their_own(variant, beams):
    inputs = batch(beams=beams, levels=3)
    inputs["beam_valid"][1] = False
    torch.manual_seed(3)
    model = CohortAttention(8, 6, 2, 0.0, variant, by_level=True).double()
    one = attention(variant)
    one.load_state_dict(model.state_dict())
    expected = torch.cat(
        [
            attended(one, **inputs | {"cohorts": inputs["cohorts"][:, :, n : n + 1]})
            for n in range(3)
        ],
        1,
    )
    found = attended(model, **inputs)
    torch.testing.assert_close(found, expected)
    assert (found[inputs["history_index"] == 1] == 0).all() and found.std() > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("known", [True, False])
def test_rows_of_one_history_are_read_as_among_others(variant, known):
    """A ranked user's rows alone in a batch take another way to the same intent."""
    model, inputs = attention(variant).eval(), batch(beams=3)
    inputs["beam_valid"][0] = torch.tensor([known, False, known])
    rows = (inputs["history_index"] == 0).nonzero().flatten().repeat(5)
    several = inputs | {name: inputs[name][rows] for name in ("target", "history_index")}
    of_histories = set(inputs) - {"target", "history_index"}
    one = several | {name: inputs[name][:1] for name in of_histories}
    found, expected = (attended(model, **each).detach() for each in (one, several))
    torch.testing.assert_close(found, expected)
    assert (found.std() > 0.01) == known
    # Whoever predicts under autocast.
    model = model.float()
    one, several = (
        {k: v.float() if v.is_floating_point() else v for k, v in each.items()}
        for each in (one, several)
    )
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = (attended(model, **each).detach().float() for each in (one, several))
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02)


def test_small_embeddings_choose_as_well_as_large_ones():
    model, inputs = attention(), batch()
    expected = attended(model, **inputs)
    inputs["cohorts"], inputs["target"] = (
        inputs["cohorts"] / 50,
        inputs["target"] / 50,
    )  # as Xavier draws them
    torch.testing.assert_close(attended(model, **inputs), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("items", [3_000, 80_000, 1_000_000])
def test_fresh_cohorts_of_any_catalogue_are_normalised(items):
    source = torch.Generator().manual_seed(0)
    codes = torch.stack(
        [torch.randint(size, (items,), generator=source) for size in (256, 256, 2)], 1
    )
    codes[0] = -1
    table, variance = CohortTable(codes, [256, 256, 2]), 2 / (items + 16)
    means = table(torch.randn(items, 16, generator=source) * variance**0.5)
    normal = rms_normalize(means, table.epsilon(variance))
    assert 0.93 < normal.square().mean().sqrt() <= 1  # with T5's epsilon 0.27 and 0.02
    assert (
        table.epsilon(1.0) == EPS == 1e-6
    )  # T5's, wherever it is small enough: the published runs


def test_masked_history_positions_never_matter():
    model, inputs = attention(), batch()
    expected = attended(model, **inputs)
    inputs["history_states"] = torch.where(
        inputs["history_mask"].unsqueeze(-1), inputs["history_states"], 1e3
    )
    torch.testing.assert_close(attended(model, **inputs), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_probability_of_a_single_beam_has_no_influence_at_all(variant):
    model, inputs = attention(variant), batch(beams=1)
    expected = attended(model, **inputs)
    inputs["beam_log_probs"] = inputs["beam_log_probs"] - 37.0
    assert torch.equal(attended(model, **inputs), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_invalid_beams_never_matter_and_rows_without_any_give_zero_with_finite_gradients(variant):
    model, inputs = attention(variant), batch(beams=3)
    inputs["beam_valid"][0] = False
    inputs["beam_valid"][1, 1:] = False
    inputs["beam_log_probs"][~inputs["beam_valid"]] = -torch.inf
    inputs["history_index"] = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    inputs["cohorts"].requires_grad_()
    intent = attended(model, **inputs)
    assert (intent[[0, 3]] == 0).all() and (intent[[1, 2]] != 0).any()
    intent.sum().backward()
    grad = inputs["cohorts"].grad
    assert (
        torch.isfinite(grad).all()
        and (grad[~inputs["beam_valid"]] == 0).all()
        and (grad[2] != 0).any()
    )
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    changed = {
        **inputs,
        "cohorts": torch.where(inputs["beam_valid"][..., None, None], inputs["cohorts"], 50.0),
    }
    torch.testing.assert_close(attended(model, **changed), intent)
    alone = {name: inputs[name][1:2, :1] for name in ("cohorts", "beam_log_probs", "beam_valid")}
    alone.update({name: inputs[name][1:2] for name in ("history_states", "history_mask")})
    only = attended(
        model, **alone, target=inputs["target"][[1, 4]], history_index=torch.tensor([0, 0])
    )
    torch.testing.assert_close(only, intent[[1, 4]])


def test_gradient_passes_to_history_cohorts_target_and_every_parameter_but_not_to_the_beams():
    model, inputs = attention(), batch()
    for name in ("cohorts", "history_states", "target", "beam_log_probs"):
        inputs[name].requires_grad_()
    attended(model, **inputs).square().sum().backward()
    for name in ("cohorts", "history_states", "target"):
        assert inputs[name].grad.abs().max() > 0, name
    assert inputs["beam_log_probs"].grad is None
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_variants_own_only_the_parameters_they_use():
    names = {
        variant: {name for name, _ in attention(variant).named_children()} for variant in VARIANTS
    }
    assert names["mean"] == set()
    assert names["target"] == {"target_query", "target_key", "target_value"}
    assert (
        names["hierarchical"]
        == names["literal"]
        == names["target"] | {"refine_query", "refine_key", "refine_value"}
    )


def test_dropout_acts_on_attention_weights_in_training_only():
    model, inputs = attention(dropout=0.5), batch()
    assert not torch.equal(attended(model, **inputs), attended(model, **inputs))
    model.eval()
    assert torch.equal(attended(model, **inputs), attended(model, **inputs))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"variant": "max"}, "variant must be one of"),
        ({"heads": 3}, "num_heads=3"),
        ({"dropout": 1.0}, "dropout"),
        ({"scale": 0.0}, "scale must be above 0"),
        ({"scale": float("inf")}, "scale must be above 0 and finite"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        attention(**options)
