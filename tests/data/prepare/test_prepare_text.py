"""What becomes of titles: cleaned, one cell, read back as written."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from raw_files import metadata_2023, prepare, ratings_2023, read_back, write_lines

from recbole_genci.data.prepare.cleaning import clean_text
from recbole_genci.tokenizer.encoding import text as item_text
from recbole_genci.tokenizer.encoding.item_file import ItemFile


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("plain", "plain"),
        (" a\tb\r\nc\x0bd\u2028e\u00a0f ", "a b c d e f"),
        ("Guitar &amp; Bass", "Guitar & Bass"),
        ("Guitar &amp;amp;amp; Bass", "Guitar & Bass"),
        ("&lt;b&gt;bold&lt;/b&gt;", "bold"),
        ("one<br/>two<BR>three", "one two three"),
        ("a<script type='x'>if (1 < 2) run()</script>b<!-- c -->d", "a b d"),
        ("3 < 5 and 7 > 6, <3", "3 < 5 and 7 > 6, <3"),
        ("e\u0301", "\u00e9"),
        ("nul\x00 bell\x07 c1\x9f bom\ufeff", "nul bell c1 bom"),
        ("half \ud83d of a pair", "half of a pair"),
        ("\U0001f3b8 guitar", "\U0001f3b8 guitar"),
        ('"quoted", NA', '"quoted", NA'),
        ("&am<i></i>p;", "&am p;"),
        ("<br>", ""),
    ],
)
def test_cleaning(raw, cleaned):
    assert clean_text(raw) == cleaned


hostile = st.lists(
    st.sampled_from(
        [
            "&",
            "amp;",
            "lt;",
            "gt;",
            "<",
            ">",
            "b",
            "/",
            "#9;",
            "#x110000;",
            "\t",
            "\n",
            "\r",
            '"',
            "'",
            "\\",
            " ",
            "\ud800",
            "\u037e",
            "\u0338",
            "\ufeff",
            "\u2028",
            "NA",
            "é",
            "e\u0301",
        ]
    )
)


@given(
    st.one_of(
        st.text(),
        hostile.map("".join),
        st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zs", "Mn"])),
    )
)
@example("&lt\u037e")
@settings(max_examples=300)
def test_cleaned_text_is_one_cell_and_stays_as_it_is(raw):
    cleaned = clean_text(raw)
    cleaned.encode("utf-8")
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in cleaned)
    assert unicodedata.is_normalized("NFC", cleaned)
    assert clean_text(cleaned) == item_text.clean_text(cleaned) == cleaned


@given(st.lists(st.one_of(st.text(), hostile.map("".join)), min_size=1, max_size=12))
@example(["", "NA", "nan", "None", '"', '"a', "#", "\\N", "-", "1", "null", "\ufeffx"])
@settings(max_examples=60)
def test_any_titles_come_back_as_their_cleaned_form(tmp_path_factory, titles):
    folder = tmp_path_factory.mktemp("titles")
    reviews = write_lines(folder / "ratings.csv", ratings_2023())
    metadata = [record | {"title": title} for record, title in zip(metadata_2023(), titles)]
    meta = write_lines(folder / "meta.jsonl", [json.dumps(record) for record in metadata])
    assert (
        prepare(format="amazon-2023", interactions=reviews, meta=meta, dataset="d", output=folder)
        == 0
    )
    items = read_back(folder / "d", "item").set_index("item_id")
    for number, title in enumerate(titles):
        assert items.title.fillna("")[f"I{number}"] == clean_text(title)
    texts = item_text.read_item_texts(
        ItemFile(folder / "d/d.item", "item_id"),
        ["title", "store"],
        [f"I{n}" for n in range(len(titles))],
    )
    assert texts == [". ".join(filter(None, (clean_text(title), "Fender"))) for title in titles]


def test_bytes_that_are_not_utf8_are_replaced_and_counted(tmp_path, capsys):
    reviews = write_lines(tmp_path / "ratings.csv", ratings_2023())
    lines = [json.dumps(record, ensure_ascii=False) for record in metadata_2023()]
    lines[0] = lines[0].replace("Bone nut", "Bön nut")
    meta = write_lines(tmp_path / "meta.jsonl", lines, encoding="latin-1")
    assert prepare(format="amazon-2023", interactions=reviews, meta=meta, dataset="d") == 0
    assert "not UTF-8, and read as UTF-8 with U+FFFD: 1 line\n" in capsys.readouterr().out
    assert read_back(Path("dataset/d"), "item").features[0] == "Solid top B\ufffdn nut"


def test_an_id_that_cannot_be_read_is_malformed_not_merged_with_another(tmp_path, capsys):
    lines = [*ratings_2023()[:3], "Uö,I1,5.0,1600000000000"]
    reviews = write_lines(tmp_path / "ratings.csv", lines, encoding="latin-1")
    assert prepare(format="amazon-2023", interactions=reviews, dataset="d") == 2
    assert (
        "line 4: user id 'U\ufffd' holds white space or characters that cannot be read"
        in capsys.readouterr().err
    )


def test_recboles_word_for_no_value_is_no_id(tmp_path, capsys):
    reviews = write_lines(tmp_path / "ratings.csv", [*ratings_2023()[:3], "[PAD],I1,5.0,1.6e9"])
    assert prepare(format="amazon-2023", interactions=reviews, dataset="d") == 2
    assert "line 4: user id '[PAD]' is RecBole's own word for no value" in capsys.readouterr().err


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_header(tmp_path):
    file = tmp_path / "ratings.csv"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(ratings_2023()).encode())
    assert prepare(format="amazon-2023", interactions=file, dataset="d") == 0
    assert len(read_back(Path("dataset/d"), "inter")) == len(ratings_2023()) - 1
