"""GenCI as a whole: Eq. 10-12, the ablation keys, and what must never change a prediction."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import item_codes, make_model, tiny_rows, write_dataset
from recbole.model.context_aware_recommender.deepfm import DeepFM
from references import attend, embedded, linear, perceptron, randomise, score_codes, softmax, unit

import recbole_genci.model.genci.genci
from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.batch_histories import clicked_items
from recbole_genci.model.genci.cohort import VARIANTS as EXTRACTIONS
from recbole_genci.model.genci.cohort import CohortAttention, CohortTable
from recbole_genci.model.genci.genci import GenCI
from recbole_genci.model.genci.generation import generate
from recbole_genci.model.genci.intent import IntentGenerator
from recbole_genci.model.genci.t5 import T5Decoder

VARIANTS = [
    {},
    {"history_tokens": "code"},
    {"history_attention": "causal", "segment_clicks": 1},
    {"history_attention": "causal", "segment_clicks": 2},
    {"history_attention": "causal", "segment_clicks": 4, "history_tokens": "code"},
    {"num_beams": 1},
    *({"intent_extraction": name} for name in ("mean", "target", "literal")),
    {"intent_norm": True, "candidate_log_probs": "joint"},
    {"candidate_log_probs": "detached", "use_short_term": False},
    {"cohort_fusion": "concat", "cohorts": "prefix", "intent_norm": True},
    {"cohort_fusion": "concat", "intent_extraction": "mean"},
    {"share_item_embeddings": True},
    {"cohort_scale": 0.5, "cohorts": "prefix"},
    {"cohort_gradient": False},
    {"share_item_embeddings": True, "history_tokens": "code", "history_attention": "causal"}
    | {"segment_clicks": 2},
    {"candidate_log_probs": "joint", "cohorts": "prefix", "history_attention": "causal"}
    | {"segment_clicks": 2},
]


def lengths_of(batch):
    """Clicks ``[B]`` of each row's history."""
    return batch["history_length"][batch["history_index"]]


@pytest.mark.parametrize("keys", VARIANTS, ids=str)
def test_padding_batch_order_and_batch_size_never_change_a_prediction(tiny_parts, keys):
    parts, base = tiny_parts
    model, (_, _, test) = make_model("GenCI", parts, base | keys)
    rows = np.arange(len(test))
    with torch.no_grad():
        together = model.predict(test[rows])
        order = np.random.default_rng(0).permutation(rows)
        torch.testing.assert_close(model.predict(test[order]), together[order], atol=1e-5, rtol=0)
        alone = torch.cat([model.predict(test[rows[i : i + 1]]) for i in rows])
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
        wider = test[rows]
        wider.interaction["segments"] = F.pad(wider["segments"], (0, 3))
        torch.testing.assert_close(model.predict(wider), together, atol=1e-5, rtol=0)
        # Rows of one history need not be recognised as such, nor segments.
        apart = test[rows]
        index = apart["history_index"]
        segment = apart["history_segment"][index]
        alone = {
            "history_index": torch.arange(len(rows)),
            "history_segment": torch.arange(len(rows)),
            "history_length": apart["history_length"][index],
            "segments": apart["segments"][segment],
            "segment_length": apart["segment_length"][segment],
        }
        apart.interaction.update(alone)
        torch.testing.assert_close(model.predict(apart), together, atol=1e-5, rtol=0)
    assert together.std() > 1e-4


@pytest.mark.parametrize("segment", [1, 3])
def test_equal_histories_are_one_and_the_longer_ones_come_later(tiny_parts, segment):
    parts, base = tiny_parts
    keys = {"history_attention": "causal", "segment_clicks": segment}
    _, views = make_model("GenCI", parts, base | keys)
    _, same = make_model("DIN", parts, base | {"MAX_ITEM_LIST_LENGTH": 5})
    for part, other in zip(views, same, strict=True):
        rows, expected = part[np.arange(len(part))], other[np.arange(len(part))]
        index, length = rows["history_index"], rows["history_length"]
        assert (length.diff() >= 0).all() and (rows["segment_length"].diff() >= 0).all()
        items = clicked_items(rows, "item_id_list")
        whole, clicks = expected["item_id_list"], expected["item_length"]
        read = length[index]
        # The last clicks, as many as the segment has room for.
        assert (read <= clicks).all() and (
            read[clicks < 6 - segment] == clicks[clicks < 6 - segment]
        ).all()
        assert (read >= torch.minimum(clicks, torch.tensor(6 - segment))).all()
        for row in range(len(part)):
            own = whole[row, : clicks[row]].tolist()
            assert items[row, : read[row]].tolist() == own[len(own) - read[row] :]
            assert not items[row, read[row] :].any()
        assert len(index[read == 0].unique()) == int((read == 0).any())  # one for all empty ones
        pairs = {
            (*items[row].tolist(), int(rows["user_id"][row]))
            for row in range(len(part))
            if read[row]
        }
        assert len(index[read > 0].unique()) >= len(pairs) and len(index.unique()) == len(length)
        if segment > 1:
            assert len(rows["segments"]) < len(length)


def test_normalisation_adds_little_to_cohorts_as_they_are_drawn(tiny_parts, monkeypatch):
    parts, base = tiny_parts
    assert (
        make_model("GenCI", parts, base)[0].cohort_attention.eps == 1e-6
    )  # T5's, that of the published runs
    # these few items' cohorts, as if they were too small for T5's
    monkeypatch.setattr("recbole_genci.model.genci.cohort.EPS", 1e9)
    model, _ = make_model("GenCI", parts, base)
    means = model.cohort_table(model.item_embeddings())[model.cohort_table.counts > 0]
    assert 0.03 < model.cohort_attention.eps / means.square().mean() < 0.3


def level_log_probs(generator, encoded, codes):
    """Log-probability of each code of ``[1, N]`` over all codes of its level, given those before
    it: the decoder reads one more code at a time.
    """
    tokens, result = [generator.start_token], []
    for level, code in enumerate(codes[0].tolist()):
        weight = generator.token_embedding.weight
        embedded = weight[torch.tensor([tokens])] * generator.width**0.5
        hidden, _ = generator.decoder(embedded, encoded.memory())
        start = generator.level_starts[level]
        scores = weight[start : start + generator.level_sizes[level]] @ hidden[0, -1]
        result.append(scores.log_softmax(0)[code])
        tokens.append(start + code)
    return torch.stack(result)[None]


WIDE = {"num_beams": 20}  # all items, so that beams can be found by scoring every item


@pytest.mark.parametrize(
    "keys",
    [
        WIDE,
        WIDE | {"history_tokens": "code"},
        WIDE | {"intent_extraction": "literal"},
        WIDE | {"cohort_residual": False},
        WIDE | {"intent_norm": True, "candidate_log_probs": "joint"},
        WIDE | {"candidate_log_probs": "detached", "intent_scale": 0.3},
        WIDE | {"cohort_fusion": "concat"},
        WIDE | {"cohort_scale": 0.5},
        WIDE | {"share_item_embeddings": True},
        WIDE | {"share_item_embeddings": True, "history_tokens": "code"},
        WIDE | {"cohorts": "prefix"},
        WIDE | {"cohorts": "prefix", "cohort_fusion": "concat", "intent_norm": True},
    ],
    ids=str,
)
def test_a_rows_logit_equals_the_equations_written_out(tiny_parts, keys):
    parts, base = tiny_parts
    model, (train, _, test) = make_model("GenCI", parts, base | keys)
    randomise(model, scale=0.4)
    everything, batch = train[np.arange(len(train))], test[np.arange(0, len(test), 2)]
    place = len(model.token_seq_field_names) + model.token_field_names.index("item_id")
    item_of = dict(
        zip(everything["item_id"].tolist(), embedded(model, everything)[:, place], strict=True)
    )
    fields, codes = embedded(model, batch), test.semantic_ids
    items = clicked_items(batch, "item_id_list")
    lengths = lengths_of(batch)
    assert len(item_of) == 20 and model.cohort_attention.eps == 1e-6
    normal = (lambda vector: vector) if keys.get("intent_extraction") == "literal" else unit
    if "cohort_scale" in keys:
        normal = lambda vector: keys["cohort_scale"] * unit(vector)  # noqa: E731
    with torch.no_grad():
        logits = model(batch)
    expected = []
    for row in range(len(batch)):
        with torch.no_grad():
            own = [None]
            if "share_item_embeddings" in keys:
                own = [model.item_embeddings()[items[row : row + 1]]]
            encoded = model.intent.encode(codes[items[row : row + 1]], lengths[row : row + 1], *own)
            zeros = torch.zeros(20, dtype=torch.int64)
            log_probs = score_codes(model.intent, encoded, zeros, codes[1:], model.trie)  # Eq. 6
        history, chance = encoded.states[0].double().numpy(), softmax(log_probs.double().numpy())
        refined, extra = [], []
        for code, weight in zip(codes[1:], chance, strict=True):
            for level in range(3):
                shared = slice(0 if keys.get("cohorts") == "prefix" else level, level + 1)
                cohort = np.mean(
                    [
                        item_of[item]
                        for item in item_of
                        if (codes[item, shared] == code[shared]).all()
                    ],
                    axis=0,
                )  # Eq. 7
                attention, cohort = model.cohort_attention, normal(cohort)
                projections = attention.refine_query, attention.refine_key, attention.refine_value
                kept = (
                    cohort
                    if "intent_extraction" not in keys and "cohort_residual" not in keys
                    else 0
                )
                refined.append(
                    attend(cohort, history, projections, attention.num_heads) + kept
                )  # Eq. 8
                extra.append(np.log(weight))
        projections = attention.target_query, attention.target_key, attention.target_value
        target = normal(item_of[int(batch["item_id"][row])])
        refined, extra = np.array(refined), np.array(extra)
        apart = [slice(level, None, 3) for level in range(3)]
        short_term = np.concatenate(
            [
                attend(target, refined[part], projections, attention.num_heads, extra[part])
                for part in (apart if keys.get("cohort_fusion") == "concat" else [slice(None)])
            ]
        )  # Eq. 9
        intents = [history[-1], short_term]  # Eq. 5
        if "intent_norm" in keys:
            gains = model.scale_long_term.gain, model.scale_short_term.gain
            intents = [unit(x) * g.detach().double().numpy() for x, g in zip(intents, gains)]
        if "candidate_log_probs" in keys:
            own = model.codes[batch["item_id"][row : row + 1]]
            with torch.no_grad():
                chances = level_log_probs(model.intent, encoded, own)[0].double().numpy()
            intents.append(chances + np.log(model.intent.level_sizes))
        joined = keys.get("intent_scale", 0.1) * np.concatenate(intents)
        joined = np.concatenate([joined, fields[row].flatten()])
        expected.append(linear(model.predict_layer, perceptron(model.mlp, joined))[0])  # Eq. 10
    np.testing.assert_allclose(logits.numpy(), expected, atol=2e-4, rtol=2e-4)
    assert np.std(expected) > 0.1 and (lengths > 1).any()


def as_on_a_gpu(monkeypatch):
    """Take the paths of a GPU on the CPU."""
    for name in ("genci", "intent", "memory", "numerics"):
        monkeypatch.setattr(f"recbole_genci.model.genci.{name}.on_cpu", lambda x: False)


WITHOUT_DROPOUT = {"dropout_prob": 0.0, "intent_dropout": 0.0, "sr_dropout_prob": 0.0}


@pytest.mark.parametrize("extraction", EXTRACTIONS)
def test_without_gradient_cohorts_and_targets_are_the_same_constants(tiny_parts, extraction):
    parts, base = tiny_parts
    intents, gradients = [], []
    for passes in (True, False):
        keys = {"intent_extraction": extraction, "cohort_gradient": passes} | WITHOUT_DROPOUT
        model, (train, _, _) = make_model("GenCI", parts, base | keys)
        batch = train[np.arange(40)]
        encoded, index = model.train().encode_histories(batch)
        intent = model.short_term_intent(batch, encoded, index, model.generate_beams(encoded))
        if passes or extraction != "mean":  # which has no weights of its own
            intent.square().sum().backward()
        intents.append(intent.detach())
        gradients.append(model.token_embedding_table.embedding.weight.grad)
    assert torch.equal(*intents) and intents[0].abs().max() > 0
    assert gradients[0].abs().max() > 0 and gradients[1] is None


@pytest.mark.parametrize("keys", VARIANTS, ids=str)
def test_a_gpus_paths_predict_and_train_as_the_cpus(tiny_parts, keys, monkeypatch):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base | WITHOUT_DROPOUT | keys)
    for rows in (np.arange(len(train)), np.flatnonzero(train.inter_feat["label"] == 0)[:9]):
        found = []
        for gpu in (False, True):
            with monkeypatch.context() as patched:
                if gpu:
                    as_on_a_gpu(patched)
                model.zero_grad()
                batch = train[rows]
                losses = model.eval().calculate_loss(batch)
                sum(losses).backward()
                grads = [torch.zeros(1) if p.grad is None else p.grad for p in model.parameters()]
                found.append((model.predict(batch).detach(), torch.stack(losses).detach(), grads))
        (scores, losses, grads), (other_scores, other_losses, other_grads) = found
        torch.testing.assert_close(scores, other_scores, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(losses, other_losses, atol=1e-6, rtol=1e-5)
        for one, other in zip(grads, other_grads, strict=True):
            assert (one - other).abs().max() < 1e-5 + 1e-3 * one.abs().max()


@pytest.mark.parametrize("keys", VARIANTS, ids=str)
def test_a_gpu_is_not_waited_for(tiny_parts, keys):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base | keys)
    # Tensors without values: whatever would need one on the host is an error.
    batch, model = train[:64].to("meta"), model.to("meta")
    for module in model.modules():  # RecBole's layers make tensors there
        module.device = torch.device("meta")
    with torch.no_grad():
        assert model.predict(batch).shape == (64,)
    losses = model.train().calculate_loss(batch)
    sum(losses).backward()
    assert all(loss.shape == () for loss in losses)


def test_the_short_term_intent_trains_items_that_are_no_target(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base)
    batch = train[np.arange(4)]
    encoded, index = model.encode_histories(batch)
    beams = model.generate_beams(encoded)
    model.short_term_intent(batch, encoded, index, beams).square().sum().backward()
    reached = model.token_embedding_table.embedding.weight.grad.abs().sum(1) > 0
    start = int(model.token_field_offsets[model.token_field_names.index("item_id")])
    codes, generated = train.semantic_ids[:, :3], beams.codes[..., :3].flatten(0, 1)
    member = (
        (codes[:, None] == generated).any(2).any(1)
    )  # shares a cohort with a generated item (Eq. 7)
    member[0] = False
    expected = member.clone()
    expected[batch["item_id"]] = True
    assert torch.equal(reached[start : start + model.num_items], expected)
    assert (
        reached.sum() == expected.sum() and 4 < member.sum() < model.num_items - 1
    )  # neither the targets alone nor all


@pytest.mark.parametrize("keys", [*VARIANTS, {"sr_loss": "mse"}], ids=str)
def test_gradients_reach_every_parameter(tiny_parts, keys):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base | keys)
    model.train()
    losses = model.calculate_loss(train[np.arange(len(train))])
    assert len(losses) == len(model.loss_names) and all(loss > 0 for loss in losses)
    sum(losses).backward()
    without = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert without == []


def test_the_loss_is_eq_12_part_by_part(tiny_parts):
    parts, base = tiny_parts
    no_dropout = {
        "dropout_prob": 0.0,
        "intent_dropout": 0.0,
        "sr_dropout_prob": 0.0,
        "mu": 0.3,
        "eta": 0.7,
    }
    model, (train, _, _) = make_model("GenCI", parts, base | no_dropout)
    batch = train[np.arange(len(train))]
    label = batch["label"]
    ctr, ntp, regularisation, base_loss = model.train().calculate_loss(batch)
    inputs, encoded, index, _ = model.prediction_inputs(batch)
    logits = model.click_logits(inputs)
    torch.testing.assert_close(ctr, F.binary_cross_entropy(torch.sigmoid(logits), label))  # Eq. 1
    clicked = label == 1
    per_row = -score_codes(
        model.intent, encoded, index[clicked], model.codes[batch["item_id"][clicked]]
    )
    torch.testing.assert_close(
        ntp, 0.3 * per_row.mean() / 4, atol=1e-5, rtol=1e-4
    )  # Eq. 2, mean over its 4 levels
    teacher = model.teacher(batch).detach()
    soft = -(
        torch.sigmoid(teacher) * F.logsigmoid(logits)
        + torch.sigmoid(-teacher) * F.logsigmoid(-logits)
    )
    torch.testing.assert_close(regularisation, 0.7 * soft.mean())  # Eq. 11
    torch.testing.assert_close(base_loss, F.binary_cross_entropy_with_logits(teacher, label))


def test_a_generator_that_no_input_reads_has_its_loss_in_evaluation_too(tiny_parts):
    """The loss in evaluation tells which tables decay; a prediction encodes nothing."""
    parts, base = tiny_parts
    off = {"use_long_term": False, "use_short_term": False, "intent_dropout": 0.0}
    model, (train, _, _) = make_model("GenCI", parts, base | off)
    batch = train[np.arange(len(train))]
    evaluated, trained = (each.calculate_loss(batch)[1] for each in (model.eval(), model.train()))
    torch.testing.assert_close(evaluated, trained)
    assert evaluated > 0 and model.prediction_inputs(batch)[1] is None


def test_regularisation_never_trains_its_teacher(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base)
    regularisation = model.train().calculate_loss(train[np.arange(64)])[2]
    regularisation.backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert model.mlp.mlp_layers[1].weight.grad.abs().sum() > 0


def test_next_item_prediction_reads_positive_rows_only(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model(
        "GenCI", parts, base | {"intent_dropout": 0.0, "dropout_prob": 0.0}
    )
    batch = train[np.arange(len(train))]
    before = model.train().calculate_loss(batch)[1]
    negative = batch["label"] == 0
    batch["item_id"][negative] = 1
    torch.testing.assert_close(model.calculate_loss(batch)[1], before)
    batch["item_id"][~negative] = 1
    assert (model.calculate_loss(batch)[1] - before).abs() > 1e-4


SHORT_TERM = [
    (recbole_genci.model.genci.genci, "generate"),
    (CohortTable, "forward"),
    (CohortTable, "of_codes"),
    (CohortTable, "gather"),
    (CohortAttention, "forward"),
]
NEXT_ITEM = [(IntentGenerator, "ntp_loss")]
REGULARISATION = [(DeepFM, "forward"), (GenCI, "self_supervised_regularisation")]
ENCODING = [(GenCI, "encode_histories"), (IntentGenerator, "encode")]


@pytest.mark.parametrize(
    ("keys", "gone", "zero"),
    [
        ({"use_short_term": False}, SHORT_TERM, []),
        ({"mu": 0}, NEXT_ITEM, [1]),
        ({"eta": 0}, REGULARISATION, [2, 3]),
        (
            {"use_short_term": False, "mu": 0},
            [*SHORT_TERM, *NEXT_ITEM, (T5Decoder, "forward")],
            [1],
        ),
        (
            {"use_short_term": False, "use_long_term": False, "mu": 0},
            [*SHORT_TERM, *NEXT_ITEM, *ENCODING],
            [1],
        ),
    ],
    ids=["w/o ST", "w/o NTP", "w/o SR", "w/o ST and NTP", "w/o all intent"],
)
def test_ablation_keys_remove_their_computation(tiny_parts, monkeypatch, keys, gone, zero):
    parts, base = tiny_parts
    full, (train, _, _) = make_model("GenCI", parts, base)
    model, _ = make_model("GenCI", parts, base | keys)
    fewer = sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in full.parameters())
    assert fewer or keys == {"mu": 0}
    called = set()
    for place in gone:
        watch(monkeypatch, *place, called)
    losses = model.train().calculate_loss(train[np.arange(32)])
    assert [i for i, loss in enumerate(losses) if loss == 0] == zero
    model.eval().predict(train[np.arange(32)])
    assert called == set()
    full.train().calculate_loss(train[np.arange(32)])
    assert called == {
        name for _, name in gone
    }  # the watch works: the whole model does run all of it


def watch(monkeypatch, owner, name, called):
    original = getattr(owner, name)

    def watched(*args, **kwargs):
        called.add(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, watched)


def test_without_the_long_term_intent_its_state_is_never_read(tiny_parts, monkeypatch):
    parts, base = tiny_parts
    encode = IntentGenerator.encode

    def without_last(self, *args, **options):
        encoded = encode(self, *args, **options)
        return encoded._replace(last=torch.full_like(encoded.last, torch.nan))

    monkeypatch.setattr(IntentGenerator, "encode", without_last)
    for keys, read in (({}, True), ({"use_long_term": False}, False)):
        model, (train, _, _) = make_model("GenCI", parts, base | keys)
        losses = model.train().calculate_loss(train[np.arange(32)])
        assert any(loss.isnan() for loss in losses) == read


def test_evaluation_without_intents_encodes_nothing_though_next_item_prediction_trains_the_encoder(
    tiny_parts, monkeypatch
):
    parts, base = tiny_parts
    model, (train, _, test) = make_model(
        "GenCI", parts, base | {"use_short_term": False, "use_long_term": False}
    )
    called = set()
    watch(monkeypatch, IntentGenerator, "encode", called)
    model.predict(test[np.arange(5)])
    assert called == set()
    assert model.train().calculate_loss(train[np.arange(32)])[1] > 0 and called == {"encode"}


def test_without_next_item_prediction_nothing_but_the_decoder_is_left_untrained(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base | {"mu": 0})
    sum(model.train().calculate_loss(train[np.arange(len(train))])).backward()
    without = {
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    }
    assert without == {
        name for name, _ in model.named_parameters() if name.startswith("intent.decoder.")
    }


def test_on_32_users_the_generator_overfits_to_perfect_greedy_recall(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for user in range(
        32
    ):  # whose first click is theirs alone, so that no two non-empty histories are equal
        items = [user, *rng.choice(np.arange(32, 48), size=3, replace=False)]
        rows += [[f"u{user}", f"i{item}", 1, 100 * n] for n, item in enumerate(items)]
        rows.append([f"u{user}", f"i{rng.integers(48)}", 0, 1])
    keys = write_dataset(tmp_path, rows, num_items=48, num_users=32) | {
        "eta": 0,
        "intent_width": 32,
        "num_beams": 1,
    }
    parts = create_dataset(Config("GenCI", "tiny", config_dict=keys)).build()
    model, (train, _, _) = make_model("GenCI", parts, keys | {"intent_dropout": 0.0})
    batch = train[np.flatnonzero(lengths_of(train[np.arange(len(train))]) > 0)]
    clicks = batch["label"] == 1
    assert clicks.sum() == 32

    def greedy_recall():
        generated, _ = model.eval().generate_items(batch, 1)
        return (generated[clicks, 0] == batch["item_id"][clicks]).double().mean().item()

    assert greedy_recall() < 0.2
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(200):
        losses = model.train().calculate_loss(batch)
        if losses[1] < 0.02:
            break
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    assert greedy_recall() == 1


def test_prediction_does_not_run_the_teacher_or_the_next_item_loss(tiny_parts, monkeypatch):
    parts, base = tiny_parts
    model, (_, _, test) = make_model("GenCI", parts, base)
    monkeypatch.setattr(model.teacher, "forward", None)
    monkeypatch.setattr(model.intent, "ntp_loss", None)
    assert model.predict(test[np.arange(5)]).shape == (5,)


def test_generated_codes_are_those_of_items(tiny_parts):
    parts, base = tiny_parts
    model, (_, _, test) = make_model("GenCI", parts, base | {"num_beams": 6})
    with torch.no_grad():
        encoded, _ = model.encode_histories(test[np.arange(len(test))])
        beams = generate(model.intent, encoded, model.trie, 6)
    real = {tuple(code) for code in item_codes(parts[0].item_num)[1:].tolist()}
    assert beams.valid.all() and all(
        tuple(code) in real for code in beams.codes.flatten(0, 1).tolist()
    )


def test_empty_histories_one_user_and_fewer_items_than_beams_work(tmp_path):
    rows = tiny_rows(num_users=1, num_items=3, rows_per_user=30)
    keys = write_dataset(tmp_path, rows, num_items=3, num_users=1)
    parts = create_dataset(Config("GenCI", "tiny", config_dict=keys)).build()
    model, views = make_model("GenCI", parts, keys | {"num_beams": 8})
    batch = views[0][np.arange(len(views[0]))]
    assert (lengths_of(batch) == 0).any() and model.num_beams == 3  # of 8
    losses = model.train().calculate_loss(batch)
    sum(losses).backward()
    assert all(torch.isfinite(loss) for loss in losses)
    empty = views[0][np.flatnonzero(lengths_of(batch) == 0)]
    assert torch.isfinite(model.eval().predict(empty)).all()


@pytest.mark.parametrize(
    "keys",
    [
        {"sr_loss": "kl"},
        {"sr_base": "lr"},
        {"history_tokens": "word"},
        {"intent_extraction": "max"},
        {"intent_heads": 3},
        {"attention_heads": 5},
        {"num_beams": 0},
        {"mu": -1},
        {"eta": "high"},
        {"dropout_prob": 1.0},
        {"cohorts": "path"},
        {"cohort_fusion": "sum"},
        {"candidate_log_probs": "detached", "mu": 0},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_by_their_key(keys):
    with pytest.raises(ValueError, match=f"^{next(iter(keys))}: "):
        GenCI.check_settings(Config("GenCI", "ml-100k", config_dict=keys))


def test_a_pretrained_teacher_stays_as_it_was(tiny_parts):
    parts, base = tiny_parts
    model, (train, _, _) = make_model("GenCI", parts, base | {"sr_base": "pretrained"})
    assert model.teacher_is_pretrained
    model.freeze_teacher()
    losses = model.train().calculate_loss(train[np.arange(64)])
    sum(losses).backward()
    assert losses[2] > 0 and losses[3] == 0
    assert not model.teacher.training and all(p.grad is None for p in model.teacher.parameters())
