"""Successive halving, driven without a cluster."""

import pytest

try:
    import ray.tune  # noqa: F401
except (
    ImportError,
    AttributeError,
) as error:  # no ray; or ray 2.6, which reads names that numpy 2 has not
    pytest.skip(f"ray.tune cannot be imported: {error}", allow_module_level=True)

from recbole_genci.tuning.asha import AshaStopper  # noqa: E402


@pytest.mark.parametrize("bigger", [True, False])
def test_a_trial_outside_the_best_quarter_ends_at_its_rung(bigger):
    stopper, sign = AshaStopper(bigger, grace_epochs=2), 1 if bigger else -1
    for number, score in enumerate(
        [0.5, 0.6, 0.7, 0.8], start=1
    ):  # each better than those before it
        assert not stopper.should_stop(number, 1, sign * score) and not stopper.should_stop(
            number, 2, sign * score
        )
    assert not stopper.should_stop(5, 1, sign * 0.1)  # before the first rung
    assert stopper.should_stop(5, 2, sign * 0.6) and not stopper.should_stop(6, 2, sign * 0.79)
    assert not any(
        stopper.should_stop(6, epoch, sign * 0.79) for epoch in range(3, 8)
    )  # between rungs 2 and 8
    assert not stopper.should_stop(6, 8, sign * 0.79)  # the first at rung 8


def test_a_search_that_goes_on_judges_by_the_trials_of_before():
    stopper = AshaStopper(True, grace_epochs=1)
    stopper.remember(
        [{"trial": 1, "curve": [[1, 0.7], [2, 0.8]]}, {"trial": 2, "curve": []}, {"trial": 3}]
    )
    assert stopper.should_stop(4, 1, 0.6) and not stopper.should_stop(5, 1, 0.75)
