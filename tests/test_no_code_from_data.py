"""No model that can be asked for, and nothing of this package, executes what a configuration or a
file says."""

import ast
import importlib
import sys
from pathlib import Path

import pytest
import yaml
from conftest import tiny_rows, write_dataset
from recbole.model.context_aware_recommender.kd_dagfm import KD_DAGFM as RecBoleKD_DAGFM
from yaml.constructor import FullConstructor, SafeConstructor

import recbole_genci
from recbole_genci.config import RECBOLE_FOLDER, Config, properties_folder, yaml_files
from recbole_genci.config.yaml_files import Loader
from recbole_genci.data import create_dataset
from recbole_genci.model.registry import get_model, known_models, resolve
from recbole_genci.utils.mappings import FastLoader

SAFE_LOADERS = ("self.yaml_loader", "yaml.SafeLoader", "Loader", "FastLoader")
CODE = "__import__('pathlib').Path('marker').touch()"
PACKAGE = Path(recbole_genci.__file__).parent
NAMES = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "import_module",
    "system",
    "popen",
    "Popen",
    "run_path",
    "run_module",
    "unsafe_load",
    "full_load",
    "unsafe_load_all",
}
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "joblib",
    "cloudpickle",
    "shelve",
    "marshal",
    "runpy",
    "subprocess",
}
#: (module, function, call): what may stay, and why.
ALLOWED = {
    (
        "recbole.model.context_aware_recommender.kd_dagfm",
        "KD_DAGFM.__init__",
        "eval",
    ): "ours takes its place, and does not call it: test_recboles_kd_dagfm_is_never_built",
    (
        "recbole.model.context_aware_recommender.kd_dagfm",
        "KD_DAGFM.__init__",
        "torch.load",
    ): "as the line above",
    (
        "recbole_genci",
        "__getattr__",
        "importlib.import_module",
    ): "a value of the fixed table _EXPORTS",
    (
        "recbole_genci.model.registry",
        "_recbole_context_models",
        "importlib.import_module",
    ): "modules of RecBole's own folder",
    (
        "recbole_genci.model.registry",
        "_named",
        "importlib.import_module",
    ): "a value of PLUGIN_MODELS, or a name among known_models",
    (
        "recbole_genci.experiments.results",
        "_report_module",
        "importlib.import_module",
    ): "named by the package's own files",
    (
        "recbole_genci.utils.own_code.importing",
        "_import_module",
        "importlib.import_module",
    ): "a module that the user has named; of a run's folder only with permission",
    ("recbole_genci.utils.provenance", "", "import subprocess"): "git, with fixed words",
}


def dotted(node) -> str:
    """``a.b.c`` of a call's function; the last names where it is computed."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def is_loader(name: str) -> bool:
    """Whether a call reads objects out of a file: ``torch.load``, ``np.load``, ``yaml.load``,
    ``joblib.load``."""
    return name in (
        "torch.load",
        "np.load",
        "numpy.load",
        "yaml.load",
        "pd.read_pickle",
        "pandas.read_pickle",
    )


def is_harmless(name: str, call: ast.Call) -> bool:
    keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    if name.endswith("load") and name.startswith(("np", "numpy")):
        return keywords.get("allow_pickle") is False  # which is the default, but is to be seen
    if name == "yaml.load":
        return any(
            keyword.arg == "Loader" and ast.unparse(keyword.value) in SAFE_LOADERS
            for keyword in call.keywords
        )
    return False


def suspicious(module: str, tree: ast.AST, function: str = "") -> set[tuple[str, str, str]]:
    """(module, function, call) of everything in a syntax tree that may execute, unpickle or import
    by a computed name."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        inner = function
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            inner = f"{function}.{node.name}".lstrip(".")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [str(node.module)]
            )
            found |= {
                (module, function, f"import {name}")
                for name in names
                if name.split(".")[0] in MODULES
            }
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            bare = name.rpartition(".")[2]
            is_method = bare == "eval" and isinstance(node.func, ast.Attribute)  # model.eval()
            by_name = name == "getattr" and "config" in ast.unparse(node.args[1])
            if (
                bare in NAMES
                and not is_method
                and name != "re.compile"
                or is_loader(name)
                and not is_harmless(name, node)
                or by_name
            ):
                found.add((module, function, name))
        found |= suspicious(module, node, inner)
    return found


def module_of(name: str) -> ast.AST:
    return ast.parse(Path(sys.modules[name].__file__).read_text(encoding="utf-8"))


def model_modules() -> set[str]:
    """The modules of all classes of all models that can be asked for, and what these import of
    recbole.model."""
    names = {
        base.__module__
        for model in known_models()
        for base in get_model(model).__mro__
        if base.__module__.startswith(("recbole.model", "recbole_genci"))
    }
    left = list(names)
    while left:
        for node in ast.walk(module_of(left.pop())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "recbole.model."
            ):
                importlib.import_module(node.module)
                if node.module not in names:
                    names.add(node.module)
                    left.append(node.module)
    return names


def test_no_model_that_can_be_asked_for_executes_or_unpickles_data():
    modules = model_modules()
    assert {
        "recbole.model.layers",
        "recbole.model.abstract_recommender",
        "recbole.model.init",
        "recbole.model.sequential_recommender.din",
        "recbole.model.sequential_recommender.dien",
    } <= modules
    assert len(modules) > 30
    found = set().union(*(suspicious(name, module_of(name)) for name in modules))
    assert found - set(ALLOWED) == set()


def test_the_loaders_of_yaml_are_safe():
    assert Config("LR", "ml-100k").yaml_loader is Loader
    for loader in (Loader, FastLoader, yaml_files._FastLoader):
        assert issubclass(loader, SafeConstructor) and not issubclass(loader, FullConstructor)


def test_nothing_of_this_package_does():
    found = set()
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found |= suspicious(
            ".".join(parts).removesuffix(".__init__"), ast.parse(file.read_text(encoding="utf-8"))
        )
    assert found - set(ALLOWED) == set()
    ours = {each for each in ALLOWED if each[0].startswith("recbole_genci")}
    assert ours <= found, "an exception that nothing needs any more"


@pytest.mark.parametrize(
    "line",
    [
        "eval(config['x'])",
        "exec(text)",
        "pickle.load(f)\nimport pickle",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "importlib.import_module(name)",
        "__import__(name)",
        "getattr(module, config['teacher'])",
        "import joblib",
        "from pickle import load",
        "yaml.load(text, Loader=yaml.FullLoader)",
        "os.system(word)",
        "yaml.unsafe_load(text)",
    ],
)
def test_the_walk_sees(line):
    assert suspicious(
        "m", ast.parse(f"def f():\n    {line.splitlines()[0]}\n" + "\n".join(line.splitlines()[1:]))
    )


def test_the_walk_lets_pass():
    text = "model.eval()\nnp.load(f, allow_pickle=False)\nyaml.safe_load(t)\nre.compile(x)\n"
    text += "yaml.load(t, Loader=self.yaml_loader)"
    assert not suspicious("m", ast.parse(text))


def test_recboles_kd_dagfm_is_never_built(monkeypatch, tmp_path):
    def never(self, *arguments):
        raise AssertionError("evaluates and unpickles")

    monkeypatch.setattr(RecBoleKD_DAGFM, "__init__", never)
    keys = write_dataset(tmp_path / "data", tiny_rows())
    del keys["mlp_hidden_size"]
    config = Config("KD_DAGFM", "tiny", config_dict=keys)
    assert get_model("KD_DAGFM")(
        config, create_dataset(config).build()[0].view(config)
    ).teacher_network


def test_the_code_below_would_leave_its_file(tmp_path):
    """In RecBole's own class: the test after this one can fail."""
    keys = write_dataset(tmp_path / "data", tiny_rows())
    del keys["mlp_hidden_size"]
    config = Config("KD_DAGFM", "tiny", config_dict=keys)
    config["teacher"] = CODE  # as a value, the table of keys refuses it
    with pytest.raises(TypeError, match="not callable"):
        RecBoleKD_DAGFM(config, create_dataset(config).build()[0].view(config))
    assert Path("marker").exists()


@pytest.mark.parametrize("name", known_models())
def test_a_text_that_is_code_stays_a_text(name, tmp_path):
    """Each key of a model that holds a text, and some that none does, as code that would leave a
    file."""
    keys = write_dataset(tmp_path / "data", tiny_rows())
    parts = create_dataset(Config("DeepFM", "tiny", config_dict=keys)).build()
    model, _ = resolve(name)
    own = {}
    for folder in (RECBOLE_FOLDER / "properties", properties_folder()):
        file = folder / f"model/{model}.yaml"
        own |= (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}
    texts = [key for key, value in own.items() if isinstance(value, str)] + ["warm_up"] * (
        "warm_up" in own
    )
    for key in [*texts, *list(own)[:3], "learner", "loss_type"]:
        try:
            config = Config(
                name,
                "tiny",
                config_dict=keys | {key: CODE},
                argv=[f"--{key}={CODE}"],
                compared_models=["GenCI"],
            )
            getattr(config.model_class, "check_settings", lambda config: None)(config)
            built = config.model_class(config, parts[0].view(config, None))
            built.load_initial_weights()
        except (
            Exception
        ) as error:  # whatever such a value leads to: what counts is what it has not done
            assert not isinstance(error, (ImportError, SyntaxError))
        assert not Path("marker").exists(), f"{name} executes {key}"


@pytest.mark.parametrize(
    "text",
    [
        "epochs: !!python/object/apply:pathlib.Path.touch [marker]",
        "epochs: !!python/name:os.system ''",
        "epochs: !!python/module:os ''",
        "epochs: !!python/tuple [1]",
    ],
)
def test_a_yaml_file_holds_plain_values_only(text, tmp_path):
    (tmp_path / "keys.yaml").write_text(text)
    with pytest.raises(
        ValueError,
        match=r"config_files: '.*keys.yaml' is not YAML in UTF-8: could not determine a const",
    ):
        Config("LR", "ml-100k", [str(tmp_path / "keys.yaml")])
    (tmp_path / "keys.yaml").write_text("learning_rate: 1e-3\n")
    assert Config("LR", "ml-100k", [str(tmp_path / "keys.yaml")])["learning_rate"] == 0.001
