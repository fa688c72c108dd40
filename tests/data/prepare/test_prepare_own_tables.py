"""A person's own CSV and Parquet files, with a schema, as atomic files; and what is refused."""

import datetime
import gzip
import json
import sys
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest
import yaml
from raw_files import prepare

from recbole_genci.config import Config
from recbole_genci.data.dataset import create_dataset
from recbole_genci.data.prepare import table_files
from recbole_genci.data.prepare.own_tables import build_table
from recbole_genci.data.prepare.schema import read_schema
from recbole_genci.data.prepare.table_files import open_tables
from recbole_genci.utils.arrow_texts import arrow_texts

ROWS = '''uid,video,when,clicked,watch,tags
u1,i1,2024-01-05 10:00:00,1,3.5,"sci fi|action"
u1,i2,2024-01-05T11:00:00+01:00,0,,drama

u2,"i,""3""",2024-01-06,True, 2 ,"a
b|c"
'''
SCHEMA = {
    "rows": {
        "user_id": {"column": "uid", "type": "token"},
        "item_id": {"column": "video", "type": "token"},
        "label": {"column": "clicked", "type": "float"},
        "timestamp": {"column": "when", "type": "float", "time": "iso"},
        "watch": "float",
        "tags": {"type": "token_seq", "separator": "|"},
    }
}
WRITTEN = [
    "user_id:token\titem_id:token\tlabel:float\ttimestamp:float\twatch:float\ttags:token_seq",
    "u1\ti1\t1\t1704448800\t3.5\tsci_fi action",
    "u1\ti2\t0\t1704448800\t\tdrama",
    'u2\ti,"3"\t1\t1704499200\t2\ta_b c',
]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Writes rows and a schema, and runs the command on them in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(rows=ROWS, schema=SCHEMA, name="clicks.csv", given=None, **words):
        content = rows.encode() if isinstance(rows, str) else rows
        Path(name).write_bytes(content)
        Path("schema.yaml").write_text(yaml.safe_dump(schema, sort_keys=False))
        words = {"input": name, "schema": given or "schema.yaml", "dataset": "mine"} | words
        return prepare(format="table", **words)

    return run


def lines(suffix="inter"):
    return Path(f"dataset/mine/mine.{suffix}").read_text().splitlines()


def refused(capsys):
    """The one sentence; nothing is left."""
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1, printed.err
    assert not Path("dataset").exists() or not list(Path("dataset").iterdir())
    return printed.err.removeprefix("recbole_genci: ").strip()


# ---------------------------------------------------------------- what is read


def test_a_csv_file_with_quotes_times_and_sequences(made, capsys):
    assert made() == 0
    assert lines() == WRITTEN
    assert "3 rows, 2 users, 3 items" in capsys.readouterr().out
    keys = yaml.safe_load(Path("dataset/mine/mine.yaml").read_text())
    assert keys["load_col"] == {"inter": list(SCHEMA["rows"])}
    assert keys["numerical_features"] == ["watch"] and keys["transforms"] == {"*": "minmax"}
    comment = Path("dataset/mine/mine.yaml").read_text().partition("load_col:\n")[0]
    assert "# A column known only after the row was shown (seconds watched, " in comment
    (source,) = json.loads(Path("dataset/mine/provenance.json").read_text())["sources"]
    assert source["lines"] == 3 and source["bytes"] == len(ROWS)


def test_gzip_a_byte_order_mark_and_chunks_change_nothing(made, monkeypatch):
    monkeypatch.setattr(table_files, "ROWS_AT_ONCE", 2)
    assert made(gzip.compress(("\ufeff" + ROWS).encode()), name="clicks.csv.gz") == 0
    assert lines() == WRITTEN


def test_the_schema_may_stand_on_the_command_line(made):
    assert made("a,label\nx y,1\n", given={"rows": {"label": "float", "a": "token"}}) == 0
    assert lines() == ["label:float\ta:token", "1\tx y"]
    keys = yaml.safe_load(Path("dataset/mine/mine.yaml").read_text())
    assert keys["USER_ID_FIELD"] is keys["ITEM_ID_FIELD"] is keys["TIME_FIELD"] is None


@pytest.mark.parametrize(
    ("time", "word", "cell"),
    [
        ("milliseconds", "1700000000123", "1700000000.123"),
        ("microseconds", "1700000000000000", "1700000000"),
        ("seconds", "1700000000.5", "1700000000.5"),
        ("'%d/%m/%Y %H:%M'", "05/01/2024 10:00", "1704448800"),
    ],
)
def test_times_become_seconds(made, time, word, cell):
    schema = {"rows": {"timestamp": {"type": "float", "time": time.strip("'")}, "label": "float"}}
    assert made(f"timestamp;label\n{word};0\n", schema | {"delimiter": ";"}) == 0
    assert lines()[1] == f"{cell}\t0"


def test_a_file_without_a_header_line_and_with_tabs(made):
    schema = {"rows": {"label": "float", "C1": "token"}, "header": ["label", "I1", "C1"]}
    assert made("1\t\tab\n0\t5\t\n", schema, "train.txt") == 0
    assert lines()[1:] == ["1\tab", "0\t"]


def test_lines_of_another_encoding(made, capsys):
    schema = {"rows": {"label": "float", "a": "token"}}
    rows = "a,label\nwest,1\ncafé,0\n".encode("latin-1")
    assert made(rows, schema) == 2
    assert "clicks.csv: line 3 is not UTF-8. Set encoding in the schema" in refused(capsys)
    for encoding in ("ascii", "utf-8", "utf-7", "cp932"):
        assert made(rows, schema | {"encoding": encoding}) == 2
        assert f"clicks.csv: line 3 is neither UTF-8 nor {encoding} (" in refused(capsys)
    assert made(rows, schema | {"encoding": "latin-1"}) == 0
    assert lines()[2] == "0\tcafé"


def test_parquet_files_of_a_folder_with_every_type(made, tmp_path):
    pyarrow, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))

    day = datetime.datetime(2024, 1, 5, 10, tzinfo=datetime.UTC)
    table = pyarrow.table(
        {
            "user": pyarrow.array([1, 2, 3]),
            "item": pyarrow.array(["a", "b", "a"]).dictionary_encode(),
            "when": pyarrow.array([day, day, day], pyarrow.timestamp("ns", tz="Europe/Paris")),
            "click": [True, False, True],
            "price": [1.0, None, float("nan")],
            "tags": [["sci fi"], [], ["x", None, "y"]],
            "vector": pyarrow.array([[0.5, 1.0]] * 3, pyarrow.list_(pyarrow.float32(), 2)),
        }
    )
    (tmp_path / "parts/deep").mkdir(parents=True)
    parquet.write_table(table.slice(0, 2), tmp_path / "parts/0.parquet")
    parquet.write_table(table.slice(2), tmp_path / "parts/deep/1.parquet")
    (tmp_path / "parts/notes.csv").write_text("not,read\n")
    schema = {
        "rows": {
            "user_id": {"column": "user", "type": "token"},
            "item_id": {"column": "item", "type": "token"},
            "label": {"column": "click", "type": "float"},
            "timestamp": {"column": "when", "type": "float"},
            "price": "float",
            "tags": "token_seq",
            "vector": "float_seq",
        }
    }
    assert made(schema=schema, input="parts") == 0
    assert lines()[1:] == [
        "1\ta\t1\t1704448800\t1\tsci_fi\t0.5 1",
        "2\tb\t0\t1704448800\t\t\t0.5 1",
        "3\ta\t1\t1704448800\t\tx y\t0.5 1",
    ]


def test_tables_of_users_and_items(made, tmp_path):
    schema = SCHEMA | {
        "users": {"age": "float", "user_id": {"column": "id", "type": "token"}},
        "items": {"item_id": "token", "title": "token"},
    }
    (tmp_path / "u.csv").write_text("age,id\n20,u1\n30,u9\n21,u1\n")
    (tmp_path / "i.csv").write_text('item_id,title\ni1,"A\ttab and a ""quote"""\n')
    assert made(schema=schema, users="u.csv", items="i.csv") == 0
    assert lines("user") == ["user_id:token\tage:float", "u1\t20", "u9\t30", "u2\t"]
    assert lines("item") == [
        "item_id:token\ttitle:token",
        'i1\tA tab and a "quote"',
        "i2\t",
        'i,"3"\t',
    ]
    keys = yaml.safe_load(Path("dataset/mine/mine.yaml").read_text())
    assert keys["item_text_fields"] == ["title"] and keys["numerical_features"] == ["watch", "age"]


def test_items_may_be_described_in_the_rows_themselves(made):
    schema = {
        "rows": {"user_id": {"column": "uid", "type": "token"}, "item_id": "token"},
        "items": {"item_id": "token", "title": "token"},
    }
    rows = "uid,item_id,title\nu1,i1,Kettle\nu1,i2,Chair\nu2,i1,Blue kettle\n"
    assert made(rows, schema, items="clicks.csv") == 0
    assert lines() == ["user_id:token\titem_id:token", "u1\ti1", "u1\ti2", "u2\ti1"]
    assert lines("item") == ["item_id:token\ttitle:token", "i1\tKettle", "i2\tChair"]


def test_items_in_rows_without_a_header_line_and_with_a_long_text(made):
    schema = {
        "rows": {"user_id": "token", "item_id": "token"},
        "items": {"item_id": "token", "title": "token"},
        "header": ["user_id", "item_id", "title"],
    }
    title = "x" * 140_000  # more than Python's own limit of a cell
    assert made(f"u1,i1,{title}\n", schema, items="./clicks.csv") == 0
    assert lines("item") == ["item_id:token\ttitle:token", f"i1\t{title}"]
    Path("more").mkdir()
    Path("more/items.csv").write_text("item_id,title\ni1,Kettle\n")
    assert made("u1,i1,x\n", schema, items="more/items.csv", overwrite=True) == 0
    assert lines("item")[1] == "i1\tKettle"


def test_memory_does_not_grow_with_rows(tmp_path):
    schema = read_schema({"rows": {"label": "float", "a": "token"}})

    def peak(number):
        file = tmp_path / f"{number}.csv"
        file.write_text("a,label\n" + "x,1\n" * number)
        rows = open_tables(file, "input")
        tracemalloc.start()
        build_table(rows, {}, schema, tmp_path / f"d{number}", False)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    before = table_files.ROWS_AT_ONCE
    table_files.ROWS_AT_ONCE = 200
    try:
        peak(400)  # what is loaded once
        assert peak(4000) < 1.2 * peak(800)
    finally:
        table_files.ROWS_AT_ONCE = before


def test_the_next_command_reads_the_rows(made, capsys):
    rows = ["uid,video,when,clicked,watch,tags"] + [
        f"u{r % 7},i{r % 11},{1_700_000_000_000 + r * 1000},{r * 7 % 3 // 2},{r % 5},t{r % 4}|t5"
        for r in range(210)
    ]
    schema = {"rows": dict(SCHEMA["rows"])}
    schema["rows"]["timestamp"] = {"column": "when", "type": "float", "time": "milliseconds"}
    assert made("\n".join(rows) + "\n", schema) == 0
    command = capsys.readouterr().out.splitlines()[-1].split()
    assert command[:4] == ["Next:", "python", "run_recbole_genci.py", "--model=LR,DeepFM"]
    assert command[4] == "--dataset=mine"
    file = command[5].removeprefix("--config_files=")
    config = Config("LR", "mine", [file], {"gpu_id": ""})
    parts = create_dataset(config).build()
    assert sum(map(len, parts)) == 210 and parts[0].has_histories
    assert config["numerical_features"] == ["watch"]


# ---------------------------------------------------------------- what is refused


def test_no_table_is_deleted_by_the_dataset_made_of_it(made, capsys, tmp_path):
    folder = Path("dataset/clicks")
    folder.mkdir(parents=True)
    own, words = folder / "clicks.csv", {"dataset": "clicks", "overwrite": True}
    for overwrite in (False, True):
        assert made(name=str(own), **words | {"overwrite": overwrite}) == 2
        assert f"input: {own} lies in {folder}, the folder to be made" in capsys.readouterr().err
    own.rename("clicks.csv")
    schema = folder / "clicks.schema.yaml"
    schema.write_text(yaml.safe_dump(SCHEMA, sort_keys=False))
    assert made(given=str(schema), **words) == 2
    assert f"schema: {schema} lies in {folder}" in capsys.readouterr().err
    assert made(**words) == 2  # what is not read is not deleted either
    assert "holds clicks.schema.yaml, which is no file of the dataset" in capsys.readouterr().err
    assert [file.name for file in folder.iterdir()] == ["clicks.schema.yaml"]
    schema.unlink()
    assert made(**words) == made(**words) == 0


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        (
            ROWS,
            {"timestamp": {"column": "whenn", "type": "float"}},
            "clicks.csv has no column 'whenn', which the schema names for timestamp:float. Did you "
            "mean 'when'? It has uid, video, when, clicked, watch, tags.",
        ),
        (
            ROWS.replace("3.5", "3,5x"),
            {},
            "clicks.csv: line 2 has 7 cells, but the header has 6.",
        ),
        (ROWS.replace(" 2 ", "two"), {}, "clicks.csv: line 5 has 'two' for watch:float. Write a"),
        (
            ROWS.replace("2024-01-06", "yesterday"),
            {},
            "clicks.csv: line 5 has 'yesterday' for timestamp:float (column 'when'), which is no "
            "time as 'iso' says.",
        ),
        (
            ROWS,
            {"timestamp": {"column": "when", "type": "float"}},
            "clicks.csv: line 2 has '2024-01-05 10:00:00' for timestamp:float (column 'when'). If "
            "it is a time, set time: iso in the schema",
        ),
        (ROWS.replace("u2", ""), {}, "clicks.csv: line 5 has no user_id:token (column 'uid')."),
        (ROWS.replace("u2", "[PAD]"), {}, "clicks.csv: line 5 has [PAD] for user_id:token (column"),
        (
            ROWS.replace("watch", "uid", 1),
            {},
            "clicks.csv: two columns are called 'uid'; name each once.",
        ),
        (ROWS.splitlines()[0] + "\n", {}, "clicks.csv has a header but no rows."),
        (
            ROWS,
            {"tags": {"type": "float_seq", "separator": "|"}},
            "clicks.csv: line 2 has 'sci_fi' for tags:float_seq.",
        ),
    ],
)
def test_a_wrong_table_is_one_sentence(made, capsys, rows, change, message):
    assert made(rows, {"rows": SCHEMA["rows"] | change}) == 2
    assert message in refused(capsys)


def test_lines_or_columns_divided_by_other_letters(made, capsys):
    assert made(ROWS.replace("\n", "\r")) == 2
    assert "clicks.csv: its first line is no line of a table" in refused(capsys)
    assert made("uid;video\nu;i\n") == 2
    assert "Is ',' what stands between columns (schema: delimiter)?" in refused(capsys)
    assert made(ROWS + '"u3,i1,2024-01-05,1,2,a\n') == 2
    said = refused(capsys)
    assert "begins in line 7 could not be read (" in said and "Is each quote closed" in said


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('label,a\n1,b\n0,"c\n1,d\n', 3),
        ('label,a\n1,b\n0,"c\n1,"d\n1,e\n', 3),
        ('label,a\n0,"c"d\n1,d\n', 2),
    ],
)
def test_no_row_is_lost_in_a_quote_that_is_not_closed(made, capsys, rows, line):
    assert made(rows, {"rows": {"label": "float", "a": "token"}}) == 2
    said = refused(capsys)
    assert f"clicks.csv: the row that begins in line {line} could not be read (" in said
    assert "Is each quote closed" in said


@pytest.mark.parametrize("word", ["now", "today", "NOW", "Today"])
def test_a_time_is_never_that_of_reading(made, capsys, word):
    for time in ("iso", "%Y-%m-%d"):
        schema = {"rows": {"label": "float", "t": {"type": "float", "time": time}}}
        assert made(f"label,t\n1,2024-01-05\n0,{word}\n", schema) == 2
        assert f"line 3 has '{word}' for t:float, which is no time" in refused(capsys)


@pytest.mark.parametrize(
    ("cell", "written"), [("1|2", "1 2"), ("1|2|", "1 2"), ("", ""), ("1||2", None), ("|2", None)]
)
def test_a_list_of_numbers_keeps_their_places(made, capsys, cell, written):
    schema = {"rows": {"label": "float", "a": {"type": "float_seq", "separator": "|"}}}
    assert made(f"label,a\n1,{cell}\n", schema) == (2 if written is None else 0)
    if written is None:
        assert "line 2 has a list for a:float_seq in which number" in refused(capsys)
    else:
        assert lines()[1] == f"1\t{written}"


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_a_file_of_wide_letters_says_how_to_convert_it(made, capsys, encoding):
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    assert made(ROWS.encode(encoding)) == 2
    said = refused(capsys)
    assert f"clicks.csv is {name}, " in said and f"iconv -f {name} -t UTF-8 clicks.csv >" in said
    assert made(gzip.compress(ROWS.encode(encoding)), name="clicks.csv.gz") == 2
    command = f"gunzip -c < clicks.csv.gz | iconv -f {name} -t UTF-8 > utf8-clicks.csv"
    assert refused(capsys).endswith(f": {command}")


def test_a_persons_own_file_need_not_be_downloaded(made, capsys):
    assert made("") == 2
    assert "clicks.csv is empty; write or download it again." in refused(capsys)
    assert made(gzip.compress(ROWS.encode())[:-9], name="clicks.csv.gz") == 2
    assert "; write or download it again." in refused(capsys)


@pytest.mark.parametrize("item", ["a\tb", "a\nb", "a\u200bb", "a\xa0b"])
def test_an_id_that_no_cell_can_hold_is_refused(made, capsys, item):
    schema = {"rows": {"user_id": "token", "item_id": "token", "label": "float"}}
    assert made(f'user_id,item_id,label\nu, a b,1\nu,"{item}",0\n', schema) == 2
    assert f"clicks.csv: line 3 has {item!r} for item_id:token, an id with a tab" in refused(capsys)


def test_a_folder_of_tsv_files(made, tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "many/a.tsv").write_text("a\tlabel\nx,y\t1\n")
    (tmp_path / "many/README.txt").write_text("no table")
    assert made(schema={"rows": {"label": "float", "a": "token"}}, input="many") == 0
    assert lines() == ["label:float\ta:token", "1\tx,y"]


def test_hidden_files_of_a_folder_are_no_tables(made, tmp_path):
    for name in ("a.csv", "._a.csv", ".ipynb_checkpoints/a-checkpoint.csv"):
        (tmp_path / "many" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "many" / name).write_text(ROWS)
    assert made(input="many") == 0
    assert len(lines()) == len(WRITTEN)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"row": {}}, "'row' is no part of a schema, which has rows, users, items, header"),
        ({"users": {"user_id": "token"}}, "it has no 'rows'. Write for example rows: {user_id"),
        ({"rows": {"user_id": "token", "a": "float"}}, "it has 'user_id' but no 'item_id'."),
        ({"rows": {"a": "tokens"}}, "rows: 'a': the type 'tokens' is none of token, float"),
        ({"rows": {"label": "token"}}, "rows: 'label': its type is float for RecBole, not token."),
        ({"rows": {"a": {"typ": "float"}}}, "'typ' is unknown; a column has column, type"),
        ({"rows": {"a": {"type": "token", "time": "iso"}}}, "time is for columns of type float"),
        (
            {"rows": {"a": {"type": "float", "time": "millisecond"}}},
            "time 'millisecond' is none of seconds, milliseconds, microseconds, iso, nor a pattern",
        ),
        ({"rows": {"a": {"type": "float", "separator": ","}}}, "separator is for what stands"),
        ({"rows": {"a:b": "float"}}, "'a:b' is no name of a column"),
        ({"rows": {"a": "float"}, "delimiter": "::"}, "delimiter: '::' is not one letter"),
        ({"rows": {"a": "float"}, "delimiter": "\n"}, "delimiter: '\\n' is not one letter"),
        ({"rows": {"a": {"type": "float", "time": "%q"}}}, "time '%q' is no pattern of times ("),
        (
            {"rows": {"a": {"type": "float", "time": "%d %d"}}},
            "time '%d %d' is no pattern of times",
        ),
        ({"rows": {"a": "float"}, "encoding": "utf9"}, "encoding: 'utf9' is no encoding of text"),
        ({"rows": {"a": "float"}, "header": "a,b"}, "header: 'a,b' is no list of names"),
        (
            {"rows": {"a": "float"}, "items": {"title": "token"}},
            "items: it has no 'item_id', which says whom a line is about.",
        ),
        (
            {"rows": {"a": "float"}, "items": {"item_id": "token"}},
            "items: the rows have no 'item_id'. Add it, or leave this out.",
        ),
        (
            {"rows": SCHEMA["rows"], "users": {"user_id": "token", "label": "float"}},
            "users: 'label' is a column of rows too. Rename one of them, or leave it out.",
        ),
        (
            {"rows": SCHEMA["rows"], "items": {"item_id": "token", "user_id": "token"}},
            "items: 'user_id' is a column of rows too.",
        ),
        (
            SCHEMA | {"items": {"item_id": "token"}},
            "schema: it has 'items', and no table is given. Add --items=<file>.",
        ),
    ],
)
def test_a_wrong_schema_is_one_sentence(made, capsys, schema, message):
    assert made(schema=schema) == 2
    assert message in refused(capsys)


def test_a_column_given_twice_in_the_schema(made, capsys, tmp_path):
    assert made() == 0
    twice = "rows:\n  label: float\n  label: token\n"
    (tmp_path / "twice.yaml").write_text(twice)
    assert made(given="twice.yaml", dataset="other") == 2
    assert "gives label a second time in line 3" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["1.10", "2024_01", "1e3", "0x10", "True"])
def test_a_folder_is_the_one_whose_name_is_typed(made, tmp_path, name):
    for folder, word in ((name, "right"), ("1.1", "wrong")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.csv").write_text(f"label,a\n1,{word}\n")
    assert made(schema={"rows": {"label": "float", "a": "token"}}, input=name) == 0
    assert lines()[1] == "1\tright"


def test_words_that_fit_no_table(made, capsys, tmp_path):
    assert made(input="nowhere.csv") == 2
    assert "nowhere.csv does not exist" in refused(capsys)
    assert made(given="no.yaml") == 2
    assert "schema: no.yaml does not exist" in refused(capsys)
    assert made(users="clicks.csv") == 2
    assert "users: --users names a table, and the schema has no 'users'." in refused(capsys)
    (tmp_path / "empty").mkdir()
    assert made(input="empty") == 2
    assert "input: empty holds no .parquet, .csv or .tsv file; it holds nothing." in refused(capsys)
    assert made("{}", name="clicks.json") == 2
    assert "input: clicks.json ends with none of .csv, .tsv" in refused(capsys)
    assert made(input=".", files="*.tsv") == 2
    assert "input: . holds no file that --files=*.tsv names; it holds clicks" in refused(capsys)


@pytest.mark.parametrize(
    ("kind", "unit", "value", "seconds"),
    [
        ("duration", ["s"], 1500, "1500"),
        ("duration", ["ms"], 1500, "1.5"),
        ("duration", ["ns"], 1_500_000_999, "1.5"),
        ("timestamp", ["s"], 2**53, "9007199254740992"),
        ("timestamp", ["ms"], 2**63 - 1, "9223372036854776"),
        ("timestamp", ["us"], -1_500_000, "-1.5"),
        ("date32", [], 2**31 - 1, "185542587100800"),
        ("date64", [], 86_400_000, "86400"),
    ],
)
def test_times_and_durations_of_parquet_become_seconds(kind, unit, value, seconds):
    arrow = pytest.importorskip("pyarrow")
    whole = arrow.array([value, None], arrow.int32() if kind == "date32" else arrow.int64())
    cells = whole.cast(getattr(arrow, kind)(*unit))
    assert arrow_texts(arrow, cells) == [seconds, ""]


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_a_whole_number_of_parquet_is_the_name_of_its_digits(kind):
    """As in other files of the dataset; pandas makes floats of ids of which one is missing."""
    arrow = pytest.importorskip("pyarrow")
    numbers = [1.0, 2e6, 2.0**34, 0.5, 1e-7, None, 1e30]
    texts = arrow_texts(arrow, arrow.array(numbers, getattr(arrow, kind)()))
    assert texts[:6] == ["1", "2000000", "17179869184", "0.5", "1e-7", ""] and "e+" in texts[6]


def test_faults_of_parquet_name_the_row(made, capsys, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"label": ["1", "no"], "a": [{"b": 1}, {"b": 2}]})
    frame.to_parquet(tmp_path / "t.parquet")
    schema = {"rows": {"label": "float"}}
    assert made(schema=schema, input="t.parquet") == 2
    assert "t.parquet: row 2 has 'no' for label:float." in refused(capsys)
    assert made(schema={"rows": {"a": "token"}}, input="t.parquet") == 2
    assert "t.parquet: column 'a' has the type struct<b: int64>, which is" in refused(capsys)
    times = {"rows": {"t": {"type": "float", "time": "milliseconds"}}}
    pd.DataFrame({"t": [pd.Timestamp(0)]}).to_parquet(tmp_path / "times.parquet")
    assert made(schema=times, input="times.parquet") == 2
    assert "times.parquet: column 't' holds times (timestamp" in refused(capsys)
    lists = pd.DataFrame({"a": [["x", "y"]], "b": [[["x"], ["y"]]], "label": [1.0]})
    lists.to_parquet(tmp_path / "lists.parquet")
    assert made(schema={"rows": {"a": "token"}}, input="lists.parquet") == 2
    said = refused(capsys)
    assert "column 'a' holds lists (list<" in said and "token_seq there" in said
    assert made(schema={"rows": {"b": "token_seq"}}, input="lists.parquet") == 2
    assert "lists.parquet: column 'b' holds lists of lists (list<" in refused(capsys)
    assert made("no Parquet", schema, "bad.parquet") == 2
    assert "bad.parquet is no Parquet file, or damaged" in refused(capsys)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert made(schema=schema, input="t.parquet") == 2
    assert "t.parquet is a Parquet file, which needs pyarrow: pip install" in refused(capsys)
