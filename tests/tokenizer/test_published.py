"""The semantic IDs that come with the package: their files, the digests of their texts, and which
catalogues they fit.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import recbole

import recbole_genci
from recbole_genci.config import properties_folder
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.artifact.files import manifest_content, read_text_digests
from recbole_genci.tokenizer.artifact.published import (
    best_fit,
    publish,
    published_folders,
    text_digests,
)
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import read_items

ROOT = Path(recbole_genci.__file__).parent.parent
ML100K = Path(recbole.__file__).parent / "dataset_example/ml-100k/ml-100k.item"
#: Which runs' records hold; README's figures are theirs.
DIGESTS = {
    "ml-100k": "f91ccb31d82818391d7841dbf5f730f9eb87287db4a33c3142980992fafcfd2a",
    "ml-1m": "5c1658cf6ba332752e12864fd44b64e5ce65d23830d702e09c71f86332bea547",
}
#: The two movies whose texts RecBole garbled: what `data.prepare` makes of u.item.
PREPARED_100K = {
    "267": "unknown. unknown",
    "1412": "Land Before Time III: The Time of the Great Giving. Animation Children's. 1995",
}


def _fit(item_file, tokens=None):
    return best_fit(ItemFile(item_file, "item_id"), tokens)


def _texts(ids, item_file):
    table = read_items(ItemFile(item_file, "item_id"))
    fields = ids.manifest["settings"]["item_text_fields"]
    return dict(zip(ids.item_tokens, table.texts(fields, ids.item_tokens).texts, strict=True))


def _remade(name, tmp_path, *origins):
    """The published folder made again from its three other files and the items' texts."""
    published = properties_folder() / "semantic_ids" / name
    folder = tmp_path / name
    folder.mkdir()
    for file in ("codes.npy", "items.txt"):
        shutil.copyfile(published / file, folder / file)
    manifest = json.loads((published / "manifest.json").read_text())
    del manifest["files"]["text_digests.npy"], manifest["published"]
    (folder / "manifest.json").write_bytes(manifest_content(manifest))
    publish(folder, name, *origins)
    return published, folder


def test_the_published_ids_are_those_of_the_experiments():
    assert [folder.name for folder in published_folders()] == sorted(DIGESTS)
    for folder in published_folders():
        ids = SemanticIDs.load(folder)
        assert ids.digest == DIGESTS[folder.name] and ids.manifest["published"] == folder.name
        assert not (folder / "texts.tsv").exists()  # the data must not be passed on


def test_the_digests_of_ml100k_can_be_made_again(tmp_path):
    ids = SemanticIDs.load(properties_folder() / "semantic_ids/ml-100k")
    published, folder = _remade("ml-100k", tmp_path, _texts(ids, ML100K), PREPARED_100K)
    for name in ("text_digests.npy", "manifest.json"):
        assert (folder / name).read_bytes() == (published / name).read_bytes()


def test_recboles_ml100k_fits_and_so_does_a_part_of_it():
    fit = _fit(ML100K)
    assert (fit.published.name, fit.items, fit.equal) == ("ml-100k", 1682, 1682)
    part = _fit(ML100K, ["5", "7", "1412"])
    assert (part.items, part.equal, part.absent, part.differing) == (3, 3, [], [])


def test_case_white_space_and_forms_of_a_character_are_no_other_text():
    same = ["Alien³. Sci-Fi", "ALIEN3.  sci-fi ", "Alien３. Sci-Fi"]
    assert len(set(text_digests(same).tolist())) == 1
    others = ["Alien 3. Sci-Fi", "Alien3 Sci-Fi", "Aliens. Sci-Fi", ""]
    assert len(set(text_digests([*same, *others]).tolist())) == 5
    assert text_digests(["Café"]) == text_digests(["Cafe\u0301"]) != text_digests(["Cafe"])
    assert text_digests(["x"]).dtype == np.uint64


def test_items_of_other_columns_or_ids_fit_nothing(tmp_path):
    other = tmp_path / "other.item"
    other.write_text("item_id:token\ttitle:token_seq\n1\tToy Story\n")
    assert _fit(other) is None
    other.write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\nB01\tx\t1995\tDrama\n"
    )
    assert _fit(other) is None


@pytest.mark.parametrize("broken", ["text_digests.npy", "codes.npy", "items.txt", "manifest.json"])
def test_damaged_published_ids_are_refused(tmp_path, monkeypatch, broken):
    shutil.copytree(properties_folder() / "semantic_ids", tmp_path / "semantic_ids")
    monkeypatch.setattr(
        "recbole_genci.tokenizer.artifact.published.properties_folder", lambda: tmp_path
    )
    file = tmp_path / "semantic_ids/ml-100k" / broken
    file.write_bytes(file.read_bytes()[:-9] + b"x" * 9)
    with pytest.raises(
        ValueError, match="come with recbole_genci are damaged.*install recbole_genci again"
    ):
        _fit(ML100K)


def test_digests_of_another_shape_are_refused(tmp_path):
    ids = SemanticIDs(
        np.array([[0, 0], [0, 1]]),
        ("a", "b"),
        (1, 2),
        {"settings": {"item_text_fields": ["title"]}},
    )
    ids.save(tmp_path / "toy")
    with pytest.raises(FileNotFoundError, match="without text_digests.npy"):
        read_text_digests(tmp_path / "toy")
    publish(tmp_path / "toy", "toy", {"a": "one", "b": "two"}, {"b": "zwei"})
    digests = read_text_digests(tmp_path / "toy")
    assert (
        digests.shape == (2, 2)
        and digests[0, 0] == digests[0, 1]
        and digests[1, 0] != digests[1, 1]
    )
    assert SemanticIDs.load(tmp_path / "toy").digest == ids.digest

    np.save(tmp_path / "flat.npy", digests[:, 0])
    content = (tmp_path / "flat.npy").read_bytes()
    (tmp_path / "toy/text_digests.npy").write_bytes(content)
    manifest = json.loads((tmp_path / "toy/manifest.json").read_text())
    manifest["files"]["text_digests.npy"] = hashlib.sha256(content).hexdigest()
    (tmp_path / "toy/manifest.json").write_bytes(manifest_content(manifest))
    with pytest.raises(ValueError, match=r"must hold uint64 \[2, V\]"):
        read_text_digests(tmp_path / "toy")


def test_a_wheel_carries_them(tmp_path):
    if not (ROOT / "setup.py").is_file():
        pytest.skip("an installed package has no setup.py")
    words = [sys.executable, "setup.py", "-q", "build_py", f"--build-lib={tmp_path}"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for folder in published_folders():
        built = tmp_path / "recbole_genci/properties/semantic_ids" / folder.name
        assert {file.name for file in built.iterdir()} == {
            "codes.npy",
            "items.txt",
            "manifest.json",
            "text_digests.npy",
        }
        for file in built.iterdir():
            assert file.read_bytes() == (folder / file.name).read_bytes()
