"""Damaged atomic files: what is read of them equals a slow reading by other code, or is refused.

Each case writes a small dataset, damages one or more of its files (bytes, lines, cells, separators,
encodings), and reads it as a run does. The slow reading here shares no code with the package: it
splits decoded text, and reads lines by the csv module.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.column_names import ROW_NUMBER
from recbole_genci.data.part_checks import check_parts
from recbole_genci.data.summary import log_summary, warn_of_rows
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import read_item_texts
from robustness.harness import Case

NAMES = ("inter", "user", "item")
FIELDS = {
    "inter": ["user_id", "item_id", "label", "timestamp", "price"],
    "user": ["user_id", "age", "income"],
    "item": ["item_id", "title", "year", "genre", "emb"],
}
HEADERS = {
    "inter": "user_id:token\titem_id:token\tlabel:float\ttimestamp:float\tprice:float",
    "user": "user_id:token\tage:token\tincome:float",
    "item": "item_id:token\ttitle:token_seq\tyear:token\tgenre:token_seq\temb:float_seq",
}
NUMBERS = ["price", "income", "emb"]
#: A refusal names the file, or what of it cannot be used.
SAID = (
    *(f"tiny.{name}" for name in NAMES),
    "dataset tiny",
    "eval_args",
    "LABEL_FIELD",
    "All rows are",
    "valid part",
    "no row of",
    "tiny's files",
    "numerical_features",
    "encoding:",
)
WORDS = [
    *("inf", "-inf", "nan", "NaN", "1e400", "1e39", "-1e39", "1e-400", "x", "", " ", "1,5", "1_0"),
    *("0x10", "True", '"1"', "'", '"', "NA", "null", "-", ".", "+1", "１", "5\u00a0", "--1", "1 2"),
    *(
        "2020-01-01",
        "9" * 400,
        "[PAD]",
        "a\u2028b",
        "\u200b",
        "\ufeff",
        "é",
        "😀",
        "\\",
        "#",
        "a|b",
    ),
]

Content = dict[str, bytes]
Damage = Callable[[np.random.Generator, bytes], bytes]


class Bad(Exception):
    """The slow reading finds something that no run may take."""


# ---------------------------------------------------------------- a dataset, and damages to it


def whole(rng: np.random.Generator) -> Content:
    """The three files of a small random dataset."""
    rows = []
    for user in range(5):
        for _ in range(12):
            time = 1_700_000_000 + int(rng.integers(0, 30))
            price = "" if rng.random() < 0.1 else f"{rng.random():.3f}"
            rows.append(f"u{user}\ti{rng.integers(8)}\t{int(rng.random() < 0.5)}\t{time}\t{price}")
    users = [f"u{user}\t{20 + user % 3}\t{rng.random():.2f}" for user in range(5)]
    genres = ["Action", "Drama Comedy", "", "Horror Thriller War"]
    items = [
        f"i{item}\tStory {item}\t{1990 + item}\t{genres[item % 4]}\t"
        + " ".join(f"{rng.normal():.3f}" for _ in range(rng.integers(0, 4)))
        for item in range(8)
    ]
    lines = {"inter": rows, "user": users, "item": items}
    return {name: "\n".join([HEADERS[name], *lines[name], ""]).encode() for name in NAMES}


def _place(rng: np.random.Generator, content: bytes) -> int:
    return int(rng.integers(0, len(content) + 1))


def flip(rng: np.random.Generator, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        if damaged:
            damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def lose(rng: np.random.Generator, content: bytes) -> bytes:
    start = _place(rng, content)
    return content[:start] + content[start + int(rng.integers(1, 40)) :]


def repeat(rng: np.random.Generator, content: bytes) -> bytes:
    start = _place(rng, content)
    part = content[start : start + int(rng.integers(1, 80))]
    return content[:start] + part + content[start:]


def insert(rng: np.random.Generator, content: bytes) -> bytes:
    pieces = [b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b'"', b"  \n", b"\x1a", b" ", b","]
    start = _place(rng, content)
    return content[:start] + pieces[rng.integers(len(pieces))] + content[start:]


def end_lines(rng: np.random.Generator, content: bytes) -> bytes:
    ends = [b"\r\n", b"\r", b"\n\n", b"\r\r\n", b"\n \t\n"]
    if rng.random() < 0.3:
        return re.sub(rb"\n", lambda _: ends[rng.integers(len(ends))], content)
    return content.replace(b"\n", ends[rng.integers(len(ends))])


def separate(rng: np.random.Generator, content: bytes) -> bytes:
    other = [b",", b";", b"|", b"::", b" ", b"\t\t", b"\\t"][rng.integers(7)]
    if rng.random() < 0.5:
        return content.replace(b"\t", other)
    lines = content.split(b"\n")
    number = rng.integers(len(lines))
    lines[number] = lines[number].replace(b"\t", other)
    return b"\n".join(lines)


def encode(rng: np.random.Generator, content: bytes) -> bytes:
    text = content.decode("utf-8", errors="replace").replace("Story", "Störy")
    encodings = ["utf-8-sig", "latin-1", "utf-16", "utf-16-le", "cp1252", "utf-32"]
    return text.encode(encodings[rng.integers(len(encodings))], errors="replace")


def _cells(content: bytes) -> list[list[bytes]]:
    return [line.split(b"\t") for line in content.split(b"\n")]


def _joined(cells: list[list[bytes]]) -> bytes:
    return b"\n".join(b"\t".join(line) for line in cells)


def word(rng: np.random.Generator, content: bytes) -> bytes:
    cells = _cells(content)
    line = cells[rng.integers(len(cells))]
    line[rng.integers(len(line))] = WORDS[rng.integers(len(WORDS))].encode()
    return _joined(cells)


def huge_cell(rng: np.random.Generator, content: bytes) -> bytes:
    cells = _cells(content)
    line = cells[rng.integers(len(cells))]
    entry = [b"1 ", b"x", b"0.5 ", b"9"][rng.integers(4)]
    line[rng.integers(len(line))] = entry * int(rng.integers(100, 40_000))
    return _joined(cells)


def column(rng: np.random.Generator, content: bytes) -> bytes:
    """A column is gone, from all lines or from one, or stands twice, or is called otherwise."""
    cells = _cells(content)
    number, kind = int(rng.integers(len(cells[0]))), rng.integers(4)
    lines = cells if rng.random() < 0.5 else [cells[rng.integers(len(cells))]]
    for line in lines:
        if kind == 0:
            del line[number : number + 1]
        elif kind == 1:
            line[number:number] = line[number : number + 1]
    if kind == 2 and b":" in cells[0][number]:
        kinds = [b"token", b"float", b"token_seq", b"float_seq", b"int", b"", b"Float"]
        cells[0][number] = cells[0][number].split(b":")[0] + b":" + kinds[rng.integers(7)]
    elif kind == 3:
        cells[0][number] = [b"other:token", b"age", b":float", b"a:b:token", b""][rng.integers(5)]
    return _joined(cells)


def lines(rng: np.random.Generator, content: bytes) -> bytes:
    """Lines are repeated, swapped, gone; or the header stands elsewhere too, or not at all."""
    all_lines = content.split(b"\n")
    first, second = (int(rng.integers(len(all_lines))) for _ in range(2))
    kind = rng.integers(6)
    if kind == 0:
        all_lines.insert(first, all_lines[second])
    elif kind == 1:
        all_lines[first], all_lines[second] = all_lines[second], all_lines[first]
    elif kind == 2:
        del all_lines[min(first, second) : max(first, second)]
    elif kind == 3:
        all_lines.insert(first, all_lines[0])
    elif kind == 4:
        del all_lines[0]
    else:
        all_lines = all_lines[:1] if rng.random() < 0.5 else []
    return b"\n".join(all_lines)


def quote(rng: np.random.Generator, content: bytes) -> bytes:
    cells = _cells(content)
    chosen = cells if rng.random() < 0.3 else [cells[rng.integers(len(cells))]]
    for line in chosen:
        line[:] = [b'"' + cell + b'"' for cell in line]
    return _joined(cells)


DAMAGES: tuple[Damage, ...] = (
    *(flip, cut, lose, repeat, insert, end_lines, separate, encode, word, word, huge_cell),
    *(column, lines, quote),
)


def cases(seed: int, count: int, folder: Path) -> Iterator[Case]:
    """Yield cases of one to three damages each."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        content, done = whole(rng), []
        for _ in range(int(rng.choice([1, 1, 2, 3]))):
            name, damage = NAMES[rng.integers(3)], DAMAGES[rng.integers(len(DAMAGES))]
            content[name] = damage(rng, content[name])
            done.append(f"{damage.__name__} of .{name}")
        keys: dict[str, object] = {}
        if rng.random() < 0.1:
            keys["encoding"] = ["latin-1", "utf-16", "utf-8"][rng.integers(3)]
        if rng.random() < 0.1:
            keys["field_separator"] = [",", "::", ";", "|", " "][rng.integers(5)]
            own = str(keys["field_separator"]).encode()
            content = {name: each.replace(b"\t", own) for name, each in content.items()}
        what = f"seed {seed}, case {number}: {', '.join(done)} {keys or ''}"
        yield Case(what, partial(check, content, keys), SAID)


# ---------------------------------------------------------------- the slow reading


def read_slowly(content: bytes, separator: str, encoding: str) -> tuple[list[str], list[list[str]]]:
    """Header cells and rows of a file.

    Raises:
        Bad: it is no atomic file.
    """
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeError as error:
        raise Bad(str(error)) from error
    if "\0" in text and encoding != "utf-16":
        raise Bad("a NUL character")
    parts = re.split("\r\n|\r|\n", text)
    blank = " \t".replace(separator, "")
    header = parts[0].split(separator)
    if any(not re.fullmatch("[^:]+:(token|float)(_seq)?", cell, re.DOTALL) for cell in header):
        raise Bad(f"header {header}")
    if not "".join(header).isprintable():
        raise Bad("a name with a character that is not shown")
    if len(set(cell.split(":")[0] for cell in header)) < len(header):
        raise Bad("a column twice")
    kept = [part for part in parts[1:] if part.strip(blank)]
    if len(separator) == 1:
        csv.field_size_limit(1 << 30)
        rows = list(csv.reader(kept, delimiter=separator, quoting=csv.QUOTE_NONE))
    else:
        rows = [part.split(separator) for part in kept]
    for row in rows:
        if len(row) != len(header):
            raise Bad(f"{len(row)} cells for {len(header)}")
    return header, rows


def number(cell: str) -> float:
    """A cell of a column of numbers; NaN if it is empty."""
    if cell == "":
        return math.nan
    if cell.strip().lower() in ("true", "false"):  # pandas takes a column of them for 1 and 0
        raise Bad("either")
    try:
        value = float(cell)
    except ValueError as error:
        raise Bad(cell) from error
    if not abs(value) <= float(np.finfo(np.float32).max) or "_" in cell or not cell.isascii():
        raise Bad(cell)
    return value


def expected(
    content: Content, separator: str, encoding: str
) -> tuple[list[dict], dict[str, dict], dict[str, dict]]:
    """Rows, and features of users and items by id, as a run should read them.

    Raises:
        Bad: a run may not take the files.
    """
    tables = {}
    for name in NAMES:
        header, rows = read_slowly(content[name], separator, encoding)
        kinds = dict(cell.split(":") for cell in header)
        if not set(FIELDS[name]) <= set(kinds) or not rows:
            raise Bad("columns or rows are missing")
        if any(kinds.get(field, "token") != "token" for field in ("user_id", "item_id")):
            raise Bad("an id of another type")
        if any(kinds.get(field, "float") != "float" for field in ("label", "timestamp")):
            raise Bad("a label or time of another type")
        if any(not kinds.get(field, "float").startswith("float") for field in NUMBERS):
            raise Bad("a number of another type")
        table = []
        for row in rows:
            line: dict[str, object] = {}
            for (field, kind), cell in zip(kinds.items(), row, strict=True):
                if field not in FIELDS[name]:
                    continue
                if kind == "float":
                    line[field] = number(cell)
                elif kind == "float_seq":
                    line[field] = [number(part) for part in cell.split(" ") if part]
                elif kind == "token_seq":
                    line[field] = [part for part in cell.split(" ") if part]
                else:
                    line[field] = cell
            table.append(line)
        tables[name] = table
    by_id = []
    for name, own in (("user", "user_id"), ("item", "item_id")):
        ids = [line[own] for line in tables[name]]
        if len(set(map(str, ids))) < len(ids):
            raise Bad("described twice")
        by_id.append({line[own]: line for line in tables[name] if line[own] != ""})
    rows = [
        row for row in tables["inter"] if row["user_id"] in by_id[0] and row["item_id"] in by_id[1]
    ]
    return rows, by_id[0], by_id[1]


# ---------------------------------------------------------------- both compared


def check(content: Content, keys: dict[str, object]) -> str | None:
    folder = Path.cwd() / "tiny"
    folder.mkdir()
    for name, each in content.items():
        (folder / f"tiny.{name}").write_bytes(each)
    config = Config(
        "LR",
        "tiny",
        config_dict={
            "data_path": str(Path.cwd()),
            "load_col": FIELDS,
            "numerical_features": NUMBERS,
            **keys,
        },
    )
    separator, encoding = str(config["field_separator"]), config["encoding"] or "utf-8"
    try:
        wanted = expected(content, separator, encoding)
    except Bad as fault:
        wanted, why = None, fault
    try:
        parts = create_dataset(config).build()
    except ValueError as refusal:
        about_reading = re.search("could not be read|is not valid|header|NUL", str(refusal))
        if wanted is not None and about_reading:
            return f"it refuses what can be read: {refusal}"
        raise
    log_summary(parts)
    check_parts(parts)
    warn_of_rows(parts)
    if wanted is None and str(why) == "either":
        return None
    if wanted is None:
        return f"it read {sum(map(len, parts))} rows, but: {why}"
    return _difference(parts, config, *wanted) or _texts_differ(folder, separator, encoding, wanted)


def _difference(parts, config, rows, users, items) -> str | None:
    if sum(map(len, parts)) != len(rows):
        return f"{sum(map(len, parts))} rows, expected {len(rows)}"
    tables = {"price": rows, "income": _of(parts[0], users), "emb": None}
    means = {
        field: np.nanmean([row[field] for row in table])
        for field, table in tables.items()
        if table and not isinstance(table[0][field], list)
    }
    for part in parts:
        batch = part.view(config)[np.arange(len(part))]
        for place, at in enumerate(part.inter_feat[ROW_NUMBER].tolist()):
            row = rows[at]
            row = {**users[row["user_id"]], **items[row["item_id"]], **row}
            for field, value in row.items():
                found = _found(part, batch, field, place)
                if field == "timestamp":
                    continue  # float32 here; its order is compared below
                if not _same(found, value, means.get(field)):
                    return f"row {at}: {field} is {found!r}, expected {value!r}"
    by_rank = sorted(
        (rank, number)
        for part in parts
        for rank, number in zip(
            part.inter_feat[":time_rank"].tolist(), part.inter_feat[ROW_NUMBER].tolist()
        )
    )
    times = sorted({row["timestamp"] for row in rows})
    if [rank for rank, _ in by_rank] != [times.index(rows[n]["timestamp"]) for _, n in by_rank]:
        return "the order in time differs"
    return None


def _of(part, users: dict[str, dict]) -> list[dict]:
    """Users that the catalogue knows: a mean of a feature is over them."""
    known = set(part.field2id_token[part.uid_field])
    return [line for user, line in users.items() if user in known]


def _found(part, batch, field: str, place: int) -> object:
    column = batch[field][place]
    kind = part.field2type[field].value
    if kind == "token":
        return str(part.id2token(field, column.numpy()))
    if kind == "token_seq":
        return [str(token) for token in part.id2token(field, column[column > 0].numpy())]
    if kind == "float_seq":
        return column[column[:, 1] > 0, 0].tolist() if field in NUMBERS else column.tolist()
    return float(column[0] if field in NUMBERS else column)


def _same(found: object, value: object, mean: float | None) -> bool:
    if isinstance(value, float):
        value = mean if math.isnan(value) else value
        return bool(np.isclose(found, np.float32(value), rtol=1e-6, atol=1e-12))
    if isinstance(value, list) and value and isinstance(value[0], float):
        return np.array_equal(np.float32(found), np.float32(value))
    return found == value or (value == "" and found == "[PAD]")


def _texts_differ(folder: Path, separator: str, encoding: str, wanted) -> str | None:
    """The tokenizer reads the same items, by the same reading of lines and cells."""
    items = wanted[2]
    texts = read_item_texts(
        ItemFile(folder / "tiny.item", "item_id", separator, encoding), ["title"], list(items)
    )
    for text, (item, line) in zip(texts, items.items(), strict=True):
        title = line["title"] if isinstance(line["title"], list) else [str(line["title"])]
        words = " ".join(map(str, title)).split()
        if words and isinstance(line["title"], list) and text.split() != words:
            return f"item {item!r} has the text {text!r}, expected {' '.join(words)!r}"
    return None
