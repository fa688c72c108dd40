import pytest

from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import read_item_texts


@pytest.mark.parametrize("encoding", [{}, {"encoding": None}, {"encoding": "latin-1"}])
def test_a_configuration_says_how_the_file_is_read(tmp_path, encoding):
    path = tmp_path / "toy.item"
    read_as = encoding.get("encoding") or "utf-8"
    path.write_text("asin:token;title:token;genre:token_seq\n1;Amélie;A|B\n", encoding=read_as)
    keys = {"ITEM_ID_FIELD": "asin", "field_separator": ";", "seq_separator": "|"}
    file = ItemFile.of(keys | encoding, str(path))
    assert file == ItemFile(path, "asin", ";", read_as, "|")
    assert file.header() == {"asin": "token", "title": "token", "genre": "token_seq"}
    assert read_item_texts(file, ["title", "genre"], ["1"]) == ["Amélie. A, B"]
