import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from recbole_genci.tokenizer.quantization.determinism import fixed_threads


def _blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def _denormal():
    return float(torch.tensor([2.0**-126]) * 0.5)


@pytest.mark.parametrize("before", [False, True])
def test_threads_and_denormals_are_fixed_inside_and_restored_outside(before):
    threads, pools = torch.get_num_threads(), _blas_threads()
    torch.set_flush_denormal(before)
    try:
        with pytest.raises(KeyError):
            with fixed_threads(2):
                assert torch.get_num_threads() == 2 and _denormal() == 0.0
                assert _blas_threads() <= {1, 2}
                raise KeyError
        assert torch.get_num_threads() == threads and _blas_threads() == pools
        assert (_denormal() == 0.0) == before
    finally:
        torch.set_flush_denormal(False)


def test_codes_do_not_depend_on_the_threads_of_the_caller():
    from recbole_genci.tokenizer.build import fit_quantizer
    from recbole_genci.tokenizer.settings import tokenizer_settings

    rows = np.random.default_rng(0).normal(size=(600, 96)).astype(np.float32)
    settings = tokenizer_settings(
        {"item_text_fields": ["title"], "codebook_size": 16, "rqvae_epochs": 4}
    )
    codes = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            codes.append(fit_quantizer(settings, rows).codes)
        finally:
            torch.set_num_threads(before)
    np.testing.assert_array_equal(*codes)
