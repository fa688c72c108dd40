"""Stop hopeless trials early by Ray's asynchronous successive halving (ASHA)."""

from __future__ import annotations

from types import SimpleNamespace

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

_NO_LAST_EPOCH = 10**6  # a trial ends by itself, after its last epoch


class AshaStopper:
    """Ray's ASHAScheduler without the rest of Ray Tune.

    The scheduler's rule and interface are the same from Ray 2.6 to 2.60, while ``tune.run``,
    ``tune.report`` and Tune's folders have changed. At epochs ``grace_epochs * 4 ** k`` a trial
    continues if its best validation score so far is in the best quarter of the trials that have
    reached this epoch.

    Args:
        bigger: whether a higher validation score is better.
        grace_epochs: number of epochs that every trial may train.
    """

    def __init__(self, bigger: bool, grace_epochs: int):
        self.scheduler = ASHAScheduler(
            time_attr="epoch",
            metric="score",
            mode="max" if bigger else "min",
            grace_period=grace_epochs,
            max_t=_NO_LAST_EPOCH,
        )
        self.trials: dict[int, SimpleNamespace] = {}

    def should_stop(self, number: int, epoch: int, score: float) -> bool:
        """Whether to stop trial ``number``; ``score`` is its best one after ``epoch`` epochs."""
        if number not in self.trials:
            self.trials[number] = SimpleNamespace(trial_id=str(number))
            self.scheduler.on_trial_add(None, self.trials[number])
        verdict = self.scheduler.on_trial_result(
            None, self.trials[number], {"epoch": epoch, "score": score}
        )
        return verdict == TrialScheduler.STOP

    def remember(self, records: list[dict]) -> None:
        """Add the trials in the journal of a resumed search."""
        for record in records:
            for epoch, score in record.get("curve") or []:
                self.should_stop(record["trial"], epoch, score)
