"""Adam's step of a model with a large table: the same numbers in one pass over memory."""

from pathlib import Path

import pytest
import torch
from conftest import SMALL_GENCI, tiny_rows, write_dataset

from recbole_genci.data import create_loaders
from recbole_genci.plan import prepare
from recbole_genci.training import trainer as module
from recbole_genci.training.trainer import CTRTrainer


def _trained(keys, steps=6):
    """A GenCI after some steps on one batch, and its optimiser."""
    plan = prepare(["GenCI"], "tiny", config_dict=keys)
    config = plan.configs["GenCI"]
    train = create_loaders(config, plan.parts, plan.semantic_ids)[0]
    torch.manual_seed(0)
    trainer = CTRTrainer(config, config.model_class(config, train.dataset), Path("run"))
    batch = next(iter(train))
    for _ in range(steps):
        trainer.optimizer.zero_grad()
        sum(trainer.model.calculate_loss(batch)).backward()
        trainer.optimizer.step()
    return trainer.model, trainer.optimizer


@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.1, "weight_decay_of": "embeddings"}])
def test_the_fused_step_is_the_dense_one(decay, tmp_path, monkeypatch):
    no_dropout = {"dropout_prob": 0.0, "intent_dropout": 0.0, "sr_dropout_prob": 0.0}
    keys = write_dataset(tmp_path / "data", tiny_rows()) | SMALL_GENCI | no_dropout | decay
    dense, optimizer = _trained(keys)
    assert not any(group["fused"] for group in optimizer.param_groups)
    monkeypatch.setattr(module, "_LARGE_TABLE", 0)
    fused, optimizer = _trained(keys)
    assert all(group["fused"] for group in optimizer.param_groups)
    for (name, one), other in zip(dense.named_parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4, msg=name)


def test_momentum_moves_rows_without_a_gradient_as_in_the_dense_step():
    results = []
    for fused in (None, True):
        table = torch.nn.Embedding(50, 4, _weight=torch.linspace(-1, 1, 200).view(50, 4).clone())
        optimizer = torch.optim.Adam(table.parameters(), lr=0.01)
        optimizer.param_groups[0]["fused"] = fused
        for step in range(20):
            optimizer.zero_grad()
            table(torch.tensor([step % 7, 30])).square().sum().backward()
            optimizer.step()
        results.append(table.weight.detach())
    torch.testing.assert_close(results[1], results[0], atol=1e-6, rtol=1e-6)
