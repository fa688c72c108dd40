"""MLflow: one MLflow run for each of our runs, in the store that ``MLFLOW_TRACKING_URI`` names.

MLflow's client is used, not its global run, so that a host program's own run is left alone.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path

from recbole_genci.training.tracking.tracker import RunFacts
from recbole_genci.utils.layout import MLFLOW_ID_FILE
from recbole_genci.utils.writing import write_text

_MOST_PARAMETERS = 100  # that MLflow takes in one request
_UNWRITABLE = re.compile(r" *[^\w./ -]+ *", re.ASCII)  # what no name in MLflow may hold


class MlflowRun:
    """An MLflow run; see `tracker.Tracker`.

    Raises:
        ConnectionError: MLflow opened no run; says why.
    """

    def __init__(self, facts: RunFacts) -> None:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.errors: tuple[type[Exception], ...] = (MlflowException, OSError)
        try:
            self._client = MlflowClient()
            known = self._continued(facts.folder / MLFLOW_ID_FILE)
            self.continues = known is not None
            self._run = known or self._opened(facts)
        except self.errors as error:
            raise ConnectionError(
                f"{facts.key}: MLflow opened no run ({' '.join(str(error).split())}). Set "
                "MLFLOW_TRACKING_URI to a server that answers, or to sqlite:///mlflow.db for a "
                "file on this machine."
            ) from error

    def _continued(self, file: Path) -> str | None:
        """The MLflow run that the folder had before; None if there is none in the store."""
        from mlflow.exceptions import MlflowException

        if not file.is_file():
            return None
        number = file.read_text(encoding="utf-8").strip()
        try:
            self._client.update_run(number, status="RUNNING")
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None  # another store, or deleted there
            raise
        return number

    def _opened(self, facts: RunFacts) -> str:
        from mlflow.entities import Param

        experiment = self._experiment(str(facts.keys["mlflow_experiment"]))
        run = self._client.create_run(
            experiment, run_name=facts.folder.name, tags=dict(facts.tags)
        ).info.run_id
        parameters = [Param(name, str(value)) for name, value in sorted(facts.keys.items())]
        for begin in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(run, params=parameters[begin : begin + _MOST_PARAMETERS])
        write_text(facts.folder / MLFLOW_ID_FILE, f"{run}\n")
        return run

    def _experiment(self, name: str) -> str:
        """The ID of the experiment of that name, which is made if it is not there."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:  # another process may have made it since
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def log(self, part: str, figures: Mapping[str, float], epoch: int) -> None:
        """Metrics ``train/...`` and ``valid/...`` over epochs, from 1."""
        self._log({f"{part}/{name}": value for name, value in figures.items()}, epoch)

    def log_test(self, metrics: Mapping[str, float]) -> None:
        """Metrics ``test/...``."""
        self._log({f"test/{name}": value for name, value in metrics.items()}, 0)

    def _log(self, figures: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(_UNWRITABLE.sub("_", name), float(value), now, step)
            for name, value in figures.items()
        ]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, exit_code: int) -> None:
        """End the MLflow run as finished, failed or, after a signal, killed."""
        status = {0: "FINISHED", 1: "FAILED"}.get(exit_code, "KILLED")
        self._client.set_terminated(self._run, status)
