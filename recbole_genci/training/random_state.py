"""The states of all random generators that training draws from."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from recbole.data.dataloader import AbstractDataLoader


def random_state(
    loader: AbstractDataLoader | None = None,
) -> tuple[dict[str, torch.Tensor], dict]:
    """The states of torch's generator, its GPU's, numpy's, Python's and, if one is given, the
    loader's; tensors by name, and everything else.
    """
    state = np.random.get_state()
    assert isinstance(state, tuple)  # a dict only where it is asked for
    name, keys, position, has_gauss, gauss = state
    tensors = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
    }
    if loader is not None:
        tensors["loader"] = loader.generator.get_state()
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors, {"numpy": [name, position, has_gauss, gauss], "python": random.getstate()}


def set_random_state(
    tensors: Mapping[str, torch.Tensor], facts: Mapping, loader: AbstractDataLoader | None = None
) -> None:
    """Restore the states that ``random_state`` returned."""
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])  # the GPU of this process
    name, position, has_gauss, gauss = facts["numpy"]
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, keys, position, has_gauss, gauss))
    version, values, gauss_next = facts["python"]
    random.setstate((version, tuple(values), gauss_next))
    if loader is not None:
        loader.generator.set_state(tensors["loader"])


@contextlib.contextmanager
def same_random_state(loader: AbstractDataLoader | None = None) -> Iterator[None]:
    """After the block every generator, the loader's too if one is given, is as it was before."""
    tensors, facts = random_state(loader)
    try:
        yield
    finally:
        set_random_state(tensors, facts, loader)
