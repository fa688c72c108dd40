"""One reader for all atomic files: what a line, a cell and a number is, and what faults say."""

import numpy as np
import pandas as pd
import pytest

from recbole_genci.utils.atomic_files import (
    line_of_row,
    other_seq_separator,
    read_atomic_file,
    read_header,
    read_sequences,
    split_sequences,
)

HEADER = "item_id:token\tprice:float\ttags:token_seq"
ROWS = ["a\t1.5\tx y", "b\t\t", "c\t-2e3\tz"]


def write(tmp_path, content, encoding="utf-8"):
    file = tmp_path / "toy.item"
    file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return file


def read(file, separator="\t", encoding="utf-8", **options):
    header = read_header(file, separator, encoding)
    return read_atomic_file(file, list(header), header, separator, encoding, **options)


def rows_of(frame):
    return frame.astype(object).where(frame.notna(), None).to_numpy().tolist()


EXPECTED = [["a", 1.5, "x y"], ["b", None, None], ["c", -2000.0, "z"]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\n  \n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("separator", ["\t", ",", "::", "§"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "UTF8", "utf-16"])
def test_line_ends_separators_and_encodings_of_every_kind(tmp_path, end, last, separator, encoding):
    text = end.join([HEADER, *ROWS]) + (end if last else "")
    file = write(tmp_path, text.replace("\t", separator), encoding)
    assert rows_of(read(file, separator, encoding)) == EXPECTED


def test_ends_may_be_mixed_and_blank_lines_count_as_lines_of_a_message(tmp_path):
    file = write(tmp_path, f"\ufeff{HEADER}\r\n{ROWS[0]}\r\r\n\n{ROWS[1]}\n{ROWS[2]}")
    assert rows_of(read(file)) == EXPECTED
    assert [line_of_row(file, row, "\t", "utf-8") for row in range(3)] == [2, 5, 6]


def test_only_an_empty_cell_is_missing_and_quotes_are_characters(tmp_path):
    words = ["NA", "null", "nan", "None", '"x', "'", "#1", " y ", "a\u2028b", "\\t"]
    file = write(tmp_path, "\n".join(["item_id:token\tn:float", *(f"{w}\t1" for w in words)]))
    assert read(file)["item_id"].tolist() == words


def test_text_of_numbers_is_as_written(tmp_path):
    file = write(tmp_path, f"{HEADER}\na\t1995\tx\nb\tinf\ty")
    assert read(file, numbers=False)["price"].tolist() == ["1995", "inf"]


@pytest.mark.parametrize(
    ("word", "mend"),
    [
        ("inf", "Leave the cell empty"),
        ("-Infinity", "Leave the cell empty"),
        ("nan", "Leave the cell empty"),
        ("1e400", "at most 3.4e"),
        ("-1e39", "at most 3.4e"),
        ("cheap", "Write a number"),
        ("1,5", "decimal comma: 1.5"),
        ('"5"', "without quotation marks: 5"),
        ("1_0", "Write it without underscores: 10"),
        ("2020-01-01T00:00:00", "seconds since 1970: here 1577836800"),
        ("2020-01-01T01:00:00+01:00", "seconds since 1970: here 1577836800"),
        ("01.02.2020 10:00", "Write times as numbers"),
    ],
)
@pytest.mark.parametrize("separator", ["\t", "::"])
def test_what_is_no_finite_number_is_named_by_line_and_field(tmp_path, word, mend, separator):
    lines = [HEADER, ROWS[0], "", f"b\t{word}\tx", ROWS[2]]
    file = write(tmp_path, "\n".join(lines).replace("\t", separator))
    with pytest.raises(ValueError, match=r"toy\.item could not be read: line 4 has") as refusal:
        read(file, separator)
    assert f"{word!r} for price:float" in str(refusal.value) and mend in str(refusal.value)


@pytest.mark.parametrize(
    ("word", "mend"),
    [
        ("x", "Write a number"),
        ("nan", "Leave the cell empty"),
        ("inf", "Leave the cell empty"),
        ("1e39", "at most 3.4e"),
        ("0.5|0.25", r"set seq_separator: '\|'"),
        ("0.5,1,2", "set seq_separator: ','"),
    ],
)
def test_the_entries_of_sequences_are_finite_numbers(tmp_path, word, mend):
    file = write(tmp_path, f"item_id:token\temb:float_seq\na\t1 2\n\nb\t\nc\t3 {word} 4\n")
    with pytest.raises(ValueError, match=rf"toy\.item .*line 5 has .*emb:float_seq.*{mend}"):
        read_sequences(file, "emb", "float_seq", read(file)["emb"], " ")


def test_sequences_are_flat_and_equal_a_loop_over_the_cells():
    rng = np.random.default_rng(0)
    cells = ["".join(rng.choice(list("ab1| "), rng.integers(0, 9))) for _ in range(300)]
    for separator in ("|", " ", "||"):
        entries, lengths = split_sequences(
            pd.Series([c or None for c in cells], dtype=object), separator
        )
        expected = [[part for part in cell.split(separator) if part] for cell in cells]
        assert lengths.tolist() == [len(row) for row in expected]
        assert entries.tolist() == [part for row in expected for part in row]


def test_another_separator_of_sequences_is_found():
    cells = pd.Series(["A|B", "C", "A|B;C", None], dtype=object)
    assert other_seq_separator(cells, " ") == ("|", 2, "A|B")
    assert other_seq_separator(cells, ";") is None
    assert other_seq_separator(pd.Series(["A", "B"], dtype=object), " ") is None
    assert other_seq_separator(pd.Series([None, None], dtype=object), " ") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"toy\.item is empty"),
        (b"\n\n", "first line is blank"),
        ("item_id\tprice\ta\n1\t2.5\tx y", "item_id:token<tab>price:float<tab>a:token_seq"),
        ("item_id,price\n1,2.5", "divided by ','.*item_id:token<tab>price:float"),
        ("1\t2.5\tx\n2\t3\ty", "its first line is a row .* not a header"),
        (HEADER.replace("\t", ",") + "\na,1,x", "divided by ',', not by a tab.*field_separator"),
        (HEADER.replace("\t", "::") + "\na::1::x", "Set field_separator: '::'"),
        (f"{HEADER}\na,1,x", "line 2 has 1 of 3 cells. It seems to be divided by ','"),
        ('"item_id:token"\t"n:float"\n"1"\t"2"', "is quoted"),
        (HEADER + "\t\na\t1\tx\t", "cell of its header is empty"),
        (HEADER.replace("float", "Float"), "'price:Float' is not field:type"),
        ("a:token\ta:float\nx\t1", "names field 'a' twice"),
        (HEADER + "\na\t1", "line 2 has 2 of 3 cells. Every line needs 3 cells"),
        (HEADER + "\na\t1\tx\ty", "line 2 has 4 cells, but the header 3.*may hold no tab"),
        (HEADER + "\na\t1\tx\nb\t1\tx\ty", "line 3 has 4 cells, but the header 3"),
        (HEADER.replace("tags", "ta\u200bgs"), r"'ta\\u200bgs:token_seq' holds a character"),
        (HEADER + "\n", "has a header but no rows"),
        (f"{HEADER}\na\t1\tx\0".encode(), "line 2 holds a NUL character"),
        (HEADER.encode("utf-16-le"), r"line 1 holds a NUL character.*utf-16"),
        (HEADER.encode("utf-32"), "is not valid utf-8.*set encoding: utf-32"),
        (HEADER.encode("utf-16"), "is not valid utf-8.*set encoding: utf-16"),
        (b"\x1f\x8b\x08\x00" * 9, "is not valid utf-8.*It is compressed"),
        (f"{HEADER}\na\t1\t\xe9".encode("latin-1"), r"line 2 has the byte 0xe9.*`encoding`"),
    ],
)
def test_a_fault_says_where_it_is_and_how_to_mend_it(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, content))


def test_encodings_and_separators_that_are_none_are_refused(tmp_path):
    file = write(tmp_path, "\n".join([HEADER, *ROWS]))
    for encoding in ("utf-9", "base64"):
        with pytest.raises(ValueError, match=f"encoding: '{encoding}' is no encoding of text"):
            read(file, encoding=encoding)
    with pytest.raises(ValueError, match="field_separator is a backslash and a t"):
        read(file, separator="\\t")
