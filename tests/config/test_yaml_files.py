"""YAML files that people write: read as RecBole reads them, once, and refused in one sentence."""

from pathlib import Path

import pytest
import yaml
from recbole.config import Config as RecBoleConfig

from recbole_genci.config import Config
from recbole_genci.config.yaml_files import Loader, read_yaml
from recbole_genci.utils.mappings import FastLoader, read_mapping


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
    Path("f.yaml").write_text(f"a: {text}")
    assert repr(read_yaml(Path("f.yaml"), "key")) == repr({"a": theirs})


def test_a_file_is_parsed_once(monkeypatch):
    Config("LR", "ml-100k")
    Path("mine.yaml").write_text("epochs: 7\n")
    read, parse = [], FastLoader.get_single_node
    monkeypatch.setattr(
        FastLoader, "get_single_node", lambda loader: read.append(1) or parse(loader)
    )
    assert Config("LR", "ml-100k", ["mine.yaml"])["epochs"] == 7
    assert len(read) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x {epochs: *x}", "'f.yaml' has an anchor in line 1 that holds itself"),
        ("epochs: 1\nb: &x\n- *x", "has an anchor in line 2 that holds itself"),
        ("1: 2", "has the key 1 in line 1, which YAML reads as int, not as a text"),
        ("epochs: 1\non: 2", "has the key on in line 2, which YAML reads as bool"),
        ("[1]: 2", "has the key a seq in line 1"),
        ("epochs: " + "[" * 3000 + "]" * 3000, "nests its values too deeply"),
        ("epochs: 2024-02-31", "holds a value that is none: day is out of range"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "\n".join(
                f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in zip("abcdef", "bcdefg")
            ),
            "holds more than 1,000,000 values, counting what its anchors repeat",
        ),
        ("a: *b", "is not YAML in UTF-8: found undefined alias"),
        ("a: !!python/name:os.getcwd", "is not YAML in UTF-8: could not determine a constructor"),
    ],
)
def test_what_no_configuration_can_be_is_one_sentence(text, said):
    Path("f.yaml").write_text(text)
    with pytest.raises(ValueError, match="^config_files: 'f.yaml' ") as error:
        Config("LR", "ml-100k", ["f.yaml"])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "epochs: [1,\nseed: 2\n",
            "expected ',' or ']', but got '<stream end>' (line 3, column 1)",
        ),
        ("epochs: 1\nrecipe: 'x\n", "while scanning a quoted scalar (line 2, column 9), found un"),
        ("epochs: b: c", "mapping values are not allowed here (line 1, column 10)."),
        ("epochs: 1\na: \x07", "characters are not allowed, found #x0007 (line 2, column 4)."),
        ("epochs:\n\t- b", "found character '\\t' that cannot start any token (line 2, column 1)."),
        ("epochs: *b", "found undefined alias 'b' (line 1, column 9)."),
    ],
)
def test_what_is_no_yaml_is_refused_with_line_and_column_and_no_copy_of_the_line(text, reason):
    for name in ("f.yaml", "g.yaml"):
        Path(name).write_text(text)
    with pytest.raises(ValueError, match="^config_files: 'f.yaml' is not YAML in UTF-8: ") as one:
        Config("LR", "ml-100k", ["f.yaml"])
    with pytest.raises(ValueError, match=r"^g.yaml is damaged \(") as other:
        read_mapping(Path("g.yaml"), ["epochs"], "Make it anew.")
    for error in map(str, (one.value, other.value)):
        assert reason.rstrip(".") in error
        assert not any(words in error for words in ("unicode string", "^", "\n")), error


def test_anchors_and_merged_mappings_are_taken():
    Path("f.yaml").write_text(
        "threshold: &x {rating: 3}\nseq_len: {<<: *x, rating: 2, class: 1}\nval_interval: ~\n"
    )
    config = Config("LR", "ml-100k", ["f.yaml"])
    assert (config["threshold"], config["seq_len"]) == ({"rating": 3}, {"rating": 2, "class": 1})
