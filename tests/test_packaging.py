"""The installation: what each Python requires, and the message if RecBole is missing."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from recbole_genci.utils.installation import WITHOUT_RECBOLE

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LATER = PYTHONS[1:]  # where pip cannot install RecBole with what it requires


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what a wheel is built from."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("recbole_genci", "properties"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def build(hook: str, source: Path, target: Path) -> None:
    program = f"from setuptools import build_meta; build_meta.{hook}({str(target)!r})"
    subprocess.run([sys.executable, "-c", program], cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def built_wheel(source, tmp_path_factory):
    """The wheel's METADATA and its commands, as (message, {name: "module:function"})."""
    target = tmp_path_factory.mktemp("wheel")
    build("prepare_metadata_for_build_wheel", source, target)
    (folder,) = target.glob("*.dist-info")
    commands = configparser.ConfigParser()
    commands.read(folder / "entry_points.txt", encoding="utf-8")
    metadata = Parser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))
    return metadata, dict(commands["console_scripts"])


def required(requirements, python: str, extra: str = "") -> dict[str, Requirement]:
    """Those of the requirements that hold for a Python version, by their packages' names."""
    found = [Requirement(text) for text in requirements]
    return {
        canonicalize_name(r.name): r
        for r in found
        if not r.marker or r.marker.evaluate({"python_version": python, "extra": extra})
    }


def recbole_requirements() -> list[str]:
    # RecBole's metadata are of setuptools' old form, "numpy (>=1.17.2)".
    return [re.sub(r"\((.*?)\)", r"\1", text) for text in importlib.metadata.requires("recbole")]


def test_a_wheel_holds_the_modules_their_types_and_all_data(source, tmp_path):
    build("build_wheel", source, tmp_path)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        found = {name for name in wheel.namelist() if name.startswith("recbole_genci/")}
    package = [
        file.relative_to(ROOT)
        for pattern in ("*.py", "*.pyi", "*.yaml", "*.css", "*.js", "py.typed")
        for file in (ROOT / "recbole_genci").rglob(pattern)
    ]
    properties = [
        Path("recbole_genci") / file.relative_to(ROOT)
        for file in (ROOT / "properties").rglob("*")
        if file.is_file()
    ]
    assert found == {file.as_posix() for file in package + properties}
    assert {
        "recbole_genci/py.typed",
        "recbole_genci/experiments/paper.yaml",
        "recbole_genci/properties/semantic_ids/ml-100k/codes.npy",
    } <= found


def test_recbole_is_required_on_311_alone(built_wheel):
    metadata, _ = built_wheel
    declared = metadata.get_all("Requires-Dist")
    assert "1.2.1" in required(declared, "3.11")["recbole"].specifier
    for python in LATER:
        assert "recbole" not in required(declared, python)


@pytest.mark.parametrize("python", LATER)
def test_later_pythons_require_what_recbole_requires_without_ray(built_wheel, python):
    ours = required(built_wheel[0].get_all("Requires-Dist"), python)
    theirs = required(recbole_requirements(), python)
    assert len(theirs) > 10
    assert set(theirs) - set(ours) == {"ray"}


@pytest.mark.parametrize("python", PYTHONS)
def test_ray_is_an_extra(built_wheel, python):
    declared = built_wheel[0].get_all("Requires-Dist")
    assert "ray" not in required(declared, python)
    assert required(declared, python, extra="ray")["ray"].extras == {"tune"}


def test_every_listed_python_may_install_it(built_wheel):
    metadata, _ = built_wheel
    listed = [
        line.rsplit(" ")[-1] for line in metadata.get_all("Classifier") if "Python :: 3." in line
    ]
    assert listed == list(PYTHONS)
    assert metadata["Requires-Python"] == ">=3.11"


def test_uv_installs_recbole_on_every_python(built_wheel):
    """uv takes its overrides instead of the requirements of that name: RecBole's marker and its
    bound on ray must be gone.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    overrides = settings["tool"]["uv"]["override-dependencies"]
    for python in PYTHONS:
        found = required(overrides, python)
        assert (
            found["recbole"].specifier
            == required(built_wheel[0].get_all("Requires-Dist"), "3.11")["recbole"].specifier
        )
        assert "2.60.0" in found["ray"].specifier and "2.6.3" not in found["ray"].specifier


@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_agree_with_the_requirements(built_wheel, python):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = required([line for line in lines if line and not line.startswith("#")], python)
    declared = built_wheel[0].get_all("Requires-Dist")
    ours = (
        required(declared, python)
        | required(declared, python, extra="test")
        | required(declared, python, extra="ray")
    )
    if python == "3.11":  # where pip reads RecBole's own too
        ours |= required(recbole_requirements(), python)
    for name, constraint in constraints.items():
        pins = [Version(s.version) for s in constraint.specifier if s.operator == "=="]
        assert all(pin in ours[name].specifier for pin in pins if name in ours), constraint


@pytest.mark.parametrize("extra", ["parquet", "serve", "tuning", "plots"])
def test_no_test_skips_what_an_extra_installs(built_wheel, extra):
    declared = built_wheel[0].get_all("Requires-Dist")
    tested, alone = (required(declared, "3.13", extra=name) for name in ("test", extra))
    added = set(alone) - set(required(declared, "3.13"))
    assert added and added <= set(tested)
    assert all(alone[name].specifier == tested[name].specifier for name in added)


_IMPORTED = """
import importlib, json, pkgutil, sys
import recbole_genci
for module in pkgutil.walk_packages(recbole_genci.__path__, "recbole_genci."):
    needs_ray = ".tuning.ray_" in module.name or module.name.endswith(".asha")
    if not module.name.endswith("__main__") and not needs_ray:
        importlib.import_module(module.name)
print(json.dumps([module.__file__ for name, module in sys.modules.items()
                  if name.split(".")[0] == "recbole" and getattr(module, "__file__", None)]))
"""


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of RecBole's docstrings, from Python 3.12 on
def test_whatever_recbole_imports_is_required(built_wheel):
    """RecBole's modules that this package loads, all of them: what they import when they are
    loaded.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    }
    shown = subprocess.run(
        [sys.executable, "-c", _IMPORTED],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    files = json.loads(shown.splitlines()[-1])
    assert len(files) > 50
    imported = set()
    for file in files:
        for statement in ast.parse(Path(file).read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom) and not statement.level:
                imported.add(statement.module.split(".")[0])
    imported -= {"recbole", *sys.stdlib_module_names}
    assert {"yaml", "colorlog", "texttable"} <= imported
    packages = importlib.metadata.packages_distributions()
    ours = required(built_wheel[0].get_all("Requires-Dist"), "3.13")
    assert {
        name for name in imported if not {canonicalize_name(p) for p in packages[name]} & set(ours)
    } == set()


@pytest.fixture
def without_recbole(tmp_path):
    """The environment of a process in which `import recbole` finds nothing."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys\nsys.modules['recbole'] = None\n")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(hidden), str(ROOT)])}


def _run(environment, *words):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "words",
    [
        [ROOT / "run_recbole_genci.py", "--model=GenCI", "--dataset=ml-100k"],
        [ROOT / "run_recbole_genci.py", "--help"],
        [ROOT / "run_hyper.py", "--model=GenCI"],
        ["-m", "recbole_genci.report", "metrics.json"],
        ["-mrecbole_genci.report"],
        ["-m", "recbole_genci.tokenizer", "--dataset=ml-100k"],
        ["-m", "recbole_genci.data.prepare", "--help"],
    ],
    ids=lambda words: " ".join(Path(word).name for word in words),
)
def test_commands_without_recbole(without_recbole, words):
    ended = _run(without_recbole, *words)
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        2,
        "",
        f"recbole_genci: {WITHOUT_RECBOLE}\n",
    )


def test_installed_commands_without_recbole(without_recbole, built_wheel, tmp_path):
    _, commands = built_wheel
    assert len(commands) == 2
    for name, target in commands.items():
        module, function = target.split(":")
        (tmp_path / name).write_text(
            f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        )
        ended = _run(without_recbole, tmp_path / name, "--model=GenCI")
        assert (ended.returncode, ended.stdout, ended.stderr) == (
            2,
            "",
            f"recbole_genci: {WITHOUT_RECBOLE}\n",
        )


@pytest.mark.parametrize(
    "name", ["recbole_genci", "recbole_genci.config", "recbole_genci.data.prepare"]
)
def test_import_without_recbole(without_recbole, name):
    program = f"try:\n    import {name}\nexcept ImportError as error:\n    print(error)"
    assert _run(without_recbole, "-c", program).stdout == f"{WITHOUT_RECBOLE}\n"


def test_another_program_that_can_do_without_goes_on(without_recbole, tmp_path):
    """Only this package's own commands end."""
    (tmp_path / "hidden/other.py").write_text(
        "try:\n    import recbole_genci\nexcept ImportError:\n    print('goes on')\n"
    )
    assert _run(without_recbole, "-m", "other").stdout == "goes on\n"
    package = tmp_path / "hidden/package"
    package.mkdir()
    (tmp_path / "hidden/other.py").rename(
        package / "__init__.py"
    )  # imported while `python -m` looks for package.main
    (package / "main.py").touch()
    assert _run(without_recbole, "-m", "package.main").stdout == "goes on\n"


def test_the_sentence_and_the_readme_say_the_same():
    command = re.search(r"`(pip install .*?)`", WITHOUT_RECBOLE)[1]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count(f"{command} && pip install -c constraints.txt -e ") == 2
