"""Write docs/configuration.md from the table of keys: ``python docs/scripts/configuration.py``.

``tests/test_documents.py`` checks that the page is that of the properties files.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from recbole_genci.config.help import LEFT_OUT
from recbole_genci.config.keys import Key, key_table, properties_folder, read_keys
from recbole_genci.model.registry import ALIASES, known_models

PAGE = Path(__file__).parents[1] / "configuration.md"
_HEAD = """\
<!-- Written by docs/scripts/configuration.py. Do not edit: change the comment behind the key. -->

# Configuration keys

Set a key on the command line (`--mu=0.1`), in a YAML file (`--config_files=my.yaml`), or from
Python (`config_dict={"mu": 0.1}`); [which one wins](quick-start.md#train-and-compare). `--help
--model=NAME --dataset=NAME` prints the same with the defaults of that model and dataset.

"takes" is the kind that a value is checked against. `~` stands for None: no value.
"""


def page() -> str:
    """The text of the page."""
    table = {name: key for name, key in key_table().items() if name not in LEFT_OUT}
    of_plugin = {key.section for key in read_keys([properties_folder() / "overall.yaml"]).values()}
    works = {name: key for name, key in table.items() if not key.kind or key.kind.has_effect}
    sections: dict[str, list[Key]] = {}
    for key in sorted(works.values(), key=lambda key: key.section not in of_plugin):
        sections.setdefault(key.section, []).append(key)
    parts = [_HEAD]
    parts += [f"## {title}\n\n{_table(keys)}\n" for title, keys in sections.items()]
    parts.append(
        "## Keys of the models\n\nA model's own keys, and defaults that differ from those above.\n"
    )
    for model in sorted(
        set(known_models()) - set(ALIASES), key=lambda name: (name != "GenCI", name)
    ):
        own = [
            key
            for name, key in key_table([model]).items()
            if name not in LEFT_OUT and (name not in table or key.default != table[name].default)
        ]
        if own:
            parts.append(f"### {model}\n\n{_table(own)}\n")
    silent = [f"`{name}`" for name in table if name not in works]
    parts.append(
        "## Keys of RecBole that do nothing here\n\n"
        f"Whoever sets one is told so: {', '.join(silent)}.\n"
    )
    return "\n".join(parts)


def _table(keys: list[Key]) -> str:
    lines = ["| key | default | takes | meaning |", "| --- | --- | --- | --- |"]
    for key in keys:
        kind = f"`{key.kind.words}`" if key.kind else ""
        cells = (f"`{key.name}`", f"`{_value(key.default)}`", kind, _plain(key.meaning))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _value(default: object) -> str:
    if isinstance(default, str):
        return default if default.strip() else repr(default)
    return (
        "~"
        if default is None
        else yaml.safe_dump(default, default_flow_style=True, width=10**6)
        .removesuffix("...\n")
        .strip()
    )


def _plain(meaning: str) -> str:
    """A comment as Markdown: its stars and brackets are no marks."""
    return meaning.replace("<", "&lt;").replace("*", r"\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
