"""Semantic IDs in one file, as other code reads and writes them."""

import json

import numpy as np
import pytest
from conftest import SMALL_GENCI, item_codes, tiny_rows, write_dataset
from safetensors.numpy import save_file
from safetensors.torch import load_file

from recbole_genci import Ranker
from recbole_genci.quick_start import run
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.artifact.exchange import read_ids, write_ids
from recbole_genci.tokenizer.command import main

SUFFIXES = (".json", ".safetensors", ".parquet")


def ids_of(items=20):
    codes = item_codes(items + 1)[1:]
    names = tuple(f"i{n}" for n in range(items))
    return SemanticIDs(codes, names, tuple(codes.max(0) + 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read_back(suffix, tmp_path):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    ids, file = ids_of(), tmp_path / f"ids{suffix}"
    write_ids(ids, file)
    found = read_ids(file)
    assert found.digest == ids.digest and found.item_tokens == ids.item_tokens
    np.testing.assert_array_equal(found.codes, ids.codes)
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_the_index_is_that_of_lc_rec_and_the_tensor_that_of_tiger(tmp_path):
    ids = SemanticIDs(np.array([[12, 7, 0], [12, 7, 1]]), ("42", "ä b"), (256, 256, 2))
    write_ids(ids, tmp_path / "ids.json")
    index = json.loads((tmp_path / "ids.json").read_text(encoding="utf-8"))
    assert index == {"42": ["<a_12>", "<b_7>", "<c_0>"], "ä b": ["<a_12>", "<b_7>", "<c_1>"]}
    write_ids(ids, tmp_path / "ids.safetensors")
    tensor = load_file(tmp_path / "ids.safetensors")["semantic_ids"]
    assert tensor.tolist() == [[12, 7, 0], [12, 7, 1]] and str(tensor.dtype) == "torch.int64"


GOOD = ["<a_1>", "<b_0>"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("[1]", "not of the form"),
        ("{}", "not of the form"),
        ("{", "it is no JSON"),
        ('{"a": ["<a_1>", "<b_0>"], "a": ["<a_2>", "<b_0>"]}', "item 'a' stands there twice"),
        ({"a": GOOD, "b": ["<a_1>"]}, "item 'b' has 1 codes, and 'a' has 2"),
        ({"a": "<a_1>"}, "which is no list of codes"),
        ({"a": ["<b_1>", "<a_1>"]}, "has the code '<b_1>', where one as '<a_7>' is needed"),
        ({"a": ["<a_-1>", "<b_1>"]}, "has the code '<a_-1>'"),
        ({"a": [1, 2]}, "has the code 1, where one as '<a_7>' is needed"),
        ({"a": ["<a_1>"], "b": ["<a_2>"]}, "at least 2 levels"),
        ({"a": GOOD, "b": GOOD}, "are not unique, first items 'a' and 'b'"),
        ({"": GOOD}, "must be non-empty"),
        ({"b": GOOD, "\ud800": ["<a_2>", "<b_0>"]}, r"item '\ud800' has half a character"),
        ({"a": [f"<a_{2**20}>", "<b_0>"]}, "the code 1048576 at level 0; codes count from 0 and"),
        ({"a": [f"<a_{10**18 - 1}>", "<b_0>"]}, "has the code 999999999999999999 at level 0"),
        ({"a": [f"<a_{10**18}>", "<b_0>"]}, "has the code '<a_1000000000000000000>', where one"),
        ({"a": ["<a_01>", "<b_0>"]}, "has the code '<a_01>', where one as '<a_7>' is needed"),
        ({"a": ["<a_\u0663>", "<b_0>"]}, "has the code '<a_\u0663>', where one as '<a_7>'"),
    ],
)
def test_a_wrong_index_is_one_sentence(index, message, tmp_path):
    file = tmp_path / "ids.json"
    file.write_text(index if isinstance(index, str) else json.dumps(index))
    with pytest.raises(ValueError) as error:
        read_ids(file)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith(f"semantic_id_path: {file} holds no valid semantic IDs")


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"codes": [[0, 0]]}, {"items": '["a"]'}, "it has no tensor 'semantic_ids'"),
        ({"semantic_ids": [[0, 0]]}, {}, "its metadata has no 'items'"),
        ({"semantic_ids": [[0, 0]]}, {"items": "["}, "its metadata 'items' is no JSON"),
        ({"semantic_ids": [[0, 0]]}, {"items": '["a", "b"]'}, "integers [2, levels] are needed"),
        ({"semantic_ids": [[0.5, 0]]}, {"items": '["a"]'}, "is F64 [1, 2]; integers"),
        ({"semantic_ids": [[-1, 0]]}, {"items": '["a"]'}, "item 'a' has a negative code, -1 at"),
        ({"semantic_ids": [[0, 0]]}, {"items": "[1]"}, "must be non-empty strings"),
        *(
            ({"semantic_ids": [[0, 0], [1, 0]]}, {"items": items}, f"other than [PAD]; found {bad}")
            for items, bad in (
                ('[["a"], ["b"]]', "['a'], ['b']"),
                ("[{}, {}]", "{}, {}"),
                ("[null, null]", "None, None"),
            )
        ),
        (
            {"semantic_ids": np.array([[2**64 - 1, 0]], dtype=np.uint64)},
            {"items": '["a"]'},
            "item 'a' has the code 18446744073709551615 at level 0; codes count from 0 and stay",
        ),
        (
            {"semantic_ids": [[0, 2**63 - 1]]},
            {"items": '["a"]'},
            "item 'a' has the code 9223372036854775807 at level 1; codes count from 0 and stay",
        ),
    ],
)
def test_a_wrong_tensor_is_one_sentence(tensors, metadata, message, tmp_path):
    file = tmp_path / "ids.safetensors"
    save_file({name: np.array(values) for name, values in tensors.items()}, file, metadata)
    with pytest.raises(ValueError, match="holds no valid semantic IDs") as error:
        read_ids(file)
    assert message in str(error.value)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F4", "C64"])
def test_codes_of_a_kind_that_numpy_lacks_are_one_sentence(kind, tmp_path):
    size = {"BF16": 8, "F8_E4M3": 4, "F4": 2, "C64": 32}[kind]
    tensor = {"dtype": kind, "shape": [2, 2], "data_offsets": [0, size]}
    header = {"__metadata__": {"items": '["a", "b"]'}, "semantic_ids": tensor}
    start, file = json.dumps(header).encode(), tmp_path / "ids.safetensors"
    file.write_bytes(len(start).to_bytes(8, "little") + start + bytes(size))
    with pytest.raises(ValueError, match="holds no valid semantic IDs") as error:
        read_ids(file)
    assert f"'semantic_ids' is {kind} [2, 2]; integers [2, levels]" in str(error.value)


def test_a_flat_id_for_each_of_many_items_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr("recbole_genci.tokenizer.artifact.exchange._MOST_CODES", 4)
    codes = np.stack([np.arange(20), np.zeros(20, dtype=np.int64)], axis=1)
    write_ids(SemanticIDs(codes, ids_of().item_tokens, (20, 1)), tmp_path / "ids.json")
    assert read_ids(tmp_path / "ids.json").level_sizes == (20, 1)


def test_a_byte_order_mark_is_none_of_the_index(tmp_path):
    write_ids(ids_of(), tmp_path / "ids.json")
    content = (tmp_path / "ids.json").read_bytes()
    (tmp_path / "ids.json").write_bytes(b"\xef\xbb\xbf" + content)
    assert read_ids(tmp_path / "ids.json").digest == ids_of().digest


def test_a_changed_byte_of_parquet_is_found(tmp_path):
    pytest.importorskip("pyarrow")
    file = tmp_path / "ids.parquet"
    write_ids(ids_of(), file)
    content = bytearray(file.read_bytes())
    content[content.index(b"i19") + 1] = ord("7")  # an item's name in its data page
    file.write_bytes(content)
    with pytest.raises(ValueError, match="no Parquet file, or damaged") as error:
        read_ids(file)
    assert "\n" not in str(error.value)


def test_a_damaged_file_a_pickle_and_another_suffix_are_refused(tmp_path):
    (tmp_path / "ids.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="no safetensors file, or damaged"):
        read_ids(tmp_path / "ids.safetensors")
    with pytest.raises(ValueError, match="is a pickle, which can run code.*for GRID"):
        read_ids(tmp_path / "ids.pt")
    (tmp_path / "ids.csv").touch()
    with pytest.raises(ValueError, match="ends with none of .json, .safetensors or .parquet"):
        read_ids(tmp_path / "ids.csv")
    with pytest.raises(FileNotFoundError, match="ids.json does not exist"):
        read_ids(tmp_path / "ids.json")
    with pytest.raises(FileNotFoundError, match="there is no folder or file .*folder.v2. Give"):
        read_ids(tmp_path / "folder.v2")


def test_wrong_columns_of_parquet_are_one_sentence(tmp_path):
    arrow = pytest.importorskip("pyarrow")

    file = tmp_path / "ids.parquet"
    for columns, message in (
        ({"item": ["a"], "code_1": [0]}, "it has the columns item, code_1; item, code_0"),
        ({"item": [1], "code_0": [0]}, "column 'item' is int64; texts are needed"),
        ({"item": ["a"], "code_0": [0.5]}, "column 'code_0' is double; whole numbers"),
        ({"item": ["a", "b"], "code_0": [0, None]}, "is int64 with 1 missing; whole numbers"),
    ):
        arrow.parquet.write_table(arrow.table(columns), file)
        with pytest.raises(ValueError) as error:
            read_ids(file)
        assert message in str(error.value)
    file.write_bytes(b"no")
    with pytest.raises(ValueError, match="no Parquet file, or damaged"):
        read_ids(file)


@pytest.fixture
def keys(tmp_path):
    return write_dataset(tmp_path / "data", tiny_rows()) | SMALL_GENCI


def words_of(keys):
    names = "data_path semantic_id_dir load_col item_text_fields text_encoder codebook_size lsa_dim"
    names += " codebook_dim rqvae_hidden_size rqvae_epochs"
    return ["--dataset=tiny", *(f"--{name}={keys[name]}" for name in names.split())]


def test_the_command_exports_and_a_run_reads_it_as_the_folder(keys, tmp_path, capsys):
    file = tmp_path / "out/ids.json"
    assert main([*words_of(keys), f"--export={file}"]) == 0
    (folder,) = (tmp_path / "data/semantic_ids").glob("tiny-*")
    np.testing.assert_array_equal(read_ids(file).codes, SemanticIDs.load(folder).codes)
    other = tmp_path / "ids.safetensors"
    assert main([f"--semantic_id_path={file}", f"--export={other}"]) == 0
    assert read_ids(other).digest == read_ids(file).digest
    given = {"epochs": 1, "semantic_id_path": str(other)}
    (result,) = run("GenCI", "tiny", config_dict=keys | given)
    (same,) = run("GenCI", "tiny", config_dict=keys | {"semantic_id_path": str(folder)})
    assert result.test == same.test
    ranker = Ranker(result.folder)  # the run keeps the IDs
    with pytest.raises(ValueError, match="does not say how the IDs were made"):
        ranker.run.tokenizer()


def test_items_without_a_code_are_named(keys, tmp_path):
    write_ids(ids_of(19), tmp_path / "ids.json")
    file = tmp_path / "ids.json"
    with pytest.raises(ValueError) as error:
        run("GenCI", "tiny", config_dict=keys | {"semantic_id_path": str(file)})
    assert str(error.value) == (
        f"semantic_id_path: in {file} 1 of 20 items have no semantic ID: 'i19'. Give a file that "
        "has all items of this dataset, or leave the key out to have semantic IDs made."
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--export=ids.pt"], "export: 'ids.pt' is a pickle"),
        (["--export=ids.csv"], "ends with none of"),
        (["--export=ids.json"], "--dataset is missing"),
        (["--export=folder.json"], "is a folder; name a file"),
        (["--semantic_id_path=a.json", "--export=b.json"], "a.json does not exist"),
        (["--semantic_id_path=a.v2", "--export=b.json"], "there is no folder or file a.v2"),
        (["--semantic_id_path=a", "--export=b.json", "--seed=1"], "--seed has no meaning"),
    ],
)
def test_a_wrong_export_is_one_sentence(words, message, capsys, tmp_path):
    (tmp_path / "folder.json").mkdir()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["folder.json"]
