"""RecBole's Config, extended by this plugin's models, properties and checks.

An unknown key is an error. Precedence is RecBole's: command line > dict > files > properties.
Among properties the later one wins: RecBole's (overall, model, dataset, quick start), then ours
(overall, model, the default recipe, dataset; a recipe that a person names comes last). Ours come
after RecBole's so that every model of a comparison gets the same rows.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config as RecBoleConfig

from recbole_genci import compat
from recbole_genci.config import gpus
from recbole_genci.config.key_source import FILE, KeySource, key_source
from recbole_genci.config.keys import (
    DEFAULT_RECIPE,
    UNLISTED_KEYS,
    key_table,
    properties_folder,
    recipe_files,
)
from recbole_genci.config.metric_names import RECBOLE_METRICS, Metric, written
from recbole_genci.config.patience import settled_patience
from recbole_genci.config.protocol import check, check_evaluation, split_is_in_time_order
from recbole_genci.config.row_fields import check_row_fields, settle
from recbole_genci.config.unknown_keys import not_keys, own_keys
from recbole_genci.config.values import check_values
from recbole_genci.config.words import (
    check_dict,
    config_files_words,
    listed_files,
    parse_argv,
    value_of,
)
from recbole_genci.config.yaml_files import Loader, read_yaml
from recbole_genci.model.registry import entry_of
from recbole_genci.utils import own_code
from recbole_genci.utils.layout import CONFIG_FILE
from recbole_genci.utils.run_folders import what_it_is

TRUST = "trust_code"  # allows the import of code that files name


def _merged_eval_args(*dicts: dict) -> dict:
    """Merge the ``eval_args`` of several dicts entry by entry; a later entry wins.

    RecBole lets the last dict replace the others (configurator.py:441): a user who sets only the
    split would get a random order and full ranking.
    """
    parts = [d["eval_args"] for d in dicts if isinstance(d.get("eval_args"), dict)]
    if not parts:
        return {}
    return {"eval_args": {key: value for args in parts for key, value in args.items()}}


@functools.lru_cache(maxsize=256)
def _content(text: str) -> Any:
    return yaml.load(text, Loader=Loader)


class Config(RecBoleConfig):
    """Configuration of one model on one dataset.

    Metrics of one's own are code. The command line and Python name it; what a file names is
    imported only with the key ``trust_code: True``, which no file can set.

    Args:
        model: name of a CTR model of this plugin or of RecBole; a model of your own as
            ``module:Class``, ``path/to/file.py:Class`` or the class.
        dataset: name of the dataset.
        config_file_list: YAML files, later ones win.
        config_dict: keys from Python; not modified.
        argv: ``--key=value`` words. ``sys.argv`` is not read, because its words may belong to the
            host program.
        compared_models: the other models of the same run; their keys are accepted too.

    Attributes:
        entry: the model, as the registry knows it.
        model_reference: name or reference that finds the model again; ``config["model"]`` is its
            name alone.
        chosen, remedies: what was chosen for rows without a time or a user, as `Choices` says.
        undeclared: the keys that a person's own code has read although no file declares them, in
            their order.

    Raises:
        ValueError: an unknown model or key (the error names the nearest one), an unreadable value,
            or an evaluation that is not of labelled rows.
        FileNotFoundError: a configuration file is missing.
    """

    parameters: dict[str, list[str]]  # RecBole's: the keys of each of its categories
    chosen: dict[str, str]
    remedies: dict[str, str]
    undeclared: dict[str, None]

    def __init__(
        self,
        model: str | type,
        dataset: str,
        config_file_list: str | Path | Sequence[str | Path] | None = None,
        config_dict: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
        compared_models: Sequence[str | type] = (),
    ) -> None:
        self.undeclared = {}
        self._argv = list(argv)
        self._trusts_code = False
        self.entry = entry_of(model)
        self._models = [model, *(each for each in compared_models if each != model)]
        self.model_reference = self.entry.reference
        self._key_table = key_table([model, *compared_models], dataset)
        self._known_keys = self._key_table.keys() | UNLISTED_KEYS
        self._files: list[tuple[str | Path, dict[str, Any]]] = []
        self._properties: list[tuple[str | Path, dict[str, Any]]] = []
        try:
            super().__init__(model, dataset, listed_files(config_file_list), config_dict)
        except TypeError as error:  # RecBole raises it for a value of the wrong kind
            raise ValueError(f"configuration: {error}") from error
        gpus.check_there(self, self._by_hand)
        check(self)
        with self.pointing_to_keys():
            check_row_fields(self, self._reader, self.remedies)

    @contextlib.contextmanager
    def pointing_to_keys(self) -> Iterator[None]:
        """Add `forgotten_keys` to an error about columns or their keys inside the block."""
        try:
            yield
        except (ValueError, FileNotFoundError) as error:
            words = self.forgotten_keys()
            if words and words not in getattr(error, "__notes__", ()):  # of a block inside this one
                error.add_note(words)
            raise

    def forgotten_keys(self) -> str | None:
        """Which file has the dataset's keys, if it was not given; None if there is none.

        It is ``<dataset>.yaml`` in the dataset's folder, which ``data.prepare`` writes. If nothing
        at all says what the dataset is, it may also be in the current folder.
        """
        given = [each for each, _ in self._files]
        name = f"{self['dataset']}.yaml"
        file = Path(self["data_path"]) / name
        if file.is_file() and file.resolve() not in {Path(each).resolve() for each in given}:
            words = shlex.join(config_files_words([file, *given]))
            return f"{file} has keys of this dataset: give {words}."
        is_known = (properties_folder() / "dataset" / name).is_file()
        if not given and not is_known and Path(name).is_file():
            words = shlex.join(config_files_words([name]))
            return f"No --config_files was given, and {name} is there: give {words}."
        return None

    def compatibility_settings(self) -> None:
        compat.add_numpy_aliases()

    def _build_yaml_loader(self) -> type:
        return Loader  # RecBole's makes functions and modules of a file's tags

    def _init_parameters_category(self) -> None:
        super()._init_parameters_category()
        # RecBole appends to these module-level lists; work on copies.
        self.parameters = {category: list(keys) for category, keys in self.parameters.items()}

    def _load_config_files(self, file_list: Sequence[str | Path] | None) -> dict[str, Any]:
        for file in file_list or []:
            if not os.path.isfile(file):
                remedy = "give the path of a YAML file."
                if "," in str(file):
                    spaced = " ".join(part.strip() for part in str(file).split(",") if part.strip())
                    remedy = f"spaces divide files, not commas: --config_files='{spaced}'."
                elif os.path.isfile(os.path.join(file, CONFIG_FILE)):
                    remedy = f"the keys of its run are in {os.path.join(file, CONFIG_FILE)}."
                raise FileNotFoundError(f"config_files: '{file}' {what_it_is(file)}; {remedy}")
            self._files.append((file, read_yaml(Path(file), "config_files")))
            if TRUST in self._files[-1][1]:
                raise ValueError(
                    f"{TRUST}: '{file}' sets it, but a file cannot allow its own code. Give it on "
                    "the command line or from Python."
                )
        return {key: value for _, content in self._files for key, value in content.items()}

    def _load_variable_config_dict(self, config_dict: Mapping[str, Any] | None) -> dict[str, Any]:
        # RecBole takes whatever is false, such as [], for no dict.
        return {} if config_dict is None else self._convert_config_dict(config_dict)

    def _convert_config_dict(self, config_dict: Mapping[str, Any]) -> dict[str, Any]:
        check_dict(config_dict)
        converted = self._without_trust(
            {key: value_of(key, value) for key, value in config_dict.items()}
        )
        metrics = converted.get("metrics")
        if callable(metrics) or isinstance(metrics, (list, tuple)):
            converted["metrics"] = written(metrics)  # no file of the run could hold a function
        return converted

    def _load_cmd_line(self) -> dict[str, Any]:
        return self._without_trust(parse_argv(self._argv))

    def _without_trust(self, keys: dict[str, Any]) -> dict[str, Any]:
        """Take ``trust_code``, which is no property of a run, out of the keys."""
        trust = keys.pop(TRUST, self._trusts_code)
        if not isinstance(trust, bool):
            raise ValueError(f"{TRUST}: {trust!r} is neither True nor False.")
        self._trusts_code = trust
        return keys

    def _check_code_of_files(self) -> None:
        """Refuse code that a file names; a person names it, or allows it by ``trust_code``.

        Raises:
            ValueError: a metric that a file names is not known to this process yet.
        """
        keys = ("valid_metric", "metrics")
        named = {key: own_code.own_references({key: self.final_config_dict[key]}) for key in keys}
        sources = {key: self.source_of(key) for key in keys}
        by_hand = {
            reference for key in keys if sources[key].kind != FILE for reference in named[key]
        }
        for key in keys:
            for reference in named[key].keys() - by_hand:
                if self._trusts_code or own_code.is_known(reference):
                    continue
                raise ValueError(
                    f"{key}: {sources[key].file} names code, '{reference}', and importing it would "
                    f"run that code. If you know it, name it on the command line (--{key}=...) or "
                    "from Python, or allow what files name by --trust_code=True."
                )

    def _merge_external_config_dict(self) -> None:
        super()._merge_external_config_dict()
        sources = (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict)
        self.external_config_dict |= _merged_eval_args(*sources)
        if "local_rank" in self.external_config_dict:
            raise ValueError(
                "local_rank: the processes number themselves. Give nproc, the number of processes "
                "on this machine."
            )
        if unknown := [key for key in self.external_config_dict if key not in self._known_keys]:
            whose = "RecBole, of this plugin or of the models asked for"
            raise ValueError(
                f"configuration: {not_keys(unknown, self._known_keys, whose)}"
                f"{own_keys(self._models)} --help lists all keys."
            )

    def _get_model_and_dataset(self, model: str | type, dataset: str) -> tuple[str, type, str]:
        if "/" in dataset:
            raise ValueError(
                f"dataset: '{dataset}' is not a name; write data_path: <folder> and dataset: "
                "<folder in it>."
            )
        return self.entry.name, self.entry.model_class, dataset

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        entry, ours = self.entry, properties_folder()
        super()._load_internal_config_dict(entry.base, model_class, dataset)
        recipe = self.external_config_dict.get("recipe")
        recipe = str(recipe) if isinstance(recipe, (dict, list)) else recipe  # refused later
        files = [ours / "overall.yaml", ours / f"model/{entry.base}.yaml"]
        # Beneath the dataset's keys, and those beside a model of one's own; on top if a person
        # names it. What a search found is the whole of what differs from the paper's.
        beneath = {None: DEFAULT_RECIPE, "tuned": "paper"}.get(recipe, recipe)
        files += recipe_files(beneath, entry.base)
        files += [*entry.own_files, ours / f"dataset/{dataset}.yaml"]
        if recipe == "tuned":
            files.append(self._tuned_file(dataset))
        elif recipe is not None:
            files += recipe_files(recipe, entry.base)
        for file in files:
            if file.is_file():
                self._update_internal_config_dict(str(file))
        self.internal_config_dict.update(entry.changed_defaults)
        self._properties.append((Path(entry.base), entry.changed_defaults))

    def _tuned_file(self, dataset: str) -> Path:
        """The keys that a search has found for the model on the dataset."""
        folder, entry = properties_folder() / f"tuned/{dataset}", self.entry
        file = folder / f"{entry.base}.yaml"
        # A model of one's own does not inherit what a search found for its base.
        if own_code.is_reference(entry.reference) or not file.is_file():
            raise ValueError(
                f"recipe: 'tuned' has nothing for {entry.name} on '{dataset}'; properties/tuned/ "
                "has the models and datasets that it knows. Leave recipe out, or tune the model "
                "with run_hyper.py and give what it finds."
            )
        return file

    def _update_internal_config_dict(self, file: str) -> dict[str, Any]:
        # RecBole's (configurator.py:231) parses the file again for every Config.
        content = copy.deepcopy(_content(Path(file).read_text(encoding="utf-8"))) or {}
        self._properties.append((file, content))
        self.internal_config_dict |= content | _merged_eval_args(self.internal_config_dict, content)
        return content

    def _get_final_config_dict(self) -> dict[str, Any]:
        final = super()._get_final_config_dict()
        return final | _merged_eval_args(self.internal_config_dict, self.external_config_dict)

    def _set_default_parameters(self) -> None:
        own_files = set(map(str, self.entry.own_files))
        written: dict[str, Any] = {}
        for file, content in self._properties:
            written |= content if str(file) in own_files else {}
        # Our own defaults are of their kinds, as a test shows; those beside a person's model may
        # not be.
        written |= self.external_config_dict
        check_values(self._key_table, self.final_config_dict, written)
        self._check_code_of_files()
        metrics = check_evaluation(self.final_config_dict)
        self.final_config_dict["gpu_id"] = gpus.choose(self.final_config_dict, self._by_hand)
        # RecBole's trainer reads use_gpu.
        self.final_config_dict["use_gpu"] = self.final_config_dict["gpu_id"] != ""
        folder = Path(self.final_config_dict["data_path"]) / self.dataset
        self._set_metrics(metrics, super()._set_default_parameters)
        self.final_config_dict["transform"] = (
            None  # of no use here; a wrong one ends in a traceback
        )
        # RecBole always reads its packaged ml-100k. Here the user's own folder comes first, and a
        # download goes there.
        packaged = Path(self.final_config_dict["data_path"])
        if self.dataset == "ml-100k" and (folder.is_dir() or not packaged.is_dir()):
            self.final_config_dict["data_path"] = str(folder)
        self.chosen, self.remedies = settle(self.final_config_dict, written)
        if self.final_config_dict["show_progress"] is None:
            self.final_config_dict["show_progress"] = sys.stderr.isatty()
        self.final_config_dict["min_patience_steps"] = settled_patience(
            self.final_config_dict["min_patience_steps"],
            self._by_hand,
            self.external_config_dict,
            self._properties,
        )
        if self.final_config_dict["history_source"] is None:
            self.final_config_dict["history_source"] = (
                "past" if split_is_in_time_order(self.final_config_dict) else "training"
            )

    def _set_metrics(
        self, metrics: Sequence[Metric], set_default_parameters: Callable[[], None]
    ) -> None:
        """Show RecBole only metrics that it knows, and set the direction of ``valid_metric``."""
        final = self.final_config_dict
        names, valid = written(final["metrics"]), own_code.name_of(final["valid_metric"])
        final["metrics"] = [metric.name for metric in metrics if metric.name in RECBOLE_METRICS]
        set_default_parameters()
        final["metrics"], final["valid_metric"] = names, valid
        chosen = next(metric for metric in metrics if metric.key == valid.lower())
        final["valid_metric_bigger"] = not chosen.smaller_is_better

    def __getitem__(self, key: str) -> Any:
        if key not in self.final_config_dict:
            self._note_undeclared(key)
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:  # of what is no attribute, by RecBole a key
        if "final_config_dict" in self.__dict__ and name not in self.final_config_dict:
            self._note_undeclared(name)
        return super().__getattr__(name)

    def _note_undeclared(self, key: str) -> None:
        # RecBole's code reads keys of models that are not there.
        if key not in self._known_keys and own_code.is_own(sys._getframe(2).f_code.co_filename):
            self.undeclared[key] = None

    def _init_device(self) -> None:
        super()._init_device()
        gpus.show(self.final_config_dict["gpu_id"])

    def source_of(self, key: str) -> KeySource:
        """Where this Config took the value of ``key`` from; later changes are ignored."""
        return key_source(
            key, self.cmd_config_dict, self.variable_config_dict, self._files, self._properties
        )

    def is_set(self, key: str) -> bool:
        """Whether the user has set ``key``; not by a file with the default, as a run's
        ``config.yaml`` has all keys.
        """
        by_file = key in self.external_config_dict and key in self._key_table
        return key in self._by_hand or by_file and self[key] != self._key_table[key].default

    @property
    def without_effect(self) -> dict[str, str]:
        """The keys that the user set although nothing here reads them, each with why.

        Of those that another key of the model switches off, the ones with a value of their own:
        a run's ``config.yaml`` has them all.
        """
        keys = [self._key_table[key] for key in self.external_config_dict if key in self._key_table]
        found = {key.name: key.meaning for key in keys if key.does_nothing}
        switched_off = dict(self.model_class.switched_off(self))
        if self["device"].type != "cuda":
            switched_off["cuda_graphs"] = "The device is no GPU."
        split = (self.external_config_dict.get("eval_args") or {}).get("split")
        usual = self._key_table["eval_args"].default
        assert isinstance(usual, Mapping)
        if self["benchmark_filename"] is not None and split not in (None, usual["split"]):
            switched_off["eval_args"] = "The files of benchmark_filename are split already."
        own = (key.name for key in keys if self[key.name] != key.default)
        return found | {name: switched_off[name] for name in own if name in switched_off}

    @property
    def files_of_other_models(self) -> dict[str, str]:
        """The configuration files that name another model, as the ``config.yaml`` of its run does,
        each with that model.
        """
        named = {
            str(file): own_code.name_of(str(content["model"]))
            for file, content in self._files
            if content.get("model")
        }
        return {file: model for file, model in named.items() if model != self["model"]}

    @property
    def _reader(self) -> type:
        """The class that reads the rows, which must have what it needs."""
        return self.model_class

    @property
    def _by_hand(self) -> dict:
        return {**self.variable_config_dict, **self.cmd_config_dict}
