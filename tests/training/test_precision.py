"""``precision: bf16``: bfloat16 in matrix products of training, float32 everywhere else."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL, compute_as_on_a_gpu, make_model, tiny_rows, write_dataset
from safetensors.torch import load_file
from torch import nn

from recbole_genci import load
from recbole_genci.config import Config
from recbole_genci.experiments.identity import run_hash
from recbole_genci.model.layers.packed_gru import states_of
from recbole_genci.model.registry import known_models
from recbole_genci.plan import prepare
from recbole_genci.quick_start import run
from recbole_genci.training.precision import check_precision, in_training_precision
from recbole_genci.training.run import train_and_evaluate

BF16 = {"precision": "bf16"}


def step(name, parts_and_keys, **more):
    """The losses of one batch, and all gradients as one vector."""
    parts, keys = parts_and_keys
    keys = keys | SMALL.get(name, {}) | more
    config = Config(name, "tiny", config_dict=keys, compared_models=["GenCI"])
    model, (train, *_) = make_model(name, parts, keys)
    torch.manual_seed(0)
    losses = in_training_precision(model.train().calculate_loss, config)(train[:64])
    losses = torch.stack(losses if isinstance(losses, tuple) else (losses,))
    losses.sum().backward()
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    assert all(each.dtype == torch.float32 for each in (*model.parameters(), *gradients))
    return losses.detach(), torch.cat([each.flatten() for each in gradients])


def assert_near_float32(name, parts_and_keys, **more):
    losses, gradient = step(name, parts_and_keys, **more, **BF16)
    expected, exact = step(name, parts_and_keys, **more)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=0.01, atol=0.01)
    assert F.cosine_similarity(gradient, exact, dim=0) > 0.98
    return not torch.equal(gradient, exact)


@pytest.mark.parametrize("name", ["GenCI", "DIN", "DIEN", "MIRRN", "xDeepFM", "FiGNN"])
def test_a_step_is_near_that_of_float32(name, parts_and_keys):
    assert assert_near_float32(name, parts_and_keys)


@pytest.mark.slow
def test_so_is_a_step_of_each_model(parts_and_keys):
    same = {name for name in known_models() if not assert_near_float32(name, parts_and_keys)}
    assert same == {"LR", "FM", "FFM", "FwFM"}  # they have no matrix product


@pytest.mark.parametrize(
    "more",
    [
        {"history_attention": "causal", "segment_clicks": 2, "intent_norm": True},
        {"candidate_log_probs": "joint", "share_item_embeddings": True},
        *(
            pytest.param(keys, marks=pytest.mark.slow)
            for keys in (
                {"intent_extraction": "mean", "history_tokens": "code", "intent_norm": True},
                {"intent_extraction": "literal", "cohort_fusion": "concat", "sr_loss": "mse"},
            )
        ),
    ],
)
def test_so_is_a_step_of_forms_of_genci(more, parts_and_keys):
    assert assert_near_float32("GenCI", parts_and_keys, dropout_prob=0.0, **more)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GRU", "AIGRU", "AGRU"])  # the default is AUGRU
def test_so_is_a_step_of_forms_of_dien(kind, parts_and_keys):
    assert assert_near_float32("DIEN", parts_and_keys, gru_type=kind)


def test_recurrent_states_are_float32_whatever_their_input():
    """On a GPU torch's GRU gives the layers behind it bfloat16."""
    config = {"precision": "bf16", "device": torch.device("cpu")}
    data = torch.randn(6, 4, dtype=torch.bfloat16)
    weights = (torch.randn(9, 4), torch.randn(9, 3), torch.randn(9), torch.randn(9))

    def states(_):
        found = states_of(data, [3, 2, 1], weights, lambda h, u, c, n: torch.lerp(h, c, u))
        assert {each.dtype for each in found} == {torch.float32}
        return torch.cat(found).sum()

    assert torch.isfinite(in_training_precision(states, config)(None))


def test_so_is_a_step_that_computes_as_on_a_gpu(parts_and_keys, monkeypatch):
    compute_as_on_a_gpu(monkeypatch)
    assert assert_near_float32("GenCI", parts_and_keys)


def test_layers_give_bfloat16_and_sums_float32(parts_and_keys):
    parts, keys = parts_and_keys
    config = Config("DeepFM", "tiny", config_dict=keys | BF16)
    model, (train, *_) = make_model("DeepFM", parts, keys)
    seen = []
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda _, given, result: seen.append(result.dtype))

    def loss_of(batch):
        logits = model.deep_predict_layer(
            model.mlp_layers(model.concat_embed_input_fields(batch).flatten(1))
        )
        assert logits.dtype == torch.bfloat16
        sums = (logits.softmax(0), F.log_softmax(logits, 0), logits.sum(), torch.sigmoid(logits))
        assert {each.dtype for each in sums} == {torch.float32}
        # On a GPU autocast refuses this loss.
        F.binary_cross_entropy(torch.sigmoid(logits), torch.ones_like(logits))
        return logits.mean(), logits[0, 0]

    losses = in_training_precision(loss_of, config)(train[:64])
    assert set(seen) == {torch.bfloat16} and len(seen) == 2
    assert {each.dtype for each in losses} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")
    model.predict(train[:64])
    assert set(seen[2:]) == {torch.float32}
    exact = model.calculate_loss
    assert in_training_precision(exact, Config("DeepFM", "tiny", config_dict=keys)) == exact


def test_a_run_is_near_that_of_float32_and_all_that_it_leaves_is_float32(parts_and_keys):
    parts, keys = parts_and_keys
    keys = keys | {"recipe": "regularised", "sr_weight": 0.5, "latency_repeats": 1}
    configs = [
        Config("DeepFM", "tiny", config_dict=keys | {"precision": e}) for e in ("fp32", "bf16")
    ]
    exact, mixed = (train_and_evaluate(config, parts) for config in configs)
    assert mixed["test"]["logloss"] == pytest.approx(exact["test"]["logloss"], abs=0.01)
    one, other = (load_file(Path(each["folder"]) / "model.safetensors") for each in (exact, mixed))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    kinds = [{name: each.dtype for name, each in weights.items()} for weights in (one, other)]
    assert kinds[0] == kinds[1]
    saved = load(mixed["folder"])
    assert saved.config["precision"] == "bf16" and saved.evaluate() == mixed["test"]


def test_it_is_another_run_but_fp32_is_that_of_earlier_records(parts_and_keys):
    _, keys = parts_and_keys
    asked = [keys, keys | {"precision": "fp32"}, keys | BF16]
    first, same, other = (
        run_hash(Config("DIN", "tiny", config_dict=each), 1, "rows", None) for each in asked
    )
    assert first == same != other


def test_a_gpu_without_bf16_is_refused_before_rows_are_read(monkeypatch):
    on_gpu = {"device": torch.device("cuda")}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    check_precision(on_gpu | {"precision": "fp32"})
    check_precision(BF16 | {"device": torch.device("cpu")})
    with pytest.raises(
        ValueError, match="^precision: Tesla V100 has no bf16. Use --precision=fp32"
    ):
        check_precision(on_gpu | BF16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    check_precision(on_gpu | BF16)


OWN = """
import torch
from recbole_genci.model.base import ClickModel

class Own(ClickModel):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.layer = torch.nn.Linear(self.num_feature_field * self.embedding_size, 1)

    def forward(self, interaction):
        fields = self.concat_embed_input_fields(interaction).flatten(1)
        logits = fields.new_zeros(len(fields))
        logits[:] = self.layer(fields).squeeze(1)
        return logits.index_put((torch.tensor([0]),), self.layer(fields[:1]).squeeze(1))
"""


def test_an_own_model_that_cannot_do_it_is_refused_before_training(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows())
    del keys["mlp_hidden_size"]
    Path("own.py").write_text(OWN)
    assert prepare("own.py:Own", "tiny", config_dict=keys)
    with pytest.raises(
        ValueError, match=r"^model: Own, with --precision=bf16 \(fp32 may run\): .*own.py"
    ):
        prepare("own.py:Own", "tiny", config_dict=keys | BF16)


@pytest.mark.slow  # torch imports its compiler for a checkpoint
def test_so_is_one_whose_backward_pass_cannot(tmp_path):
    """A checkpoint computes again in the backward pass, where sums are no longer float32."""
    keys = write_dataset(tmp_path / "data", tiny_rows())
    del keys["mlp_hidden_size"]
    before, _ = OWN.split("        logits = ")
    again = "self.layer(x).softmax(-1).squeeze(1), fields, use_reentrant=False)"
    Path("own2.py").write_text(
        f"{before}        from torch.utils.checkpoint import checkpoint\n"
        f"        return checkpoint(lambda x: {again}\n"
    )
    assert prepare("own2.py:Own", "tiny", config_dict=keys)
    with pytest.raises(ValueError, match=r"^model: Own, with --precision=bf16 .*CheckpointError"):
        prepare("own2.py:Own", "tiny", config_dict=keys | BF16)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_as_one_does(tmp_path):
    """NFM has batch normalisation, whose sums over all rows stay float32."""
    rows = tiny_rows(num_users=9, num_items=60, rows_per_user=101, seed=9)
    keys = write_dataset(tmp_path / "data", rows, num_items=60) | {"epochs": 2, "dropout_prob": 0.0}
    keys |= {"learner": "sgd", "learning_rate": 0.05} | BF16
    one, two = (run("NFM", "tiny", config_dict=keys | {"nproc": n})[0] for n in (1, 2))
    assert two["nproc"] == 2
    assert two["test"]["logloss"] == pytest.approx(one["test"]["logloss"], abs=1e-3)
