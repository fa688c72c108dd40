import hashlib
import io
import json
import os
import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.artifact.collisions import resolve_collisions
from recbole_genci.tokenizer.artifact.files import manifest_content, read_texts, read_weights
from recbole_genci.tokenizer.artifact.frozen import quantizer_from_weights

CODES = np.array([[0, 1, 0], [0, 1, 1], [2, 0, 0], [1, 1, 0]], dtype=np.int64)
TOKENS = ("10", "9", "NA", "b c")


@pytest.fixture
def ids():
    return SemanticIDs(CODES, TOKENS, (3, 2, 4), {"settings": {"codebook_size": 3}})


def _rewrite(folder, name, content, **manifest_entries):
    """Replace a file and its hash: what a careful forger, or a faulty writer, would leave."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_bytes(manifest_content(manifest | manifest_entries))


def _npy(array, **kwargs):
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


def _forged(array):
    """A header that claims 2.9 TiB."""
    content = _npy(array)
    assert content.count(b"(4, 3), }            ") == 1
    return content.replace(b"(4, 3), }            ", b"(100000000000, 4), }  ")


def test_an_edited_manifest_is_refused(ids, tmp_path):
    ids.save(tmp_path / "toy")
    file = tmp_path / "toy/manifest.json"
    text = file.read_text()
    file.write_text(text.replace('"codebook_size": 3', '"codebook_size": 4'))
    with pytest.raises(ValueError, match="manifest.json is damaged or was edited"):
        SemanticIDs.load(tmp_path / "toy")
    file.write_text(text.replace("content_sha256", "content_sha257"))
    with pytest.raises(ValueError, match="manifest.json has no digest of its own"):
        SemanticIDs.load(tmp_path / "toy")


def test_a_manifest_without_its_digest_is_refused(ids, tmp_path):
    ids.save(tmp_path / "toy")
    file = tmp_path / "toy/manifest.json"
    manifest = json.loads(file.read_text())
    assert manifest.pop("content_sha256")
    file.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="manifest.json has no digest of its own"):
        SemanticIDs.load(tmp_path / "toy")


def test_a_missing_weight_is_one_sentence(ids, tmp_path):
    ids.save(tmp_path / "toy", {"w": torch.zeros(1)})
    with pytest.raises(
        ValueError, match="tokenizer.safetensors does not hold the weights of a quantiser"
    ):
        quantizer_from_weights(read_weights(tmp_path / "toy"), tmp_path / "toy")


def test_an_artifact_comes_back_as_it_was_saved(ids, tmp_path):
    weights = {"encoder.weight": torch.arange(6.0).reshape(2, 3)}
    ids.save(tmp_path / "toy", weights)
    loaded = SemanticIDs.load(tmp_path / "toy")
    np.testing.assert_array_equal(loaded.codes, CODES)
    assert loaded.codes.dtype == np.int64 and not loaded.codes.flags.writeable
    assert (loaded.item_tokens, loaded.level_sizes, loaded.digest) == (
        TOKENS,
        (3, 2, 4),
        ids.digest,
    )
    assert loaded.manifest["settings"] == {"codebook_size": 3}
    assert torch.equal(read_weights(tmp_path / "toy")["encoder.weight"], weights["encoder.weight"])
    assert sorted(os.listdir(tmp_path)) == ["toy"]


def test_the_digest_changes_with_codes_items_and_sizes(ids):
    others = [
        SemanticIDs(CODES[::-1], TOKENS, (3, 2, 4)),
        SemanticIDs(CODES, TOKENS[::-1], (3, 2, 4)),
        SemanticIDs(CODES, TOKENS, (3, 2, 5)),
    ]
    assert len({ids.digest, *(other.digest for other in others)}) == 4
    assert SemanticIDs(CODES, TOKENS, (3, 2, 4)).digest == ids.digest


def test_rows_are_aligned_to_recboles_ids_with_padding_first(ids):
    table = ids.aligned(np.array(["[PAD]", "NA", "10", "b c"]))
    assert table.dtype == np.int64
    assert table.tolist() == [[-1, -1, -1], [2, 0, 0], [0, 1, 0], [1, 1, 0]]


def test_items_without_an_id_and_a_missing_padding_row_are_named(ids):
    with pytest.raises(ValueError, match="2 of 3 items have no semantic ID: 'x', 'y'"):
        ids.aligned(["[PAD]", "10", "x", "y"])
    with pytest.raises(ValueError, match=r"starts with \[PAD\]; found '10'"):
        ids.aligned(["10", "9"])


@pytest.mark.parametrize(
    ("codes", "tokens", "sizes", "message"),
    [
        (CODES, ("a", "b", "a", "c"), (3, 2, 4), "more than once: 'a'"),
        (CODES, ("a", "b", "c"), (3, 2, 4), "disagree"),
        (CODES, TOKENS, (3, 2), "disagree"),
        (CODES, TOKENS, (2, 2, 4), "out of range, first item 'NA': code 2 at level 0 of size 2"),
        (CODES - 1, TOKENS, (3, 2, 4), "out of range, first item '10': code -1"),
        (CODES[[0, 1, 0, 2]], TOKENS, (3, 2, 4), "not unique, first items '10' and 'NA'"),
        (CODES.astype(np.int32), TOKENS, (3, 2, 4), "int32"),
        (CODES[:, :1], TOKENS, (3,), "N >= 2"),
        (CODES, ("[PAD]", "b", "c", "d"), (3, 2, 4), "other than"),
        (CODES, ("a\nb", "b", "c", "d"), (3, 2, 4), "one line"),
        (CODES[:0], (), (3, 2, 4), "at least one item"),
    ],
)
def test_invalid_ids_cannot_be_made(codes, tokens, sizes, message):
    with pytest.raises(ValueError, match=message):
        SemanticIDs(codes, tokens, sizes)


@pytest.mark.parametrize(
    "name", ["manifest.json", "codes.npy", "items.txt", "tokenizer.safetensors"]
)
def test_a_missing_file_is_named(ids, tmp_path, name):
    ids.save(tmp_path / "toy", {"w": torch.zeros(1)})
    (tmp_path / "toy" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}"):
        SemanticIDs.load(tmp_path / "toy")


@pytest.mark.parametrize(
    "name", ["manifest.json", "codes.npy", "items.txt", "tokenizer.safetensors"]
)
@pytest.mark.parametrize(
    "damage", [lambda content: content[:-7], lambda content: b"", lambda content: b"\xff\x00"]
)
def test_a_damaged_file_is_named(ids, tmp_path, name, damage):
    ids.save(tmp_path / "toy", {"w": torch.zeros(1)})
    file = tmp_path / "toy" / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=name):
        SemanticIDs.load(tmp_path / "toy")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("codes.npy", _npy(CODES)[:-8], "codes.npy is not a NumPy array"),
        (
            "codes.npy",
            _npy(CODES.astype(object), allow_pickle=True),
            "codes.npy is not a NumPy array",
        ),
        (
            "codes.npy",
            _npy(CODES * [[1], [1], [1], [9]]),
            "codes.npy.*out of range, first item 'b c'",
        ),
        ("codes.npy", _npy(CODES[[0, 1, 2, 0]]), "codes.npy.*not unique"),
        ("codes.npy", _forged(CODES), "codes.npy is not a NumPy array.*claims 3200000000000 bytes"),
        ("codes.npy", _npy(CODES[:3]), "codes.npy.*disagree"),
        ("codes.npy", _npy(CODES.astype(np.float64)), "codes.npy.*float64"),
        ("codes.npy", _npy(CODES[[2, 1, 0, 3]]), "manifest.json claims digest"),
        ("items.txt", b"10\n9\nNA\n10\n", "items.txt.*more than once: '10'"),
        ("items.txt", b"10\n9\nNA\n", "items.txt has 3 items"),
        ("items.txt", b"10\n9\nNA\n\xff\n", "items.txt is not UTF-8"),
    ],
)
def test_files_that_hash_well_but_hold_nonsense_are_refused(ids, tmp_path, name, content, message):
    ids.save(tmp_path / "toy")
    _rewrite(tmp_path / "toy", name, content)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        SemanticIDs.load(tmp_path / "toy")


@pytest.mark.parametrize(
    "entries", [{"format_version": 99}, {"level_sizes": ["3"]}, {"files": {}}, {"digest": None}]
)
def test_a_manifest_of_another_kind_is_refused(ids, tmp_path, entries):
    ids.save(tmp_path / "toy")
    _rewrite(
        tmp_path / "toy", "items.txt", (tmp_path / "toy" / "items.txt").read_bytes(), **entries
    )
    with pytest.raises(ValueError, match="manifest.json"):
        SemanticIDs.load(tmp_path / "toy")


@pytest.mark.parametrize("fatal", ["codes.npy", "items.txt", "manifest.json"])
def test_a_crash_while_saving_leaves_nothing_that_loads(ids, tmp_path, monkeypatch, fatal):
    from recbole_genci.tokenizer.artifact import files as artifact

    write = artifact._write

    def crash(file, content):
        write(file, content[:5] if file.name == fatal else content)
        if file.name == fatal:
            raise OSError("no space left on device")

    monkeypatch.setattr(artifact, "_write", crash)
    # A killed process cleans nothing up either.
    monkeypatch.setattr(artifact.shutil, "rmtree", lambda folder: None)
    with pytest.raises(OSError, match="no space left"):
        ids.save(tmp_path / "toy")
    assert not (tmp_path / "toy").exists()
    for leftover in tmp_path.iterdir():
        with pytest.raises((FileNotFoundError, ValueError)):
            SemanticIDs.load(leftover)
    monkeypatch.undo()
    ids.save(tmp_path / "toy")
    assert SemanticIDs.load(tmp_path / "toy").digest == ids.digest


def test_writers_at_the_same_time_leave_one_whole_artifact(ids, tmp_path):
    errors = []

    def save():
        try:
            ids.save(tmp_path / "toy", {"w": torch.zeros(1000)})
        except Exception as error:  # the thread has no other way to tell
            errors.append(error)

    threads = [threading.Thread(target=save) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["toy"]
    assert SemanticIDs.load(tmp_path / "toy").digest == ids.digest


def test_another_artifact_in_the_same_folder_is_never_overwritten(ids, tmp_path):
    ids.save(tmp_path / "toy")
    ids.save(tmp_path / "toy")
    with pytest.raises(FileExistsError, match="holds something else"):
        SemanticIDs(CODES[::-1], TOKENS, (3, 2, 4)).save(tmp_path / "toy")
    assert SemanticIDs.load(tmp_path / "toy").digest == ids.digest


_LINE = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tokens=st.lists(
        _LINE.filter(lambda token: token != "[PAD]"), min_size=1, max_size=12, unique=True
    ),
    levels=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    text=_LINE.map(lambda line: line.replace("\t", " ")),
)
def test_any_valid_ids_survive_the_round_trip(tmp_path, tokens, levels, seed, text):
    codes = np.random.default_rng(seed).integers(0, 2, (len(tokens), levels))
    codes = np.column_stack([codes, resolve_collisions(codes, tokens)])
    ids = SemanticIDs(codes, tuple(tokens), (*[2] * levels, 12), {"note": text})
    folder = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}"
    ids.save(folder, texts=[text] * len(tokens))
    loaded = SemanticIDs.load(folder)
    np.testing.assert_array_equal(loaded.codes, codes)
    assert (loaded.item_tokens, loaded.digest, loaded.manifest["note"]) == (
        ids.item_tokens,
        ids.digest,
        text,
    )
    assert read_texts(folder) == [text] * len(tokens)


def _without_codes(folder):
    (folder / "codes.npy").unlink()


def _with_codes(codes, **kwargs):
    return lambda folder: _rewrite(folder, "codes.npy", _npy(codes, **kwargs))


RAGGED = np.array([[0, 1, 0], [0, 1], [2, 0, 0], [1, 1, 0]], dtype=object)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_without_codes, FileNotFoundError, "has no codes.npy"),
        (_with_codes(RAGGED, allow_pickle=True), ValueError, "codes.npy is not a NumPy array"),
        (_with_codes(CODES - [0, 0, 1]), ValueError, "out of range, first item '10': code -1"),
        (_with_codes(CODES + 0.5), ValueError, "int64 codes.*float64"),
        (
            lambda folder: _rewrite(folder, "items.txt", b"10\n[PAD]\nNA\nb c\n"),
            ValueError,
            r"other than \[PAD\]",
        ),
        (_with_codes(CODES + [3, 0, 0]), ValueError, "out of range.*of size 3"),
        (_with_codes(CODES[[0, 0, 2, 3]]), ValueError, "not unique, first items '10' and '9'"),
    ],
    ids=["missing", "ragged", "negative", "not integer", "bad key", "out of range", "duplicate"],
)
def test_the_seven_ways_an_id_file_can_be_wrong_are_refused(ids, tmp_path, damage, error, message):
    ids.save(tmp_path / "toy")
    damage(tmp_path / "toy")
    with pytest.raises(error, match=f"(?s){message}"):
        SemanticIDs.load(tmp_path / "toy")


def test_texts_are_kept_one_a_line_and_checked(ids, tmp_path):
    with pytest.raises(ValueError, match="3 texts for 4 items"):
        ids.save(tmp_path / "toy", texts=["a"] * 3)
    with pytest.raises(ValueError, match="tabs or line ends in that of '9'"):
        ids.save(tmp_path / "toy", texts=["a", "b\tc", "d", "e"])
    ids.save(tmp_path / "toy", texts=["a", "b", "", "d"])
    assert read_texts(tmp_path / "toy") == ["a", "b", "", "d"]
    _rewrite(tmp_path / "toy", "texts.tsv", b"9\ta\n10\tb\nNA\t\nb c\td\n")
    with pytest.raises(ValueError, match="texts.tsv does not list the items"):
        read_texts(tmp_path / "toy")
    (tmp_path / "toy" / "texts.tsv").write_text("")
    with pytest.raises(ValueError, match="texts.tsv is not the file"):
        SemanticIDs.load(tmp_path / "toy")


def test_an_artifact_of_the_first_format_still_loads(ids, tmp_path):
    ids.save(tmp_path / "toy")
    _rewrite(
        tmp_path / "toy",
        "items.txt",
        (tmp_path / "toy" / "items.txt").read_bytes(),
        format_version=1,
    )
    assert SemanticIDs.load(tmp_path / "toy").digest == ids.digest


def test_ids_take_their_tokenizer_along_if_their_folder_still_has_it(ids, tmp_path):
    weights, texts = {"input_mean": torch.arange(3.0)}, ["a", "b", "c", "d"]
    ids.save(tmp_path / "built", weights, texts)
    loaded = SemanticIDs.load(tmp_path / "built")
    loaded.save_with_tokenizer(tmp_path / "run")
    assert read_texts(tmp_path / "run") == texts
    assert torch.equal(read_weights(tmp_path / "run")["input_mean"], weights["input_mean"])
    again = SemanticIDs.load(tmp_path / "run")
    assert again.digest == ids.digest

    ids.save_with_tokenizer(tmp_path / "made")  # in memory, of no folder
    (tmp_path / "built").rename(tmp_path / "moved")
    loaded.save_with_tokenizer(tmp_path / "gone")
    other = SemanticIDs(CODES[::-1].copy(), TOKENS, (3, 2, 4))
    other.save(tmp_path / "built", weights, texts)
    loaded.save_with_tokenizer(tmp_path / "replaced")
    for name in ("made", "gone", "replaced"):
        assert SemanticIDs.load(tmp_path / name).digest == ids.digest
        with pytest.raises(FileNotFoundError, match="was saved without texts"):
            read_texts(tmp_path / name)
