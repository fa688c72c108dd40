"""A search from start to end: prepare the data once, run the trials, test the selected one."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_genci.config import Config, parse_argv
from recbole_genci.config.added_keys import as_resumed, keys_before
from recbole_genci.config.as_command import as_command
from recbole_genci.config.config import TRUST
from recbole_genci.config.protocol import world_size
from recbole_genci.data.fingerprint import data_fingerprint, rows_fingerprint
from recbole_genci.data.loaders import model_view
from recbole_genci.data.storage import store_parts
from recbole_genci.plan import Plan, prepare
from recbole_genci.results import RunResult, SearchResult
from recbole_genci.training import stopped
from recbole_genci.training.console import legend, sources_of
from recbole_genci.training.own_checks import check_importable, why_nothing_decays
from recbole_genci.training.run_folder import config_as_yaml, new_folder
from recbole_genci.training.saved_files import check_config, config_mapping
from recbole_genci.tuning.bayes import BayesianSearch
from recbole_genci.tuning.points import grid_points
from recbole_genci.tuning.result import (
    RESULT,
    SELECTED,
    TABLE,
    trial_table,
    write_plot,
    write_result,
)
from recbole_genci.tuning.settings import Settings
from recbole_genci.tuning.space import Space, check_space, read_params_file, read_params_text
from recbole_genci.tuning.study import JOURNAL, Study, read_journal
from recbole_genci.tuning.trial import MachineFailed, Shared
from recbole_genci.utils.digests import check_file, plain, read_sealed, sealed
from recbole_genci.utils.layout import CONFIG_FILE, DATA_FILE
from recbole_genci.utils.lock import only_process, refuse_if_busy
from recbole_genci.utils.logs import log_file
from recbole_genci.utils.mappings import read_mapping
from recbole_genci.utils.own_code import permitted_model, source_digest
from recbole_genci.utils.provenance import provenance
from recbole_genci.utils.run_folders import no_folder_of
from recbole_genci.utils.scripts import TUNE, command_line, words_of
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.words import counted
from recbole_genci.utils.writing import write_json, write_text

_logger = logging.getLogger(__name__)

SEARCH_FILE, PARAMS_FILE = "search.json", "params.txt"
_REMEDY = "Start a new search."  # the remedy if a file of the old one is damaged


class NoTrialFinished(RuntimeError):
    """Every trial of a search failed; the search's table has their errors."""


@dataclass(frozen=True)
class Search:
    """A search that is checked and prepared. Only its trials are left to do.

    Attributes:
        folder: the folder of all its files.
        plan: configuration, rows and semantic IDs, which all trials share.
        space: the parameters that are searched.
        settings: how to search.
        command: the command line that makes this search.
    """

    folder: Path
    plan: Plan
    space: Space
    settings: Settings
    command: str

    @property
    def config(self) -> Config:
        """The configuration that trials start from."""
        return next(iter(self.plan.configs.values()))

    def identity(self) -> dict:
        """Hashes of the rows, of rows and features, of the semantic IDs, and of the source of a
        person's own model. A resumed search must have the same hashes.
        """
        ids = self.plan.semantic_ids
        parts = self.plan.parts
        return {
            "data_fingerprint": data_fingerprint(parts),
            "rows_fingerprint": rows_fingerprint(parts),
            "semantic_ids": ids.digest if ids else None,
            "model_source": source_digest(self.config.model_class),
        }

    def save_settings(self) -> None:
        """Save the settings, from which ``resume_search`` continues."""
        text = (self.folder / CONFIG_FILE).read_text(encoding="utf-8")
        settings = {
            "settings": dataclasses.asdict(self.settings),
            "command": self.command,
            "config": config_mapping(text),
            **self.identity(),
            "params_sha256": sha256_of(self.folder / PARAMS_FILE),
        }
        write_json(self.folder / SEARCH_FILE, sealed(plain(settings)))


def tune(
    model: str | type,
    dataset: str,
    params_file: str | Path,
    config_files: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
    **settings: Any,
) -> SearchResult:
    """Search the values of some keys for one model.

    Args:
        model: one model, as for ``recbole_genci.run``.
        dataset, config_files, config_dict, argv: as for ``recbole_genci.run``. The values of a
            trial override ``config_files`` and ``config_dict``.
        params_file: RecBole's parameter file; see ``recbole_genci.tuning.space``.
        settings: the fields of ``Settings``.

    Returns:
        SearchResult: the selected values, their tested run, and all trials as a table; see
        ``recbole_genci.results``.

    Raises:
        ValueError, FileNotFoundError, ImportError: the request is wrong; raised before any
            training.
        NoTrialFinished: every trial failed.

    Examples:
        >>> search = tune("GenCI", "ml-100k", "hyper.test", algo="random", max_evals=20)
        >>> search.params, search.score, search.run.test
        >>> search.trials.sort_values("score")
    """
    return execute(
        prepare_search(
            model, dataset, params_file, config_files, config_dict, argv, Settings(**settings)
        )
    )


def resume_search(
    folder: str | Path, model: str | type | None = None, trust_code: bool = False, **changes: Any
) -> SearchResult:
    """Resume a stopped search, or give a finished one more trials.

    Args:
        folder: the search's folder.
        model, trust_code: for a search of a model of your own, as for ``recbole_genci.load``.
        changes: new values of ``max_evals``, ``early_stop``, ``ray_address``, ``cpus_per_trial`` or
            ``gpus_per_trial``.

    Returns:
        SearchResult: as ``tune``.

    Raises:
        ValueError, FileNotFoundError, ImportError, NoTrialFinished: as ``tune``.
    """
    return execute(prepare_resumed_search(folder, model, trust_code, **changes))


def prepare_search(
    model: str | type,
    dataset: str,
    params_file: str | Path,
    config_files: str | Path | Sequence[str | Path] | None,
    config_dict: Mapping[str, Any] | None,
    argv: Sequence[str],
    settings: Settings,
) -> Search:
    """Check a new search, prepare its rows and semantic IDs, and make its folder.

    Arguments and errors are those of ``tune``.
    """
    if isinstance(model, str) and "," in model:
        raise ValueError(f"model: '{model}' names several models; a search tunes one.")
    space = read_params_file(params_file)
    check_search(settings, space)
    check = _check_before_reading(space, params_file, argv, settings)
    plan = prepare([model], dataset, config_files, config_dict, argv, check=check)
    (config,) = plan.configs.values()
    _warn_of_equal_trials(space, plan, config, str(params_file))
    folder = new_folder(Path(config["results_dir"]), f"hyper-{config['model']}-{dataset}")
    words = [
        f"--model={config.model_reference}",
        f"--dataset={dataset}",
        f"--params_file={params_file}",
    ]
    words += _setting_words(settings)
    references = [config.model_reference]
    command = as_command(TUNE, words, references, config_files, config_dict, argv)
    search = Search(folder, plan, space, settings, command)
    write_text(folder / CONFIG_FILE, config_as_yaml(config, plan.semantic_ids))
    write_text(folder / PARAMS_FILE, read_params_text(params_file))
    return search


def check_search(settings: Settings, space: Space) -> None:
    """Refuse settings that do not fit the space, or that need a missing library or cluster.

    Raises:
        ValueError: as ``grid_points``; or a trial asks for more than the Ray cluster has.
        ImportError: hyperopt or ray is missing.
        ConnectionError: there is no Ray cluster at ``ray_address``.
    """
    if settings.algo == "bayes":
        _require(
            "hyperopt",
            "--algo=bayes",
            "hyperopt",
            "--algo=exhaustive and --algo=random do not need it",
        )
    if settings.tool == "Ray":
        _require(
            "ray",
            "--tool=Ray",
            "'ray[tune]'",
            "--tool=Hyperopt runs trials one after another without it",
        )
        try:
            # Imported here, because only this module needs ray.
            from recbole_genci.tuning.ray_backend import check_cluster
        except AttributeError as error:  # ray 2.6 reads names that numpy 2 lacks
            raise ImportError(
                f"--tool=Ray: the ray that is installed does not work with this numpy ({error}); "
                "current ray does: pip install --upgrade 'ray[tune]'."
            ) from error
        check_cluster(settings)
    if settings.algo == "exhaustive":
        grid_points(space, seed=0)


def _require(library: str, option: str, package: str, otherwise: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise ImportError(
            f"{option} needs {library}, which is not installed: pip install {package}. {otherwise}."
        )


def prepare_resumed_search(
    folder: str | Path, model: str | type | None = None, trust_code: bool = False, **changes: Any
) -> Search:
    """Prepare the search of ``folder`` again; arguments as for ``resume_search``."""
    folder = Path(folder)
    if not (folder / SEARCH_FILE).is_file():
        raise FileNotFoundError(
            f"resume_search: {no_folder_of('search', folder, SEARCH_FILE)} Give the folder of a "
            "search, results/hyper-<model>-<dataset>-<time>."
        )
    refuse_if_busy(folder)
    saved = _read_search_file(folder / SEARCH_FILE)
    keys = read_mapping(folder / CONFIG_FILE, ["model", "dataset"], _REMEDY, "resume_search")
    reference = permitted_model(keys, folder, model, trust_code, "--resume_search")
    began = as_resumed(saved["config"], keys, reference)
    check_config(folder / CONFIG_FILE, keys, began, "resume_search")
    settings = Settings(**saved["settings"] | changes)
    check_file(folder / PARAMS_FILE, saved["params_sha256"], _REMEDY)
    space = read_params_file(folder / PARAMS_FILE)
    check_search(settings, space)
    records = read_journal(folder / JOURNAL)
    if not records and any((folder / name).is_file() for name in (TABLE, RESULT)):
        raise ValueError(
            f"resume_search: {folder / JOURNAL} is missing or empty, although the search has "
            "ended a trial. Take it from a copy of the folder, or start a new search."
        )
    for record in records:  # damage is refused before rows are read
        if set(record["params"]) != set(space):
            raise ValueError(
                f"resume_search: trial {record['trial']} in {folder / JOURNAL} has values of "
                f"{', '.join(record['params']) or 'no key'}, but {PARAMS_FILE} searches "
                f"{', '.join(space)}. {_REMEDY}"
            )
    before = keys_before(keys, reference)
    values = {TRUST: True} | before
    plan = prepare([reference], keys["dataset"], [str(folder / CONFIG_FILE)], values)
    command = _with_settings(saved["command"], settings)
    search = Search(folder, plan, space, settings, command)
    for name, now in search.identity().items():
        if saved.get(name) != now:
            raise ValueError(
                f"resume_search: the trials of {folder} ran with {name} "
                f"{str(saved.get(name))[:12]}, but the files now give {str(now)[:12]}. Restore the "
                "files, or start a new search."
            )
    if before or reference != keys["model"]:  # trials read config.yaml
        write_text(folder / CONFIG_FILE, config_as_yaml(search.config, plan.semantic_ids))
    return search


def _setting_words(settings: Settings) -> list[str]:
    """The words of a command line that make these settings."""
    named = dataclasses.asdict(settings).items()
    return [f"--{name}={value}" for name, value in named if value is not None]


def _with_settings(command: str, settings: Settings) -> str:
    """The command line of a search, with other settings."""
    words = words_of(command)
    comment = command.removeprefix(command_line(TUNE, *words))
    names = dataclasses.asdict(settings)
    kept = [word for word in words if word[2:].partition("=")[0] not in names]
    return command_line(TUNE, *kept, *_setting_words(settings)) + comment


def _read_search_file(file: Path) -> dict:
    needed = ["settings", "command", "config", "params_sha256"]
    saved = read_sealed(file, needed, _REMEDY, "resume_search")
    if not isinstance(saved["settings"], dict):
        raise ValueError(
            f"resume_search: {file} is damaged: its 'settings' are {saved['settings']!r}. {_REMEDY}"
        )
    if unknown := sorted(
        set(saved["settings"]) - {field.name for field in dataclasses.fields(Settings)}
    ):
        raise ValueError(
            f"resume_search: {file} is damaged: '{unknown[0]}' is no setting of a search. {_REMEDY}"
        )
    return saved


def _check_before_reading(
    space: Space, source: str | Path, argv: Iterable[str], settings: Settings
) -> Callable[[Config], None]:
    def check(config: Config) -> None:
        if settings.tool == "Ray":
            check_importable(config, "tool: Ray")
        check_space(space, config, str(source), parse_argv(argv))
        if config["seeds"] != 1:
            raise ValueError(
                f"seeds: {config['seeds']} seeds a trial would multiply the search; leave it at 1, "
                "and compare the selected values over several seeds with run_recbole_genci.py."
            )
        if world_size(config) > 1:
            raise ValueError(
                "nproc: a trial is trained by one process; --tool=Ray trains several trials side "
                "by side."
            )

    return check


def _warn_of_equal_trials(space: Space, plan: Plan, config: Config, source: str) -> None:
    """Warn of a search over ``weight_decay`` of a model of which nothing decays."""
    if "weight_decay" not in space or {"weight_decay_of", "sr_weight"} & space.keys():
        return
    part = model_view(config, plan.parts[0], plan.semantic_ids)
    if why := why_nothing_decays(config, part):
        _logger.warning(
            f"{source}: trials that differ in weight_decay alone will be equal: {why}. Set it, "
            "or take weight_decay out."
        )


def execute(search: Search) -> SearchResult:
    """Run the remaining trials, select one by validation, test it, and write the results.

    Returns:
        SearchResult: as ``tune``.
    """
    try:
        return _execute(search)
    except (KeyboardInterrupt, MachineFailed, OSError, MemoryError) as stop:
        if (search.folder / SEARCH_FILE).is_file():
            (config,) = search.plan.configs.values()
            words = [f"--resume_search={search.folder}"]
            words += stopped.model_words(config.model_reference)
            stop.add_note(stopped.go_on(TUNE, words))
        raise


def _execute(search: Search) -> SearchResult:
    config, folder = search.config, search.folder
    metric, bigger = str(config["valid_metric"]), config["valid_metric_bigger"]
    with only_process(folder), log_file(folder / "search.log"):
        search.save_settings()
        sources = sources_of(config, folder / CONFIG_FILE, "the search's config.yaml")
        plan = search.plan
        shared = Shared(folder / CONFIG_FILE, plan.parts, plan.semantic_ids, sources=sources)
        store_parts(search.plan.parts, folder / DATA_FILE)  # trials only link to it
        study = Study(folder, shared, bigger, search.settings.early_stop)
        space = "\n".join(f"  {name}: {parameter}" for name, parameter in search.space.items())
        _logger.info(
            f"{search.settings.algo} search, at most {search.settings.num_trials(search.space)} "
            f"trials, in {folder}/ ({len(study.records)} are there)\n{space}"
        )
        _logger.info(legend(plan.configs))
        _run_trials(search, study)
        records, best = study.ordered(), study.best()
        if best is None:
            raise NoTrialFinished(
                f"None of the {counted(len(records), 'trial')} finished; the first says: "
                f"{records[0]['error']}"
            )
        run = study.test_best()
        selected = {
            "trial": best["trial"],
            "params": best["params"],
            "score": best["score"],
            "valid": best["valid"],
            "test": run["test"],
            "best_epoch": best["best_epoch"],
            "folder": run["folder"],
        }
        result = {
            "model": config["model"],
            "dataset": config["dataset"],
            "seed": config["seed"],
            "valid_metric": metric,
            **dataclasses.asdict(search.settings),
            "space": {name: str(p) for name, p in search.space.items()},
            "selected": selected,
            "trials": records,
            **search.identity(),
            "command": search.command,
            **provenance(),
        }
        write_result(result, folder)
        write_plot(records, metric, bigger, folder)
        found = SearchResult(result, RunResult.of(run), trial_table(records), folder)
        _logger.info(
            f"The best of {counted(len(records), 'trial')} by validation {metric}; all are in "
            f"{folder}/:\n{found}\nTo train with the selected values, give {folder / SELECTED} by "
            "--config_files, after your other files."
        )
    return found


def _run_trials(search: Search, study: Study) -> None:
    seed = search.config["seed"]
    if search.settings.tool == "Ray":
        from recbole_genci.tuning.ray_backend import run_trials  # only this module needs ray

        run_trials(
            study, search.settings.points(search.space, seed), search.settings, search.config
        )
        return
    if search.settings.algo == "bayes":
        BayesianSearch(
            study.run, search.space, search.settings.num_trials(search.space), seed
        ).run()
        return
    for point in search.settings.points(search.space, seed):
        _, hopeless = study.run(point)
        if hopeless:
            return
