"""Amazon reviews of 2023 and 2014: fields, times, what is left out, and the leave-one-out protocol
on them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from raw_files import (
    HEADER_2023,
    metadata_2023,
    prepare,
    ratings_2023,
    read_back,
    real,
    write_lines,
)

from recbole_genci.config import Config, properties_folder
from recbole_genci.data import create_dataset, create_loaders
from recbole_genci.data.column_names import ROW_NUMBER
from recbole_genci.data.part_checks import check_parts
from recbole_genci.data.prepare.amazon import ITEM_FIELDS, Amazon
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import read_item_texts

ITEM_TEXT_FIELDS = ["title", "categories", "store", "description"]


def prepare_2023(tmp_path, ratings=None, metadata=None, **keys):
    reviews = write_lines(tmp_path / "ratings.csv", ratings or ratings_2023())
    meta = write_lines(tmp_path / "meta.jsonl", metadata or metadata_2023())
    arguments = {
        "format": "amazon-2023",
        "interactions": reviews,
        "meta": meta,
        "dataset": "amazon-instruments",
    } | keys
    return prepare(**arguments), Path("dataset") / arguments["dataset"]


def test_nothing_is_known_of_users(tmp_path):
    amazon = Amazon("amazon-2023", write_lines(tmp_path / "r.csv", ratings_2023()), None, 0.0)
    someone = next(amazon.interactions())[0]
    assert amazon.user_fields is None and list(amazon.users({someone})) == []


@pytest.mark.parametrize("zipped", [False, True])
def test_ratings_and_metadata_of_2023_become_atomic_files(tmp_path, zipped):
    reviews = write_lines(
        tmp_path / "ratings.csv", ratings_2023(), zipped
    )  # gzip is known by content, not by name
    meta = write_lines(tmp_path / "meta.jsonl.gz", metadata_2023(), zipped)
    assert (
        prepare(format="amazon-2023", interactions=reviews, meta=meta, dataset="amazon-instruments")
        == 0
    )
    folder = Path("dataset/amazon-instruments")
    assert sorted(p.name for p in folder.iterdir()) == [
        "amazon-instruments.inter",
        "amazon-instruments.item",
        "provenance.json",
    ]
    lines = (folder / "amazon-instruments.inter").read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    assert lines[1:] == [line.replace(".0", "").replace(",", "\t") for line in ratings_2023()[1:]]
    items = read_back(folder, "item")
    assert list(items) == list(ITEM_FIELDS)
    assert items.item_id.tolist() == [f"I{i}" for i in range(12)]  # I12 was never rated
    assert items.iloc[4].tolist() == [
        "I4",
        "Guitar & Bass 4",
        "Musical Instruments",
        "Musical Instruments > Guitars & More 1",
        "Fender",
        12.5,
        "Solid top Bone nut",
        "A fine guitar. Loud.",
    ]


def test_reviews_of_2023_as_json_lines_give_the_same_rows(tmp_path):
    records = [dict(zip(HEADER_2023.split(","), line.split(","))) for line in ratings_2023()[1:]]
    records = [
        r
        | {
            "rating": float(r["rating"]),
            "timestamp": int(r["timestamp"]),
            "asin": "another colour",
            "text": "a\tb",
            "title": "t",
            "verified_purchase": True,
            "helpful_vote": 0,
        }
        for r in records
    ]
    reviews = write_lines(tmp_path / "reviews.jsonl", records)
    assert prepare(format="amazon-2023", interactions=reviews, dataset="json") == 0
    assert prepare_2023(tmp_path)[0] == 0
    assert (
        Path("dataset/json/json.inter").read_bytes()
        == Path("dataset/amazon-instruments/amazon-instruments.inter").read_bytes()
    )


METADATA_2014 = [
    {
        "asin": "I0",
        "title": "Guitar &amp;amp; Case",
        "price": 59.99,
        "imUrl": "http://x",
        "brand": "Fender",
        "related": {"also_bought": ["I1"]},
        "salesRank": {"Musical Instruments": 94593},
        "categories": [
            ["Musical Instruments", "Guitars"],
            ["Musical Instruments", "Bags, Cases & Covers"],
        ],
        "description": 'It\'s "loud"<br />and <i>fine</i>.',
    },
    {"asin": "I1", "categories": [["Musical Instruments"]]},
    {"asin": "other", "title": "Not rated", "categories": [["Musical Instruments"]]},
]


@pytest.mark.parametrize("as_line", [json.dumps, repr])
def test_metadata_of_2014_are_json_or_python_literals(tmp_path, as_line):
    reviews = write_lines(
        tmp_path / "reviews.json",
        [
            {
                "reviewerID": f"U{n % 2}",
                "asin": f"I{n % 3}",
                "overall": 4.0,
                "unixReviewTime": 1_400_000_000 + n * 86400,
                "reviewText": "good",
                "summary": "s",
                "helpful": [0, 0],
            }
            for n in range(6)
        ],
    )
    meta = write_lines(tmp_path / "meta.json", [as_line(record) for record in METADATA_2014])
    assert (
        prepare(format="amazon-2014", interactions=reviews, meta=meta, dataset="amazon-instruments")
        == 0
    )
    items = read_back(Path("dataset/amazon-instruments"), "item")
    assert list(items) == list(ITEM_FIELDS)  # the same for both vintages
    assert items.fillna("").iloc[0].tolist() == [
        "I0",
        "Guitar & Case",
        "Musical Instruments",
        "Musical Instruments > Guitars > Bags, Cases & Covers",
        "Fender",
        59.99,
        "",
        'It\'s "loud" and fine .',
    ]
    assert items.fillna("").iloc[1].tolist() == [
        "I1",
        "",
        "Musical Instruments",
        "Musical Instruments",
        "",
        "",
        "",
        "",
    ]
    assert items.item_id.tolist() == ["I0", "I1", "I2"]  # I2 is not described


def test_a_literal_that_is_code_is_never_run(tmp_path, capsys):
    reviews = write_lines(
        tmp_path / "r.json", [{"reviewerID": "U", "asin": "I", "overall": 4, "unixReviewTime": 1}]
    )
    meta = write_lines(
        tmp_path / "meta.json", ["{'asin': 'I', 'title': open('ran', 'w').write('x')}"]
    )
    assert prepare(format="amazon-2014", interactions=reviews, meta=meta, dataset="d") == 2
    assert "neither a JSON object" in capsys.readouterr().err
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (12.5, 12.5),
        (3, 3.0),
        ("$1,299.00", 1299.0),
        ("15.99", 15.99),
        ("from 9.99", None),
        ("—", None),
        ("$5 - $9", None),
        (None, None),
        (float("nan"), None),
        (True, None),
        ([1], None),
    ],
)
def test_prices_are_numbers_or_empty(tmp_path, value, cell):
    metadata = [metadata_2023()[0] | {"price": value}, *metadata_2023()[1:]]
    status, folder = prepare_2023(tmp_path, metadata=metadata)
    price = read_back(folder, "item").price[0]
    assert status == 0 and (price == cell if cell is not None else np.isnan(price))


def test_items_absent_from_the_metadata_keep_their_rows_and_are_counted(tmp_path, capsys):
    twice = {**metadata_2023()[2], "title": "said again"}
    status, folder = prepare_2023(tmp_path, metadata=[*metadata_2023()[:5], twice])
    assert status == 0
    items = read_back(folder, "item")
    assert (
        sorted(items.item_id) == sorted(f"I{i}" for i in range(12))
        and items.title.notna().sum() == 5
    )
    assert "said again" not in set(items.title)
    counts = json.loads((folder / "provenance.json").read_text())["counts"]["item_file"]
    assert counts == {"lines": 12, "repeated_ids": 1, "without_description": 7}
    printed = capsys.readouterr().out
    assert (
        "have their id only: 7 items of the rows" in printed
        and "left out: 1 more description of the same items" in printed
    )


def test_exact_repeats_are_written_once_and_repeated_pairs_are_kept(tmp_path, capsys):
    rows = ratings_2023()
    user, item, _, time = rows[5].split(",")
    repeats = [
        rows[5],
        rows[9],
        rows[5],
        f"{user},{item},2.0,{time}",
        f"{user},{item},5.0,{int(time) + 10**6}",
    ]
    status, folder = prepare_2023(tmp_path, ratings=rows + repeats)
    assert status == 0
    inter = read_back(folder, "inter")
    assert len(inter) == len(rows) - 1 + 2 and not inter.duplicated().any()
    assert inter.iloc[: len(rows) - 1].timestamp.astype(int).astype(str).tolist() == [
        r.split(",")[3] for r in rows[1:]
    ]
    counts = json.loads((folder / "provenance.json").read_text())["counts"]
    assert (
        counts["rows"],
        counts["exact_repeats_left_out"],
        counts["repeated_user_item_pairs_kept"],
    ) == (len(inter), 3, 2)
    assert (
        counts["rows_rated_above_3"] == (inter.rating > 3).sum()
        and counts["rows_rated_3"] == (inter.rating == 3).sum()
    )
    printed = capsys.readouterr().out
    assert "repeat another exactly: 3 rows\n" in printed
    assert "another value: 2 rows; a run" in printed
    keys = {
        "data_path": "dataset",
        "rm_dup_inter": "first",
        "user_inter_num_interval": None,
        "item_inter_num_interval": None,
    }
    assert (
        len(create_dataset(Config("LR", "amazon-instruments", config_dict=keys)).inter_feat)
        == len(rows) - 1
    )


def test_leave_one_out_follows_exact_milliseconds_and_categories_are_whole(tmp_path):
    assert prepare_2023(tmp_path)[0] == 0
    config = Config("DIN", "amazon-instruments", config_dict={"data_path": "dataset"})
    assert config["MAX_ITEM_LIST_LENGTH"] == 20 and config["text_encoder"].endswith(
        "sentence-t5-base"
    )
    parts = create_dataset(config).build()
    check_parts(parts)  # raises on a validation part of one class
    raw = pd.DataFrame(
        [line.split(",") for line in ratings_2023()[1:]], columns=["user", "item", "rating", "time"]
    )
    raw["part"] = -1
    for number, part in enumerate(parts):
        rows = part.inter_feat[ROW_NUMBER].numpy()
        raw.loc[rows, "part"] = number
        assert (part.inter_feat["label"].numpy() == (raw.rating[rows].astype(float) > 3)).all()
    for _, rows in raw.groupby("user"):
        assert rows.assign(time=rows.time.astype(int)).sort_values("time").part.tolist() == [
            0
        ] * 6 + [1, 2]
    categories = set(parts[0].field2id_token["categories"])
    assert categories == {
        "[PAD]",
        "Musical Instruments",
        *(f"Guitars & More {n}" for n in range(3)),
    }
    batch = next(iter(create_loaders(config, parts)[2]))[0]
    assert batch["item_length"].tolist() == [
        (raw[(raw.user == f"U{u}") & (raw.part < 2)].rating.astype(float) > 3).sum()
        for u in range(30)
    ]
    texts = read_item_texts(
        ItemFile(parts[0].item_file, "item_id"), config["item_text_fields"], ["I4"]
    )
    assert texts == [
        "Guitar & Bass 4. Musical Instruments > Guitars & More 1. Fender. A fine guitar. Loud."
    ]


def test_the_5_core_keeps_what_has_five_rows_and_nothing_else(tmp_path):
    lines = [
        *ratings_2023(),
        *(f"rare{n},I0,5.0,{1_600_000_000_000 + n}" for n in range(4)),
        *(f"U{n},seldom,5.0,{1_600_000_000_000 + n}" for n in range(4)),
    ]
    assert prepare_2023(tmp_path, ratings=lines)[0] == 0
    dataset = create_dataset(
        Config("LR", "amazon-instruments", config_dict={"data_path": "dataset"})
    )
    assert len(dataset.inter_feat) == len(ratings_2023()) - 1
    assert dataset.user_num == 31 and dataset.item_num == 13


def test_properties_name_fields_that_are_written():
    for name in ("amazon-instruments", "amazon-fashion"):
        properties = yaml.safe_load((properties_folder() / f"dataset/{name}.yaml").read_text())
        assert set(properties["load_col"]["item"]) | set(properties["item_text_fields"]) <= set(
            ITEM_FIELDS
        )
        assert properties["item_text_fields"] == ITEM_TEXT_FIELDS
        assert {
            k: properties[k]
            for k in (
                "eval_args",
                "threshold",
                "user_inter_num_interval",
                "item_inter_num_interval",
            )
        } == {
            "eval_args": {
                "split": {"LS": "valid_and_test"},
                "order": "TO",
                "group_by": "user",
                "mode": "labeled",
            },
            "threshold": {"rating": 4},
            "user_inter_num_interval": "[5,inf)",
            "item_inter_num_interval": "[5,inf)",
        }


def test_the_real_reviews_of_2014_are_read_under_the_amazon_protocol(capsys):
    file = real("raw", "amazon-2014", "Musical_Instruments.json")
    assert prepare(format="amazon-2014", interactions=file, dataset="amazon-instruments") == 0
    assert "10,261 rows, 1,429 users, 900 items; 87.9% rated above 3" in capsys.readouterr().out
    parts = create_dataset(
        Config("DIN", "amazon-instruments", config_dict={"data_path": "dataset"})
    ).build()
    check_parts(parts)
    assert [len(part) for part in parts] == [10261 - 2 * 1429, 1429, 1429]
    assert parts[0].user_num == 1430 and parts[0].item_num == 901
    raw = pd.DataFrame([json.loads(line) for line in file.read_text().splitlines()])
    last = raw.groupby("reviewerID").unixReviewTime.max()
    tested = raw.iloc[parts[2].inter_feat[ROW_NUMBER].numpy()]
    assert (tested.unixReviewTime.to_numpy() == last[tested.reviewerID].to_numpy()).all()
    assert (parts[2].inter_feat["label"].numpy() == (tested.overall > 3)).all()
    assert 0 < parts[1].inter_feat["label"].mean() < 1


def test_table_2_is_met_where_amazon_2023_has_been_prepared():
    """Table 2 counts padding as a user and as an item. (Its Fashion is no 5-core:
    properties/dataset/amazon-fashion.yaml.)
    """
    folder = real("amazon-instruments")
    if json.loads((folder / "provenance.json").read_text())["format"] != "amazon-2023":
        pytest.skip(f"{folder} is not of the 2023 release")
    dataset = create_dataset(
        Config("LR", "amazon-instruments", config_dict={"data_path": str(folder.parent)})
    )
    assert len(dataset.inter_feat) == 511836
    assert (
        dataset.inter_feat.user_id.nunique() == 57439
        and dataset.inter_feat.item_id.nunique() == 24587
    )
