"""The list of hosts, sizes and hashes that is shipped."""

import re

import pytest
import yaml
from recbole.config import Config as RecBoleConfig

from recbole_genci.config import Config, properties_folder
from recbole_genci.data.download import known_downloads
from recbole_genci.data.download.sources import MAX_ARCHIVE_BYTES, downloads_file, recbole_urls

MOVIELENS = ["ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small"]
GROUPLENS, MIRROR = (
    "https://files.grouplens.org/datasets/movielens",
    "datasets/Recommenders/MovieLens/resolve/main",
)


def test_movielens_is_tried_at_grouplens_then_the_mirror_then_recboles_store(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    known = known_downloads()
    assert [source.url for source in known["ml-1m"].sources] == [
        f"{GROUPLENS}/ml-1m.zip",
        f"https://huggingface.co/{MIRROR}/ml-1m.zip",
        recbole_urls()["ml-1m"],
    ]
    assert [source.is_atomic for source in known["ml-1m"].sources] == [False, False, True]
    for name in MOVIELENS:
        assert known[name].sources[0].url == f"{GROUPLENS}/{name}.zip"
        assert len(known[name].sources) == (3 if name in MOVIELENS[:4] else 1)


def test_every_fixed_edition_is_pinned():
    known = known_downloads()
    for name in MOVIELENS[:-1]:
        assert known[name].size > 10**6
        assert re.fullmatch("[0-9a-f]{64}", known[name].hashes["sha256"])
        assert re.fullmatch("[0-9a-f]{32}", known[name].hashes["md5"])
    assert known["ml-1m"].hashes == {
        "sha256": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        "md5": "c4d9eecfca2ab87c1945afe126590906",
    }
    small = known["ml-latest-small"]  # which GroupLens replaces now and then
    assert small.size is None and not small.hashes and small.max_bytes == 20_000_000


def test_what_has_no_hash_has_counts():
    for name in MOVIELENS:
        known = known_downloads()[name]
        assert any(source.is_atomic for source in known.sources) == bool(known.counts)
        assert not known.counts or set(known.counts) == {"rows", "users", "items"}


@pytest.mark.parametrize("endpoint", ["https://hub.example", "https://hub.example/"])
def test_another_hub_of_the_environment_is_used(monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert known_downloads()["ml-20m"].sources[1].url == f"https://hub.example/{MIRROR}/ml-20m.zip"


def test_recboles_other_names_come_from_its_store_only():
    known = known_downloads()
    assert set(recbole_urls()) < set(known)
    (store,) = known["anime"].sources
    assert (
        store.is_atomic and store.url == recbole_urls()["anime"] and store.name == "RecBole's store"
    )
    assert known["anime"].size is None and known["anime"].max_bytes == MAX_ARCHIVE_BYTES


def test_the_list_is_shipped_and_every_download_has_a_protocol():
    assert downloads_file() == properties_folder() / "downloads.yaml"
    for name in MOVIELENS:
        keys = yaml.safe_load((properties_folder() / f"dataset/{name}.yaml").read_text())
        assert keys["val_interval"] == {"rating": "[0,3);(3,inf)"}
        half_stars = name not in ("ml-100k", "ml-1m")
        assert keys["threshold"] == {"rating": 3.5 if half_stars else 4}


def test_a_missing_packaged_ml100k_is_downloaded_into_the_users_folder(tmp_path, monkeypatch):
    plain = RecBoleConfig._set_default_parameters

    def without_package(self):
        plain(self)
        self.final_config_dict["data_path"] = str(
            tmp_path / "site-packages/recbole/dataset_example/ml-100k"
        )

    assert Config("LR", "ml-100k")["data_path"].endswith("dataset_example/ml-100k")
    monkeypatch.setattr(RecBoleConfig, "_set_default_parameters", without_package)
    assert Config("LR", "ml-100k")["data_path"] == "dataset/ml-100k"
