"""Train the missing runs of an experiment, by seed and variant.

Finished runs are kept. A run that fails is recorded, and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from recbole_genci.config.metric_names import KNOWN
from recbole_genci.data.fingerprint import data_fingerprint
from recbole_genci.data.storage import stored_bytes
from recbole_genci.evaluation.gauc import gauc
from recbole_genci.evaluation.scoring import metrics_of, users_of_part
from recbole_genci.experiments.cache import DataCache
from recbole_genci.experiments.definition import Variant
from recbole_genci.experiments.identity import run_hash
from recbole_genci.experiments.progress import Timer
from recbole_genci.experiments.records import FAILED, FINISHED, RUNS_FILE, Records, write_scores
from recbole_genci.experiments.request import Request, results_folder
from recbole_genci.plan import try_training
from recbole_genci.serving.saved_run import load
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.training.console import Heading, legend
from recbole_genci.training.machine_checks import RESULTS_SIZE
from recbole_genci.training.resuming import train_or_resume
from recbole_genci.training.unsaved_state import not_restored
from recbole_genci.utils.digests import SEAL
from recbole_genci.utils.disk import check_room
from recbole_genci.utils.failures import as_recorded, is_of_the_machine, log_failure
from recbole_genci.utils.provenance import provenance
from recbole_genci.utils.words import counted

_logger = logging.getLogger(__name__)

RUNS_FOLDER = "runs"
_COMPARED = frozenset(name.lower() for name in KNOWN)
_ROUNDING = 1e-4  # of a metric, more than a GPU's: tables show four places


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed, which is trained once.

    Attributes:
        variant: the variant.
        seed: the seed.
        config_hash: see ``run_hash``.
        semantic_ids: those that the model reads; None if it reads none.
        error: why the run cannot be trained: semantic IDs could not be made, or the model was
            tried and failed; else None.
    """

    variant: Variant
    seed: int
    config_hash: str
    semantic_ids: SemanticIDs | None
    error: str | None = None


class Runner:
    """Runs one experiment.

    Args:
        request: the checked request.
        cache: rows and semantic IDs, shared between experiments.

    Raises:
        ValueError: ``runs.jsonl`` is damaged, or there are no rows.
    """

    def __init__(self, request: Request, cache: DataCache):
        self.request, self.cache = request, cache
        self.parts, self.rows_fingerprint = cache.rows(request.config)
        self.data_fingerprint = data_fingerprint(self.parts)
        others = results_folder(request.config, "*")
        neighbours = sorted(
            file.parent for file in others.parent.glob(f"{others.name}/{RUNS_FILE}")
        )
        # A report on a sample of rows loads the model; the others need only its scores.
        needs_model = request.definition.rows is not None
        self.records = Records(request.folder, neighbours, with_model=needs_model)
        self.timer = Timer()
        self.semantic_ids: dict[str, SemanticIDs | None] = {}

    def run(self) -> dict[tuple[str, int], dict]:
        """Train the missing runs; return all records by variant and seed."""
        planned = self._planned()
        done = {
            (run.variant.name, run.seed): record
            for run in planned
            if (record := self.records.finished(run.config_hash))
        }
        for run in planned:
            if there := done.get((run.variant.name, run.seed)):
                self._note_time(run, there)
        left = [run for run in planned if (run.variant.name, run.seed) not in done]
        name = self.request.definition.name
        _logger.info(
            f"Experiment {name}: {counted(len(planned), 'run')}, {len(planned) - len(left)} there "
            f"already; {self._time_left(left)}. Everything goes to {self.request.folder}/."
        )
        if left:
            self._check_room()
            left = self._tried(left)
            _logger.info(legend(self.request.configs))
        ended = {}
        while left:
            run = left.pop(0)
            number = len(planned) - len(left)
            if run.config_hash not in ended:  # two variants of a sweep can be the same run
                ended[run.config_hash] = self._train(run, f"run {number} of {len(planned)}")
            record = ended[run.config_hash]
            done[(run.variant.name, run.seed)] = record
            _logger.info(
                f"Experiment {name}: run {number} of {len(planned)}, {run.variant.name} seed "
                f"{run.seed}, {_result(record)}; {self._time_left(left)}."
            )
        return done

    def _check_room(self) -> None:
        """Check that the disk has room for the rows and the tables; weights come on top."""
        needed = stored_bytes(self.parts) + RESULTS_SIZE
        check_room(self.request.folder, "results_dir", needed, "rows, tables and pictures")

    def _planned(self) -> list[PlannedRun]:
        """All runs with their semantic IDs, which are made now: an error shows before training."""
        prepared = {variant.name: self._prepared(variant) for variant in self.request.variants}
        self.semantic_ids = {name: ids for name, (ids, _) in prepared.items()}
        planned = []
        for seed in self.request.seeds:
            for variant in self.request.variants:
                ids, error = prepared[variant.name]
                config_hash = run_hash(
                    self.request.configs[variant.name],
                    seed,
                    self.rows_fingerprint,
                    ids,
                    len(self.parts[0]),
                )
                planned.append(PlannedRun(variant, seed, config_hash, ids, error))
        return planned

    def _prepared(self, variant: Variant) -> tuple[SemanticIDs | None, str | None]:
        config = self.request.configs[variant.name]
        try:
            # Variants that compare ways of making IDs make all of them here, none is published.
            published = not self.request.definition.makes_semantic_ids()
            return self.cache.semantic_ids(config, published), None
        except Exception as error:  # the variant fails, for example without its encoder
            log_failure(_logger, f"{variant.name} has no semantic IDs.", error)
            return None, as_recorded(error)

    def _tried(self, runs: list[PlannedRun]) -> list[PlannedRun]:
        """The same runs, each with the error of its model, if that cannot be trained."""
        errors: dict[str, str | None] = {}
        said = set()
        for run in runs:
            name = run.variant.name
            if name in errors or run.error is not None:
                continue
            try:
                config = self.request.configs[name]
                _, words = try_training(config, self.parts, run.semantic_ids)
                errors[name] = None
            except Exception as error:
                if is_of_the_machine(error):  # nor could the other models be tried here
                    raise
                log_failure(_logger, f"{name} is not trained.", error)
                errors[name], words = as_recorded(error), None
            if words and words not in said:  # of several lines of one model
                said.add(words)
                _logger.warning(words)
        return [replace(run, error=run.error or errors[run.variant.name]) for run in runs]

    def _train(self, planned: PlannedRun, place: str) -> dict:
        variant, seed = planned.variant, planned.seed
        config = self.request.configs[variant.name]
        record = {
            "status": FAILED,
            "config_hash": planned.config_hash,
            "experiment": self.request.definition.name,
            "model": config["model"],
            "settings": variant.keys,
            "dataset": config["dataset"],
            "seed": seed,
            "data_fingerprint": self.data_fingerprint,
            "rows_fingerprint": self.rows_fingerprint,
            "taken_from": None,
            "error": planned.error,
        }
        if planned.error is None:
            config["seed"], config["seeds"] = seed, 1
            folder = self.request.folder / RUNS_FOLDER / planned.config_hash[:16]
            try:
                # A model of one's own has a reference, module:Class, beside its name.
                name = f"{variant.name}, " if variant.name != config["model"] else ""
                sources = dict.fromkeys(variant.keys, "the experiment")
                heading = Heading.of(config, f"{name}{place}, seed {seed}", sources)
                run = train_or_resume(
                    config, self.parts, planned.semantic_ids, folder, heading=heading
                )
                run = run | self._score(Path(run["folder"]), run)
                run["folder"] = Path(run["folder"]).relative_to(self.request.folder).as_posix()
                # Those of its metrics.json, whose content the record changes.
                run = {key: value for key, value in run.items() if key not in (SEAL, "config")}
                record = run | record | {"status": FINISHED}
                self._note_time(planned, record)
            except Exception as error:
                if is_of_the_machine(error):  # nor could the other runs be trained here
                    raise
                # The error goes into the table, and the other runs go on.
                log_failure(_logger, f"{variant.name} seed {seed} failed.", error)
                record["error"] = as_recorded(error)
        record |= {"finished_at": datetime.now(UTC).isoformat(timespec="seconds")}
        if "versions" not in record:  # a failed run has no provenance yet
            record |= provenance()
        self.records.add(record)
        return record

    def _score(self, folder: Path, run: dict) -> dict:
        """Load the run from its folder, as anybody can, save its test scores and measure GAUC."""
        loaded = load(folder)
        predicted = loaded.predict("test")
        test = self.parts[2]
        users = users_of_part(test)
        _check_loaded(run, metrics_of(loaded.config, *predicted, users))
        scores, labels = (column.double().numpy() for column in predicted)
        value = float("nan") if users is None else gauc(users, labels, scores)
        digest = write_scores(folder, scores.astype("float32"))
        torch.cuda.empty_cache()
        return {
            "test": run["test"] | {"gauc": float(value) if value == value else None},
            "scores_sha256": digest,
        }

    def _note_time(self, run: PlannedRun, record: dict) -> None:
        seconds = None if record["resumed"] else record["training_s"]
        self.timer.add(run.variant.name, run.variant.model, seconds)

    def _time_left(self, left: list[PlannedRun]) -> str:
        runs = {
            run.config_hash: (run.variant.name, run.variant.model)
            for run in left
            if run.error is None
        }
        return str(self.timer.left(runs.values()))


def _check_loaded(run: dict, loaded: Mapping[str, float]) -> None:
    """Refuse a run whose stored scores would not have its test metrics.

    Raises:
        ValueError: a metric of the loaded scores differs; names it.
    """
    for name, value in run["test"].items():
        again = loaded[name]
        # An own metric may be a random number.
        if value is None or name not in _COMPARED or abs(value - again) < _ROUNDING:
            continue
        raise not_restored(run["model"], f"test {name} is {again:.6g}, not {value:.6g}")


def _result(record: dict) -> str:
    if record["status"] == FAILED:
        return f"failed: {record['error']}"
    auc = record["test"]["auc"]
    shown = "undefined" if auc is None else format(auc, ".4f")
    return f"test AUC {shown}, {record['training_s']:.0f} s of training"
