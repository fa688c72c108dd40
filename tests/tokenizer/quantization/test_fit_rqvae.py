import random

import numpy as np
import pytest
import torch

from recbole_genci.tokenizer import scale
from recbole_genci.tokenizer.quantization import fit_rqvae as fit_rqvae_module
from recbole_genci.tokenizer.quantization.fit_result import check_error, encode_all
from recbole_genci.tokenizer.quantization.fit_rqvae import _codebook_targets, _score, fit_rqvae
from recbole_genci.tokenizer.quantization.options import RQVAEOptions
from recbole_genci.tokenizer.quantization.rqvae import RQVAE

QUICK = {
    "codebook_size": 16,
    "codebook_dim": 8,
    "rqvae_hidden_size": (16,),
    "rqvae_epochs": 40,
    "rqvae_learning_rate": 5e-3,
}


def fit(embeddings, **options):
    return fit_rqvae(embeddings, RQVAEOptions(**options))


@pytest.fixture(scope="module")
def embeddings():
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(20, 12))
    rows = topics[rng.integers(0, 20, 240)] + 0.3 * rng.normal(size=(240, 12))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_same_seed_gives_the_same_codes_and_weights_bit_for_bit(embeddings):
    first, second = (fit(embeddings, tokenizer_seed=3, **QUICK) for _ in range(2))
    np.testing.assert_array_equal(first.codes, second.codes)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert not np.array_equal(first.codes, fit(embeddings, tokenizer_seed=4, **QUICK).codes)


def test_a_large_catalogue_gets_codes_as_good_from_every_fifth_epoch(embeddings, monkeypatch):
    exact = fit(embeddings, **QUICK).quality
    monkeypatch.setattr(scale, "LARGE_CATALOGUE", 100)
    seen = []

    def looked_at(model, data):
        seen.append(len(data))
        return encode_all(model, data)

    monkeypatch.setattr(fit_rqvae_module, "encode_all", looked_at)
    first, second = (fit(embeddings, tokenizer_seed=3, **QUICK) for _ in range(2))
    np.testing.assert_array_equal(first.codes, second.codes)
    # Epochs 10, 15, 20, 25, 30, 35 and the last; the first 10 of 40 are without codes.
    assert len(seen) == 2 * 7
    assert first.quality["best_epoch"] in {10, 15, 20, 25, 30, 35, 39}
    assert first.quality["collision_rate"] < exact["collision_rate"] + 0.05
    assert first.quality["reconstruction_error"] < 1.1 * exact["reconstruction_error"]


def test_fitting_neither_reads_nor_moves_the_global_random_state(embeddings):
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = fit(embeddings, tokenizer_seed=3, **QUICK)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    torch.manual_seed(2)
    np.testing.assert_array_equal(first.codes, fit(embeddings, tokenizer_seed=3, **QUICK).codes)


def test_codes_are_of_use_and_the_figures_describe_them(embeddings):
    result = fit(embeddings, **QUICK | {"rqvae_epochs": 80})
    assert result.codes.shape == (240, 3) and result.codes.dtype == np.int64
    quality = result.quality
    assert quality["collision_rate"] == 1 - len(np.unique(result.codes, axis=0)) / 240
    assert quality["collision_rate"] < 0.2
    assert quality["reconstruction_error"] < 0.35
    assert quality["neighbor_recall"] > 0.3
    for level, figures in enumerate(quality["levels"]):
        count = np.bincount(result.codes[:, level], minlength=16)
        assert figures["used"] == (count > 0).sum()
        assert figures["largest_share"] == count.max() / 240 < 0.3
        assert figures["perplexity"] > 8
    with torch.no_grad():
        np.testing.assert_array_equal(
            result.model(torch.from_numpy(embeddings)).codes.numpy(), result.codes
        )


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_codes_come_back_to_life(embeddings, update):
    result = fit(embeddings, codebook_update=update, **QUICK)
    assert all(level["used"] >= 15 for level in result.quality["levels"])


@pytest.mark.parametrize("items", [1, 2, 3, 10])
def test_tiny_catalogues_work_with_capped_codebooks(items, embeddings, caplog):
    with caplog.at_level("INFO"):
        result = fit(embeddings[:items], **QUICK)
    assert result.codes.shape == (items, 3)
    assert max(result.model.codebook_sizes) <= max(2, items // 4)
    assert "capped" in caplog.text


def test_equal_embeddings_share_their_codes_without_being_called_a_collapse(embeddings, caplog):
    result = fit(np.repeat(embeddings[:1], 50, axis=0), **QUICK)
    assert len(np.unique(result.codes, axis=0)) == 1
    mixed = np.concatenate([np.repeat(embeddings[:1], 150, axis=0), embeddings[:90]])
    assert len(np.unique(fit(mixed, **QUICK).codes[:150], axis=0)) == 1
    assert "same text embedding" in caplog.text


def test_a_diverging_run_stops_with_figures(embeddings):
    with pytest.raises(
        FloatingPointError, match=r"not finite.*reconstruction.*rqvae_learning_rate"
    ):
        fit(embeddings, **QUICK | {"rqvae_learning_rate": 1e30})


def test_a_collapsed_level_stops_the_run_with_figures(embeddings, monkeypatch):
    def one_place(z, num_codebooks, codebook_size, generator, balance, progress):
        return [torch.full((codebook_size, z.shape[1]), 100.0) for _ in range(num_codebooks)]

    monkeypatch.setattr("recbole_genci.tokenizer.quantization.fit_rqvae.residual_kmeans", one_place)
    monkeypatch.setattr(
        "recbole_genci.tokenizer.quantization.fit_rqvae._restart_dead_codes", lambda *_: None
    )
    with pytest.raises(RuntimeError, match=r"collapsed: level \d puts .*% of 240 items"):
        fit(embeddings, **QUICK | {"rqvae_epochs": 1})  # no time to recover


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(3), np.array([[np.nan, 0.0]])])
def test_unusable_embeddings_are_refused(bad):
    with pytest.raises(ValueError, match="finite embeddings"):
        fit(bad)


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("balance", ["sinkhorn", "nearest"])
def test_both_ways_to_move_codes_learn(embeddings, update, balance):
    short, long = (
        fit(
            embeddings,
            codebook_update=update,
            codebook_balance=balance,
            **QUICK | {"rqvae_epochs": epochs},
        )
        for epochs in (8, 60)
    )
    assert long.quality["reconstruction_error"] < 0.8 * short.quality["reconstruction_error"]
    assert long.quality["reconstruction_error"] < 0.4
    again = fit(
        embeddings, codebook_update=update, codebook_balance=balance, **QUICK | {"rqvae_epochs": 8}
    )
    np.testing.assert_array_equal(short.codes, again.codes)


def test_a_batch_of_fewer_rows_than_codes_trains_the_nearest():
    torch.manual_seed(0)
    model, rows = RQVAE(8, [6, 6], 4, [8], False), torch.randn(60, 8)
    model.set_input_statistics(rows)
    model.init_codebooks([torch.randn(6, 4), torch.randn(6, 4)])
    output = model(rows[:5])
    targets = _codebook_targets(model, output, True, False)
    assert torch.equal(torch.stack(targets, 1), output.codes)
    output = model(rows)
    exact, fast = (
        torch.stack(_codebook_targets(model, output, True, fast), 1) for fast in (False, True)
    )
    assert not torch.equal(exact, output.codes) and torch.equal(exact, fast)


def test_learned_codes_are_trained_by_gradients_and_averaged_ones_are_not(embeddings):
    learned = fit(embeddings, codebook_update="gradient", **QUICK | {"rqvae_epochs": 4}).model
    averaged = fit(embeddings, **QUICK | {"rqvae_epochs": 4}).model
    assert all(book.codes.requires_grad for book in learned.codebooks)
    assert not any(name.startswith("codebooks") for name, _ in averaged.named_parameters())
    assert {n for n in averaged.state_dict() if "ema" in n} and not {
        n for n in learned.state_dict() if "ema" in n
    }


def test_the_best_epoch_is_balanced_before_it_is_free_of_collisions():
    even = torch.arange(64).repeat(2)
    lopsided = torch.cat([torch.zeros(90, dtype=torch.int64), torch.arange(38)])
    balanced_colliding = torch.stack([even, even], dim=1)
    unbalanced_unique = torch.stack(
        [lopsided, torch.cat([torch.arange(64), torch.arange(64)])], dim=1
    )
    score = _score(balanced_colliding, [64, 64], 0.9)
    assert score == (0, 0.5, 0.9)
    assert score < _score(unbalanced_unique, [64, 64], 0.1)
    assert score < _score(balanced_colliding, [64, 64], 0.95)


def test_a_level_out_of_balance_is_named_with_its_remedy(embeddings, caplog):
    rng = np.random.default_rng(5)
    rows = np.concatenate([0.05 * rng.normal(size=(60, 12)), rng.normal(size=(240, 12))]).astype(
        np.float32
    )
    fit(rows, codebook_balance="nearest", **QUICK | {"codebook_size": 32, "rqvae_epochs": 2})
    assert "unbalanced" in caplog.text and "codebook_balance: sinkhorn" in caplog.text


def _blind_encoder(self, embeddings):
    return torch.zeros(len(embeddings), 8) + 0 * self.encoder(embeddings)


@pytest.mark.parametrize("size", [4, 16])
def test_a_network_that_gives_all_items_one_latent_has_collapsed(embeddings, monkeypatch, size):
    monkeypatch.setattr(
        "recbole_genci.tokenizer.quantization.fit_rqvae.RQVAE.encode", _blind_encoder
    )
    with pytest.raises(
        RuntimeError, match=rf"collapsed.* of 240 items in 1 place, too few for {size} codes"
    ):
        fit(embeddings, **QUICK | {"rqvae_epochs": 2, "codebook_size": size})


def test_equal_embeddings_may_share_one_code_whatever_rounding_says_of_them(monkeypatch):
    monkeypatch.setattr(
        "recbole_genci.tokenizer.quantization.fit_rqvae.RQVAE.encode", _blind_encoder
    )
    rows = np.ones((40, 12), dtype=np.float32)
    rows[::2] += np.float32(2e-7)
    assert fit(rows, **QUICK | {"rqvae_epochs": 2}).codes.max() == 0


def test_a_diverged_network_is_refused_and_a_doubtful_one_warned_of(embeddings, caplog):
    with pytest.raises(
        RuntimeError, match="diverged.*of the embeddings' variance.*`rqvae_learning_rate`"
    ):
        fit(embeddings, **QUICK | {"rqvae_learning_rate": 10.0, "rqvae_epochs": 8})
    model, data = fit(embeddings, **QUICK | {"rqvae_epochs": 8}).model, torch.from_numpy(embeddings)
    assert "variance" not in caplog.text
    check_error(1.05, model, data)
    assert "variance" not in caplog.text
    check_error(1.2, model, data)
    assert (
        "is 1.2 of the embeddings' variance" in caplog.text
        and "`rqvae_learning_rate`" in caplog.text
    )
    check_error(1e9, model, data[:1].expand(3, -1))  # one text alone: no variance to compare with
