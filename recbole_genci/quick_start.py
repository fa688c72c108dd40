"""One command, or one call: prepare the rows, give the items semantic IDs, train, evaluate, report."""

from __future__ import annotations

import contextlib
import functools
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from recbole.utils import init_seed

from recbole_genci.checkpoint import STATE_FILE, training_state_file
from recbole_genci.config import Config, known_keys, parse_argv
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.data.download import check_dataset
from recbole_genci.data.fingerprint import data_fingerprint, rows_fingerprint
from recbole_genci.data.loaders import log_summary
from recbole_genci.data.stored import DATA_FILE, store_parts
from recbole_genci.evaluation.diagnostics import save_diagnostics
from recbole_genci.files import check_writable, provenance, read_mapping, sha256_of, write_json, write_text
from recbole_genci.key_help import help_text
from recbole_genci.launch import train_together, world_size
from recbole_genci.lock import only_process
from recbole_genci.logs import log_file, start_console
from recbole_genci.processes import ALONE, Processes
from recbole_genci.registry import revision
from recbole_genci.report import save_comparison
from recbole_genci.saved import SEMANTIC_ID_FOLDER
from recbole_genci.tokenizer import SemanticIDs, load_or_build_semantic_ids, tokenizer_settings
from recbole_genci.trainer import WEIGHTS_FILE, CTRTrainer, measure_latency


def run(
    model: str | Sequence[str],
    dataset: str,
    config_files: Sequence[str] | None = None,
    config_dict: dict | None = None,
    argv: Sequence[str] = (),
) -> list[dict]:
    """Train and evaluate one model or several on the same rows, one after another.

    Args:
        model: a name, several separated by commas, or a list of names.
        dataset: the dataset's name.
        config_files: YAML files.
        config_dict: keys, stronger than the files.
        argv: ``--key=value`` words, stronger than the dict.

    Returns:
        list of dict: what each run wrote to its ``metrics.json``, seed by seed and model by model.

    Raises:
        ValueError, FileNotFoundError: anything wrong with models, keys, files or columns; before any training.
    """
    return execute(prepare(model, dataset, config_files, config_dict, argv))


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, read and checked: nothing but training is left to do.

    Attributes:
        configs: each model's Config, in the order asked for.
        parts: the training, validation and test part that all of them share.
        semantic_ids: of the dataset's items, if a model reads them.
        command: the command line that makes this plan.
    """

    configs: dict[str, Config]
    parts: list
    semantic_ids: SemanticIDs | None
    command: str


def prepare(model, dataset, config_files=None, config_dict=None, argv=(), check: Callable[[Config], None] | None = None) -> Plan:
    """Check the request, read the rows and give the items semantic IDs; arguments and errors as of ``run``.

    ``check`` may refuse each model's Config, before anything is read.
    """
    names = [name.strip() for name in (model.split(",") if isinstance(model, str) else model)]
    if len(set(names)) != len(names):
        raise ValueError(f"model: {', '.join(names)} names a model twice.")
    configs = {name: Config(name, dataset, config_files, config_dict, argv, compared_models=names) for name in names}
    first = configs[names[0]]
    start_console(first["state"])
    check_same_rows(configs)
    for config in configs.values():
        getattr(config.model_class, "check_settings", lambda config: None)(config)
        if check:
            check(config)
    check_dataset(first)
    for key in ("checkpoint_dir", "results_dir"):
        check_writable(Path(first[key]), key)
    reader = next((c for c in configs.values() if getattr(c.model_class, "reads_semantic_ids", False)), None)
    settings = tokenizer_settings(reader) if reader and reader["semantic_id_path"] is None else None

    parts = prepare_rows(first)
    semantic_ids = prepare_semantic_ids(reader, parts[0], settings) if reader else None
    for config in configs.values():  # a wrong setting of the last model is found before the first one trains
        config.model_class(config, create_loaders(config, parts, semantic_ids)[0].dataset)
    command = shlex.join(["python", "run_recbole_genci.py", f"--model={','.join(names)}", f"--dataset={dataset}", *argv])
    return Plan(configs, parts, semantic_ids, command)


def execute(plan: Plan) -> list[dict]:
    """Train and evaluate the plan's models, seed by seed, and save their table; returns what ``run`` returns."""
    first = next(iter(plan.configs.values()))
    runs, seeds = [], range(first["seed"], first["seed"] + first["seeds"])
    try:
        for seed in seeds:
            for config in plan.configs.values():
                config["seed"] = seed
                runs.append(_train(config, plan))
    except Exception:
        if runs:
            files = " ".join(str(Path(run["folder"]) / "metrics.json") for run in runs)
            logging.getLogger().error(f"{len(runs)} runs had finished; their table: python -m recbole_genci.report {files}")
        raise
    finally:
        for config in plan.configs.values():
            config["seed"] = seeds.start
    if first["offset"]:  # another machine has the first process, and the results
        return runs
    folder = new_folder(Path(first["results_dir"]), first["dataset"])
    table = save_comparison(runs, folder, plan.command)
    logging.getLogger().info(f"Test results, also in {folder}/:\n{table}")
    return runs


def _train(config, plan: Plan) -> dict:
    if world_size(config) == 1:
        return train_and_evaluate(config, plan.parts, plan.semantic_ids)
    with contextlib.ExitStack() as stack:
        if config["offset"]:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = _new_run_folder(config)
        ids = plan.semantic_ids if getattr(config.model_class, "reads_semantic_ids", False) else None
        metrics = train_together(train_and_evaluate, config, config_as_yaml(config), plan.parts, ids, folder)
    return metrics | {"folder": str(folder)}


def _new_run_folder(config) -> Path:
    return new_folder(Path(config["checkpoint_dir"]), f"{config['model']}-{config['dataset']}")


def check_same_rows(configs: dict[str, Config]) -> None:
    """Refuse configurations under which the compared models would see different rows, splits or histories.

    Raises:
        ValueError: names the key and both values.
    """
    keys = {*next(iter(configs.values())).parameters["Dataset"], "eval_args", "history_labels", "history_source", "seed",
            "data_seed", "shuffle", "metrics", "valid_metric", "train_batch_size"}  # fmt: skip
    (name, config), *others = configs.items()
    for other_name, other in others:
        for key in sorted(keys):
            if config[key] != other[key]:
                raise ValueError(
                    f"{key}: {name} has {config[key]!r} but {other_name} has {other[key]!r}, so they would not be compared "
                    "on the same rows. Set it once, on the command line or in a configuration file."
                )


def prepare_rows(config) -> list:
    """Training, validation and test part, summarised on the console, and the arithmetic that every run uses."""
    # Numbers below 1e-38 (sharp attention, moments of rare features) make a CPU several times slower: take them for 0.
    torch.set_flush_denormal(True)
    parts = create_dataset(config).build()
    log_summary(parts)
    return parts


def prepare_semantic_ids(config, part, settings: dict | None) -> SemanticIDs:
    """Load the semantic IDs of the dataset's items, or build and cache them."""
    tokens = [str(token) for token in part.field2id_token[part.iid_field][1:]]
    if settings is None:
        ids = SemanticIDs.load(Path(config["semantic_id_path"]))
        logging.getLogger().info(
            f"Semantic IDs of {len(ids.item_tokens)} items from {config['semantic_id_path']}, hash {ids.digest[:12]}; the "
            "tokenizer's keys have no effect."
        )
        return ids
    ids = load_or_build_semantic_ids(
        settings, part.item_file, part.iid_field, tokens, Path(config["semantic_id_dir"]), part.dataset_name,
        device=config["device"], show_progress=config["show_progress"], field_separator=config["field_separator"],
        encoding=config["encoding"] or "utf-8",
    )  # fmt: skip
    if config["device"].type == "cuda":
        torch.cuda.empty_cache()  # the encoder's: this process keeps it while others train
    return ids


def resume(folder: str | Path) -> dict:
    """Go on with a run that was stopped, from its last evaluated epoch, as if it had never stopped.

    Args:
        folder: the run's folder; its ``config.yaml`` says what was asked for.

    Returns:
        dict: the content of ``metrics.json``.

    Raises:
        FileNotFoundError, ValueError: no run there, nothing to resume, or data that have changed since.
        RuntimeError: another process is training it.
    """
    return _execute_resumed(prepare_resumed(folder), folder)


def prepare_resumed(folder: str | Path) -> Plan:
    """Check that ``folder`` holds a stopped run, and prepare its data again."""
    folder = Path(folder)
    file = folder / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"resume: {file} does not exist; give the folder of a run, saved/<model>-<dataset>-<time>.")
    asked = read_mapping(file, ["model", "dataset"], "Start the run anew.", "resume")
    if (asked.get("nproc") or 1) > 1 or (asked.get("world_size") or 1) > 1:
        raise ValueError(f"resume: {folder} was trained by several processes (nproc), of which a stopped run keeps no state. "
                         "Start it anew.")  # fmt: skip
    training_state_file(folder)
    with only_process(folder):  # which may still be training
        pass
    return prepare(asked["model"], asked["dataset"], [str(file)])


def _execute_resumed(plan: Plan, folder: str | Path) -> dict:
    (config,) = plan.configs.values()
    return train_and_evaluate(config, plan.parts, plan.semantic_ids, resume_folder=Path(folder))


def train_and_evaluate(
    config,
    parts,
    semantic_ids: SemanticIDs | None = None,
    resume_folder: Path | None = None,
    test: bool = True,
    callback_fn: Callable[[int, float], None] | None = None,
    folder: Path | None = None,
    processes: Processes = ALONE,
) -> dict:
    """Train one model on prepared parts, evaluate its best epoch, and leave everything in one folder.

    Args:
        config: the model's Config; its seed governs initialisation, batches and dropout.
        parts: training, validation and test part of ``CTRDataset.build()``.
        semantic_ids: for models that read them.
        resume_folder: of a stopped run of this configuration, to go on with; None starts a new one.
        test: False leaves the test part alone, and the folder as that of a run which has not finished: ``resume_folder`` can
            finish it later.
        callback_fn: called with each evaluated epoch and its validation score.
        folder: of a new run, where it exists already.
        processes: that call this function together and train one model; the first of them leaves what one would.

    Returns:
        dict: the content of ``metrics.json``; without ``test``, and of other than the first process, what of it is known.
    """
    folder = resume_folder or folder or _new_run_folder(config)
    with contextlib.ExitStack() as stack:
        if processes.is_first:
            stack.enter_context(only_process(folder))
            stack.enter_context(log_file(folder / "run.log"))
            write_text(folder / "config.yaml", config_as_yaml(config))
        logger = logging.getLogger()
        train, valid, test_loader = create_loaders(config, parts, semantic_ids)
        model_reads_ids = train.dataset.semantic_ids is not None
        processes.share_training(train)
        if resume_folder is None and processes.is_first:
            store_parts(parts, folder / DATA_FILE)
            if model_reads_ids:
                semantic_ids.save(folder / SEMANTIC_ID_FOLDER)

        init_seed(config["seed"], config["reproducibility"])
        model = processes.shared_model(config.model_class(config, train.dataset).to(config["device"]))
        logger.info(model)
        if not processes.is_first:
            torch.manual_seed(config["seed"] + processes.rank)  # dropout of other rows is drawn apart; weights are the same
        identity = {"rows": data_fingerprint(parts), "features": rows_fingerprint(parts),
                    "semantic IDs": semantic_ids.digest if model_reads_ids else None}  # fmt: skip
        if revision(config.model_class) > 1:
            identity["model revision"] = revision(config.model_class)
        started = time.perf_counter()
        if resume_folder is None and getattr(model, "teacher_is_pretrained", False):
            _pretrain_teacher(config, model, train, valid, folder, processes)
        trainer = CTRTrainer(config, model, folder, identity if processes.size == 1 else None, processes)
        if resume_folder is not None:
            trainer.resume(train)
        _, best_valid = trainer.fit(train, valid, show_progress=config["show_progress"], callback_fn=callback_fn)
        training_s = time.perf_counter() - started
        tested = {}
        if test:
            tested["test"] = _without_nan(trainer.evaluate(test_loader, show_progress=config["show_progress"]))
            if processes.is_first:
                tested |= measure_latency(model, test_loader, config["device"], config["latency_repeats"])
        metrics = {
            "model": config["model"],
            "dataset": config["dataset"],
            "seed": config["seed"],
            **tested,
            "best_valid": _without_nan(best_valid),
            "best_epoch": trainer.best_epoch + 1,
            "epochs": trainer.epochs_trained,
            "training_s": training_s,
            "nproc": processes.size,
            "model_revision": revision(config.model_class),
            "parameters": sum(p.numel() for p in model.parameters()),
            "data_fingerprint": identity["rows"],
            "rows_fingerprint": identity["features"],
            "semantic_ids": identity["semantic IDs"],
            "resumed": resume_folder is not None,  # training_s then counts the last stretch only
            "folder": str(folder),
            **provenance(),
        }
        if not test or not processes.is_first:
            return metrics
        if config["diagnostic_rows"]:
            loaders = {"valid": valid, "test": test_loader}
            save_diagnostics(model, loaders, train.dataset, config["device"], folder)
        metrics["weights_sha256"] = sha256_of(folder / WEIGHTS_FILE)
        write_json(folder / "metrics.json", metrics)
        (folder / STATE_FILE).unlink(missing_ok=True)  # two copies of the weights and the optimiser's moments
        logger.info(f"{config['model']} seed {config['seed']}: test {metrics['test']}, best epoch {metrics['best_epoch']} of "
                    f"{metrics['epochs']}, {training_s:.0f} s, everything in {folder}/")  # fmt: skip
    return metrics


def _without_nan(metrics: dict) -> dict:
    """Metrics as JSON can hold them: an undefined one (AUC of one class) is None."""
    return {name: float(value) if value == value else None for name, value in metrics.items()}


def _pretrain_teacher(config, model, train, valid, folder: Path, processes: Processes) -> None:
    """``sr_base: pretrained``: train the base model of Eq. 11 first, by the same trainer and early stopping."""
    logging.getLogger().info("Training the base model of the self-supervised regularisation (Eq. 11) first.")
    trainer = CTRTrainer(config, model.teacher, folder / "teacher", processes=processes)
    trainer.fit(train, valid, show_progress=config["show_progress"])
    trainer.load_weights(trainer.saved_model_file)
    model.freeze_teacher()


def new_folder(parent: Path, name: str) -> Path:
    """Make ``<parent>/<name>-<time>``; two runs of one second do not share a folder."""
    stem = parent / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 1000):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{stem} and 998 more of that name exist already; wait a second.")


def config_as_yaml(config) -> str:
    """The final configuration as YAML that a later run can be given by ``--config_files``."""
    internal = {"MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "valid_neg_sample_args",
                "test_neg_sample_args", "single_spec", "local_rank", "valid_metric_bigger", "data_path"}  # fmt: skip
    own = known_keys([config["model"]], config["dataset"]) - internal  # not those of models it was compared with
    plain = {key: list(value) if isinstance(value, tuple) else value
             for key, value in config.final_config_dict.items() if key in own}  # fmt: skip
    plain["train_neg_sample_args"] = None
    plain["data_path"] = str(Path(config["data_path"]).parent)
    header = f"# {config['model']} on {config['dataset']}, device {config['device']}, torch {torch.__version__}\n"
    return header + yaml.safe_dump(plain, sort_keys=True)


def main(argv: Sequence[str]) -> int:
    """The command ``run_recbole_genci.py``: words ``--key=value``.

    ``--help`` prints the keys. A request that cannot be carried out is one sentence on stderr and exit status 2, before
    anything is trained; ``--state=DEBUG`` shows where it was raised.
    """
    if any(word.startswith("--experiment=") for word in argv):
        from recbole_genci.experiments.command import main as run_experiments  # which build on this module

        return run_experiments(argv)
    words = {}
    try:
        if {"--help", "-h"} & set(argv):
            words = parse_argv([word for word in argv if word not in ("--help", "-h")])
            print(help_text(str(words.get("model", "GenCI")).split(","), words.get("dataset")))
            return 0
        words = parse_argv(argv)
        if "resume" in words:
            if len(words) > 1:
                raise ValueError("command line: --resume=<folder> stands alone; the folder's config.yaml says everything else.")
            work = functools.partial(_execute_resumed, prepare_resumed(str(words["resume"])), str(words["resume"]))
        else:
            work = functools.partial(execute, prepare_from_argv(argv))
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if str(words.get("state")).upper() == "DEBUG":
            raise
        print(f"recbole_genci: {error}", file=sys.stderr)
        return 2
    work()
    return 0


def prepare_from_argv(argv: Sequence[str]) -> Plan:
    """``prepare`` for a command line, which must name model and dataset."""
    words = parse_argv(argv)
    for key, example in {"model": "--model=GenCI", "dataset": "--dataset=ml-100k"}.items():
        if not words.get(key):
            raise ValueError(f"command line: --{key} is missing, for example {example}.")
    files = str(words["config_files"]).split() if words.get("config_files") else None
    own = ("--model", "--dataset", "--config_files")
    rest = [word for word in argv if word.partition("=")[0] not in own]
    return prepare(str(words["model"]), str(words["dataset"]), files, argv=rest)


def command() -> None:
    """Entry point of the installed command."""
    sys.exit(main(sys.argv[1:]))
