"""The rooms of the package: imports run downward only, and none run in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import recbole_genci
from recbole_genci.utils import layout

PACKAGE = Path(recbole_genci.__file__).parent

# From the ground floor up: a room imports rooms before it and itself. "" is
# recbole_genci/__init__.py.
ROOMS = (
    "utils",
    "compat",
    "",
    "model",
    "config",
    "data",
    "tokenizer",
    "evaluation",
    "training",
    "serving",
    "predict",
    "export",
    "hub",
    "webpage",
    "comparison",
    "report",
    "results",
    "plan",
    "quick_start",
    "tuning",
    "experiments",
    "cli",
)


def modules_of(package: Path) -> dict[str, Path]:
    """Every module below a package's folder, by its dotted name."""
    names = {}
    for file in package.rglob("*.py"):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = file
    return names


def imports_of(file: Path, name: str, modules: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports anywhere in it: in functions and for annotations
    too.
    """
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{file}, line {node.lineno}: a relative import hides the room it comes from."
            )
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {each if each in modules else node.module for each in whole}
    return (found & set(modules)) - {name}


def graph_of(package: Path) -> dict[str, set[str]]:
    """Each module and what it imports."""
    modules = modules_of(package)
    return {name: imports_of(file, name, modules) for name, file in modules.items()}


def room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def upward(graph: dict[str, set[str]], rooms: tuple[str, ...]) -> set[tuple[str, str]]:
    """Imports of a room from one above it."""
    floor = {name: number for number, name in enumerate(rooms)}
    return {
        (a, b) for a, imported in graph.items() for b in imported if floor[room(b)] > floor[room(a)]
    }


def circle(graph: dict[str, set[str]], without=()) -> list[str] | None:
    """Modules that import each other in a circle. Python runs a package's ``__init__`` before its
    modules, so who imports a module from outside the package imports that too.
    """
    loaded = {}
    for name, imported in graph.items():
        imported = {each for each in imported if (name, each) not in without}
        around = {
            ".".join(each.split(".")[:n])
            for each in imported
            for n in range(1, each.count(".") + 1)
        }
        own = {".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 2)}
        loaded[name] = imported | (around - own)
    try:
        TopologicalSorter(loaded).prepare()
    except CycleError as error:
        return error.args[1]
    return None


@pytest.fixture(scope="module")
def graph():
    return graph_of(PACKAGE)


def test_every_module_stands_in_a_room(graph):
    assert {room(module) for module in graph} <= set(ROOMS)


def test_imports_run_downward_only(graph):
    assert upward(graph, ROOMS) == set()


def test_no_modules_import_each_other_in_a_circle(graph):
    assert circle(graph) is None


def test_a_layer_knows_no_model_and_the_ground_floor_knows_no_room(graph):
    for module, imported in graph.items():
        if module.startswith("recbole_genci.model.layers"):
            assert all(
                each.startswith(("recbole_genci.model.layers", "recbole_genci.utils"))
                for each in imported
            ), module
        if room(module) == "utils":
            assert all(room(each) == "utils" for each in imported), module


def test_one_module_names_the_files_of_a_runs_folder():
    names = {value for key, value in vars(layout).items() if key.endswith("_FILE")}
    spelled = {}
    for module, file in modules_of(PACKAGE).items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found = names & {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        if found:
            spelled[module] = found
    assert spelled == {layout.__name__: names}


@pytest.mark.parametrize(
    "statement",
    [
        "from package.upper.a import x",
        "import package.upper.a",
        "from package.upper import a",
        "def f():\n    from package.upper import a",
        "if TYPE_CHECKING:\n    from package.upper.a import x",
    ],
)
def test_an_import_upward_and_a_circle_are_found(tmp_path, statement):
    for name, text in {
        "lower/b": statement,
        "upper/a": "import package.lower.b",
        "upper/__init__": "",
        "lower/__init__": "",
        "__init__": "",
    }.items():
        file = tmp_path / "package" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    graph = graph_of(tmp_path / "package")
    assert upward(graph, ("lower", "upper")) == {("package.lower.b", "package.upper.a")}
    assert set(circle(graph)) == {"package.lower.b", "package.upper.a"}
    assert circle(graph, {("package.lower.b", "package.upper.a")}) is None


def test_an_init_that_imports_its_importer_is_a_circle(tmp_path):
    for name, text in {
        "a/__init__": "from package.a import c",
        "a/c": "import package.b",
        "a/d": "",
        "b": "import package.a.d",
        "__init__": "",
    }.items():
        file = tmp_path / "package" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert {"package.b", "package.a"} <= set(circle(graph_of(tmp_path / "package")))
