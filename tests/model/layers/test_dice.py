"""Dice against its formula, and where a batch has no variance."""

import numpy as np
import torch
from references import sigmoid

from recbole_genci.model.layers.dice import Dice


def test_dice_is_the_papers_formula_in_training_and_in_evaluation():
    torch.manual_seed(0)
    layer = Dice(3)
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.0, 0.5, -1.0]))
    rows = torch.randn(50, 3) * torch.tensor([1e-4, 1.0, 30.0]) + 2e-4  # of any scale
    s = rows.double().numpy()
    p = sigmoid((s - s.mean(0)) / np.sqrt(s.var(0) + 1e-8))
    alpha = layer.alpha.detach().double().numpy()
    expected = p * s + (1 - p) * alpha * s
    np.testing.assert_allclose(layer(rows).detach().numpy(), expected, rtol=2e-4, atol=1e-9)
    mean, variance = (each.double().numpy() for each in layer.norm.buffers() if each.dim())
    np.testing.assert_allclose(mean, 0.1 * s.mean(0), rtol=1e-4)
    p = sigmoid((s - mean) / np.sqrt(variance + 1e-8))
    expected = p * s + (1 - p) * alpha * s
    np.testing.assert_allclose(layer.eval()(rows).detach().numpy(), expected, rtol=2e-4, atol=1e-9)


def test_a_single_row_or_none_is_normalised_by_the_running_statistics():
    layer, rows = Dice(2), torch.randn(1, 2)
    trained = layer(rows)
    torch.testing.assert_close(trained, layer.eval()(rows))
    assert layer.train()(rows[:0]).shape == (0, 2)
    assert int(layer.norm.num_batches_tracked) == 0
