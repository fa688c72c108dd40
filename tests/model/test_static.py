"""Predictions and losses whose operations and shapes depend on no value.

Only such can be captured: in a program (`export`), by `torch.compile`, or in a CUDA graph. On a GPU
an operation that looks at values also waits for all that were launched before it.
"""

import contextlib

import pytest
import torch
from conftest import SMALL, compute_as_on_a_gpu, make_model
from recbole.data.interaction import Interaction
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from recbole_genci.config.keys import known_keys
from recbole_genci.data.batches import Batch
from recbole_genci.data.table import Table
from recbole_genci.model.batch_columns import SEGMENT_LENGTH, SEGMENTS
from recbole_genci.model.genci import cohort
from recbole_genci.model.registry import known_models
from recbole_genci.utils.static import is_static, static_shapes

FORMS = {
    "item": {},
    "code": {"history_tokens": "code"},
    "causal": {"history_attention": "causal", "segment_clicks": 2},
    "all inputs": {
        "flatten_history": True,
        "intent_norm": True,
        "candidate_log_probs": "joint",
        "share_item_embeddings": True,
        "cohorts": "prefix",
        "cohort_fusion": "concat",
        "cohort_scale": 0.3,
        "cohort_gradient": False,
        "sr_loss": "mse",
    },
}
WAITING = {
    "_local_scalar_dense",  # .item(), .tolist(), bool(), int()
    "lift_fresh",  # a constant that the host makes, and copies to the device
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "bincount",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
}


class Waits(TorchDispatchMode):
    """Notes each operation whose result has a shape, or whose call a branch, that values decide."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.partition("::")[2]
        by_mask = "index" in name and any(
            getattr(each, "dtype", None) in (torch.bool, torch.uint8)
            for each in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else ())
        )
        repeats = name == "repeat_interleave" and isinstance(args[0], torch.Tensor)
        if name in WAITING or by_mask or (repeats and not (kwargs or {}).get("output_size")):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def model_and_batch(name, parts_and_keys, **more):
    parts, keys = parts_and_keys
    model, (train, *_) = make_model(name, parts, keys | SMALL.get(name, {}) | more)
    return model, train[:64]


def losses_of(model, batch):
    losses = model.calculate_loss(batch)
    return torch.stack(losses if isinstance(losses, tuple) else (losses,))


def waits(model, batch):
    losses_of(model.train(), batch)  # constants are copied once
    with Waits() as training:
        losses_of(model.train(), batch).sum().backward()
    with torch.no_grad(), Waits() as predicting:
        model.eval().predict(batch)
    return training.found + predicting.found


def test_no_operation_of_any_model_looks_at_values(parts_and_keys):
    with static_shapes():
        found = {n: waits(*model_and_batch(n, parts_and_keys)) for n in known_models()}
    # These index by lists in RecBole's own lines, which are copied in each pass.
    copies = {name for name, each in found.items() if set(each) == {"lift_fresh"}}
    assert copies == {"AFM", "FFM", "FiGNN", "PNN"}
    assert {name for name, each in found.items() if each} == copies


class OfTheHost(TorchDispatchMode):
    """Notes each operation that reads or makes a tensor in the host's memory."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        tensors = [e for e in tree_leaves((args, kwargs, results)) if isinstance(e, torch.Tensor)]
        if any(each.device.type == "cpu" for each in tensors):
            self.found.append(func._schema.name)
        return results


def on_another_device(model):
    """The model, and what RecBole keeps beside its parameters, on a device without numbers."""
    for module in model.to("meta").modules():
        for name, each in list(vars(module).items()):
            if isinstance(each, (torch.Tensor, Interaction, Table)):
                setattr(module, name, each.to("meta"))
            elif isinstance(each, torch.device):
                setattr(module, name, torch.device("meta"))
    return model


def test_no_operation_of_any_model_reads_the_hosts_memory(parts_and_keys):
    """A CUDA graph can hold no copy from there, and a GPU waits for it."""
    found = {}
    for name in set(known_models()) - {"FFM", "FiGNN"}:  # which index by lists, see above
        model, batch = model_and_batch(name, parts_and_keys)
        model, batch = on_another_device(model), Batch(batch.interaction).to("meta")
        with static_shapes():
            losses_of(model.train(), batch)  # constants are copied once
            with OfTheHost() as training:
                losses_of(model, batch).sum().backward()
            with torch.no_grad(), OfTheHost() as predicting:
                model.eval().predict(batch)
        found |= {name: each} if (each := training.found + predicting.found) else {}
    assert found == {}


@pytest.mark.parametrize("form", FORMS)
def test_genci_waits_for_nothing_on_a_gpu(form, parts_and_keys, monkeypatch):
    compute_as_on_a_gpu(monkeypatch)
    assert waits(*model_and_batch("GenCI", parts_and_keys, **FORMS[form])) == []


def test_no_operation_looks_at_values_with_many_items(parts_and_keys, monkeypatch):
    monkeypatch.setattr(cohort, "_FEW_ITEMS", 0)
    model, batch = model_and_batch("GenCI", parts_and_keys)
    assert "_unique2" in waits(model, batch)  # on a CPU there is nothing to wait for
    with monkeypatch.context() as patched:
        compute_as_on_a_gpu(patched)
        assert waits(model, batch) == []
    with static_shapes():
        assert waits(model, batch) == []


def test_what_waits_is_noticed():
    x = torch.arange(4.0)
    with Waits() as seen:
        x[x > 1], x.unique(), x.nonzero(), bool(x.sum() > 1), x.sum().item()
        torch.repeat_interleave(torch.tensor([1, 2]))
    assert seen.found == ["index", "_unique2", "nonzero", *["_local_scalar_dense"] * 2] + [
        "lift_fresh",
        "repeat_interleave",
    ]


@pytest.mark.parametrize("form", FORMS)
def test_static_losses_gradients_and_predictions_are_the_dynamic_ones(form, parts_and_keys):
    model, batch = model_and_batch(
        "GenCI",
        parts_and_keys,
        dropout_prob=0.0,
        intent_dropout=0.0,
        sr_dropout_prob=0.0,
        **FORMS[form],
    )
    found = []
    for block in (contextlib.nullcontext(), static_shapes()):
        with block:
            model.zero_grad()
            losses = losses_of(model.train(), batch)
            losses.sum().backward()
            gradient = [each.grad for each in model.parameters() if each.grad is not None]
            with torch.no_grad():
                scores = model.eval().predict(batch)
        found.append((losses.detach(), torch.cat([each.flatten() for each in gradient]), scores))
    for dynamic, static in zip(*found, strict=True):
        torch.testing.assert_close(static, dynamic, atol=1e-6, rtol=1e-5)


NO_DROPOUT = dict.fromkeys(
    ("dropout_prob", "intent_dropout", "sr_dropout_prob", "dropout", "attn_dropout"), 0.0
)
OTHER_FORMS = {
    "DIN": [{"attention_mlp_hidden_size": [4]}],
    "DIEN": [{"gru_type": each} for each in ("GRU", "AIGRU", "AGRU")],
    "DeepFM": [{"flatten_history": True}],
}


def test_static_training_of_every_model_is_the_dynamic_one(parts_and_keys):
    """By it CUDA graphs train (`cuda_graphs`): losses, gradients and running statistics."""
    differ = {}
    for name in known_models():
        for form in ({}, *OTHER_FORMS.get(name, [])):
            known = known_keys([name], "tiny")
            keys = form | {key: value for key, value in NO_DROPOUT.items() if key in known}
            found = []
            for block in (contextlib.nullcontext(), static_shapes()):
                model, batch = model_and_batch(name, parts_and_keys, **keys)
                with block:
                    losses = losses_of(model.train(), batch)
                    losses.sum().backward()
                parts = [losses, *(each.grad for each in model.parameters()), *model.buffers()]
                found.append([None if each is None else each.detach() for each in parts])
            for dynamic, static in zip(*found, strict=True):
                if dynamic is None or static is None:
                    same = dynamic is static or not (static if dynamic is None else dynamic).any()
                else:
                    same = torch.allclose(static.double(), dynamic.double(), atol=1e-6, rtol=1e-4)
                if not same:
                    differ.setdefault((name, *form.items()), []).append((dynamic, static))
    assert not differ


@pytest.mark.parametrize("form", ["item", "causal"])
def test_more_histories_and_longer_ones_of_padding_change_nothing(form, parts_and_keys):
    model, batch = model_and_batch("GenCI", parts_and_keys, **FORMS[form])
    padded = Interaction(dict(batch.interaction))
    padded.interaction[SEGMENTS] = torch.nn.functional.pad(batch[SEGMENTS], (0, 0, 0, 5))
    padded.interaction[SEGMENT_LENGTH] = torch.nn.functional.pad(batch[SEGMENT_LENGTH], (0, 5))
    with torch.no_grad(), static_shapes():
        expected, found = (model.eval().predict(each) for each in (batch, padded))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("form", ["item", "causal"])
def test_a_prediction_and_a_loss_are_one_graph(form, parts_and_keys):
    """`fullgraph` refuses what torch cannot trace."""
    model, batch = model_and_batch("GenCI", parts_and_keys, **FORMS[form])
    torch._dynamo.reset()
    predict = torch.compile(model.predict, backend="eager", fullgraph=True)
    with torch.no_grad(), static_shapes():
        model.eval()
        torch.testing.assert_close(predict(batch), model.predict(batch), atol=1e-6, rtol=1e-6)
    loss = torch.compile(model.calculate_loss, backend="eager", fullgraph=True)
    torch.stack(loss(batch)).sum().backward()
    assert any(each.grad is not None for each in model.parameters())


def test_compiled_code_is_static():
    assert not is_static()
    seen = torch.compile(lambda x: x + float(is_static()), backend="eager", fullgraph=True)
    assert seen(torch.zeros(1)) == 1
