"""``weight_average`` is exact, is what is evaluated and saved, and resumes exactly."""

from pathlib import Path

import pytest
import torch
from conftest import SMALL_GENCI, stop_after, tiny_rows, write_dataset
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from recbole_genci import load
from recbole_genci.cli import main
from recbole_genci.quick_start import resume, run
from recbole_genci.training import trainer
from recbole_genci.training.weight_average import WeightAverage


@pytest.fixture
def keys(tmp_path):
    data = write_dataset(tmp_path / "data", tiny_rows(rows_per_user=40))
    return data | {"epochs": 4, "stopping_step": 9, "weight_average": 0.5}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))


def trained(network, average, steps, seed=1):
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    optimizer.register_step_post_hook(lambda *_: average(network))
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(16, 3, generator=generator)).square().mean().backward()
        optimizer.step()


def test_average_is_that_of_torch_with_the_same_decays():
    def decay(averages, weights, step):
        share = min(
            0.9, step / (9 + step)
        )  # of step 1, 2, ...: (1 + t) / (10 + t) of t = 0, 1, ...
        for old, new in zip(averages, weights, strict=True):
            if old.is_floating_point():
                old.mul_(share).add_(new * (1 - share))
            else:
                old.copy_(new)

    ours, theirs = network(), network()
    average = WeightAverage(ours, 0.9)
    reference = AveragedModel(theirs, multi_avg_fn=decay, use_buffers=True)
    # Torch's takes the first update as it is; ours averages it with the initial weights.
    reference.n_averaged += 1
    trained(ours, lambda _: average.update(), 30)
    trained(theirs, reference.update_parameters, 30)
    rows = torch.randn(50, 3)
    own = ours.eval()(rows)
    with average.applied():
        torch.testing.assert_close(ours(rows), reference.module.eval()(rows))
        assert not torch.allclose(ours(rows), own)
    assert torch.equal(ours(rows), own)


def test_statistics_of_batch_normalisation_fit_the_averaged_weights():
    model = network()
    average = WeightAverage(model, 0.95)
    trained(model, lambda _: average.update(), 200)
    rows = torch.randn(4000, 3)
    with average.applied():
        norm, inputs = model[1], model[0](rows)
        torch.testing.assert_close(norm.running_mean, inputs.mean(0), atol=0.1, rtol=0.05)
        torch.testing.assert_close(norm.running_var, inputs.var(0), atol=0.05, rtol=0.15)


class Masked(nn.Module):
    """With a mask of -inf, as attention has it, and complex weights, as filters have them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        self.register_buffer("largest", torch.full((2,), -torch.inf))
        self.filter = nn.Parameter(torch.ones(3, dtype=torch.complex64))


def test_infinite_buffers_stay_and_complex_weights_are_averaged():
    model = Masked()
    average, mask = WeightAverage(model, 0.5), model.mask.clone()
    expected = model.filter.detach().clone()
    for step in range(3):
        with torch.no_grad():
            model.filter += 1 + 2j
            model.largest[0] = step
        average.update()
        share = min(0.5, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * model.filter.detach()
    last = model.filter.detach().clone()
    with average.applied():
        assert torch.equal(model.mask, mask)
        torch.testing.assert_close(model.filter.detach(), expected)
        assert not torch.allclose(model.filter.detach(), last)
        assert 0 < model.largest[0] < 2 and model.largest[1] == -torch.inf
    assert torch.equal(model.filter.detach(), last)


@pytest.mark.parametrize("per", ["epoch", "step"])
def test_the_average_is_what_is_evaluated_and_saved_and_the_steps_stay_the_same(
    per, keys, monkeypatch
):
    keys |= {"epochs": 1}
    made = []

    def make(model, decay):
        made.append(WeightAverage(model, decay))
        return made[0]

    monkeypatch.setattr(trainer, "WeightAverage", make)
    averaged = run("DeepFM", "tiny", config_dict=keys | {"weight_average_per": per})[0]
    plain = run("DeepFM", "tiny", config_dict=keys | {"weight_average": 0})[0]
    (average,) = made
    assert average.steps > 5
    assert average.decay == pytest.approx(0.5 ** (1 / average.steps) if per == "epoch" else 0.5)
    saved, last = (load_file(Path(m["folder"]) / "model.safetensors") for m in (averaged, plain))
    for name, tensor in average.state().items():
        assert torch.equal(saved[name], tensor)
    assert any(not torch.equal(saved[name], last[name]) for name in last)
    reloaded = load(averaged["folder"])
    for part, figures in {"valid": averaged["best_valid"], "test": averaged["test"]}.items():
        assert reloaded.evaluate(part)["logloss"] == figures["logloss"]
    assert averaged["best_valid"] != plain["best_valid"]


def test_training_goes_on_with_its_own_weights(keys, monkeypatch):
    """Weights after four epochs with an average equal those without."""
    ends = []
    original = trainer.save_training_state

    def save_and_keep(folder, this, number, *rest):
        original(folder, this, number, *rest)
        ends.append({name: tensor.clone() for name, tensor in this.model.state_dict().items()})

    monkeypatch.setattr(trainer, "save_training_state", save_and_keep)
    for decay in (0.5, 0):
        run("DeepFM", "tiny", config_dict=keys | {"weight_average": decay, "dropout_prob": 0.2})
    assert len(ends) == 8
    for with_average, without in zip(ends[:4], ends[4:], strict=True):
        assert all(torch.equal(with_average[name], without[name]) for name in without)


@pytest.mark.parametrize(
    ("name", "more"), [("AFN+", {}), pytest.param("GenCI", SMALL_GENCI, marks=pytest.mark.slow)]
)
def test_a_stopped_run_averages_on(name, more, keys, monkeypatch):
    keys |= more | {"dropout_prob": 0.2}
    whole = run(name, "tiny", config_dict=keys)[0]
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(KeyboardInterrupt):
            run(name, "tiny", config_dict=keys)
    folder = sorted(Path("saved").iterdir(), key=lambda path: path.stat().st_ctime)[-1]
    resumed = resume(folder)
    assert resumed["test"] == whole["test"] and resumed["best_epoch"] == whole["best_epoch"]
    one, other = (
        load_file(Path(each["folder"]) / "model.safetensors") for each in (whole, resumed)
    )
    assert all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("value", ["1", "-0.1", "x"])
def test_wrong_decays_are_refused(value, capfd):
    assert main(["--model=LR", "--dataset=ml-100k", f"--weight_average={value}"]) == 2
    assert "weight_average" in capfd.readouterr().err
