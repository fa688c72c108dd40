"""Our quantiser against vector-quantize-pytorch's, on copied codebooks."""

import pytest
import torch
from references import residual_quantize

from recbole_genci.tokenizer.quantization.codebook import ResidualQuantizer

reference = pytest.importorskip("vector_quantize_pytorch")


def _both(learned, levels=4, size=19, dim=7):
    generator = torch.Generator().manual_seed(0)
    books = [torch.randn(size, dim, generator=generator) / (level + 1) for level in range(levels)]
    theirs = reference.ResidualVQ(
        dim=dim,
        num_quantizers=levels,
        codebook_size=size,
        kmeans_init=False,
        rotation_trick=False,
        commitment_weight=1.0,
    )
    for layer, book in zip(theirs.layers, books, strict=True):
        layer._codebook.embed.data.copy_(book[None])
    ours = ResidualQuantizer(dim, [size] * levels, dim, learned_codes=learned)
    ours.init_codebooks(books)
    return ours, theirs.eval(), books, torch.randn(300, dim, generator=generator)


@pytest.mark.parametrize("learned", [False, True])
def test_codes_and_sums_are_those_of_residual_vq(learned):
    ours, theirs, books, z = _both(learned)
    with torch.no_grad():
        expected, indices, _ = theirs(z[None])
    output = ours.quantize(z)
    assert torch.equal(output.codes, indices[0])
    torch.testing.assert_close(output.quantized, expected[0], atol=1e-5, rtol=1e-5)
    codes, quantized, _ = residual_quantize(z, books)
    assert torch.equal(codes, indices[0])
    torch.testing.assert_close(
        quantized, theirs.get_output_from_indices(indices)[0], atol=1e-5, rtol=1e-5
    )


def test_commitment_losses_and_their_gradients_are_those_of_residual_vq():
    ours, theirs, _, z = _both(learned=False)
    mine, other = z.clone().requires_grad_(), z.clone().requires_grad_()
    commitment = ours.quantize(mine).commitment
    _, _, losses = theirs.train()(other[None], freeze_codebook=True)
    # Theirs is a mean over the width too.
    torch.testing.assert_close(commitment / z.shape[1], losses.reshape(-1), atol=1e-5, rtol=1e-5)
    (commitment.sum() / z.shape[1]).backward()
    losses.sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-6, rtol=1e-4)
