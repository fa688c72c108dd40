"""``--help``: every key a person may want to set, its meaning and default, read from the properties
files themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import yaml

from recbole_genci.config.keys import Key, key_table, properties_folder, read_keys
from recbole_genci.config.kind import NO_EFFECT
from recbole_genci.model.registry import Entry, entry_of, known_models
from recbole_genci.utils.own_code import is_reference

#: What commands that read a dataset say of it.
DATASET_USAGE = """\
  --dataset       a folder of RecBole atomic files under --data_path, a MovieLens edition or another name of RecBole's store,
                  which is downloaded (ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small, ...), or ml-100k, which ships
                  inside RecBole
  --config_files  YAML files of keys, in one word separated by spaces"""
_USAGE = """\
usage: python run_recbole_genci.py --model=NAME[,NAME...] --dataset=NAME [--key=value ...]
       python run_recbole_genci.py --resume=FOLDER
       python run_recbole_genci.py --experiment=NAME --dataset=NAME [--seeds=N] [--models=NAME,NAME...] [--key=value ...]
       python run_recbole_genci.py --help [--model=NAME[,NAME...]] [--dataset=NAME]

Trains and evaluates each model on the same rows, and prints one table.

  --model         {models};
                  a model of your own as module:Class or path/to/file.py:Class, its defaults in Class.yaml beside it
{dataset}
  --experiment    {experiments}
  --resume        folder of a run that was stopped, saved/<model>-<dataset>-<time>; goes on as if it never had. Code of one's own
                  that the folder names runs only with --model=<module:Class> or --trust_code=True beside it

RecBole's habits, -m NAME, -d NAME and --key value, mean the same as --key=value.
Values are YAML-like literals: 0.001, True, [64, 64], "{{'rating': 4}}". The command line beats config_files, which beat the
properties files. A key that nobody knows is refused, with the nearest name.
"""

#: Keys that this plugin refuses, or that the command line has words of its own for.
_LEFT_OUT = {
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
    """The text of ``--help`` for some models and, if given, a dataset's defaults.

    Raises:
        ValueError: an unknown model.
    """
    asked = [entry_of(model.strip()) for model in models]
    entries = {
        name: key for name, key in key_table(dataset=dataset).items() if name not in _LEFT_OUT
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
    for entry in asked:
        text += _of_model(entry, dataset, entries)
    text.append(_without_effect(entries))
    return "\n".join(part for part in text if part)


def _sections(entries: dict[str, Key]) -> dict[str, dict[str, Key]]:
    """Keys by section, ours first: a reader looks for what GenCI needs, and knows RecBole's."""
    ours = {key.section for key in read_keys([properties_folder() / "overall.yaml"]).values()}
    sections: dict[str, dict[str, Key]] = {}
    for key in sorted(entries.values(), key=lambda key: key.section not in ours):
        if not _does_nothing(key):
            sections.setdefault(key.section, {})[key.name] = key
    return sections


def _of_model(entry: Entry, dataset: str | None, entries: dict[str, Key]) -> list[str]:
    """The sections of a model: its own keys, and what tuning has found for it on the dataset."""
    table = key_table([entry.reference], dataset)
    own = {
        name: key
        for name, key in table.items()
        if name not in _LEFT_OUT and (name not in entries or key.default != entries[name].default)
    }
    own |= {
        key: replace(table[key], default=default) for key, default in entry.changed_defaults.items()
    }
    text = [section(f"{entry.name}'s own", own)]
    if not is_reference(entry.reference):
        tuned = read_keys([properties_folder() / f"tuned/{dataset}/{entry.base}.yaml"])
        text.append(section(f"{entry.name}'s defaults on {dataset}, found by tuning", tuned))
    return text


def _does_nothing(key: Key) -> bool:
    return key.kind is not None and key.kind.base == NO_EFFECT


def _without_effect(entries: dict[str, Key]) -> str:
    names = [key.name for key in entries.values() if _does_nothing(key)]
    return f"Keys of RecBole that do nothing here:\n  {_wrap(', '.join(names), 2)}\n"


def section(title: str, keys: dict[str, Key]) -> str:
    """A titled list of keys with default, meaning and kind; an empty text where there are none."""
    lines = [f"{title}:"]
    for key in keys.values():
        shown = "" if key.default is None else f" [{_short(key.default)}]"
        head = f"  --{key.name}{shown}"
        kind = f"({key.kind.words})" if key.kind and key.kind.base != "any" else ""
        about = _wrap(f"{key.meaning} {kind}".strip(), 34)
        lines.append(
            f"{head:<33} {about}"
            if len(head) < 34 and about
            else f"{head}\n{' ' * 34}{about}"
            if about
            else head
        )
    return "\n".join(lines) + "\n" if keys else ""


def _short(value: object) -> str:
    if isinstance(value, str):
        return value if value.strip() else repr(value)
    return (
        str(value)
        if not isinstance(value, (dict, list))
        else yaml.safe_dump(value, default_flow_style=True, width=999).strip()
    )


def _wrap(text: str, indent: int, width: int = 120) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) + 1 > width - indent:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return f"\n{' ' * indent}".join([*lines, line])
