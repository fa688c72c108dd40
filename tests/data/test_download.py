"""Datasets that are not on the disk."""

from urllib.error import URLError

import pytest
from conftest import tiny_rows, write_dataset

from recbole_genci.config import Config
from recbole_genci.data import create_dataset, download


def test_an_unreachable_store_is_one_sentence_and_leaves_no_folder(tmp_path, monkeypatch):
    def unreachable(url):
        raise URLError("no route")

    monkeypatch.setattr(download, "decide_download", unreachable)
    with pytest.raises(ConnectionError, match="ml-1m does not exist and downloading it from https.*no route.*--data_path"):
        create_dataset(Config("LR", "ml-1m", config_dict={"data_path": str(tmp_path / "data")}))
    assert list((tmp_path / "data").iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing_and_a_whole_one_is_read(tmp_path, monkeypatch):
    keys = write_dataset(tmp_path / "origin", tiny_rows(), name="ml-1m") | {"data_path": str(tmp_path / "data"),
                                                                            "val_interval": None, "threshold": None}  # fmt: skip
    monkeypatch.setattr(download, "decide_download", lambda url: True)
    archive = []

    def download_url(url, folder):
        path = f"{folder}/archive.zip"
        open(path, "w").close()
        archive.append(path)
        return path

    def breaks_off(path, folder):
        raise OSError("disk full")

    monkeypatch.setattr(download, "download_url", download_url)
    monkeypatch.setattr(download, "extract_zip", breaks_off)
    with pytest.raises(ConnectionError, match="disk full"):
        create_dataset(Config("DIN", "ml-1m", config_dict=keys))
    assert list((tmp_path / "data").iterdir()) == []

    def extract(path, folder):
        for file in (tmp_path / "origin/ml-1m").iterdir():
            (tmp_path / "data" / folder.split("/")[-1] / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr(download, "extract_zip", extract)
    assert len(create_dataset(Config("DIN", "ml-1m", config_dict=keys)).inter_feat) == len(tiny_rows())
    assert sorted(p.name for p in (tmp_path / "data/ml-1m").iterdir()) == ["ml-1m.inter", "ml-1m.item", "ml-1m.user"]
