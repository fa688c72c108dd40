"""The blocks of code in the README and in docs/: each runs, or says why it does not.

They run in the order of their document, in a folder of its own, on 40 users of ml-100k and with the
small defaults of ``QUICK``. A block that cannot run has ``<!-- not run: why -->`` above it;
commands that install are run by ``.ci/run``.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import recbole
import yaml
from conftest import write_criteo

from recbole_genci import cli, export, predict, report, run
from recbole_genci.config import keys
from recbole_genci.data.prepare import __main__ as prepare
from recbole_genci.tokenizer import command as tokenizer
from recbole_genci.tuning import command as tuning
from recbole_genci.utils.own_code import references

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {
    "python run_recbole_genci.py": cli.main,
    "run_recbole_genci": cli.main,
    "python run_hyper.py": tuning.main,
    "run_hyper": tuning.main,
    "python -m recbole_genci.tokenizer": tokenizer.main,
    "python -m recbole_genci.report": report.main,
    "python -m recbole_genci.data.prepare": prepare.main,
    "python -m recbole_genci.predict": predict.main,
    "python -m recbole_genci.export": export.main,
}
INSTALLS = ("pip ", "uv ", "python3.11 -m venv", ". .venv", "python -m pytest")
#: Defaults of the properties files that make every run take a second or two.
QUICK = {
    "epochs": 1,
    "latency_repeats": 1,
    "rqvae_epochs": 2,
    "intent_width": 16,
    "intent_layers": 1,
    "intent_feed_forward_size": 16,
    "num_beams": 2,
}
#: What a document asks for, and what runs here.
REDUCED = {
    r"seeds=3": "seeds=1",
    r"max_evals=\d+": "max_evals=2",
    r'"epochs": 5': '"epochs": 1',
    r"--epochs=3(?=.*--precision=bf16)": "--epochs=1",  # by a CPU, a minute
    r"(--experiment=compare)(?!.*--models)": r"\1 --models=LR,GenCI --seeds=1",
}
#: Slow tests: their blocks train what those of other documents train too, in other words.
SLOW = ("semantic-ids.md", "experiments.md", "tuning.md")
NOT_RUN = re.compile(r"<!-- not run: (\S.{9,}) -->")


class Block(NamedTuple):
    """A fenced block of a document."""

    language: str
    code: str
    mark: str  # the comment above it
    line: int


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    found = re.finditer(r"(?:^(<!-- [^\n]* -->)\n)?^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    each = [
        Block(match[2], match[3], match[1] or "", text.count("\n", 0, match.start()) + 1)
        for match in found
    ]
    assert 2 * len(each) == len(re.findall("^ *```", text, re.M)), "a fence is not closed"
    return each


def commands(block: Block) -> list[str]:
    """The commands of a shell block, without remarks and installations."""
    text = re.sub(r"\\\n|(?<=&&)\n", " ", block.code)
    lines = [re.sub(r"(^|\s)#\s.*$", "", line).strip() for line in text.splitlines()]
    words = [part.strip() for line in lines for part in line.split("&&")]
    return [word for word in words if word and not word.startswith(INSTALLS)]


def newest(code: str) -> str:
    """Code in which the newest path that fits stands for each path with ``<...>``."""

    def path(match: re.Match[str]) -> str:
        fitting = sorted(Path().glob(re.sub(r"<\w+>", "*", match[0])), key=lambda p: p.name[-15:])
        assert fitting, f"nothing is there for {match[0]}"
        return str(fitting[-1])

    return re.sub(r"(?:saved|results)/[\w/.-]*<[\w<>/.-]*", path, code)


def reduced(code: str) -> str:
    for pattern, replacement in REDUCED.items():
        code = re.sub(pattern, replacement, code)
    return newest(code)


@pytest.fixture(scope="module")
def quick_properties(tmp_path_factory):
    """A copy of properties/ with the defaults of ``QUICK``."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT / "properties", folder / "properties")
    for file in (folder / "properties").rglob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        for key, value in QUICK.items():
            text = re.sub(rf"^{key}: \S+", f"{key}: {value}", text, flags=re.M)
        file.write_text(text, encoding="utf-8")
    patch = pytest.MonkeyPatch()
    patch.setattr(keys, "__file__", str(folder / "recbole_genci/config/keys.py"))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def data(tmp_path_factory, quick_properties):
    """A folder with dataset/ml-100k of 40 users, and two runs on it in saved/."""
    folder = tmp_path_factory.mktemp("data")
    source = Path(recbole.__file__).parent / "dataset_example/ml-100k"
    target = folder / "dataset/ml-100k"
    target.mkdir(parents=True)
    users = {str(user) for user in [196, 22, *range(200, 240)]}
    items: set[str] = {"242", "302", "50"}
    for kind in ("inter", "user", "item"):
        header, *lines = (source / f"ml-100k.{kind}").read_text(encoding="utf-8").splitlines()
        wanted = items if kind == "item" else users
        kept = [line for line in lines if line.split("\t")[0] in wanted]
        if kind == "inter":
            items |= {line.split("\t")[1] for line in kept}
        (target / f"ml-100k.{kind}").write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("LR,GenCI", "ml-100k")
    return folder


@pytest.fixture
def workplace(data, tmp_path, monkeypatch):
    """The folder in which a document's blocks run, with the files that a reader would have."""
    for part in ("dataset/ml-100k", "saved"):
        shutil.copytree(data / part, tmp_path / part)
    shutil.copy(ROOT / "hyper.test", tmp_path)
    shutil.copytree(ROOT / "benchmarks/tuning", tmp_path / "benchmarks/tuning")
    write_criteo(tmp_path / "dataset", 300)
    (tmp_path / "properties").symlink_to(ROOT / "properties")
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("train_batch_size: 512\n", encoding="utf-8")
    rows = {"user_id": ["196", "22"], "item_id": ["242", "302"], "timestamp": [9e8, 9e8]}
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(references, "KNOWN", {})  # each document has a MyNet of its own
    yield tmp_path
    for name in ("my_models", "my_metrics"):
        sys.modules.pop(name, None)


def grown(file: Path, seed: int = 0) -> None:
    """Give the shop's files more lines like those that the document shows."""
    rng = np.random.default_rng(seed)
    if file.suffix == ".inter":
        lines = [
            f"u{user}\ti{rng.integers(40)}\t{rng.integers(1, 6)}\t{1700000000 + 3600 * row}"
            for user in range(30)
            for row in range(20)
        ]
    elif file.suffix == ".tsv":
        lines = [
            f"u{user}\ti{rng.integers(40)}\t{1700000000 + 3600 * row}"
            for user in range(30)
            for row in range(20)
        ]
    else:
        shown = {line.split("\t")[0] for line in file.read_text(encoding="utf-8").splitlines()}
        kinds = ("kitchen electric", "garden", "office", "toys")
        lines = [
            f"i{item}\tThing {item} for the {kinds[item % 4]}\t{kinds[item % 4]}"
            for item in range(40)
            if f"i{item}" not in shown
        ]
    with file.open("a", encoding="utf-8") as end:
        end.write("\n".join(lines) + "\n")


def write_file(path: str, text: str) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    if file.suffix in (".inter", ".item", ".tsv"):
        grown(file)


def write_files(block: Block) -> bool:
    """Write the files that a block shows; return whether it shows any."""
    if named := re.fullmatch(r"<!-- file: (\S+) -->", block.mark):
        write_file(named[1], block.code)
        return True
    if block.mark == "<!-- files -->":
        for part in block.code.split("\n\n"):
            name, _, text = part.partition("\n")
            write_file(name, text.rstrip("\n") + "\n")
        return True
    if named := re.match(r"# (\w+\.(?:py|yaml))\b", block.code):
        write_file(named[1], block.code)
        return True
    return False


def run_command(command: str) -> None:
    words = shlex.split(reduced(command))
    for start in sorted(COMMANDS, key=len, reverse=True):
        if words[: len(start.split())] == start.split():
            arguments = words[len(start.split()) :]
            if "run_hyper" in start and not any("max_evals" in word for word in arguments):
                arguments.append("--max_evals=2")
            assert COMMANDS[start](arguments) == 0, command
            return
    raise AssertionError(f"no test knows the command: {command}")


@pytest.mark.parametrize(
    "document",
    [pytest.param(d, marks=pytest.mark.slow if d.name in SLOW else ()) for d in DOCUMENTS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_blocks_of_a_document_run(document, workplace, capsys):
    names: dict = {}
    for block in blocks(document):
        if NOT_RUN.fullmatch(block.mark):
            continue
        if write_files(block):
            continue
        if block.language == "bash":
            for command in commands(block):
                run_command(command)
        elif block.language == "python":
            exec(compile(reduced(block.code), f"{document.name}:{block.line}", "exec"), names)
        elif block.language == "yaml":  # the keys of the class in the block before
            yaml.safe_load(block.code)
            write_file("MyNet.yaml", block.code)
        else:
            assert block.language in ("text", "bibtex"), f"line {block.line} has no language"


# ---------------------------------------------------------------- the table of mistakes

HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
ROWS = [
    f"u{user}\ti{(7 * user + 3 * row) % 60}\t{1 + (user + row) % 5}\t{1700000000 + 3600 * row}"
    for user in range(30)
    for row in range(20)
]
ITEMS = [f"i{item}\tThing {item}\t{'AB'[item % 2]}" for item in range(60)]
WORDS = {
    "model": "LR",
    "load_col": "{'inter': ['user_id', 'item_id', 'rating', 'timestamp'], "
    "'item': ['item_id', 'category']}",
    "threshold": "{'rating': 4}",
}


def as_text(head: str, lines: list[str]) -> str:
    return "\n".join([head, *lines]) + "\n"


#: By the table's first column: the .inter file, the .item file's lines, and changed words.
MISTAKES: dict[str, dict] = {
    "no types in the header": {"inter": as_text("user_id\titem_id\trating\ttimestamp", ROWS)},
    "no header": {"inter": as_text("u0\ti8\t5\t1700000000", ROWS)},
    "commas instead of tabs": {"inter": as_text(HEADER, ROWS).replace("\t", ",")},
    "times as text": {
        "inter": as_text(HEADER, [row.rsplit("\t", 1)[0] + "\t2024-01-05 10:00:00" for row in ROWS])
    },
    "`--data_path` too deep": {"data_path": "dataset/shop"},
    "no `threshold` and no label": {"threshold": None},
    "a label that is not read": {
        "inter": as_text(HEADER.replace("rating", "label"), ROWS),
        "threshold": None,
        "load_col": "{'inter': ['user_id', 'item_id', 'timestamp']}",
    },
    "two rows": {"inter": as_text(HEADER, ROWS[:2])},
    "a threshold that all rows reach": {"threshold": "{'rating': 0}"},
    "no time, for a model with histories": {
        "model": "DIN",
        "load_col": "{'inter': ['user_id', 'item_id', 'rating']}",
    },
    "no users": {"load_col": "{'inter': ['item_id', 'rating', 'timestamp']}"},
    "a misspelt column": {"load_col": "{'inter': ['user_id', 'item_id', 'rating', 'timestmp']}"},
    "a misspelt key": {"learnig_rate": "0.1"},
    "a key of another model": {"mu": "0.1"},
    "the rating as a feature": {"numerical_features": "['rating']"},
    "an item described twice": {"items": [*ITEMS, ITEMS[3]]},
    "GenCI without texts": {"model": "GenCI", "text_encoder": "lsa"},
    "GenCI without a `.item` file": {
        "model": "GenCI",
        "items": None,
        "load_col": "{'inter': ['user_id', 'item_id', 'rating', 'timestamp']}",
    },
    "other ids in the `.item` file": {"items": [line[1:] for line in ITEMS]},
    "`--load_col={inter: [user_id]}`": {"load_col": "{inter: [user_id]}"},
    r"`a\|b\|c` in a `token_seq`": {
        "items": [line.replace("A", "A|B|C") for line in ITEMS],
        "status": 0,
    },
}


def messages() -> dict[str, str]:
    """The table of mistakes: the message by what the reader did."""
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    table = text.partition("| You did this | The message |\n| --- | --- |\n")[2].partition("\n\n")[
        0
    ]
    lines = (re.split(r"(?<!\\)\|", line) for line in table.splitlines())
    return {cells[1].strip(): cells[2].strip() for cells in lines}


def test_every_mistake_is_tried():
    assert list(messages()) == list(MISTAKES)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_the_message_of_the_table(mistake, quick_properties, capfd, caplog):
    change = dict(MISTAKES[mistake])
    write = {"shop.inter": change.pop("inter", as_text(HEADER, ROWS))}
    head = "item_id:token\ttitle:token_seq\tcategory:token_seq"
    if (items := change.pop("items", ITEMS)) is not None:
        write["shop.item"] = as_text(head, items)
    Path("dataset/shop").mkdir(parents=True)
    for name, text in write.items():
        Path("dataset/shop", name).write_text(text, encoding="utf-8")
    status = change.pop("status", 2)
    words = WORDS | change
    argv = ["--dataset=shop", *(f"--{key}={value}" for key, value in words.items() if value)]
    assert cli.main(argv) == status
    written = " ".join("".join([*capfd.readouterr(), caplog.text]).split())
    (message,) = re.findall(r"`(.*)`", messages()[mistake].replace("\\|", "|"))
    for part in message.split("..."):
        assert " ".join(part.split()) in written
