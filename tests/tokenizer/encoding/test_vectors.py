import numpy as np
import pytest

from recbole_genci.tokenizer.encoding.vectors import (
    cache_file,
    file_revision,
    ids_file_of,
    read_cached_vectors,
    read_item_vectors,
    write_cached_vectors,
)


@pytest.fixture
def files(tmp_path):
    def write(vectors, ids, name="vectors.npy"):
        np.save(tmp_path / name, vectors)
        (tmp_path / "vectors.txt").write_text(ids)
        return tmp_path / "vectors.npy", tmp_path / "vectors.txt"

    return write


VECTORS = np.arange(8.0).reshape(4, 2)


def test_rows_come_in_the_order_of_the_items_asked_for(files):
    array_file, ids_file = files(VECTORS, "a\nb\nc d\n[x]\n")
    read = read_item_vectors(array_file, ids_file, ["c d", "a"])
    assert read.dtype == np.float32 and read.tolist() == [[4, 5], [0, 1]]
    assert (
        ids_file_of(array_file, None) == ids_file
        and ids_file_of(array_file, "o.txt").name == "o.txt"
    )


@pytest.mark.parametrize(
    ("vectors", "ids", "items", "message"),
    [
        (VECTORS, "a\nb\nc\n", ["a"], "lists 3 items.*4 rows"),
        (VECTORS, "a\nb\nc\na\n", ["a"], "1 items more than once, first 'a'"),
        (VECTORS, "a\nb\nc\nd\n", ["a", "x", "y"], r"no row for 2 of 3 items, first \['x', 'y'\]"),
        (
            VECTORS * 1e38,
            "a\nb\nc\nd\n",
            ["a", "d"],
            "beyond 3.4e38.* 1 of 2 items, first 'd'. Div",
        ),
        (VECTORS * 1e-40, "a\nb\nc\nd\n", ["a", "d"], "of all 2 items is 7e-40, too small .* Mult"),
        (VECTORS[:, 0], "a\nb\nc\nd\n", ["a"], r"numbers \[items, D\]"),
        (np.array([["x"]] * 4), "a\nb\nc\nd\n", ["a"], r"numbers \[items, D\]"),
        (
            np.where(VECTORS == 2, np.nan, VECTORS),
            "a\nb\nc\nd\n",
            ["a", "b"],
            "has NaN or infinity for 1 of 2 items, first 'b'. Mend",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(files, vectors, ids, items, message):
    with pytest.raises(ValueError, match=message):
        read_item_vectors(*files(vectors, ids), items)


def test_missing_damaged_and_pickled_files_are_refused(files, tmp_path):
    array_file, ids_file = files(VECTORS, "a\nb\nc\nd\n")
    with pytest.raises(FileNotFoundError, match="needs the file.*absent.txt.*text_encoder_ids"):
        read_item_vectors(array_file, tmp_path / "absent.txt", ["a"])
    array_file.write_bytes(array_file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read"):
        read_item_vectors(array_file, ids_file, ["a"])
    np.save(array_file, np.array([{}] * 4), allow_pickle=True)
    pickled = array_file.read_bytes()
    for content in (pickled, b"no array", b"PK\3\4 no archive", b""):
        array_file.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as an array.*by numpy.save") as told:
            read_item_vectors(array_file, ids_file, ["a"])
        assert "pickle" not in str(told.value)
    np.save(array_file, VECTORS)
    ids_file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="vectors.txt cannot be read as text in UTF-8. Write one"):
        read_item_vectors(array_file, ids_file, ["a"])


def test_a_revision_changes_with_either_file(files):
    first = file_revision(*files(VECTORS, "a\nb\nc\nd\n"))
    assert first == file_revision(*files(VECTORS, "a\nb\nc\nd\n"))
    assert (
        len(
            {
                first,
                file_revision(*files(VECTORS + 1, "a\nb\nc\nd\n")),
                file_revision(*files(VECTORS, "a\nb\nc\ne\n")),
            }
        )
        == 3
    )


def test_cached_vectors_come_back_and_a_damaged_file_is_refused(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    file = cache_file(tmp_path / "embeddings", "lsa", "1", {"dim": 3}, ["a", "b"])
    assert read_cached_vectors(file, 5) is None
    write_cached_vectors(file, vectors, "lsa", "1")
    np.testing.assert_array_equal(read_cached_vectors(file, 5), vectors)
    content = file.read_bytes()
    for damaged in (content[:-4], b"", content[:-1] + b"\x7f"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged. Delete the file"):
            read_cached_vectors(file, 5)
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        read_cached_vectors(file, 6)


def test_the_cache_tells_texts_encoders_revisions_and_options_apart(tmp_path):
    texts = ["a", "b"]
    files = [
        cache_file(tmp_path, "lsa", "1", {"dim": 3}, texts),
        cache_file(tmp_path, "lsa", "2", {"dim": 3}, texts),
        cache_file(tmp_path, "minilm", "1", {"dim": 3}, texts),
        cache_file(tmp_path, "lsa", "1", {"dim": 4}, texts),
        cache_file(tmp_path, "lsa", "1", {"dim": 3}, texts[::-1]),
        cache_file(tmp_path, "lsa", "1", {"dim": 3}, ["a", "bb"]),
    ]
    assert len(set(files)) == len(files)


def test_a_byte_order_mark_is_no_part_of_the_first_id(files):
    assert read_item_vectors(*files(VECTORS, "\ufeffa\nb\nc\nd\n"), ["a"]).tolist() == [[0, 1]]
