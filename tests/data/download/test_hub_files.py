"""A dataset on the Hugging Face hub by its name, through the hub's own client, from a stand-in."""

import hashlib
import io
import json
import urllib.parse
from pathlib import Path

import pandas as pd
import pytest
from hosts import Host, body

from recbole_genci.data.prepare.__main__ import main

pytest.importorskip("pyarrow")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCHEMA = "{'rows': {'user_id': 'token', 'item_id': 'token', 'label': 'float'}}"


def parquet(users):
    stream = io.BytesIO()
    frame = pd.DataFrame({"user_id": users, "item_id": ["i1"] * len(users), "label": 1})
    frame.to_parquet(stream)
    return stream.getvalue()


FILES = {
    "README.md": b"# Clicks",
    "data/train-00000-of-00002.parquet": parquet(["u1", "u2"]),
    "data/train-00001-of-00002.parquet": parquet(["u3"]),
    "data/test-00000-of-00001.parquet": parquet(["u4"]),
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one dataset, ``somebody/clicks``, and an empty cache."""
    from huggingface_hub import constants

    server = Host()
    server.files = dict(FILES)

    def answer(handler, stop):
        path = urllib.parse.unquote(handler.path.partition("?")[0])
        revision = "/revision/main" if "/revision/" in path else ""
        if path == f"/api/datasets/somebody/clicks{revision}":
            siblings = [{"rfilename": name} for name in server.files]
            facts = {"id": "somebody/clicks", "sha": COMMIT, "siblings": siblings}
            return body(json.dumps(facts).encode(), {"Content-Type": "application/json"})(
                handler, stop
            )
        name = path.removeprefix(f"/datasets/somebody/clicks/resolve/{COMMIT}/")
        if name in server.files:
            content = server.files[name]
            headers = {"ETag": hashlib.sha256(content).hexdigest(), "X-Repo-Commit": COMMIT}
            return body(content, headers)(handler, stop)
        code = "RevisionNotFound" if "/somebody/" in path else "RepoNotFound"
        return body(b"{}", {"X-Error-Code": code}, 404)(handler, stop)

    server.answer = answer
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield server
    server.close()


def prepare(name="somebody/clicks", *words):
    return main(
        ["--format=table", f"--input=hf:{name}", f"--schema={SCHEMA}", "--dataset=d", *words]
    )


def users():
    return [line.split("\t")[0] for line in Path("dataset/d/d.inter").read_text().splitlines()[1:]]


def test_the_parquet_files_of_a_dataset_become_atomic_files(hub):
    assert prepare() == 0
    assert users() == ["u4", "u1", "u2", "u3"]
    provenance = json.loads(Path("dataset/d/provenance.json").read_text())
    assert provenance["download"] == {
        "source": "hf:somebody/clicks",
        "commit": COMMIT,
    }
    train = FILES["data/train-00000-of-00002.parquet"]
    assert hashlib.sha256(train).hexdigest() in [s["sha256"] for s in provenance["sources"]]


def test_some_of_its_files(hub):
    assert prepare("somebody/clicks@main", "--files=data/train-*") == 0
    assert users() == ["u1", "u2", "u3"]
    assert not any("test-00000" in path for path in hub.asked)
    assert prepare("somebody/clicks@main/data", "--overwrite=True") == 0 and len(users()) == 4
    assert prepare("somebody/clicks@main/other", "--overwrite=True") == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clicks", "input: 'hf:clicks' is no name on the Hugging Face hub. Write hf:user/name"),
        ("nobody/clicks", "input: hf:nobody/clicks: {url} has no repository nobody/clicks, or"),
        ("somebody/clicks@v2", "the repository has no branch, tag or commit 'v2'."),
    ],
)
def test_a_name_that_is_not_there_is_one_sentence(hub, capsys, name, message):
    assert prepare(name) == 2
    error = capsys.readouterr().err
    assert message.format(url=hub.url) in error and error.count("\n") == 1
    assert not Path("dataset").exists()


def test_a_dataset_without_such_files_and_a_hub_out_of_order(hub, capsys):
    hub.files = {"README.md": b"# Clicks"}
    assert prepare() == 2
    error = capsys.readouterr().err
    assert "holds no .parquet, .csv or .tsv file; it holds README.md." in error
    assert "hf:somebody/clicks@refs/convert/parquet" in error
    hub.answer = body(b"no", status=403)
    assert prepare() == 2
    error = capsys.readouterr().err
    assert (
        "input: hf:somebody/clicks: your account or token may not do that" in error
        and error.count("\n") == 1
    )
