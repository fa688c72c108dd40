"""RecBole's Config, with the plugin's models and properties found first, and with unknown keys refused.

Precedence, as in RecBole: command line > dict > files > properties. Properties, later wins: RecBole's own (overall, model,
dataset, quick start), then ours (overall, model, dataset, and tuned: what was found for this model on this dataset), so that
every model of a comparison gets the same rows.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import recbole
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import argument_list

from recbole_genci import compat
from recbole_genci.config import gpus
from recbole_genci.config.protocol import check, check_evaluation, split_is_in_time_order
from recbole_genci.config.values import check_kinds
from recbole_genci.model.registry import get_model, resolve
from recbole_genci.utils.validation import nearest

RECBOLE_FOLDER = Path(recbole.__file__).parent

#: Keys that RecBole or a loader reads although no properties file lists them.
_UNLISTED_KEYS = {
    "model", "dataset", "config_files", "device", "encoding", "local_rank", "nproc", "world_size", "offset", "ip", "port",
    "loss_type", "reg_weight", "double_tower", "numerical_features", "discretization", "transform", "save_dataset",
}  # fmt: skip


def properties_folder() -> Path:
    """The plugin's ``properties/``: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parent.parent
    for folder in (here / "properties", here.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"recbole_genci's properties/ folder was found neither in {here} nor in {here.parent}. "
        "The installation is incomplete: reinstall the package."
    )


_NOTHING = ("none", "~", "null")
_NAMES = {"dataset", "output", "append_to", "params_file", "resume", "resume_search"}


def parse_value(text):
    """Read a command-line or dict string as a Python literal or true/false; anything else stays a string.

    RecBole ``eval``s such strings (configurator.py:131), which runs code and turns ``os.name`` into ``posix``.
    """
    if not isinstance(text, str):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in _NOTHING:
        return None
    try:
        return lists_for_tuples(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def lists_for_tuples(value):
    """A literal with lists for its tuples: RecBole's models add lists to sizes."""
    if isinstance(value, dict):
        return {key: lists_for_tuples(each) for key, each in value.items()}
    return [lists_for_tuples(each) for each in value] if isinstance(value, (list, tuple)) else value


def parse_argv(argv: Iterable[str]) -> dict:
    """Turn ``--key=value`` words into a dict.

    Raises:
        ValueError: a word that is not ``--key=value``, or one key with two values.
    """
    parsed = {}
    for word in argv:
        key, equals, value = word[2:].partition("=")
        if not word.startswith("--") or not equals or not key:
            raise ValueError(f"command line: '{word}' is not of the form --key=value, for example --learning_rate=0.001.")
        if parsed.get(key, value) != value:
            raise ValueError(f"command line: --{key} is given twice, as '{parsed[key]}' and as '{value}'.")
        parsed[key] = value
    return {key: _value(key, value) for key, value in parsed.items()}


def _value(key: str, value):
    """``parse_value``, but a name or path is never a number: a folder 2024_01_02 is not 20240102."""
    if isinstance(value, np.generic):  # which no YAML or JSON file of the run could hold
        value = value.item()
    is_name = key in _NAMES or key.endswith(("_path", "_dir"))
    return value if is_name and str(value).lower() not in _NOTHING else parse_value(value)


def _repeated_key(node: yaml.Node | None):
    """The first key node that one mapping of a YAML document, at any depth, holds twice; YAML takes the last in silence."""
    if isinstance(node, yaml.MappingNode):
        seen = []  # a key that is itself a list or mapping has a value that cannot be hashed
        for key, value in node.value:
            if key.value in seen:
                return key
            seen.append(key.value)
            if found := _repeated_key(value):
                return found
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_repeated_key, node.value)), None)
    return None


def _listed_keys(*files: Path) -> set[str]:
    keys = set()
    for file in files:
        if file.is_file():
            keys |= set(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    return keys


def known_keys(models: Sequence[str], dataset: str) -> set[str]:
    """Every configuration key that a run of ``models`` on ``dataset`` may set: the union, so that a key of one model
    can be given when several are compared."""
    names = ["overall", "dataset/sample", f"dataset/{dataset}", *(f"model/{resolve(model)[0]}" for model in models)]
    files = [f / f"{name}.yaml" for f in (RECBOLE_FOLDER / "properties", properties_folder()) for name in names]
    lists = (argument_list.general_arguments, argument_list.training_arguments, argument_list.evaluation_arguments,
             argument_list.dataset_arguments)  # fmt: skip
    return _listed_keys(*files) | {key for keys in lists for key in keys} | _UNLISTED_KEYS


def _merged_eval_args(*dicts: dict) -> dict:
    """``eval_args`` of several dicts, later entries over earlier, where RecBole lets the last dict replace the others: a user
    who sets the split alone would get a random order and full ranking (configurator.py:441)."""
    given = [d["eval_args"] for d in dicts if isinstance(d.get("eval_args"), dict)]
    return {"eval_args": {key: value for args in given for key, value in args.items()}} if given else {}


def listed_files(config_files) -> list:
    """Configuration files as a list; from Python they may also be one path or, as on the command line, one text."""
    return str(config_files).split() if isinstance(config_files, (str, Path)) else list(config_files or ())


def config_files_words(config_files) -> list[str]:
    """The words of a command line that name these configuration files."""
    files = listed_files(config_files)
    return [f"--config_files={' '.join(map(str, files))}"] if files else []


class Config(RecBoleConfig):
    """Configuration of one model on one dataset.

    Args:
        model: name of a plugin or RecBole CTR model.
        dataset: name of the dataset.
        config_file_list: YAML files, later ones win.
        config_dict: keys from Python; not modified.
        argv: ``--key=value`` words. Not read from ``sys.argv``, whose words may belong to the host program.
        compared_models: the other models of the same run, whose keys are known too.

    Raises:
        ValueError: unknown model or key (with the nearest name), an unreadable value, or settings that cannot be
            compared (anything but labelled rows).
        FileNotFoundError: a missing configuration file.
    """

    def __init__(self, model, dataset, config_file_list=None, config_dict=None, argv=(), compared_models=()):
        self._argv = list(argv)
        self._known_keys = known_keys([model, *compared_models], dataset)
        try:
            super().__init__(model, dataset, listed_files(config_file_list), config_dict)
        except TypeError as error:  # RecBole's own word for a value of the wrong kind
            raise ValueError(f"configuration: {error}") from error
        gpus.check_there(self, self._by_hand)
        check(self)

    def compatibility_settings(self):
        compat.add_numpy_aliases()

    def _init_parameters_category(self):
        super()._init_parameters_category()
        # RecBole appends to these module-level lists; work on copies.
        self.parameters = {category: list(keys) for category, keys in self.parameters.items()}

    def _load_config_files(self, file_list):
        for file in file_list or []:
            if not os.path.isfile(file):
                raise FileNotFoundError(f"config_files: '{file}' does not exist; give the path of a YAML file.")
            try:
                text = Path(file).read_text(encoding="utf-8")
                content, repeated = yaml.load(text, Loader=self.yaml_loader), _repeated_key(yaml.compose(text))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise ValueError(f"config_files: '{file}' is not YAML in UTF-8: {' '.join(str(error).split())}") from error
            if not isinstance(content, dict):
                raise ValueError(f"config_files: '{file}' holds no 'key: value' lines.")
            if repeated:
                raise ValueError(
                    f"config_files: '{file}' gives {repeated.value} a second time in line {repeated.start_mark.line + 1}; "
                    "the first value would be lost. Keep one."
                )
        return super()._load_config_files(file_list)

    def _convert_config_dict(self, config_dict):
        return {key: _value(key, value) for key, value in config_dict.items()}

    def _load_cmd_line(self):
        return parse_argv(self._argv)

    def _merge_external_config_dict(self):
        super()._merge_external_config_dict()
        sources = (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict)
        self.external_config_dict |= _merged_eval_args(*sources)
        if "local_rank" in self.external_config_dict:
            raise ValueError("local_rank: the processes number themselves; give nproc, the number of them on this machine.")
        for key in self.external_config_dict:
            if key not in self._known_keys:
                raise ValueError(
                    f"configuration: '{key}' is not a key of RecBole, of this plugin or of the models asked for."
                    f"{nearest(key, self._known_keys)} Keys are listed in RecBole's and in this plugin's properties/."
                )

    def _get_model_and_dataset(self, model, dataset):
        if "/" in dataset:
            raise ValueError(f"dataset: '{dataset}' is not a name; write data_path: <folder> and dataset: <folder in it>.")
        return model, get_model(model), dataset

    def _load_internal_config_dict(self, model, model_class, dataset):
        model, changed_defaults = resolve(model)
        super()._load_internal_config_dict(model, model_class, dataset)
        for name in ("overall", f"model/{model}", f"dataset/{dataset}", f"tuned/{dataset}/{model}"):
            file = properties_folder() / f"{name}.yaml"
            if file.is_file():
                self._update_internal_config_dict(str(file))
        self.internal_config_dict.update(changed_defaults)

    def _update_internal_config_dict(self, file):
        before = dict(self.internal_config_dict)
        content = super()._update_internal_config_dict(file)
        self.internal_config_dict |= _merged_eval_args(before, content or {})
        return content

    def _get_final_config_dict(self):
        final = super()._get_final_config_dict()
        return final | _merged_eval_args(self.internal_config_dict, self.external_config_dict)

    def _set_default_parameters(self):
        check_kinds(self.final_config_dict, self.external_config_dict, self.internal_config_dict)
        check_evaluation(self.final_config_dict)
        self.final_config_dict["gpu_id"] = gpus.choose(self.final_config_dict, self._by_hand)
        self.final_config_dict["use_gpu"] = self.final_config_dict["gpu_id"] != ""  # RecBole's trainer asks this one
        folder = Path(self.final_config_dict["data_path"]) / self.dataset
        super()._set_default_parameters()
        # RecBole always reads its packaged ml-100k; a folder of the user's own comes first.
        if self.dataset == "ml-100k" and folder.is_dir():
            self.final_config_dict["data_path"] = str(folder)
        if self.final_config_dict["show_progress"] is None:
            self.final_config_dict["show_progress"] = sys.stderr.isatty()
        if self.final_config_dict["history_source"] is None:
            self.final_config_dict["history_source"] = "past" if split_is_in_time_order(self.final_config_dict) else "training"

    def _init_device(self):
        super()._init_device()
        gpus.show(self.final_config_dict["gpu_id"])

    @property
    def _by_hand(self) -> dict:
        return {**self.variable_config_dict, **self.cmd_config_dict}
