import pytest

from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import read_item_texts

HEADER = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"


@pytest.fixture
def item_file(tmp_path):
    def write(*lines, end="\n", header=HEADER, encoding="utf-8"):
        path = tmp_path / "toy.item"
        path.write_bytes((end.join([header, *lines]) + end).encode(encoding))
        return path

    return write


FIELDS = ["movie_title", "class", "release_year"]


def test_fields_are_joined_in_the_order_asked_for_and_items_in_the_order_given(item_file):
    path = item_file("1\tToy Story\t1995\tAnimation Comedy", "2\tGoldenEye\t1995\tAction")
    assert read_item_texts(ItemFile(path, "item_id"), FIELDS, ["2", "1"]) == [
        "GoldenEye. Action. 1995",
        "Toy Story. Animation Comedy. 1995",
    ]


def test_windows_line_ends_and_a_byte_order_mark_do_not_reach_the_texts(item_file):
    path = item_file("1\tToy Story\t1995\tComedy", end="\r\n", header="\ufeff" + HEADER)
    assert read_item_texts(ItemFile(path, "item_id"), FIELDS, ["1"]) == ["Toy Story. Comedy. 1995"]
    # With the id in the last column a stray carriage return would make it another item.
    path = item_file(
        "Toy Story\t1", "", "Up\t2", end="\r\n", header="title:token_seq\titem_id:token"
    )
    assert read_item_texts(ItemFile(path, "item_id"), ["title"], ["1", "2"]) == ["Toy Story", "Up"]


@pytest.mark.parametrize("literal", ["NA", "null", "NaN", "None", '"Quoted', "'"])
def test_literal_texts_survive(item_file, literal):
    path = item_file(f"1\t{literal}\t\t")
    assert read_item_texts(ItemFile(path, "item_id"), FIELDS, ["1"]) == [literal]


def test_html_entities_and_white_space_are_cleaned(item_file):
    path = item_file("1\t  Tom &amp;  Jerry&#39;s\u00a0Day \t\tKids\u2028TV")
    assert read_item_texts(ItemFile(path, "item_id"), FIELDS, ["1"]) == [
        "Tom & Jerry's Day. Kids TV"
    ]


def test_items_without_text_get_a_stand_in_that_is_counted(item_file, caplog):
    path = item_file("1\t\t1995\tComedy", "2\t \t\t", "3\tHeat\t1995\tCrime")
    with caplog.at_level("WARNING"):
        texts = read_item_texts(ItemFile(path, "item_id"), ["movie_title"], ["1", "2", "3", "9"])
    assert texts == ["release_year: 1995. class: Comedy", "item 2", "Heat", "item 9"]
    assert "3 of 4 items have no text" in caplog.text
    assert "1 are described by their other fields, 2 by their id" in caplog.text


def test_a_missing_column_names_file_columns_and_key(item_file):
    path = item_file("1\tHeat\t1995\tCrime")
    with pytest.raises(
        ValueError, match=r"toy\.item.*'plot'.*item_text_fields.*'release_year', 'class'"
    ):
        read_item_texts(ItemFile(path, "item_id"), ["plot"], ["1"])
    with pytest.raises(ValueError, match="no column `asin`"):
        read_item_texts(ItemFile(path, "asin"), ["class"], ["1"])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.item"):
        read_item_texts(ItemFile(tmp_path / "absent.item", "item_id"), FIELDS, ["1"])


def test_ragged_lines_repeated_items_and_wrong_encodings_are_refused(item_file):
    with pytest.raises(ValueError, match="line 3 has 2 of 4 cells"):
        read_item_texts(
            ItemFile(item_file("1\tHeat\t1995\tCrime", "2\tUp"), "item_id"), FIELDS, ["1"]
        )
    with pytest.raises(ValueError, match="item '1' twice"):
        read_item_texts(
            ItemFile(item_file("1\tHeat\t1995\tCrime", "1\tUp\t\t"), "item_id"), FIELDS, ["1"]
        )
    latin = item_file("1\tAm\u00e9lie\t2001\tComedy", encoding="latin-1")
    with pytest.raises(ValueError, match="not valid utf-8.*`encoding`"):
        read_item_texts(ItemFile(latin, "item_id"), FIELDS, ["1"])
    assert read_item_texts(
        ItemFile(latin, "item_id", encoding="latin-1"), ["movie_title"], ["1"]
    ) == ["Am\u00e9lie"]


def test_the_entries_of_a_sequence_are_divided_as_the_key_says(item_file):
    path = item_file("1\tToy|Story\t1995\tScience Fiction|Comedy||", "2\tUp\t\t")
    assert read_item_texts(ItemFile(path, "item_id", seq_separator="|"), FIELDS, ["1", "2"]) == [
        "Toy, Story. Science Fiction, Comedy. 1995",
        "Up",
    ]
    assert read_item_texts(ItemFile(path, "item_id"), ["class"], ["1"]) == [
        "Science Fiction|Comedy||"
    ]
    # Words of a stand-in too; a token is no sequence.
    path = item_file("1\t\t19|95\tA|B")
    texts = read_item_texts(ItemFile(path, "item_id", seq_separator="|"), ["movie_title"], ["1"])
    assert texts == ["release_year: 19|95. class: A, B"]


def test_an_old_line_end_ends_a_line_as_for_the_rows(item_file):
    path = item_file("1\tToy Story\t1995\tComedy", "2\tUp\t2009\t", end="\r")
    assert read_item_texts(ItemFile(path, "item_id"), FIELDS, ["2"]) == ["Up. 2009"]
