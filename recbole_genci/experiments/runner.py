"""Train what an experiment lacks: seed by seed and line by line; what has finished is kept, what
fails is recorded.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from recbole_genci.config.key_source import DICT
from recbole_genci.data.fingerprint import data_fingerprint
from recbole_genci.evaluation.gauc import gauc
from recbole_genci.experiments.cache import Preparation
from recbole_genci.experiments.definition import Line, known_experiments
from recbole_genci.experiments.identity import cell_hash
from recbole_genci.experiments.progress import Timer
from recbole_genci.experiments.records import FAILED, FINISHED, Records, write_scores
from recbole_genci.experiments.request import Request, results_folder
from recbole_genci.serving.saved_run import load
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.training.console import Heading, legend
from recbole_genci.training.unfinished import train_or_go_on
from recbole_genci.utils.provenance import provenance

_logger = logging.getLogger(__name__)

RUNS_FOLDER = "runs"


@dataclass(frozen=True)
class Cell:
    """A line of the table with one seed: what is trained once.

    Attributes:
        line: of the table.
        seed: of the run.
        config_hash: see ``cell_hash``.
        semantic_ids: those the model reads.
        error: why they could not be made, so that nothing can be trained.
    """

    line: Line
    seed: int
    config_hash: str
    semantic_ids: SemanticIDs | None
    error: str | None = None


class Runner:
    """Carries out one request.

    Args:
        request: checked.
        preparation: of rows and semantic IDs, shared between experiments.

    Raises:
        ValueError: a damaged ``runs.jsonl``, or no rows.
    """

    def __init__(self, request: Request, preparation: Preparation):
        self.request, self.preparation = request, preparation
        self.parts, self.rows_fingerprint = preparation.rows(request.config)
        self.data_fingerprint = data_fingerprint(self.parts)
        neighbours = [results_folder(request.config, name) for name in known_experiments()]
        looks_inside = (
            request.definition.rows is not None
        )  # an analysis of a model's rows, not of its scores
        self.records = Records(request.folder, neighbours, with_model=looks_inside)
        self.timer = Timer()

    def run(self) -> dict[tuple[str, int], dict]:
        """Train what is not there yet; the records by line and seed."""
        cells = self._cells()
        done = {
            (cell.line.name, cell.seed): self.records.finished(cell.config_hash) for cell in cells
        }
        done = {key: record for key, record in done.items() if record}
        for cell in cells:
            if record := done.get((cell.line.name, cell.seed)):
                self._note_time(cell, record)
        left = [cell for cell in cells if (cell.line.name, cell.seed) not in done]
        name = self.request.definition.name
        _logger.info(
            f"Experiment {name}: {len(cells)} runs, {len(cells) - len(left)} of them are there "
            "already; "
            f"{self._time_left(left)}. Everything goes to {self.request.folder}/."
        )
        if left:
            _logger.info(legend(self.request.config))
        ended = {}
        while left:
            cell = left.pop(0)
            number = len(cells) - len(left)
            if cell.config_hash not in ended:  # two lines of a sweep can be one run
                ended[cell.config_hash] = self._train(cell, f"run {number} of {len(cells)}")
            record = ended[cell.config_hash]
            done[(cell.line.name, cell.seed)] = record
            _logger.info(
                f"Experiment {name}: run {number} of {len(cells)}, {cell.line.name} seed "
                f"{cell.seed}, "
                f"{_outcome(record)}; {self._time_left(left)}."
            )
        return done

    def _cells(self) -> list[Cell]:
        """All cells, with their semantic IDs made: what cannot be had is known before anything is
        trained.
        """
        prepared = {line.name: self._semantic_ids(line) for line in self.request.lines}
        cells = []
        for seed in self.request.seeds:
            for line in self.request.lines:
                ids, error = prepared[line.name]
                config_hash = cell_hash(
                    self.request.configs[line.name], seed, self.rows_fingerprint, ids
                )
                cells.append(Cell(line, seed, config_hash, ids, error))
        return cells

    def _semantic_ids(self, line: Line) -> tuple[SemanticIDs | None, str | None]:
        try:
            # Lines about how IDs are made are compared to one another: all of them are made here.
            published = not self.request.definition.makes_semantic_ids()
            return self.preparation.semantic_ids(self.request.configs[line.name], published), None
        except (
            Exception
        ) as error:  # an encoder out of reach is the outcome of its lines; the others can go on
            _logger.exception(f"{line.name} has no semantic IDs.")
            return None, _sentence(error)

    def _train(self, cell: Cell, place: str) -> dict:
        config = self.request.configs[cell.line.name]
        record = {
            "status": FAILED,
            "config_hash": cell.config_hash,
            "experiment": self.request.definition.name,
            "model": config["model"],
            "settings": cell.line.keys,
            "dataset": config["dataset"],
            "seed": cell.seed,
            "data_fingerprint": self.data_fingerprint,
            "rows_fingerprint": self.rows_fingerprint,
            "taken_from": None,
            "error": cell.error,
        }
        if cell.error is None:
            config["seed"], config["seeds"] = cell.seed, 1
            folder = self.request.folder / RUNS_FOLDER / cell.config_hash[:16]
            try:
                line = f"{cell.line.name}, " if cell.line.name != cell.line.model else ""
                heading = Heading.of(
                    config, f"{line}{place}, seed {cell.seed}", {DICT: "the experiment"}
                )
                run = train_or_go_on(config, self.parts, cell.semantic_ids, folder, heading=heading)
                run = run | self._score(Path(run["folder"]), run)
                run["folder"] = Path(run["folder"]).relative_to(self.request.folder).as_posix()
                record = run | record | {"status": FINISHED}
                self._note_time(cell, record)
            except (
                Exception
            ) as error:  # whatever a model dies of is its line in the table, and the others go on
                _logger.exception(f"{cell.line.name} seed {cell.seed} failed.")
                record["error"] = _sentence(error)
        record |= {"finished_at": datetime.now(UTC).isoformat(timespec="seconds")}
        if "versions" not in record:  # it failed before it could tell
            record |= provenance()
        self.records.add(record)
        return record

    def _score(self, folder: Path, run: dict) -> dict:
        """Keep the test rows' scores, from the folder as anybody can load it, and measure GAUC on
        them.
        """
        scores, labels = (column.double().numpy() for column in load(folder).predict("test"))
        test = self.parts[2]
        users = test.inter_feat[test.uid_field].numpy()
        value = gauc(users, labels, scores)
        write_scores(folder, scores.astype("float32"))
        torch.cuda.empty_cache()
        return {"test": run["test"] | {"gauc": float(value) if value == value else None}}

    def _note_time(self, cell: Cell, record: dict) -> None:
        self.timer.add(
            cell.line.name, cell.line.model, None if record["resumed"] else record["training_s"]
        )

    def _time_left(self, left: list[Cell]) -> str:
        runs = {
            cell.config_hash: (cell.line.name, cell.line.model)
            for cell in left
            if cell.error is None
        }
        return str(self.timer.left(runs.values()))


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _outcome(record: dict) -> str:
    if record["status"] == FAILED:
        return f"failed: {record['error']}"
    auc = record["test"]["auc"]
    return f"test AUC {'undefined' if auc is None else format(auc, '.4f')}, {record['training_s']:.0f} s of training"
