import numpy as np
import pytest
import torch
from references import residual_quantize

from recbole_genci.tokenizer.quantization import fit_result
from recbole_genci.tokenizer.quantization.fit_rkmeans import fit_rkmeans
from recbole_genci.tokenizer.quantization.fit_rqvae import fit_rqvae
from recbole_genci.tokenizer.quantization.options import QuantizerOptions, RQVAEOptions
from recbole_genci.tokenizer.quantization.quality import neighbor_recall

QUICK = RQVAEOptions(codebook_size=16, codebook_dim=8, rqvae_hidden_size=(16,), rqvae_epochs=4)


def fit(embeddings, **options):
    return fit_rkmeans(embeddings, QuantizerOptions(**options))


@pytest.fixture(scope="module")
def embeddings():
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(20, 12))
    return (topics[rng.integers(0, 20, 400)] + 0.3 * rng.normal(size=(400, 12))).astype(np.float32)


def test_codes_are_equation_3_on_the_centred_embeddings_and_repeat_bit_for_bit(embeddings):
    result = fit(embeddings, codebook_size=16)
    books = [book.codes for book in result.model.codebooks]
    expected, quantized, _ = residual_quantize(
        result.model.encode(torch.from_numpy(embeddings)), books
    )
    np.testing.assert_array_equal(result.codes, expected.numpy())
    reconstruction = result.model.decode(quantized).numpy()
    error = ((reconstruction - embeddings) ** 2).sum() / (
        (embeddings - embeddings.mean(axis=0)) ** 2
    ).sum()
    assert result.quality["reconstruction_error"] == pytest.approx(float(error), rel=1e-4)
    np.testing.assert_array_equal(result.codes, fit(embeddings, codebook_size=16).codes)
    assert not np.array_equal(
        result.codes, fit(embeddings, codebook_size=16, tokenizer_seed=1).codes
    )


def test_it_says_of_itself_what_the_rqvae_says(embeddings):
    theirs = fit_rqvae(embeddings, QUICK)
    assert set(fit(embeddings, codebook_size=16).quality) == set(theirs.quality) - {"best_epoch"}


def test_codes_do_not_depend_on_the_scale_of_the_embeddings(embeddings):
    """In float32 the squares of 1e-30 are 0, and those of 1e30 are infinite."""

    def by_rqvae(rows):
        return fit_rqvae(rows, QUICK)

    for method in (by_rqvae, lambda rows: fit(rows, codebook_size=16)):
        expected = method(embeddings)
        for exponent in (-100, -40, -12, 90):
            rows = np.ldexp(embeddings, exponent)
            found = method(rows)
            np.testing.assert_array_equal(found.codes, expected.codes)
            assert found.quality == expected.quality
            encoded = found.model.encode(torch.from_numpy(rows))
            assert torch.equal(encoded, expected.model.encode(torch.from_numpy(embeddings)))


def test_plain_kmeans_collapses_on_a_small_catalogue_where_balanced_does_not():
    # A dense middle with outliers, as the residuals of a small catalogue are.
    rng = np.random.default_rng(5)
    rows = np.concatenate([0.05 * rng.normal(size=(600, 16)), rng.normal(size=(200, 16))]).astype(
        np.float32
    )
    with pytest.raises(RuntimeError, match="collapsed.*codebook_balance: sinkhorn"):
        fit(rows, codebook_size=32, codebook_balance="nearest")
    balanced = fit(rows, codebook_size=32)
    assert all(level["largest_share"] < 0.35 for level in balanced.quality["levels"])


def test_spreading_leaves_no_collisions_but_equal_embeddings(embeddings):
    rows = np.concatenate([embeddings, embeddings[:10]])
    before = fit(rows, codebook_size=8, num_codebooks=2)
    after = fit(rows, codebook_size=8, num_codebooks=3, spread_collisions=True)
    assert before.quality["collision_rate"] > after.quality["collision_rate"]
    np.testing.assert_array_equal(after.codes[:10], after.codes[400:])
    assert (
        after.quality["collision_rate_nearest"]
        >= after.quality["collision_rate"]
        >= after.quality["equal_embeddings"]
    )
    assert after.quality["equal_embeddings"] == pytest.approx(10 / 410)


@pytest.mark.parametrize("spread", [False, True])
def test_items_in_parts_have_the_codes_and_the_quality_of_all_at_once(
    embeddings, spread, monkeypatch
):
    monkeypatch.setattr("recbole_genci.tokenizer.quantization.quality._NEIGHBOUR_SAMPLE", 130)
    whole = fit(embeddings, codebook_size=16, spread_collisions=spread)
    monkeypatch.setattr(fit_result, "_CHUNK", 37)
    parts = fit(embeddings, codebook_size=16, spread_collisions=spread)
    np.testing.assert_array_equal(parts.codes, whole.codes)
    error = "reconstruction_error"
    assert parts.quality.pop(error) == pytest.approx(whole.quality.pop(error), rel=1e-5)
    assert parts.quality == whole.quality
    quantized = sum(
        book.codes[torch.from_numpy(whole.codes[:, level])]
        for level, book in enumerate(whole.model.codebooks)
    )
    decoded = whole.model.decode(quantized).numpy()
    assert whole.quality["neighbor_recall"] == pytest.approx(
        neighbor_recall(embeddings, decoded), abs=1e-9
    )
