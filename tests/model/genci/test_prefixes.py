"""Numbers of prefixes against a dictionary of tuples."""

import pytest
import torch
from conftest import item_codes

from recbole_genci.model.genci.prefixes import prefix_codes


@pytest.mark.parametrize("seed", range(4))
def test_items_share_a_number_exactly_if_they_share_the_prefix(seed):
    codes = torch.from_numpy(item_codes(30, (3, 2, 4), seed))
    codes[17] = -1  # an item without codes
    found = prefix_codes(codes)
    items = [item for item in range(30) if item not in (0, 17)]
    assert (found[0] == -1).all() and (found[17] == -1).all()
    for level in range(codes.shape[1]):
        prefixes = {item: tuple(codes[item, : level + 1].tolist()) for item in items}
        number = {prefix: place for place, prefix in enumerate(sorted(set(prefixes.values())))}
        assert [number[prefixes[item]] for item in items] == found[items, level].tolist()


def test_no_items_have_no_prefixes():
    assert torch.equal(prefix_codes(torch.full((2, 3), -1)), torch.full((2, 3), -1))
