import pytest
import torch
from references import residual_quantize

from recbole_genci.tokenizer.quantization.residual_kmeans import residual_kmeans
from recbole_genci.tokenizer.quantization.rqvae import RQVAE


@pytest.fixture
def data():
    return torch.randn(200, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(data):
    generator = torch.Generator().manual_seed(1)
    model = RQVAE(10, [8, 8, 8], latent_dim=6, hidden_size=(12,))
    model.reset_parameters(generator)
    model.set_input_statistics(data)
    with torch.no_grad():
        model.init_codebooks(residual_kmeans(model.encode(data), 3, 8, generator))
    return model


def _encoder_gradient(model):
    return torch.cat([p.grad.flatten() for p in model.encoder.parameters()]).norm()


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_commitment_of_every_level_trains_the_encoder(model, data, level):
    model(data).commitment[level].backward()
    assert float(_encoder_gradient(model)) > 1e-3


def test_the_reconstruction_trains_the_encoder_through_the_codes(model, data):
    model(data).reconstruction_loss.backward()
    assert float(_encoder_gradient(model)) > 1e-3


def test_reconstruction_and_commitment_gradients_are_of_one_scale(model, data):
    norms = []
    for pick in (lambda out: out.reconstruction_loss, lambda out: 0.25 * out.commitment.sum()):
        model.zero_grad()
        pick(model(data)).backward()
        norms.append(float(_encoder_gradient(model)))
    assert 0.1 < norms[0] / norms[1] < 100


def test_codes_are_those_of_equation_3_on_the_latents(model, data):
    with torch.no_grad():
        expected, quantized, _ = residual_quantize(
            model.encode(data), [book.codes for book in model.codebooks]
        )
        output = model(data)
    assert torch.equal(output.codes, expected)
    torch.testing.assert_close(output.reconstruction, model.decode(quantized).detach())
    assert output.reconstruction.shape == (200, 10)
    assert output.commitment.shape == (3,)
    assert output.residuals.shape == (200, 3, 6)


def test_codebooks_follow_the_mean_of_what_they_serve(model):
    book = model.codebooks[0]
    rows = torch.ones(4, 6) * torch.tensor([[1.0], [3.0], [5.0], [7.0]])
    before = book.codes.clone()
    for _ in range(200):
        book.update(rows, torch.tensor([0, 0, 1, 1]), decay=0.9)
    torch.testing.assert_close(book.codes[0], torch.full((6,), 2.0))
    torch.testing.assert_close(book.codes[1], torch.full((6,), 6.0))
    torch.testing.assert_close(book.codes[2], before[2])  # unused codes stay


def test_codebooks_that_were_never_set_are_refused_and_survive_a_reload(model, data):
    fresh = RQVAE(10, [8, 8, 8], latent_dim=6, hidden_size=(12,))
    with pytest.raises(RuntimeError, match="not set"):
        fresh(data)
    fresh.load_state_dict(model.state_dict())
    assert bool(fresh.initted)
    assert torch.equal(fresh(data).codes, model(data).codes)


def test_impossible_sizes_are_refused_by_name():
    with pytest.raises(ValueError, match="codebook_size"):
        RQVAE(10, [], latent_dim=6)
