"""``--help``: every key with its default and meaning, read from the properties files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import yaml

from recbole_genci.config.keys import Key, key_table, properties_folder, read_keys
from recbole_genci.model.registry import Entry, entry_of, known_models
from recbole_genci.utils.own_code import is_reference

#: Shown by every command that reads a dataset.
DATASET_USAGE = """\
  --dataset       ml-100k, which comes with RecBole; or your folder of RecBole atomic files, below
                  --data_path; or a dataset that is downloaded: a MovieLens edition (ml-1m, ml-10m,
                  ml-20m, ml-25m, ml-32m, ml-latest-small, ...) or another name of RecBole's store
  --config_files  YAML files that set keys, for example --config_files="a.yaml b.yaml\""""
_USAGE = """\
usage: python run_recbole_genci.py --model=NAME[,NAME...] --dataset=NAME [--key=value ...]
       python run_recbole_genci.py --resume=FOLDER
       python run_recbole_genci.py --experiment=NAME --dataset=NAME [--seeds=N]
                                   [--models=NAME,NAME...] [--key=value ...]
       python run_recbole_genci.py --help [--model=NAME[,NAME...]] [--dataset=NAME]
       python run_recbole_genci.py --version

Trains and evaluates each model on the same rows, and prints one table. For example:
python run_recbole_genci.py --model=LR,GenCI --dataset=ml-100k --mu=0.1

  --model         {models};
                  a model of your own as module:Class or path/to/file.py:Class, with its defaults
                  in Class.yaml beside that file
{dataset}
  --experiment    {experiments}
  --resume        the folder of a stopped run, saved/<model>-<dataset>-<time>; training continues
                  after its last evaluated epoch. If the folder names code of your own, add
                  --model=<module:Class> or --trust_code=True to let that code run
  --trust_code    [False] import metrics of your own that config_files name. Code that you name on
                  the command line or in Python is always imported; what a file names, only with
                  this

RecBole's forms -m NAME, -d NAME and --key value also work.
Values are YAML-like literals: 0.001, True, [64, 64], "{{'rating': 4}}". The command line beats
config_files, which beat the defaults (properties/). An unknown key is an error that names the
nearest one. Set most often: --epochs, --learning_rate, --weight_decay, --dropout_prob, --seeds,
--gpu_id, --nproc, --eval_args, --data_path.
"""

_INDENT = 34  # columns before a key's meaning

#: Keys that this plugin refuses, or that the command line replaces by words of its own.
LEFT_OUT = {
    "save_dataset",
    "dataset_save_path",
    "save_dataloaders",
    "dataloaders_save_path",
    "train_neg_sample_args",
    "repeatable",
    "enable_amp",
    "enable_scaler",
    "transform",
}


def help_text(models: Sequence[str] = ("GenCI",), dataset: str | None = None) -> str:
    """The text of ``--help``, with the keys of some models and, if given, a dataset's defaults.

    Raises:
        ValueError: a model is unknown.
    """
    chosen = [entry_of(model.strip()) for model in models]
    entries = {
        name: key for name, key in key_table(dataset=dataset).items() if name not in LEFT_OUT
    }
    experiments = ", ".join(
        file.stem for file in sorted((properties_folder() / "experiment").glob("*.yaml"))
    )
    text = [
        _USAGE.format(
            dataset=DATASET_USAGE,
            models=_wrap(", ".join(sorted(known_models(), key=str.lower)), 18),
            experiments=_wrap(
                f"a table or figure of the paper: {experiments}, or all; --help --experiment=NAME",
                18,
            ),
        )
    ]
    text += [section(title, keys) for title, keys in _sections(entries).items()]
    for entry in chosen:
        text += _of_model(entry, dataset, entries)
    text.append(_without_effect(entries))
    return "\n".join(part for part in text if part)


def _sections(entries: dict[str, Key]) -> dict[str, dict[str, Key]]:
    """Keys by section. Ours come first, since a reader may already know RecBole's."""
    ours = {key.section for key in read_keys([properties_folder() / "overall.yaml"]).values()}
    sections: dict[str, dict[str, Key]] = {}
    for key in sorted(entries.values(), key=lambda key: key.section not in ours):
        if not key.does_nothing:
            sections.setdefault(key.section, {})[key.name] = key
    return sections


def _of_model(entry: Entry, dataset: str | None, entries: dict[str, Key]) -> list[str]:
    """The sections of a model: its own keys, and the values that tuning found on the dataset."""
    table = key_table([entry.reference], dataset)
    own = {
        name: key
        for name, key in table.items()
        if name not in LEFT_OUT and (name not in entries or key.default != entries[name].default)
    }
    own |= {
        key: replace(table[key], default=default) for key, default in entry.changed_defaults.items()
    }
    text = [section(f"{entry.name}'s own", own)]
    if not is_reference(entry.reference):
        tuned = read_keys([properties_folder() / f"tuned/{dataset}/{entry.base}.yaml"])
        text.append(section(f"{entry.name} on {dataset} with --recipe=tuned", tuned))
    return text


def _without_effect(entries: dict[str, Key]) -> str:
    names = [key.name for key in entries.values() if key.does_nothing]
    return f"Keys of RecBole that do nothing here:\n  {_wrap(', '.join(names), 2)}\n"


def section(title: str, keys: dict[str, Key]) -> str:
    """A titled list of keys with default, meaning and kind; an empty text if there are no keys."""
    return "\n".join([f"{title}:", *map(_line, keys.values())]) + "\n" if keys else ""


def _line(key: Key) -> str:
    default = "" if key.default is None else f" [{_short(key.default)}]"
    head = f"  --{key.name}{default}"
    kind = f"({key.kind.words})" if key.kind and key.kind.base != "any" else ""
    about = _wrap(f"{key.meaning} {kind}".strip(), _INDENT)
    if not about:
        return head
    gap = " " * (_INDENT - len(head)) if len(head) < _INDENT else f"\n{' ' * _INDENT}"
    return f"{head}{gap}{about}"


def _short(value: object) -> str:
    if isinstance(value, str):
        return value if value.strip() else repr(value)
    return (
        str(value)
        if not isinstance(value, (dict, list))
        else yaml.safe_dump(value, default_flow_style=True, width=999).strip()
    )


def _wrap(text: str, indent: int, width: int = 100) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > width - indent:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return f"\n{' ' * indent}".join([*lines, line])
