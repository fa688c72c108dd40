"""YAML files that people write: read as RecBole reads them, once, and refused in one sentence."""

from pathlib import Path

import pytest
import yaml
from recbole.config import Config as RecBoleConfig

from recbole_genci.config import Config
from recbole_genci.config.yaml_files import Loader


@pytest.mark.parametrize(
    "text",
    "1 1_000 -7 0x1f 1.5 1. .5 -.5 1e-5 1E5 +1e3 1.5e3 1.5e-3 1.5_0e3 1_0.5 .5e+3 .5e-3 1e 1:30.5 "
    ".inf -.Inf .nan inf nan 1e-5x 2024-01-02 yes no true ~ null '' a".split(),
)
def test_values_are_read_as_recbole_reads_them(text, monkeypatch):
    resolvers = {
        first: list(each) for first, each in yaml.FullLoader.yaml_implicit_resolvers.items()
    }
    monkeypatch.setattr(yaml.FullLoader, "yaml_implicit_resolvers", resolvers)
    theirs = yaml.load(text, Loader=RecBoleConfig._build_yaml_loader(None))
    assert repr(yaml.load(text, Loader=Loader)) == repr(theirs)


def test_a_file_is_parsed_once(monkeypatch):
    Config("LR", "ml-100k")
    Path("mine.yaml").write_text("epochs: 7\n")
    read, parse = [], yaml.SafeLoader.get_single_node
    monkeypatch.setattr(
        yaml.SafeLoader, "get_single_node", lambda loader: read.append(1) or parse(loader)
    )
    assert Config("LR", "ml-100k", ["mine.yaml"])["epochs"] == 7
    assert len(read) == 1
