"""TensorBoard: a run's parameters, losses and metrics in RecBole's own event file."""

from __future__ import annotations

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from recbole_genci.training.tracking.tracker import RunFacts


class TensorboardRun:
    """The figures of a run in an event file; see `tracker.Tracker`.

    Args:
        writer: RecBole's. TensorBoard reads one file of a folder after the other, and would leave
            the first one where a second one grows beside it.
        facts: the parameters are the keys, with the tags.
    """

    errors: tuple[type[Exception], ...] = (OSError,)
    continues = True  # event files stay in the folder

    def __init__(self, writer: SummaryWriter, facts: RunFacts) -> None:
        self._writer = writer
        self._parameters = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in {**facts.keys, **facts.tags}.items()
        }
        lines = [f"    {name}: {value}" for name, value in self._parameters.items()]
        writer.add_text("parameters", "\n".join(lines))

    def log(self, part: str, figures: Mapping[str, float], epoch: int) -> None:
        """Scalars ``train/...`` and ``valid/...``."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{part}/{name}", value, epoch)
        self._writer.flush()

    def log_test(self, metrics: Mapping[str, float]) -> None:
        """Scalars ``test/...``, and a line in the table of hyperparameters."""
        shown = {f"test/{name}": value for name, value in metrics.items()}
        for summary in hparams(self._parameters, shown):
            self._writer._get_file_writer().add_summary(summary)
        for name, value in shown.items():
            self._writer.add_scalar(name, value)

    def close(self, exit_code: int) -> None:
        """Write what waits in memory."""
        self._writer.flush()
