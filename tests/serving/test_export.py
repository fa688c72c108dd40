"""A run's scorer outside Python: the program gives the run's scores in a process that has torch
alone.
"""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, tiny_rows, with_context, write_dataset
from safetensors.torch import load_file, save_file

from recbole_genci import Ranker
from recbole_genci.export import main
from recbole_genci.model.genci.decoding import _ranking_key
from recbole_genci.model.registry import known_models
from recbole_genci.quick_start import run
from recbole_genci.serving.export import _description
from recbole_genci.serving.static_scorer import StaticScorer
from recbole_genci.utils.static import is_static, static_shapes

GENCI = {
    "GenCI": {},
    "causal": {"history_attention": "causal", "segment_clicks": 3},
    "codes": {"history_tokens": "code", "candidate_log_probs": "joint", "intent_norm": True}
    | {"cohort_scale": 0.3},
}
GRUS = {"DIEN-GRU": "GRU", "DIEN-AIGRU": "AIGRU"}
OTHERS = ("LR", "DeepFM", "DCNV2", "DIN", "DIEN", "MIRRN")
MODELS = [*GENCI, *GRUS, *OTHERS]
# Each export takes seconds; the other models are slow tests. Other tests here export GenCI itself.
QUICK = ("causal", "DIN")
SIZES = (1, 2, 5, 40)
# What a serving engineer needs of torch. Nothing of this package is imported, nor of RecBole.
SERVE = """
import json, sys, torch
from safetensors.torch import load_file, save_file
for program, folder in json.loads(sys.argv[1]):
    if program.endswith(".aoti.pt2"):
        scorer = torch._inductor.aoti_load_package(program)
    else:
        scorer = torch.export.load(program).module()
    rows = load_file(folder + "/inputs.safetensors")
    names = [each["name"] for each in json.load(open(folder + "/scorer.pt2.json"))["inputs"]]
    with torch.no_grad():
        found = {str(n): scorer(**{k: rows[k][:n] for k in names}) for n in json.loads(sys.argv[2])}
    save_file(found, folder + "/found.safetensors")
assert not [name for name in sys.modules if name.startswith("recbole")]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    keys = with_context(
        folder / "data", write_dataset(folder / "data", tiny_rows(rows_per_user=40))
    )
    keys |= {"checkpoint_dir": str(folder / "saved"), "results_dir": str(folder / "results")}

    class Runs(dict):
        """Folders of runs by name, each trained when a test first asks for it."""

        def __missing__(self, name):
            model = "GenCI" if name in GENCI else "DIEN" if name in GRUS else name
            own = GENCI.get(name, {}) | ({"gru_type": GRUS[name]} if name in GRUS else {})
            own |= SMALL.get(model, {}) | {"epochs": 1}
            plain = {k: v for k, v in keys.items() if model != "LR" or not k.startswith("mlp_")}
            self[name] = run(model, "tiny", config_dict=plain | own)[0].folder
            return self[name]

    return Runs(), folder, keys


def some_rows(ranker, count=40):
    """A table of rows with all lengths of history, missing values, and a user of nobody's."""
    rng = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "user_id": rng.choice(ranker.users, count),
            "item_id": rng.choice(ranker.items, count),
            "item_id_list": [list(rng.choice(ranker.items, n % 8)) for n in range(count)],
            "device": rng.choice(["phone", "tv", ""], count),
            "tags": [list(rng.choice(list("abc"), n % 3)) for n in range(count)],
            "price": rng.random(count) * 90,
        }
    )
    rows.loc[3, "price"], rows.loc[4, "user_id"] = np.nan, "nobody"
    return rows


def tensors_of(rows, file):
    """Inputs of a program as its description says them."""
    description = json.loads(Path(f"{file}.json").read_text())
    vocabularies = json.loads((file.parent / description["vocabularies"]["file"]).read_text())
    longest = description.get("history", {}).get("longest", 0)

    def numbers(vocabulary, tokens):
        return [
            vocabularies[vocabulary].index(t) if t in vocabularies[vocabulary] else 0
            for t in tokens
        ]

    found = {}
    for each in description["inputs"]:
        if each["column"] == "item_length":
            values = [min(len(cell), longest) for cell in rows["item_id_list"]]
        elif len(each["shape"]) == 2:
            width = each["shape"][1]
            cells = [numbers(each["vocabulary"], cell[-width:]) for cell in rows[each["column"]]]
            values = [cell + [0] * (width - len(cell)) for cell in cells]
        elif each["vocabulary"]:
            values = numbers(each["vocabulary"], rows[each["column"]])
        else:
            values = rows[each["column"]].tolist()
        found[each["name"]] = torch.tensor(values, dtype=getattr(torch, each["dtype"]))
    return found


def with_read_clicks(rows, file):
    """Histories that begin where the description says."""
    said = json.loads(Path(f"{file}.json").read_text()).get("history", {}).get("clicks_read", "")
    if " mod 3" not in said:
        return rows
    read = [min(n, 5 - -n % 3) for n in map(len, rows["item_id_list"])]
    cut = [cell[len(cell) - n :] for cell, n in zip(rows["item_id_list"], read)]
    return rows.assign(item_id_list=cut)


def serve(programs):
    """Score ``inputs.safetensors`` of each folder by a process without this package."""
    words = [json.dumps([[str(each), str(each.parent)] for each in programs]), json.dumps(SIZES)]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", SERVE, *words],
        capture_output=True,
        text=True,
        env=clean,
        cwd=programs[0].parent,
    )
    assert done.returncode == 0, done.stderr


def exported(folder, ranker, rows):
    """Export into a folder, with the inputs of rows; the file."""
    folder.mkdir(exist_ok=True)
    file = folder / "scorer.pt2"
    ranker.export(file)
    save_file(tensors_of(with_read_clicks(rows, file), file), folder / "inputs.safetensors")
    return file


@pytest.fixture(scope="module")
def served(made):
    """What the program of each model gives in another process, and what the ranker gives."""
    expected, files = {}, {}
    for name in QUICK:
        ranker = Ranker(made[0][name])
        rows = some_rows(ranker)
        files[name] = exported(made[1] / f"program-{name}", ranker, rows)
        expected[name] = ranker.score_rows(rows)
    serve(list(files.values()))
    return {n: (load_file(f.parent / "found.safetensors"), expected[n]) for n, f in files.items()}


@pytest.mark.parametrize("name", QUICK)
def test_the_program_has_the_scores_of_the_run_without_this_package(served, name):
    found, expected = served[name]
    assert np.ptp(expected) > 1e-3
    for size in SIZES:
        np.testing.assert_allclose(found[str(size)], expected[:size], atol=1e-5)


def test_a_file_says_what_it_is(made, tmp_path, capsys):
    file = tmp_path / "deep/scorer.pt2"
    assert main([f"--run={made[0]['causal']}", f"--output={file}"]) == 0
    assert "inputs user_id, item_id, item_id_list, item_length" in capsys.readouterr().out
    said = json.loads(Path(f"{file}.json").read_text())
    assert sorted(each.name for each in file.parent.iterdir()) == sorted(
        [file.name, f"{file.name}.json", said["vocabularies"]["file"]]
    )
    for part in ("program", "vocabularies"):
        content = (file.parent / said[part]["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == said[part]["sha256"]
    metrics = json.loads((Path(made[0]["causal"]) / "metrics.json").read_text())
    assert said["run"]["weights_sha256"] == metrics["weights_sha256"]
    assert said["run"]["metrics_sha256"] == metrics["content_sha256"]
    assert "Other numbers may differ more." in said["checked"]["meaning"]
    assert said["history"] == {
        "longest": 5,
        "clicks_read": "Of a user's n clicks before the row, give the last min(n, 5 - (-n mod 3)), "
        "with a mod that is never negative.",
    }
    # `device` is a name in the code that torch.export makes.
    names = {each["column"]: each["name"] for each in said["inputs"]}
    assert names["device"] == "device_" and names["price"] == "price"
    shapes = {each["name"]: (each["dtype"], each["shape"]) for each in said["inputs"]}
    assert shapes["item_id_list"] == ("int64", ["B", 5]) and shapes["price"] == ("float64", ["B"])
    # Another export takes the place of the files.
    before = file.read_bytes()
    assert main([f"--run={made[0]['LR']}", f"--output={file}"]) == 0
    assert file.read_bytes() != before
    assert json.loads(Path(f"{file}.json").read_text())["run"]["model"] == "LR"


def deepfm_with(folder, columns, **more):
    """A ranker of DeepFM whose rows have further columns, ``{name: (type, values)}``."""
    keys = write_dataset(folder / "data", tiny_rows())
    file = folder / "data/tiny/tiny.inter"
    head, *lines = file.read_text().splitlines()
    head = "\t".join([head, *(f"{name}:{kind}" for name, (kind, _) in columns.items())])
    cells = [[values[row % len(values)] for _, values in columns.values()] for row in range(600)]
    body = ["\t".join([line, *own]) for line, own in zip(lines, cells)]
    file.write_text("\n".join([head, *body]) + "\n")
    keys["load_col"] = keys["load_col"] | {"inter": [*keys["load_col"]["inter"], *columns]}
    numbers = [name for name, (kind, _) in columns.items() if kind.startswith("float")]
    keys |= {"numerical_features": numbers, "normalize_field": more.pop("normalize_field", [])}
    keys |= {"checkpoint_dir": str(folder / "saved"), "results_dir": str(folder / "results")}
    return Ranker(run("DeepFM", "tiny", config_dict=keys | more)[0].folder)


@pytest.mark.parametrize("kind", ["float", "token"])
def test_a_column_may_have_the_name_of_a_length(kind, tmp_path):
    prices = ("float_seq", ["1.5 2", "", "0.3 8 4", "7"])
    lengths = (kind, ["3", "14", "15", "", "9"])
    ranker = deepfm_with(tmp_path, {"price": prices, "price_length": lengths})
    said = ranker.export(tmp_path / "scorer.pt2")
    inputs = {each["length_of"] or each["column"]: each["name"] for each in said["inputs"][::-1]}
    lengths_of = [each["name"] for each in said["inputs"] if each["length_of"] == "price"]
    assert lengths_of == ["price_length_"] and inputs["price_length"] == "price_length"
    rows = pd.DataFrame({"user_id": ["u1", "u2", "u3"], "item_id": ["i1", "i2", "i3"]})
    rows["price"], rows["price_length"] = [[2.5, 1.0], [], [0.5]], ["14", "3", "9"]
    own = [14.0, 3.0, 9.0]
    if kind == "token":
        places = json.loads((tmp_path / "scorer.pt2.vocabularies.json").read_text())
        own = [places["price_length"].index(token) for token in rows["price_length"]]
    found = torch.export.load(tmp_path / "scorer.pt2").module()(
        user_id=torch.tensor([ranker.users.tolist().index(f"u{n}") + 1 for n in (1, 2, 3)]),
        item_id=torch.tensor([ranker.items.tolist().index(f"i{n}") + 1 for n in (1, 2, 3)]),
        price=torch.tensor([[2.5, 1, 0], [0, 0, 0], [0.5, 0, 0]], dtype=torch.float64),
        price_length=torch.tensor(own, dtype=torch.float64 if kind == "float" else torch.int64),
        price_length_=torch.tensor([2, 0, 1]),
    )
    np.testing.assert_allclose(found.detach(), ranker.score_rows(rows), atol=1e-5)


@pytest.mark.parametrize("field", ["price", "tags", "device"])
def test_a_program_that_misreads_an_input_is_refused(made, field, tmp_path, monkeypatch):
    ranker, column = Ranker(made[0]["DeepFM"]), StaticScorer._column
    monkeypatch.setattr(
        StaticScorer,
        "_column",
        lambda self, name, inputs: column(self, name, inputs) * (0 if name == field else 1),
    )
    with pytest.raises(ValueError, match="differ from the model's by"):
        ranker.export(tmp_path / "scorer.pt2")
    assert not list(tmp_path.iterdir())


def test_unseen_users_and_new_items_are_scored_as_the_ranker_says(made, tmp_path):
    ranker = Ranker(made[0]["GenCI"], unseen="padding")
    new = {"item_id": ["new"], "title": ["Story of Drama"], "genre": ["Drama"], "year": ["1990"]}
    more = ranker.with_items(pd.DataFrame(new))
    file = tmp_path / "scorer.pt2"
    said = more.export(file)
    assert said["run"]["unseen"] == "padding" and said["run"]["items_added"]
    rows = some_rows(more).assign(item_id="new")
    program = torch.export.load(file).module()
    found = program(**tensors_of(rows, file))
    np.testing.assert_allclose(found.detach(), more.score_rows(rows), atol=1e-5)
    plain = Ranker(made[0]["LR"])  # has no semantic IDs
    for ranker, is_added in ((plain, False), (plain.with_items(pd.DataFrame(new)), True)):
        scorer = ranker._scorer
        module = StaticScorer(scorer.model_with_mean, scorer.view, ranker._features)
        assert _description(scorer, module, file, file, 0.0)["run"]["items_added"] is is_added


def test_a_model_that_looks_at_values_is_refused(made, tmp_path, monkeypatch):
    ranker = Ranker(made[0]["DeepFM"])
    predict = type(ranker.run.model).predict

    def looks(self, interaction):
        scores = predict(self, interaction)
        return scores if scores.sum() > 0 else scores * 0

    monkeypatch.setattr(type(ranker.run.model), "predict", looks)
    with pytest.raises(ValueError, match="^DeepFM cannot be exported: .*data-dependent"):
        ranker.export(tmp_path / "scorer.pt2")
    assert not list(tmp_path.iterdir())


def test_a_program_that_computes_something_else_is_refused(made, tmp_path, monkeypatch):
    ranker = Ranker(made[0]["DeepFM"])
    predict = type(ranker.run.model).predict
    monkeypatch.setattr(
        type(ranker.run.model),
        "predict",
        lambda self, rows: predict(self, rows) * (0.99 if is_static() else 1),
    )
    with pytest.raises(ValueError, match="differ from the model's by 0.00.*more than 1e-05"):
        ranker.export(tmp_path / "scorer.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output=a.pt2"], "--run is missing, for example"),
        (["--run={run}"], "--output is missing, for example --output=scorer.pt2"),
        (["--run={run}", "--output=a.pth"], "'a.pth' ends with neither .pt2"),
        (["--run={run}", "--output=.pt2"], "'.pt2' is a suffix alone; name a file, for example"),
        (["--run={run}", "--output=a.pt2", "--itmes=a"], "Did you mean 'items'?"),
        (["--run={run}", "--output=folder.pt2"], "'folder.pt2' is a folder; name a file."),
        (["--run=nowhere", "--output=a.pt2"], "nowhere is not the folder of a run"),
        (["--run={run}", "--output=a.pt2", "--unseen=zero"], "unseen: 'zero' is neither"),
    ],
)
def test_a_wrong_request_is_one_sentence(made, words, message, capsys, tmp_path):
    (tmp_path / "folder.pt2").mkdir()
    assert main([word.format(run=made[0]["LR"]) for word in words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["folder.pt2"]


def test_an_export_that_ends_in_between_leaves_no_description(made, tmp_path, monkeypatch):
    ranker, file = Ranker(made[0]["LR"]), tmp_path / "scorer[1].pt2"
    for name in (file.name, f"{file.name}.json", f"{file.name}.vocabularies.json"):
        (tmp_path / name).write_text("of an earlier export")
        (tmp_path / f".{name}-killed").write_text("half of it")

    replace, calls = os.replace, []

    def once(*paths):  # kill -9 after the first of the files
        if calls:
            raise KeyboardInterrupt
        calls.append(replace(*paths))

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(KeyboardInterrupt):
        ranker.export(file)
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {file.name, f"{file.name}.vocabularies.json"}
    torch.export.load(file)


def test_a_full_disk_is_one_sentence(made, tmp_path, capfd):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        status = main([f"--run={made[0]['LR']}", f"--output={tmp_path / 'scorer.pt2'}"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capfd.readouterr().err
    assert status == 1 and said.count("\n") == 1
    assert "scorer.pt2 could not be written (File too large). Free some room" in said
    assert not list(tmp_path.iterdir())


def test_a_model_that_fails_while_traced_is_one_sentence(made, tmp_path, monkeypatch, capfd):
    model = type(Ranker(made[0]["DeepFM"]).run.model)
    predict = model.predict

    def fails(self, interaction):
        return predict(self, interaction) * (1 // (not is_static()))

    monkeypatch.setattr(model, "predict", fails)
    assert main([f"--run={made[0]['DeepFM']}", f"--output={tmp_path / 'scorer.pt2'}"]) == 2
    out, said = capfd.readouterr()
    assert "DeepFM cannot be exported: " in said and "(ZeroDivisionError)" in said
    assert said.count("\n") == 1 and not out
    assert not list(tmp_path.iterdir())


def test_names_of_inputs_are_ascii_and_none_of_torchs(tmp_path):
    kinds = ("token", ["p", "q", ""])
    columns = ("\ufb01n", "fin", "mod", "obj", "probability", "prix \xe9", "\u4ef7\u683c", "1x")
    ranker = deepfm_with(tmp_path, dict.fromkeys(columns, kinds))
    said = ranker.export(tmp_path / "scorer.pt2")
    names = {each["column"]: each["name"] for each in said["inputs"]}
    assert [names[column] for column in columns] == [
        *("fin", "fin_", "mod_", "obj_", "probability_", "prix_e", "__", "_1x"),
    ]
    rows = {name: torch.zeros(2, dtype=torch.int64) for name in names.values()}
    assert torch.export.load(tmp_path / "scorer.pt2").module()(**rows).shape == (2,)


def test_onnx_without_its_packages_is_one_sentence(made, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main([f"--run={made[0]['LR']}", "--output=a.onnx"]) == 2
    assert "needs onnx, which is not installed: pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_of_equal_scores_the_smaller_state_comes_first_in_a_program_too():
    rng = np.random.default_rng(0)
    scores = -torch.from_numpy(rng.choice([0.5, 0.50000006, 1e-3, 3.0, 88.0], 400)).float()
    states = torch.from_numpy(rng.permutation(2**20)[:400])
    expected = _ranking_key(scores, states).topk(400).indices
    with static_shapes():
        found = _ranking_key(scores, states)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.topk(400).indices, expected)


@pytest.mark.parametrize("name", ["GenCI", "DIEN", "LR"])
def test_onnx_runtime_has_the_scores_of_the_run(made, name, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    ranker, file = Ranker(made[0][name]), tmp_path / "scorer.onnx"
    ranker.export(file)
    rows = some_rows(ranker)
    inputs, expected = tensors_of(rows, file), ranker.score_rows(rows)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(inputs)
    for size in SIZES:
        (found,) = session.run(
            ["probability"], {key: value[:size].numpy() for key, value in inputs.items()}
        )
        np.testing.assert_allclose(found, expected[:size], atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="AOTInductor needs a C++ compiler, g++")
@pytest.mark.parametrize("name", ["GenCI", "causal", "LR"])
def test_aotinductor_has_the_scores_of_the_run(made, name, tmp_path):
    ranker = Ranker(made[0][name])
    rows = some_rows(ranker)
    program = torch.export.load(exported(tmp_path, ranker, rows))
    package = tmp_path / "scorer.aoti.pt2"
    torch._inductor.aoti_compile_and_package(program, package_path=str(package))
    serve([package])
    found = load_file(tmp_path / "found.safetensors")
    for size in SIZES:
        np.testing.assert_allclose(found[str(size)], ranker.score_rows(rows)[:size], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*known_models(), *MODELS} - {*QUICK}))
def test_every_model_can_be_exported(made, name, tmp_path):
    folder = made[0][name] if name in MODELS else None
    if folder is None:
        own = SMALL.get(name, {})
        keys = {k: v for k, v in made[2].items() if k in own or not k.startswith("mlp_")}
        folder = run(name, "tiny", config_dict=keys | own)[0].folder
    ranker, file = Ranker(folder), tmp_path / "scorer.pt2"
    ranker.export(file)
    rows = some_rows(ranker)
    found = torch.export.load(file).module()(**tensors_of(rows, file))
    np.testing.assert_allclose(found.detach(), ranker.score_rows(rows), atol=1e-5)
