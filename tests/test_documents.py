"""The documents: links lead somewhere, and what they name of the code is there."""

import ast
import json
import re
import runpy
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from conftest import tiny_rows, write_dataset
from test_architecture import PACKAGE, ROOMS, modules_of

from recbole_genci import load, report, run
from recbole_genci.config.help import help_text
from recbole_genci.config.keys import RECBOLE_FOLDER
from recbole_genci.config.kind import parse_kind
from recbole_genci.config.roles import ROLES
from recbole_genci.data.prepare import __main__ as prepare
from recbole_genci.experiments.command import USAGE as EXPERIMENT_USAGE
from recbole_genci.export import USAGE as EXPORT
from recbole_genci.hub.command import USAGE as HUB
from recbole_genci.model.registry import known_models
from recbole_genci.predict import USAGE as PREDICT
from recbole_genci.tokenizer.command import usage as tokenizer_usage
from recbole_genci.tuning.command import USAGE as TUNING_USAGE

ROOT = Path(__file__).parents[1]
CHOICES = ROOT / "benchmarks/results/choices"
DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "examples/**/*.md",
        "benchmarks/*.md",
        "benchmarks/tuning/*.md",
        "benchmarks/experiments/*/*.md",
    )
    for path in ROOT.glob(pattern)
)
#: Documents about the code, in which every name in backticks must exist.
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Files that a reader makes: their folder must be there.
EXAMPLES = {
    *("my_models", "MyNet", "my_net", "test_my_net", "<Class>", "NAME", "dropout", "ml-1m"),
    *("shop", "encoder", "scorer", "ids"),
}
OPTIONS_OF_EXAMPLES = {"my_width", "torch"}  # the second is uv's --torch-backend
#: Words in backticks that are neither names of the code nor keys.
OTHER_WORDS = {"mypy", "MyNet", "my_width", "Unreleased"}


def identified(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(document: Path) -> set[str]:
    """Of a document's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=identified)
def test_links_lead_to_files_and_headings(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link} names no heading of {target.name}"


# ---------------------------------------------------------------- names in backticks


def prose(document: Path) -> str:
    """A document without its blocks of code, each paragraph's lines joined."""
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"\s*\n\s*", " ", text)


def spans(document: Path) -> set[str]:
    """What stands in backticks."""
    return set(re.findall(r"`([^`]+)`", prose(document)))


def is_path(span: str) -> bool:
    return bool(
        re.fullmatch(
            r"[\w<>./*-]+(/|\.(py|md|yaml|txt|json|pt|safetensors))|[\w.-]+/[\w./-]+", span
        )
    )


def found(path: str) -> bool:
    """Whether a path is there, in the repository or below the package; of an example its folder."""
    places = [ROOT / path, PACKAGE / path]
    if path.startswith(("dataset/", "saved/", "results/")) and (
        "<" in Path(path).name or Path(path).stem in EXAMPLES
    ):
        return True
    if Path(path).name.split(".")[0] in EXAMPLES:
        return any(place.parent.is_dir() for place in places)
    if any(place.exists() for place in places):
        return True
    # A file or folder that a command writes: the code has its name.
    return not path.endswith(".py") and Path(path).name in file_names_of_the_code()


def defined(file: Path) -> set[str]:
    """Names that a file defines, those of a class behind its name."""
    names = set()

    def collect(body, prefix):
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names.update(prefix + each.id for each in targets if isinstance(each, ast.Name))

    collect(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return names


@cache
def definitions() -> set[str]:
    """``Class.method``, and ``package.module.name`` with each of its endings."""
    names = set()
    for module, file in modules_of(PACKAGE).items():
        parts = module.split(".")
        for name in defined(file):
            names |= {".".join([*parts[start:], name]) for start in range(len(parts) + 1)}
    return names


@cache
def words_of_the_code() -> set[str]:
    """Every word of the package, its tests and its properties."""
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "properties").rglob("*.yaml")]
    files += (RECBOLE_FOLDER / "properties").rglob("*.yaml")
    files += [file for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__)]
    return {word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))}


@cache
def file_names_of_the_code() -> set[str]:
    """Every word of the package and of overall.yaml that may be the name of a file or folder."""
    files = [*PACKAGE.rglob("*.py"), ROOT / "properties/overall.yaml"]
    texts = (file.read_text(encoding="utf-8") for file in files)
    return {word.rstrip(".") for text in texts for word in re.findall(r"[\w.-]+", text)}


@cache
def options() -> set[str]:
    """Every ``--option`` that a command's ``--help`` shows."""
    shown = [help_text(known_models()), EXPERIMENT_USAGE, TUNING_USAGE, tokenizer_usage()]
    shown += [PREDICT, EXPORT, HUB, prepare.__doc__, report.USAGE]
    return {each for text in shown for each in re.findall(r"--(\w+)", text)}


def misnamed(document: Path) -> list[str]:
    """What a document names that is not there."""
    wrong = []
    for span in spans(document):
        if is_path(span):
            if not found(span):
                wrong.append(f"there is no {span}")
        elif re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", span):
            if span not in definitions() | file_names_of_the_code() and not found(span):
                wrong.append(f"nothing defines {span}")
        elif re.fullmatch(r"[A-Za-z_]\w*", span):
            if span not in words_of_the_code() | OTHER_WORDS:
                wrong.append(f"the code has no {span}")
    text = prose(document)
    pairs = re.findall(r"`([\w.]+)` \(`([\w./]+\.py)`\)", text)
    pairs += re.findall(r"\([^()`]*`([\w.]+)`, `([\w./]+\.py)`\)", text)
    for name, path in pairs:
        file = PACKAGE / path if (PACKAGE / path).is_file() else ROOT / path
        if not file.is_file() or name not in defined(file):
            wrong.append(f"{path} does not define {name}")
    return wrong


def unknown_options(document: Path) -> set[str]:
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = r"^.*(?:run_recbole_genci|run_hyper|-m recbole_genci\.).*$|`-{2}[^`]+`"
    named = {
        each for line in re.findall(commands, text, re.M) for each in re.findall(r"--(\w+)", line)
    }
    return named - options() - OPTIONS_OF_EXAMPLES


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 100] == []


def test_the_quick_start_installs_as_the_readme_does():
    block = r"^```bash\n(pip install --no-deps.*?)^```$"
    texts = [
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/quick-start.md")
    ]
    first, second = (re.search(block, text, re.M | re.S)[1] for text in texts)
    assert first == second


def script(path: str) -> dict:
    """What a script of docs/ defines."""
    return runpy.run_path(str(ROOT / "docs" / path))


def test_the_page_of_keys_is_that_of_the_properties():
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    made = script("scripts/configuration.py")["page"]()
    assert page == made, "run python docs/scripts/configuration.py"


def test_the_figure_is_that_of_its_script():
    made = script("figures/model.py")
    for name, colours in made["VARIANTS"].items():
        file = ROOT / f"docs/figures/model-{name}.svg"
        assert file.read_text(encoding="utf-8") == made["picture"](colours)


def test_the_lines_of_epochs_fit_the_picture_of_a_run():
    pytest.importorskip("rich")
    made = script("figures/terminal.py")
    captured = (ROOT / "docs/figures/terminal.ansi").read_text(encoding="utf-8")
    shown = made["abridged"](made["logical_lines"](captured))
    epochs = [line for line in shown if re.match(r"\x1b\[[\d;]*mepoch ", line)]
    assert len(epochs) == len(made["EPOCHS"])
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in epochs) <= made["WIDTH"]


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"([\w-]+\.md)$", text, re.M)
    assert sorted(named) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def rows_of(text: str, *columns: str) -> dict[str, tuple[str, ...]]:
    """The named cells of each line of a document's Markdown tables, by the line's name."""
    found: dict[str, tuple[str, ...]] = {}
    for head, body in re.findall(r"^\|(.+)\|\n\|[ |:-]+\|\n((?:\|.*\n)+)", text, re.M):
        names = [name.split(" (")[0].strip() for name in head.split("|")]
        if not set(columns) <= set(names):
            continue
        for line in body.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(cells[0], tuple(cells[names.index(name)] for name in columns))
    return found


def records_of(dataset: str) -> list[dict[str, tuple[str, ...]]]:
    """AUC and LogLoss of each line, by what they are recorded in."""
    records = {}
    for name in ("ablation", "compare"):
        file = ROOT / f"benchmarks/experiments/{name}-{dataset}/table.md"
        records |= rows_of(file.read_text(encoding="utf-8"), "AUC", "LogLoss")
    runs = pd.read_csv(ROOT / "benchmarks/results/ml-1m-recipe/runs.csv")
    by_recipe = runs[runs["other keys"].isna()].set_index("line")[["AUC", "LogLoss"]]
    assert by_recipe.index.is_unique
    shown = {line: tuple(f"{each:.4f}" for each in row) for line, *row in by_recipe.itertuples()}
    return [records, shown] if dataset == "ml-1m" else [records]


FIGURES = ("best_valid", "test")


@pytest.mark.parametrize("document", ["README.md", "docs/results.md"])
@pytest.mark.parametrize("dataset, base", [("ml-100k", "0.8382"), ("ml-1m", "0.8661")])
def test_the_tables_of_results_are_those_of_the_records(document, dataset, base):
    """Each line's AUC and LogLoss, of the tables that hold LR's."""
    found = 0
    for part in (ROOT / document).read_text(encoding="utf-8").split("\n\n"):
        shown = rows_of(f"{part}\n", "AUC", "LogLoss")
        if not shown.get("LR", ("",))[0].startswith(base):
            continue
        assert len(shown) >= 5
        assert shown in [
            {line: records.get(line) for line in shown} for records in records_of(dataset)
        ]
        found += 1
    assert found == 1


def test_the_table_of_ml_1m_by_the_papers_settings_is_that_of_the_records():
    of_gpu = ROOT / "benchmarks/results/ml-1m-h100/user-features/DIN-2020.json"
    records = [json.loads(of_gpu.read_text(encoding="utf-8"))]
    file = ROOT / "benchmarks/experiments/compare-ml-1m/runs.jsonl"
    records += map(json.loads, file.read_text(encoding="utf-8").splitlines())
    expected = {
        one["model"]: [f"{one[key]['auc']:.4f}, {one[key]['logloss']:.4f}" for key in FIGURES]
        for one in records
    }
    text = (ROOT / "benchmarks/ml-1m.md").read_text(encoding="utf-8")
    lines = text.partition("| ml-1m, seed 2020 |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    shown = {name.partition(" (")[0]: [valid, test] for name, valid, _, test in cells}
    assert len(shown) == 16 and shown == {name: expected[name] for name in shown}


def test_the_table_of_choices_is_that_of_its_runs():
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    section = text.partition("## What a user chose")[2].partition("\n## ")[0]
    columns = ("AUC", "LogLoss", "GAUC", "valid AUC")
    shown = rows_of(section, *columns, "best epoch")
    runs = pd.read_csv(CHOICES / "runs.csv").to_dict("records")
    assert len(shown) >= 5 and shown == {
        run["line"]: (*(f"{run[column]:.4f}" for column in columns), str(run["best epoch"]))
        for run in runs
    }


@pytest.mark.parametrize("document", ["README.md", "docs/results.md"])
def test_the_leads_in_tables_are_those_of_the_picture_of_leads(document):
    pytest.importorskip("matplotlib")
    made = script("figures/leads.py")
    recorded = [
        {
            line: f"{lead.value:+.4f} ({lead.low:+.4f} to {lead.high:+.4f})"
            for line, lead in made["leads"](folder).items()
        }
        for folder in [*made["SETS"].values(), CHOICES]
    ]
    assert len(recorded) == 5 and all("SR alone" in leads for leads in recorded)
    # The picture has the lines of the first.
    assert all(leads.keys() <= recorded[0].keys() for leads in recorded)
    text = (ROOT / document).read_text(encoding="utf-8")
    tables = [rows_of(f"{part}\n", "GenCI's lead in AUC") for part in text.split("\n\n")]
    shown = [{line: lead for line, (lead,) in table.items() if lead} for table in tables if table]
    assert len(shown) == 2
    for leads in shown:
        assert leads in [{line: one.get(line) for line in leads} for one in recorded]


@pytest.mark.parametrize("document", GUIDES, ids=identified)
def test_what_a_guide_names_is_there(document):
    assert misnamed(document) == []
    assert unknown_options(document) == set()


def test_a_wrong_name_is_found(tmp_path):
    document = tmp_path / "guide.md"
    document.write_text(
        "`prepare` (`plan.py`), `Config.source_of`, `config/keys.py`, `--num_beams=2`, "
        "`properties/dataset/NAME.yaml`, `metrics.json`\n"
    )
    assert misnamed(document) == [] and unknown_options(document) == set()
    document.write_text(
        "`prepare` (`cli.py`), `Config.origin_of`, `plan.prepares`, `config/key.py`, "
        "`zzz_unheard_of`, `properties/data/NAME.yaml`\n\n`--num_beam=2`\n\n"
        "```bash\npython run_hyper.py --model=GenCI \\\n    --algorithm=bayes\n```\n"
    )
    assert len(misnamed(document)) == 6
    assert unknown_options(document) == {"num_beam", "algorithm"}


def test_the_kinds_in_the_guide_are_kinds():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("\n## A key\n")[2].partition("\n## ")[0]
    named = re.findall(r"`\(([^`]+)\)`", section.replace("\\|", "|"))
    assert len(named) > 10 and [words for words in named if parse_kind(words) is None] == []


def test_the_roles_in_the_guide_are_all_there_are():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("\n| role | ")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.M)) == ROLES


def test_the_table_of_rooms_is_that_of_the_imports():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = text.partition("\n## The rooms\n")[2].partition("\n## ")[0]
    rooms = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", table, re.M)
    assert ["" if room == "__init__" else room for room in reversed(rooms)] == list(ROOMS)


@pytest.mark.parametrize("document", ["README.md", "docs/add-a-model.md"])
def test_the_model_of_a_document_trains_and_loads(document, tmp_path):
    text = (ROOT / document).read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(# my_models\.py\n.*?)^```$", text, re.M | re.S)
    (keys,) = re.findall(r"^```yaml\n((?:#[^\n]*\n)?my_width:.*?)^```$", text, re.M | re.S)
    (tmp_path / "my_models.py").write_text(code)
    (tmp_path / "MyNet.yaml").write_text(keys)
    config = write_dataset(tmp_path, tiny_rows()) | {"my_width": 4}
    del config["mlp_hidden_size"]  # no key of LR, nor of MyNet
    reference = f"{tmp_path}/my_models.py:MyNet"
    linear, net = run(f"LR,{reference}", "tiny", config_dict=config)
    assert (linear["model"], net["model"]) == ("LR", "MyNet")
    assert load(net["folder"], model=reference).evaluate("test") == net["test"]
    with pytest.raises(ValueError, match="my_width: 0 is not a whole number of at least 1"):
        run(reference, "tiny", config_dict=config | {"my_width": 0})
