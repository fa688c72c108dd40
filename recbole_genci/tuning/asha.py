"""Which trials are hopeless: Ray's asynchronous successive halving (ASHA), asked after each epoch
of each trial.
"""

from __future__ import annotations

from types import SimpleNamespace

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

_NO_LAST_EPOCH = 10**6  # a trial ends by itself, after its last epoch


class Judge:
    """Ray's ASHAScheduler without the rest of Ray Tune.

    The scheduler's rule and interface are the same from Ray 2.6 to 2.60, where ``tune.run``,
    ``tune.report`` and Tune's folders are not. At epochs ``grace_epochs * 4 ** k`` a trial goes on
    if its best validation score so far is within the best quarter of those that have come as far.

    Args:
        bigger: whether a higher validation score is better.
        grace_epochs: that every trial may train.
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

    def is_hopeless(self, number: int, epoch: int, score: float) -> bool:
        """Whether trial ``number``, whose best score after ``epoch`` epochs is ``score``, should
        end.
        """
        if number not in self.trials:
            self.trials[number] = SimpleNamespace(trial_id=str(number))
            self.scheduler.on_trial_add(None, self.trials[number])
        verdict = self.scheduler.on_trial_result(
            None, self.trials[number], {"epoch": epoch, "score": score}
        )
        return verdict == TrialScheduler.STOP

    def remember(self, records: list[dict]) -> None:
        """Take note of trials in the journal of a search that goes on."""
        for record in records:
            for epoch, score in record.get("curve") or []:
                self.is_hopeless(record["trial"], epoch, score)
