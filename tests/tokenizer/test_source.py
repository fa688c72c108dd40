"""Which semantic IDs a run gets: of a folder, of the package, of the cache, or built; and an
encoder that cannot be had.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import SMALL_GENCI, TINY, tiny_rows, write_dataset

from recbole_genci import Ranker, plan
from recbole_genci import config as config_module
from recbole_genci.cli import main
from recbole_genci.config import Config
from recbole_genci.plan import prepare
from recbole_genci.quick_start import run
from recbole_genci.tokenizer import SemanticIDs, load_or_build_semantic_ids, tokenize
from recbole_genci.tokenizer import command as tokenizer_command
from recbole_genci.tokenizer.artifact.published import publish
from recbole_genci.tokenizer.build import EMBEDDINGS, item_vectors
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import read_item_texts
from recbole_genci.tokenizer.settings import TOKENIZER_KEYS, tokenizer_settings
from recbole_genci.tokenizer.source import check_source, find_semantic_ids

FIELDS = ["title", "genre", "year"]
TOKENS = [f"i{number}" for number in range(20)]
HUB = "nobody/no-such-model"
USED = "Semantic IDs: the published ones (tiny, digest"


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Properties with a dataset `tiny` that has defaults of the tokenizer's keys, and published IDs
    for it.
    """
    properties = tmp_path / "properties"
    shutil.copytree(config_module.properties_folder(), properties)
    shutil.rmtree(properties / "semantic_ids")
    defaults = {key: value for key, value in TINY.items() if key in TOKENIZER_KEYS}
    (properties / "dataset/tiny.yaml").write_text(yaml.safe_dump(defaults))
    write_dataset(tmp_path / "data", tiny_rows())
    texts = read_item_texts(ItemFile(tmp_path / "data/tiny/tiny.item", "item_id"), FIELDS, TOKENS)
    codes = np.stack([np.arange(20) % 4, np.arange(20) // 4, np.zeros(20, int)], axis=1)
    folder = properties / "semantic_ids/tiny"
    SemanticIDs(codes, TOKENS, (4, 5, 2), {"settings": {"item_text_fields": FIELDS}}).save(folder)
    publish(folder, "tiny", dict(zip(TOKENS, texts, strict=True)))
    for module in ("config.config", "config.keys", "tokenizer.artifact.published"):
        monkeypatch.setattr(f"recbole_genci.{module}.properties_folder", lambda: properties)
    return properties


@pytest.fixture
def published(house):
    return SemanticIDs.load(house / "semantic_ids/tiny")


@pytest.fixture
def keys(house, tmp_path):
    """What a person gives: no key of the tokenizer."""
    own = {key: value for key, value in (TINY | SMALL_GENCI).items() if key not in TOKENIZER_KEYS}
    return own | {"data_path": str(tmp_path / "data"), "diagnostic_rows": 0}


@pytest.fixture
def rows_unread(monkeypatch):
    """Reading rows fails the test."""

    def read(config):
        raise AssertionError("rows were read")

    for module in (plan, tokenizer_command):
        monkeypatch.setattr(module, "prepare_parts", read)


@pytest.fixture
def hub(monkeypatch):
    """A hub out of reach; the names that were asked for."""
    pytest.importorskip("sentence_transformers")
    asked = []
    monkeypatch.setattr(
        "recbole_genci.tokenizer.encoding.encoders._probe_hub",
        lambda name: asked.append(name) or "the hub cannot be reached",
    )
    return asked


def _default_encoder(house, encoder):
    file = house / "dataset/tiny.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"text_encoder": encoder}))


def _change_items(tmp_path, change):
    file = tmp_path / "data/tiny/tiny.item"
    file.write_text(change(file.read_text()))


def _said(caplog):
    return [
        r.getMessage()
        for r in caplog.records
        if "ublished" in r.getMessage() or "published ones" in r.getMessage()
    ]


def _built():
    return list(Path("dataset/semantic_ids").glob("*/manifest.json"))


# ---------------------------------------------------------------- which IDs are used


def test_published_ids_are_used_where_the_catalogue_is_the_same(keys, published, caplog):
    with caplog.at_level("INFO"):
        plan = prepare("DeepFM,GenCI", "tiny", config_dict=keys)
    assert plan.semantic_ids.digest == published.digest and not _built()
    (line,) = _said(caplog)
    assert line == (
        f"{USED} {published.digest[:12]}) fit all 20 items by id and text. A tokenizer key, for "
        "example "
        "--text_encoder=lsa, builds new ones."
    )


@pytest.mark.parametrize("change", [str.upper, lambda text: text.replace(" of ", "  of\u00a0")])
def test_spelling_that_says_the_same_is_no_other_text(keys, published, tmp_path, change):
    def spell(text):
        header, _, rows = text.partition("\n")
        spelled = [row.split("\t") for row in rows.splitlines()]
        return (
            "\n".join([header, *("\t".join([row[0], change(row[1]), *row[2:]]) for row in spelled)])
            + "\n"
        )

    _change_items(tmp_path, spell)
    assert prepare("GenCI", "tiny", config_dict=keys).semantic_ids.digest == published.digest


def test_the_name_of_the_dataset_does_not_matter_nor_do_texts_fields_need_a_key(
    keys, published, tmp_path
):
    write_dataset(tmp_path / "data", tiny_rows(), name="mine")
    assert Config("GenCI", "mine", config_dict=keys)["item_text_fields"] is None
    assert prepare("GenCI", "mine", config_dict=keys).semantic_ids.digest == published.digest
    file = tmp_path / "data/mine/mine.item"
    file.write_text(file.read_text().replace("Story", "Tale"))
    with pytest.raises(ValueError, match="item_text_fields: not set"):
        prepare("GenCI", "mine", config_dict=keys)


WITHOUT_TEXTS = (
    "Without texts: --text_encoder=vectors.npy takes vectors of the items, one a row, whose ids "
    "are in vectors.txt, one a line; --semantic_id_path takes ready semantic IDs."
)


def test_without_text_fields_what_can_be_given_is_said(tmp_path):
    keys = write_dataset(tmp_path / "data", tiny_rows()) | SMALL_GENCI
    for key in ("item_text_fields", "load_col"):
        del keys[key]
    keys |= {"load_col": {"inter": ["user_id", "item_id", "label", "timestamp"]}}
    item = tmp_path / "data/tiny/tiny.item"
    said = "item_text_fields: not set. "
    with pytest.raises(ValueError) as error:
        prepare("GenCI", "tiny", config_dict=keys)
    columns = f"Give a list of columns of the .item file, {item}; it has title, year, genre. "
    assert str(error.value) == said + columns + WITHOUT_TEXTS
    item.unlink()
    with pytest.raises(ValueError) as error:
        prepare("GenCI", "tiny", config_dict=keys)
    missing = f"It names columns of {item} that make an item's text, and there is no such file. "
    assert str(error.value) == (
        f"{said}{missing}Write it; of tables, prepare --format=table makes it by --items, which "
        f"may be the file of rows itself. {WITHOUT_TEXTS}"
    )
    np.save("vectors.npy", np.random.default_rng(0).normal(size=(20, 6)))
    Path("vectors.txt").write_text("\n".join(f"i{n}" for n in range(20)))
    ids = prepare("GenCI", "tiny", config_dict=keys | {"text_encoder": "vectors.npy"}).semantic_ids
    assert len(ids.item_tokens) == 20  # as the sentence says
    with pytest.raises(FileNotFoundError, match="tiny.item does not exist. .*Without texts: "):
        prepare("GenCI", "tiny", config_dict=keys | {"item_text_fields": ["title"]})
    with pytest.raises(
        ValueError, match=f"{said}Give a list of columns of the .item file. Without"
    ):
        tokenizer_settings({"text_encoder": "lsa"})


def test_a_part_of_the_catalogue_is_enough(keys, published, tmp_path):
    write_dataset(tmp_path / "data", tiny_rows(num_items=12), num_items=12)
    plan = prepare("GenCI", "tiny", config_dict=keys)
    assert plan.semantic_ids.digest == published.digest and plan.parts[0].item_num == 13


def test_filters_may_leave_out_the_items_that_do_not_fit(keys, published, tmp_path):
    """As a k-core does: the .item file has more than the rows."""
    _change_items(tmp_path, lambda text: text + "i99\tNever seen\t1999\tDrama\n")
    keys |= {"item_inter_num_interval": "[1,inf)"}
    plan = prepare("GenCI", "tiny", config_dict=keys)
    assert plan.semantic_ids.digest == published.digest and plan.parts[0].item_num == 21


def test_a_changed_text_is_told_and_ids_are_built(keys, published, tmp_path, caplog):
    _change_items(tmp_path, lambda text: text.replace("Story 7 of", "Tale 7 of"))
    with caplog.at_level("INFO"):
        plan = prepare("GenCI", "tiny", config_dict=keys)
    assert plan.semantic_ids.digest != published.digest and len(_built()) == 1
    assert _said(caplog) == [
        "Published semantic IDs (tiny) exist, but 1 of 20 texts differ, first that of item 'i7', "
        "here 'Tale 7 of Horror "
        "Thriller. Horror Thriller. 1990'. IDs are built."
    ]


def test_one_more_item_is_told_and_ids_are_built(keys, published, tmp_path, caplog):
    write_dataset(tmp_path / "data", tiny_rows(num_items=21), num_items=21)
    with caplog.at_level("INFO"):
        plan = prepare("GenCI", "tiny", config_dict=keys)
    assert plan.semantic_ids.digest != published.digest and len(plan.semantic_ids) == 21
    assert _said(caplog) == [
        "Published semantic IDs (tiny) exist, but 1 of 21 items are not among them, first 'i20'. "
        "IDs are built."
    ]


def test_another_catalogue_with_a_few_of_the_ids_is_not_mentioned(keys, tmp_path, caplog):
    write_dataset(tmp_path / "data", tiny_rows(num_items=60, rows_per_user=60), num_items=60)
    with caplog.at_level("INFO"):
        prepare("GenCI", "tiny", config_dict=keys)
    assert not _said(caplog)


@pytest.mark.parametrize(
    "key", [("tokenizer_seed", 2020), ("text_encoder", "lsa"), ("item_text_fields", FIELDS)]
)
@pytest.mark.parametrize("where", ["dict", "command line", "file"])
def test_any_tokenizer_key_builds_anew(keys, published, tmp_path, caplog, key, where):
    name, value = key
    given = {"config_dict": keys}
    if where == "dict":
        given = {"config_dict": keys | {name: value}}
    elif where == "command line":
        given["argv"] = [f"--{name}={value}"]
    else:
        given["config_files"] = [str(tmp_path / "mine.yaml")]
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({name: value}))
    config = Config(
        "GenCI", "tiny", given.get("config_files"), given["config_dict"], given.get("argv", ())
    )
    with caplog.at_level("INFO"):
        ids = find_semantic_ids(config, tmp_path / "data/tiny/tiny.item", TOKENS)
    assert ids.digest != published.digest and not _said(caplog)


def test_a_folder_given_by_hand_comes_first(keys, published, tmp_path, caplog):
    codes = np.stack([np.arange(20), np.zeros(20, int)], axis=1)
    SemanticIDs(codes, TOKENS, (20, 1)).save(tmp_path / "own")
    with caplog.at_level("INFO"):
        plan = prepare(
            "GenCI", "tiny", config_dict=keys | {"semantic_id_path": str(tmp_path / "own")}
        )
    assert plan.semantic_ids.num_levels == 2 and not _said(caplog)


def test_a_folder_with_equal_codes_of_most_items_is_warned_of(keys, tmp_path, caplog):
    codes = np.stack([np.maximum(np.arange(20) - 10, 0), np.arange(20)], axis=1)
    SemanticIDs(codes, TOKENS, (10, 20)).save(tmp_path / "own")
    prepare("GenCI", "tiny", config_dict=keys | {"semantic_id_path": str(tmp_path / "own")})
    assert "11 of 20 items have the same codes" in caplog.text


@pytest.mark.parametrize("kept", ["texts", "digests"])
@pytest.mark.parametrize("other", [3, 15])
def test_a_folder_given_by_hand_must_be_of_these_items(
    keys, published, tmp_path, caplog, house, kept, other
):
    """Ids like 1, 2, 3 are those of every catalogue; the texts tell them apart."""
    item_file = tmp_path / "data/tiny/tiny.item"
    folder = house / "semantic_ids/tiny"
    if kept == "texts":
        folder = tmp_path / "own"
        texts = read_item_texts(ItemFile(item_file, "item_id"), FIELDS, TOKENS)
        published.save(folder, texts=texts)
    given = keys | {"semantic_id_path": str(folder)}
    assert prepare("GenCI", "tiny", config_dict=given).semantic_ids.digest == published.digest
    assert "another text" not in caplog.text
    text = item_file.read_text()
    for number in range(other):
        text = text.replace(f"\tStory {number} of", f"\tAnother film {number} with")
    item_file.write_text(text)
    if other == 3:
        prepare("GenCI", "tiny", config_dict=given)
        assert "3 of 20 items have another text here than in" in caplog.text
        return
    with pytest.raises(
        ValueError, match="^semantic_id_path: 15 of 20 items .* made for another catalogue"
    ):
        prepare("GenCI", "tiny", config_dict=given)


@pytest.mark.parametrize("by", ["path", "default"])
def test_a_run_with_published_ids_keeps_the_texts_of_its_items(keys, published, house, by):
    given = {"semantic_id_path": str(house / "semantic_ids/tiny")} if by == "path" else {}
    (result,) = run("GenCI", "tiny", config_dict=keys | given | {"epochs": 1})
    ranker = Ranker(result.folder)
    assert ranker.run.semantic_ids.digest == published.digest
    assert not list(published.folder.glob("*.tsv"))
    assert ranker.texts["i7"].startswith("Story 7 of")
    table = ranker.recommend(["u1"], k=3)
    assert table["text"].tolist() == [ranker.texts[item] for item in table["item"]]


def test_a_folder_given_by_hand_whose_fields_are_missing_is_told(
    keys, published, house, tmp_path, caplog
):
    item_file = tmp_path / "data/tiny/tiny.item"
    item_file.write_text(item_file.read_text().replace("title:token_seq", "name:token_seq"))
    given = keys | {"semantic_id_path": str(house / "semantic_ids/tiny")}
    prepare("GenCI", "tiny", config_dict=given)
    assert "was made from the field title, which" in caplog.text


def test_a_misspelt_text_field_is_named_before_rows_are_read(keys, rows_unread):
    with pytest.raises(
        ValueError, match="^item_text_fields: 'titel' is no .* Did you mean 'title'"
    ):
        prepare("GenCI", "tiny", config_dict=keys | {"item_text_fields": ["titel"]})


def test_a_folder_given_by_hand_for_items_without_a_file_is_told(
    keys, published, house, tmp_path, caplog
):
    (tmp_path / "data/tiny/tiny.item").unlink()
    without = {ending: fields for ending, fields in keys["load_col"].items() if ending != "item"}
    given = keys | {"load_col": without, "semantic_id_path": str(house / "semantic_ids/tiny")}
    prepare("GenCI", "tiny", config_dict=given)
    assert "tiny.item that has them. Whether its IDs belong to these items was not" in caplog.text


def test_a_cache_given_by_hand_wins_if_it_holds_exactly_these(keys, published, tmp_path):
    cache = str(tmp_path / "cache")
    settings = tokenizer_settings(Config("GenCI", "tiny", config_dict=keys))
    file = tmp_path / "data/tiny/tiny.item"

    def ids(**more):
        return prepare("GenCI", "tiny", config_dict=keys | more).semantic_ids.digest

    built = load_or_build_semantic_ids(
        settings, ItemFile(file, "item_id"), TOKENS, tmp_path / "cache", "tiny"
    ).digest
    assert built != published.digest
    assert ids(semantic_id_dir=cache) == built
    assert ids(semantic_id_dir=str(tmp_path / "empty")) == published.digest
    shutil.copytree(cache, "dataset/semantic_ids")
    assert ids() == published.digest  # the default place was not given by hand
    others = settings | {"tokenizer_seed": 7}
    load_or_build_semantic_ids(
        others, ItemFile(file, "item_id"), TOKENS, tmp_path / "others", "tiny"
    )
    assert ids(semantic_id_dir=str(tmp_path / "others")) == published.digest


def test_damaged_published_ids_are_one_sentence_and_status_2(keys, house, capsys):
    (house / "semantic_ids/tiny/codes.npy").write_bytes(b"")
    words = [
        "--model=GenCI",
        "--dataset=tiny",
        *(f"--{key}={value}" for key, value in keys.items()),
    ]
    assert main(words) == 2
    assert "The semantic IDs that come with recbole_genci are damaged" in capsys.readouterr().err
    assert not _built() and not Path("saved").exists()


# ---------------------------------------------------------------- runs that are given back


def test_a_runs_configuration_asks_for_the_published_ids_again(keys, published, tmp_path):
    (result,) = run("GenCI", "tiny", config_dict=keys)
    assert result["semantic_ids"] == published.digest
    file = Path(result["folder"]) / "config.yaml"
    text = file.read_text()
    assert (
        not TOKENIZER_KEYS & yaml.safe_load(text).keys()
        and "# Semantic IDs: the published ones, digest" in text
    )
    # Even where the cache holds IDs of the very settings by now.
    prepare("GenCI", "tiny", config_dict=keys | {"text_encoder": "lsa"})
    assert len(_built()) == 1
    assert prepare("GenCI", "tiny", [str(file)]).semantic_ids.digest == published.digest


def test_a_run_that_built_its_ids_builds_them_again(keys, tmp_path):
    _change_items(tmp_path, lambda text: text.replace("Story 7 of", "Tale 7 of"))
    (result,) = run("GenCI", "tiny", config_dict=keys)
    content = yaml.safe_load((Path(result["folder"]) / "config.yaml").read_text())
    assert content["text_encoder"] == "lsa" and TOKENIZER_KEYS <= content.keys()


# ---------------------------------------------------------------- experiments, searches, the
# tokenizer's command


def test_experiments_use_them_unless_they_are_about_how_ids_are_made(keys, published, tmp_path):
    from recbole_genci.experiments.cache import DataCache
    from recbole_genci.experiments.definition import read
    from recbole_genci.experiments.request import ExperimentArguments, check_request
    from recbole_genci.experiments.runner import Runner

    digests = {}
    cache = DataCache()
    for name in ("mu", "cohorts"):
        request = check_request(read(name), ExperimentArguments("tiny", seeds=1, config_dict=keys))
        runner = Runner(request, cache)
        ids, error = runner._prepared(request.variants[0])
        assert error is None
        digests[name] = ids.digest
    assert digests["mu"] == published.digest != digests["cohorts"]


def test_a_search_uses_them_and_resumes_with_them(keys, published, tmp_path):
    from recbole_genci.tuning.search import prepare_resumed_search, prepare_search
    from recbole_genci.tuning.settings import Settings

    Path("space.test").write_text("learning_rate choice [0.001, 0.01]\n")
    search = prepare_search("GenCI", "tiny", "space.test", None, keys, (), Settings())
    assert search.plan.semantic_ids.digest == published.digest
    search.save_settings()
    assert prepare_resumed_search(search.folder).plan.semantic_ids.digest == published.digest


def test_the_tokenizers_command_builds_and_says_that_published_ones_exist(
    keys, published, tmp_path, caplog, capsys
):
    own = {key: keys[key] for key in ("data_path", "load_col")}
    with caplog.at_level("INFO"):
        assert (
            tokenizer_command.main(
                ["--dataset=tiny", *(f"--{key}={value}" for key, value in own.items())]
            )
            == 0
        )
    assert len(_built()) == 1 and "# Semantic IDs of 20 items" in capsys.readouterr().out
    (line,) = _said(caplog)
    assert "a run without a tokenizer key takes them" in line
    assert tokenize("tiny", config_dict=own).digest != published.digest
    words = [
        "--dataset=tiny",
        *(f"--{key}={value}" for key, value in own.items()),
        "--semantic_id_path=there",
    ]
    assert tokenizer_command.main(words) == 2
    assert "semantic_id_path: this command builds IDs" in capsys.readouterr().err


# ---------------------------------------------------------------- an encoder that cannot be had


def _words(keys, **more):
    return [f"--{key}={value}" for key, value in (keys | more).items()]


def test_a_hub_out_of_reach_is_said_before_rows_are_read(keys, hub, rows_unread, capsys):
    assert main(["--model=GenCI", "--dataset=tiny", *_words(keys, text_encoder=HUB)]) == 2
    error = capsys.readouterr().err
    assert (
        f"The text encoder '{HUB}' cannot be loaded" in error
        and "Choices for `text_encoder`" in error
    )
    assert len(hub) == 1

    own = {key: keys[key] for key in ("data_path", "load_col")}
    assert tokenizer_command.main(["--dataset=tiny", *_words(own, text_encoder=HUB)]) == 2
    assert f"The text encoder '{HUB}' cannot be loaded" in capsys.readouterr().err


def test_searches_and_experiments_say_so_too(keys, hub, rows_unread, capsys, monkeypatch):
    from recbole_genci.experiments.cache import DataCache
    from recbole_genci.tuning.command import main as run_hyper

    monkeypatch.setattr(DataCache, "rows", lambda self, config: pytest.fail("rows were read"))
    Path("space.test").write_text("learning_rate choice [0.001, 0.01]\n")
    assert (
        run_hyper(
            [
                "--model=GenCI",
                "--dataset=tiny",
                "--params_file=space.test",
                *_words(keys, text_encoder=HUB),
            ]
        )
        == 2
    )
    assert f"The text encoder '{HUB}' cannot be loaded" in capsys.readouterr().err
    words = [word for word in _words(keys, text_encoder=HUB) if not word.startswith("--mu")]
    assert main(["--experiment=mu", "--dataset=tiny", *words]) == 2
    assert f"The text encoder '{HUB}' cannot be loaded" in capsys.readouterr().err


def test_a_comparison_of_encoders_warns_and_goes_on(keys, hub, caplog, monkeypatch):
    from recbole_genci.experiments.command import _check_semantic_ids
    from recbole_genci.experiments.definition import read
    from recbole_genci.experiments.request import ExperimentArguments, check_request

    request = check_request(read("cohorts"), ExperimentArguments("tiny", seeds=1, config_dict=keys))
    with caplog.at_level("WARNING"):
        _check_semantic_ids(request)
    warned = [r.getMessage() for r in caplog.records if "will fail" in r.getMessage()]
    assert any(
        "the line text_encoder = sentence-transformers/sentence-t5-base will fail" in line
        for line in warned
    )


def test_it_is_said_before_a_download(keys, hub, rows_unread, tmp_path, capsys):
    words = _words(
        keys | {"data_path": str(tmp_path / "nowhere")}, text_encoder=HUB, item_text_fields=FIELDS
    )
    assert main(["--model=GenCI", "--dataset=ml-1m", *words]) == 2
    assert f"The text encoder '{HUB}' cannot be loaded" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_a_dataset_to_be_downloaded_may_be_one_of_the_published(keys, hub, tmp_path, house):
    (house / "semantic_ids/tiny").rename(house / "semantic_ids/ml-1m")
    elsewhere = {"data_path": str(tmp_path / "nowhere"), "load_col": None}
    check_source(Config("GenCI", "ml-1m", config_dict=elsewhere))
    assert not hub
    with pytest.raises(RuntimeError, match="sentence-t5-base' cannot be loaded"):
        check_source(Config("GenCI", "ml-1m", config_dict=elsewhere), published=False)


def test_no_hub_is_asked_for_where_published_ids_fit(keys, house, hub, published):
    _default_encoder(house, HUB)
    assert prepare("GenCI", "tiny", config_dict=keys).semantic_ids.digest == published.digest
    assert not hub


def test_a_catalogue_that_cannot_fit_is_refused_before_rows_are_read(
    keys, house, hub, rows_unread, tmp_path
):
    _default_encoder(house, HUB)
    _change_items(tmp_path, lambda text: text.replace("Story", "Tale"))
    with pytest.raises(RuntimeError, match=f"'{HUB}' cannot be loaded"):
        prepare("GenCI", "tiny", config_dict=keys)


def test_a_catalogue_that_might_have_fitted_is_refused_right_after_its_rows(
    keys, house, hub, tmp_path, caplog
):
    _default_encoder(house, HUB)
    _change_items(tmp_path, lambda text: text.replace("Story 7 of", "Tale 7 of"))
    with caplog.at_level("INFO"), pytest.raises(RuntimeError, match=f"'{HUB}' cannot be loaded"):
        prepare("GenCI", "tiny", config_dict=keys)
    assert "1 of 20 texts differ" in caplog.text and not _built()


def test_cached_ids_and_vectors_need_no_hub(keys, house, hub, tmp_path, monkeypatch):
    given = keys | {"text_encoder": HUB, "semantic_id_dir": str(tmp_path / "cache")}
    settings = tokenizer_settings(Config("GenCI", "tiny", config_dict=given))
    file = tmp_path / "data/tiny/tiny.item"
    tokens = sorted(TOKENS)
    texts = read_item_texts(ItemFile(file, "item_id"), FIELDS, tokens)
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    with monkeypatch.context() as online:
        online.setattr("recbole_genci.tokenizer.build.check_encoder", lambda encoder: None)
        online.setattr(
            "recbole_genci.tokenizer.build.encode_texts", lambda texts, *args, **keys: vectors
        )
        item_vectors(settings, tokens, texts, tmp_path / "cache")
    built = prepare("GenCI", "tiny", config_dict=given).semantic_ids  # from the vectors
    shutil.rmtree(tmp_path / "cache" / EMBEDDINGS)
    assert (
        prepare("GenCI", "tiny", config_dict=given).semantic_ids.digest == built.digest
    )  # from the IDs
    assert not hub
    with pytest.raises(RuntimeError, match=f"'{HUB}' cannot be loaded"):
        prepare("GenCI", "tiny", config_dict=given | {"tokenizer_seed": 7})


def test_a_vectors_file_that_is_missing_is_said_before_rows_are_read(keys, rows_unread, tmp_path):
    with pytest.raises(FileNotFoundError, match="needs the file.*absent.npy"):
        prepare("GenCI", "tiny", config_dict=keys | {"text_encoder": str(tmp_path / "absent.npy")})


def test_an_encoding_that_is_none_is_one_sentence(keys, capsys):
    assert main(["--model=GenCI", "--dataset=tiny", *_words(keys, encoding="klingon")]) == 2
    assert "klingon" in capsys.readouterr().err


def test_vectors_of_other_texts_do_not_help(keys, house, hub, tmp_path, monkeypatch):
    given = keys | {"text_encoder": HUB, "semantic_id_dir": str(tmp_path / "cache")}
    settings = tokenizer_settings(Config("GenCI", "tiny", config_dict=given))
    with monkeypatch.context() as online:
        online.setattr("recbole_genci.tokenizer.build.check_encoder", lambda encoder: None)
        online.setattr(
            "recbole_genci.tokenizer.build.encode_texts",
            lambda texts, *args, **keys: np.eye(2, dtype=np.float32),
        )
        item_vectors(settings, ["a", "b"], ["one", "two"], tmp_path / "cache")
    with pytest.raises(RuntimeError, match=f"'{HUB}' cannot be loaded"):
        prepare("GenCI", "tiny", config_dict=given)
