"""The shims of RecBole's layers give what its own lines give; those of loaders mend them."""

import importlib.util
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import recbole.model.abstract_recommender as recommender
import recbole.model.layers as layers
import torch
from recbole.data.dataloader import AbstractDataLoader

import recbole_genci.data.loaders
import recbole_genci.model.base  # noqa: F401  applies the shims


class Rows(AbstractDataLoader):
    """A loader whose iteration begins with ``at_first``."""

    def __init__(self, at_first):
        config = {"seed": 1, "MODEL_TYPE": None, "single_spec": True, "worker": 0}
        self.sample_size, self.at_first = 5, at_first
        super().__init__(config | {"transform": None}, "the dataset", None)

    def _init_batch_size_and_step(self):
        self.step = 2

    def collate_fn(self, index):
        return index

    def _get_iterator(self):
        self.at_first()
        return super()._get_iterator()


def test_a_loader_has_its_dataset_whatever_others_do():
    others, seen = Rows(lambda: None), []

    def look():
        seen.append(others.dataset)

    def meanwhile():
        one = threading.Thread(target=look)
        one.start()
        one.join()

    loader = Rows(meanwhile)
    assert list(loader) == [[0, 1], [2, 3], [4]]
    assert seen == ["the dataset"]

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        iter(Rows(fail))
    assert others.dataset == loader.dataset == "the dataset"


def as_recbole_wrote_it(module):
    spec = importlib.util.spec_from_file_location("unchanged", module.__file__)
    unchanged = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unchanged)
    return unchanged


@pytest.fixture(scope="module")
def original():
    return as_recbole_wrote_it(layers), as_recbole_wrote_it(recommender)


def test_offsets_of_fields_are_added(original):
    generator = torch.Generator().manual_seed(0)
    offsets = np.array([0, 3, 7])
    tokens = torch.randint(3, (5, 3), generator=generator)
    numbers = torch.stack([torch.rand(5, 3, generator=generator), tokens.float()], dim=-1)
    for name, given in (("FMEmbedding", tokens), ("FLEmbedding", numbers)):
        ours = getattr(layers, name)([3, 4, 5], offsets, 4)
        theirs = getattr(original[0], name)([3, 4, 5], offsets, 4)
        theirs.load_state_dict(ours.state_dict())
        assert list(ours.state_dict()) == ["embedding.weight"]
        for _ in range(2):
            assert torch.equal(ours(given), theirs(given))
        ours.offsets = theirs.offsets = np.array([0, 0, 0])
        assert torch.equal(ours(given), theirs(given))


@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_sequences_are_pooled(original, mode):
    generator = torch.Generator().manual_seed(0)
    tables = [torch.nn.Embedding(9, 4, padding_idx=0) for _ in range(2)]
    tokens = [torch.randint(9, (6, length), generator=generator) for length in (3, 5)]
    tokens[0][0] = 0  # a row without a value
    numbers = [torch.stack([torch.rand(each.shape), each.float()], dim=-1) for each in tokens]
    for kind, fields in (("token_seq", tokens), ("float_seq", numbers)):
        name = f"embed_{kind}_fields"
        model = SimpleNamespace(device="cpu", **{f"{kind}_embedding_table": tables})
        side = SimpleNamespace(
            device="cpu", pooling_mode=mode, **{f"{kind}_embedding_table": {"item": tables}}
        )
        for fields_given in (fields, []):
            ours = getattr(recommender.ContextRecommender, name)(model, fields_given, mode)
            theirs = getattr(original[1].ContextRecommender, name)(model, fields_given, mode)
            assert (ours is theirs is None) or torch.equal(ours, theirs)
            ours = getattr(layers.ContextSeqEmbAbstractLayer, name)(side, fields_given, "item")
            theirs = getattr(original[0].ContextSeqEmbAbstractLayer, name)(
                side, fields_given, "item"
            )
            assert (ours is theirs is None) or torch.equal(ours, theirs)
