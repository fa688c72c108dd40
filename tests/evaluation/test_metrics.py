"""RelaImpr."""

import pytest

from recbole_genci.evaluation.metrics import rela_impr


@pytest.mark.parametrize(
    ("auc", "base", "percent"),
    [
        (0.8964, 0.8577, 10.82),
        (0.8908, 0.8577, 9.25),
        (0.7519, 0.7284, 10.29),
        (0.7182, 0.6985, 9.92),
        (0.7117, 0.6985, 6.65),
    ],
)
def test_rela_impr_reproduces_the_papers_table_3(auc, base, percent):
    assert rela_impr(auc, base) == pytest.approx(percent, abs=0.005)


def test_rela_impr_refuses_a_base_no_better_than_a_guess():
    with pytest.raises(ValueError, match="0.5"):
        rela_impr(0.7, 0.5)
