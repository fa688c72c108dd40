"""Runs and semantic IDs go to the hub and come back the same; what is wrong is one sentence."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import SMALL_GENCI, tiny_rows, write_dataset
from hub_server import Repository, hub_on_the_loopback

from recbole_genci import Ranker, load, predict, pull, push, run
from recbole_genci.config import Config
from recbole_genci.hub.card import licence_of
from recbole_genci.hub.command import main
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.command import main as tokenizer
from recbole_genci.tokenizer.source import check_source, find_semantic_ids
from recbole_genci.utils.hub.manifest import manifest_of
from recbole_genci.utils.hub.name import HubName
from recbole_genci.utils.hub.refusals import HubError

NAME = "hf:ada/shop"
ROWS, TEXTS = "data.safetensors", "semantic_ids/texts.tsv"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with hub_on_the_loopback(tmp_path, monkeypatch) as hub:
        yield hub


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of GenCI, and the dataset's keys."""
    folder = tmp_path_factory.mktemp("trained")
    keys = write_dataset(folder / "data", tiny_rows()) | {
        "checkpoint_dir": str(folder / "saved"),
        "results_dir": str(folder / "results"),
        "diagnostic_rows": 10,
    }
    (result,) = run("GenCI", "tiny", config_dict=keys | SMALL_GENCI)
    return Path(result.folder), keys


@pytest.fixture
def run_folder(trained, tmp_path):
    """A copy of the run, which a test may damage."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def said_by(capsys, argv) -> str:
    """The one sentence of a command that fails."""
    assert main(argv) in (1, 2)
    lines = [line for line in capsys.readouterr().err.splitlines() if "recbole_genci: " in line]
    assert len(lines) == 1
    return lines[0]


def files_in(folder) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


# ---------------------------------------------------------------- there and back


def test_a_run_comes_back_without_its_rows_and_makes_them_again(hub, trained, capsys, caplog):
    folder, keys = trained
    assert main(["push", str(folder), NAME]) == 0
    printed = capsys.readouterr().out
    assert f"the dataset's own: {ROWS} (" in printed and "Uploaded (private)" in printed
    assert "HTTP Request" not in caplog.text
    there = hub.repositories["ada/shop"]
    assert there.private and ROWS not in there.files and TEXTS not in there.files
    assert not any(name.endswith((".log", ".pt")) for name in there.files)

    assert main(["pull", NAME, "mine", f"--data_path={keys['data_path']}"]) == 0
    here, before = files_in(Path("mine")), files_in(folder)
    assert here.items() <= before.items()  # byte for byte
    assert {ROWS, TEXTS, "model.safetensors", "metrics.json", "config.yaml"} <= here.keys()
    assert load("mine").item_texts() == load(folder).item_texts()
    torch.testing.assert_close(load("mine").predict(), load(folder).predict(), rtol=0, atol=0)

    with pytest.raises(FileNotFoundError, match=f"{NAME} was pushed without its rows.*hub pull"):
        load(NAME)


def test_a_name_on_the_hub_is_read_like_a_folder(hub, trained, tmp_path, monkeypatch):
    folder, keys = trained
    commit = push(folder, NAME, with_data=True)
    first = Ranker(NAME).run
    torch.testing.assert_close(first.predict(), load(folder).predict(), rtol=0, atol=0)
    assert first.item_texts() == load(folder).item_texts()

    rows = Path(keys["data_path"]) / "tiny/tiny.inter"
    for each, output in ((folder, "a.csv"), (f"{NAME}@{commit}", "b.csv")):
        assert predict.main([f"--run={each}", f"--input={rows}", f"--output={output}"]) == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()

    hub.asked.clear()
    load(NAME)
    assert not any(asked.startswith("GET") and "resolve" in asked for asked in hub.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    load(f"{NAME}@{commit}")
    assert pull(NAME, tmp_path / "offline") == commit and not hub.asked
    assert files_in(tmp_path / "offline").items() <= files_in(folder).items()


def test_semantic_ids_are_read_from_the_hub_where_a_folder_is(hub, trained, tmp_path):
    folder, keys = trained
    ids = SemanticIDs.load(folder / "semantic_ids")
    push(folder / "semantic_ids", "hf:ada/ids/of-tiny")
    assert {"of-tiny/hub.json", "of-tiny/README.md"} <= hub.repositories["ada/ids"].files.keys()
    assert "of-tiny/texts.tsv" not in hub.repositories["ada/ids"].files
    push(folder, NAME, with_data=True)
    item_file = Path(keys["data_path"]) / "tiny/tiny.item"
    for name in ("hf:ada/ids/of-tiny", f"{NAME}/semantic_ids"):
        config = Config("GenCI", "tiny", config_dict=keys | {"semantic_id_path": name})
        check_source(config)
        assert find_semantic_ids(config, item_file, ids.item_tokens).digest == ids.digest
    assert tokenizer(["--semantic_id_path=hf:ada/ids/of-tiny", "--export=ids.json"]) == 0
    pull(f"{NAME}/semantic_ids", tmp_path / "ids")
    assert files_in(tmp_path / "ids") == files_in(folder / "semantic_ids")

    # IDs without texts still know their catalogue.
    other = item_file.read_text().replace("Story", "Tale of another")
    item_file = tmp_path / "tiny.item"
    item_file.write_text(other)
    config = Config("GenCI", "tiny", config_dict=keys | {"semantic_id_path": "hf:ada/ids/of-tiny"})
    with pytest.raises(ValueError, match="semantic_id_path: 20 of 20 items have another text here"):
        find_semantic_ids(config, item_file, ids.item_tokens)


def test_items_are_added_to_ids_of_the_hub(hub, trained, tmp_path):
    folder, keys = trained
    push(folder / "semantic_ids", "hf:ada/ids", with_data=True)
    more = write_dataset(tmp_path / "more", tiny_rows(num_items=22), num_items=22)
    Path("keys.yaml").write_text(yaml.safe_dump(more))
    words = ["--dataset=tiny", "--config_files=keys.yaml", "--output=longer"]
    assert tokenizer([*words, "--append_to=hf:ada/ids"]) == 0
    assert len(SemanticIDs.load("longer")) == 22


# ---------------------------------------------------------------- again, and stopped


def test_a_push_replaces_the_one_before_and_keeps_the_licence(hub, trained):
    folder, _ = trained
    push(folder, NAME, with_data=True)
    there = hub.repositories["ada/shop"]
    assert {ROWS, TEXTS} <= there.files.keys()
    card = there.files["README.md"].decode()
    assert licence_of(card) is None and "# license: " in card
    edited = card.replace("# license: the name of a licence, for example mit", "license: mit")
    later = there.files | {"README.md": edited.encode(), "notes.md": b"mine"}
    del later["diagnostics.json"]
    there.commit(later)
    push(folder, NAME)
    assert not {ROWS, TEXTS} & there.files.keys() and there.files["notes.md"] == b"mine"
    assert licence_of(there.files["README.md"].decode()) == "mit"
    hub.repositories["ada/made"] = made = Repository()
    made.commit({"README.md": b"---\nlicense: apache-2.0\n---\n"})
    push(folder, "hf:ada/made")
    assert licence_of(made.files["README.md"].decode()) == "apache-2.0"
    made.commit(made.files | {"hub.json": b"{}"})
    with pytest.raises(HubError, match="push: hf:ada/made: its hub.json is damaged"):
        push(folder, "hf:ada/made")


def test_the_card_says_what_was_measured_and_how(hub, trained):
    folder, _ = trained
    push(folder, NAME)
    card = hub.repositories["ada/shop"].files["README.md"].decode()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"| test | {metrics['test']['auc']} | {metrics['test']['logloss']} |" in card
    for said in (
        "# GenCI on tiny, seed",
        f"recbole_genci.hub pull {NAME} a-folder",
        "--model=GenCI --dataset=tiny --config_files=config.yaml",
        f"torch {metrics['versions']['torch']}",
        "None is given yet",
    ):
        assert said in card


@pytest.mark.parametrize("part", ["/commit/", "PUT /large/"])
def test_a_push_that_stops_leaves_nothing_that_loads(hub, trained, part, capsys):
    folder, _ = trained
    hub.broken[part] = 403
    said = said_by(capsys, ["push", str(folder), NAME])
    assert f"push: {NAME}: your account or token may not do that" in said
    said = said_by(capsys, ["pull", NAME, "mine"])
    assert "holds no hub.json" in said and not Path("mine").exists()
    hub.broken.clear()
    assert main(["push", str(folder), NAME]) == 0


def test_a_pull_that_stops_leaves_nothing(hub, trained, tmp_path, monkeypatch, capsys):
    folder, keys = trained
    push(folder, NAME)
    said = said_by(capsys, ["pull", NAME, "new/mine", f"--data_path={tmp_path / 'none'}"])
    assert "dataset: there is no folder" in said and not list(Path("new").iterdir())

    def stop(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_genci.hub.pull.restore_data", stop)
    with pytest.raises(KeyboardInterrupt):
        pull(NAME, "new/mine")
    assert not list(Path("new").iterdir())
    shutil.rmtree(tmp_path / "hub-cache")
    hub.broken["model.safetensors"] = 403
    assert "your account or token may not do that" in said_by(capsys, ["pull", NAME, "new/mine"])
    assert not list(Path("new").iterdir())


def test_other_rows_than_the_runs_are_refused(hub, trained, tmp_path, capsys):
    folder, _ = trained
    push(folder, NAME)
    other = write_dataset(tmp_path / "other", tiny_rows(seed=1))
    said = said_by(capsys, ["pull", NAME, "mine", f"--data_path={other['data_path']}"])
    assert "data_path: " in said and "gives other rows than the run" in said
    assert not Path("mine").exists()


def test_other_texts_than_the_runs_are_left_out_with_a_warning(hub, trained, tmp_path, caplog):
    folder, keys = trained
    push(folder, NAME)
    shutil.copytree(keys["data_path"], tmp_path / "data")
    items = tmp_path / "data/tiny/tiny.item"
    items.write_text(items.read_text().replace("Story 3 ", "Tale 3 "))
    pull(NAME, "mine", data_path=tmp_path / "data")
    assert "1 of 20 items have other texts" in caplog.text
    assert Ranker("mine").texts == {}


# ---------------------------------------------------------------- what is refused


def without(name):
    return lambda folder: (folder / name).unlink()


def spoilt(name):
    def damage(folder):
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without("metrics.json"), "has no metrics.json although the run had finished"),
        (without("model.safetensors"), "has no model.safetensors"),
        (spoilt("model.safetensors"), "model.safetensors is damaged or of another run"),
        (spoilt(ROWS), "data.safetensors is damaged or of another run"),
        (spoilt("semantic_ids/codes.npy"), "codes.npy is not the file that manifest.json"),
        (shutil.rmtree, "there is no folder"),
        (lambda f: [each.unlink() for each in f.glob("*.*")], "neither the folder of a run"),
    ],
)
def test_what_is_no_whole_run_is_not_pushed(hub, run_folder, damage, said, capsys):
    damage(run_folder)
    assert said in said_by(capsys, ["push", str(run_folder), NAME])
    assert not hub.asked


def test_a_repository_of_others_or_of_everybody_is_left_alone(hub, trained, capsys):
    folder, _ = trained
    hub.repositories["ada/bert"] = bert = Repository()
    bert.commit({"pytorch_model.bin": b"", "README.md": b"mine"})
    assert "it holds pytorch_model.bin" in said_by(capsys, ["push", str(folder), "hf:ada/bert"])
    hub.repositories["ada/open"] = Repository(private=False)
    hub.repositories["ada/open"].commit({})
    said = said_by(capsys, ["push", str(folder), "hf:ada/open"])
    assert "everybody may read this repository. Add --public=True" in said
    said = said_by(capsys, ["push", str(folder), "hf:bob/shop"])
    assert "your account or token may not do that (" in said
    assert main(["push", str(folder), "hf:ada/open", "--public=True"]) == 0
    assert "(everybody may read it)" in capsys.readouterr().out
    assert len(bert.commits) == 1


def test_who_is_not_logged_in_hears_it(hub, trained, monkeypatch, capsys):
    folder, _ = trained
    monkeypatch.delenv("HF_TOKEN")
    said = said_by(capsys, ["push", str(folder), NAME])
    assert "you are not logged in" in said and "`hf auth login`" in said
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert "does not know your token" in said_by(capsys, ["push", str(folder), NAME])


def relisted(files, **digests):
    """Files with a manifest that fits them, and lists further ones."""
    there = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if name.endswith((".json", ".yaml")) and name != "hub.json"
    }
    return files | {"hub.json": json.dumps(manifest_of(there | digests)).encode()}


def test_what_is_not_there_or_not_as_it_was_pushed_is_one_sentence(hub, trained, capsys):
    folder, _ = trained
    push(folder, NAME, with_data=True)
    there = hub.repositories["ada/shop"]
    files = dict(there.files)

    def said(name=NAME):
        sentence = said_by(capsys, ["pull", name, "mine"])
        assert not Path("mine").exists() and sentence.startswith(f"recbole_genci: pull: {name}")
        return sentence

    assert "has no repository ada/none, or a private one" in said("hf:ada/none")
    assert "no branch, tag or commit 'v2'" in said(f"{NAME}@v2")
    assert "no folder of that name was pushed" in said(f"{NAME}/teacher")
    there.gated = True
    assert f"access to it must be asked for, at {hub.url}/ada/shop" in said()
    there.gated = False

    there.commit(files | {"config.yaml": files["config.yaml"] + b"# later\n"})
    assert "config.yaml is not the file that was pushed: its SHA-256 is" in said()
    there.commit({name: files[name] for name in files if name != "config.yaml"})
    assert "a file is missing there" in said()
    there.commit(files | {"hub.json": files["hub.json"].replace(b'"format": 1', b'"format": 2')})
    assert "is damaged or was edited" in said()
    for wrong in ("weights.pkl", "model.bin", "training.pt", "../config.yaml", "/etc/x.json"):
        there.commit(relisted(files, **{wrong: "0" * 64}))
        assert f"lists '{wrong}', and a run or semantic IDs have no such file" in said()
    there.commit(relisted({"report.json": b"{}"}))
    assert "is neither a run nor semantic IDs" in said()


def test_what_the_manifest_lacks_is_never_fetched(hub, trained, tmp_path):
    folder, _ = trained
    push(folder, NAME, with_data=True)
    there = hub.repositories["ada/shop"]
    there.commit(there.files | {"training.pt": b"\x80\x04.", "semantic_ids/more.npy": b"x"})
    hub.asked.clear()
    pull(NAME, tmp_path / "mine")
    assert not {"training.pt", "semantic_ids/more.npy"} & files_in(tmp_path / "mine").keys()
    assert not any("training.pt" in asked or "more.npy" in asked for asked in hub.asked)


def test_a_damaged_cache_is_found(hub, trained, tmp_path, capsys):
    folder, _ = trained
    push(folder, NAME, with_data=True)
    load(NAME)
    (weights,) = tmp_path.glob("hub-cache/*/snapshots/*/model.safetensors")
    spoilt("")(weights.resolve())
    said = said_by(capsys, ["pull", NAME, "mine"])
    file = re.search(r"Delete (\S+) and fetch", said)[1]
    Path(file).unlink()
    assert main(["pull", NAME, "mine"]) == 0


def test_a_hub_out_of_reach_is_said_at_once(trained, tmp_path, monkeypatch, capsys):
    folder, _ = trained
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert "127.0.0.1:9 cannot be reached (" in said_by(capsys, ["push", str(folder), NAME])
    said = said_by(capsys, ["pull", NAME, "mine"])
    assert "127.0.0.1:9 cannot be reached (" in said and "does not hold all of its files" in said
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in said_by(capsys, ["push", str(folder), NAME])
    assert "HF_HUB_OFFLINE is set" in said_by(capsys, ["pull", NAME, "mine"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["pusj", "a", NAME], "'pusj' is neither push nor pull. Did you mean 'push'?"),
        (["push", "a"], "push needs two places, for example push saved/"),
        (["pull", NAME, "--data_path=x"], "pull needs two places, for example pull hf:user/name"),
        (["push", "a", "ada/shop"], "push: 'ada/shop' is no name on the Hugging Face hub"),
        (["push", "a", "hf:shop"], "push: 'hf:shop' is no name on the Hugging Face hub"),
        (["push", "a", "hf:ü/shop"], "push: 'hf:ü/shop' is no name on the Hugging Face hub"),
        (["pull", "hf:ada/søk", "new"], "'hf:ada/søk' is no name on the Hugging Face hub"),
        (["pull", NAME, "hf:ada/mine"], "pull: 'hf:ada/mine' is a name on the hub. Name a new"),
        (["push", "a", "hf:../shop"], "push: 'hf:../shop' is no name on the Hugging Face hub"),
        (["pull", "hf:a--b/shop", "new"], "'hf:a--b/shop' is no name on the Hugging Face hub"),
        (["push", "a", f"{NAME}@v1"], "Leave @v1 out"),
        (["push", "a", NAME, "--publik=True"], "--publik is no option of this command. Did you"),
        (["push", "a", NAME, "--public=yes"], "public: 'yes' is neither True nor False"),
        (["push", "a", NAME], "push: there is no folder a."),
        (["pull", f"{NAME}/../x", "new"], "is no name on the Hugging Face hub"),
        (["pull", NAME, "."], "pull: . exists already. Name a new folder."),
    ],
)
def test_a_wrong_request_is_one_sentence(argv, said, capsys):
    Path("something").touch()
    assert main(argv) == 2
    assert said in capsys.readouterr().err


def test_help_and_a_dry_run_ask_nobody(hub, trained, capsys):
    folder, _ = trained
    assert main(["--help"]) == 0 and "hf auth login" in capsys.readouterr().out
    assert main(["push", str(folder), NAME, "--dry_run=True"]) == 0
    assert "Nothing was uploaded" in capsys.readouterr().out and not hub.asked


def test_names_are_read_as_they_are_written():
    for text in (NAME, f"{NAME}@v1.0", f"{NAME}/a/b", f"{NAME}@0f/semantic_ids"):
        assert str(HubName.read(text)) == text
    assert HubName.read("hf:a/b@c/d/e") == HubName("a/b", "c", "d/e")
    assert HubName.read("hf:a/b/") == HubName("a/b")
