"""Cells follow the numbers in a column."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from recbole_genci.data.sequence_cells import Cells

columns = st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6)


@given(columns, columns, st.none() | st.integers(1, 3), st.lists(st.integers(-1, 11)))
def test_cells_of_any_rows_equal_those_of_a_list(first, second, limit, wanted):
    cells = Cells()
    numbers = [
        cells.add(np.array(sum(part, []), dtype=object), np.array(list(map(len, part))), limit)
        for part in (first, second)
    ]
    assert np.concatenate(numbers).tolist() == list(range(len(first) + len(second)))
    known = [cell[:limit] for cell in first + second] + [[]]
    wanted = [number for number in wanted if number < len(known) - 1]
    column = pd.Series([None if number == -1 else number for number in wanted], dtype=float)
    entries, lengths = cells.of(column)
    assert entries.tolist() == [entry for number in wanted for entry in known[number]]
    assert lengths.tolist() == [len(known[number]) for number in wanted]
