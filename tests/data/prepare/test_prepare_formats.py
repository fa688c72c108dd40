"""Amazon 2018, KuaiRand, Steam, Taobao and Yelp in their published layouts: each line becomes one
row, and what is wrong is one sentence.
"""

import gzip
import json
import re
import urllib.parse
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from published_files import CATEGORY_HEADER, PUBLISHED, amazon_2018, kuairand, steam, taobao, yelp
from raw_files import prepare, read_back, write_lines

from recbole_genci.config import Config, properties_folder
from recbole_genci.data import create_dataset
from recbole_genci.data.prepare import Amazon, KuaiRand, MovieLens, Steam, Taobao, Yelp
from recbole_genci.data.prepare.formats import FORMATS
from recbole_genci.data.prepare.output import INTERACTION_FIELDS
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import read_item_texts

DATASETS = {
    "amazon-2018": ("amazon-instruments", {"rating": 4}),
    "kuairand": ("kuairand", None),
    "steam": ("steam-reviews", {"hours": 2}),
    "taobao": ("taobao", None),
    "yelp": ("yelp-reviews", {"rating": 4}),
}
FOLDER = Path("dataset/d")


def prepared(tmp_path, name, *changes, **keys):
    """Prepare tiny files as ``dataset/d``; returns (status, arguments)."""
    arguments = PUBLISHED[name](tmp_path / "raw", **keys) | dict(changes)
    return prepare(**arguments, dataset="d"), arguments


def lines_of(suffix):
    return [line.split("\t") for line in (FOLDER / f"d.{suffix}").read_text().splitlines()[1:]]


def provenance():
    return json.loads((FOLDER / "provenance.json").read_text())


def reviews_file(arguments):
    """The (first) file of interactions."""
    if "interactions" in arguments:
        return Path(arguments["interactions"])
    return sorted((arguments["input"] / "data").glob("log_standard_*.csv"))[0]


# ------------------------------------------------------------ what is the same for all


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_line_becomes_one_row_and_trains_under_its_properties(tmp_path, capsys, name):
    assert prepared(tmp_path, name)[0] == 0
    printed = capsys.readouterr().out
    properties, threshold = DATASETS[name]
    counts = provenance()["counts"]
    assert (counts["rows"], counts["users"], counts["items"]) == (120, 20, 12)
    assert counts["exact_repeats_left_out"] == 0 and len(lines_of("inter")) == 120
    assert counts["item_file"] == {"lines": 12, "repeated_ids": 0, "without_description": 0}
    assert {source["malformed_lines"] for source in provenance()["sources"]} == {0}
    if "user_file" in counts:
        assert counts["user_file"] == {"lines": 20, "repeated_ids": 0, "without_description": 0}

    model = "DIN" if name == "taobao" else "GenCI"
    command = printed.splitlines()[-1]
    assert command.startswith(f"Next: python run_recbole_genci.py --model={model} --dataset=d")
    config_file = command.rpartition("--config_files=")[2]
    assert Path(config_file) == properties_folder() / f"dataset/{properties}.yaml"
    keys = {
        "data_path": "dataset",
        "user_inter_num_interval": None,
        "item_inter_num_interval": None,
    }
    config = Config("LR", "d", [config_file], keys)
    dataset = create_dataset(config)
    label = dataset.inter_feat[config["LABEL_FIELD"]]
    assert len(label) == 120 and set(label.tolist()) == {0.0, 1.0}
    assert config["threshold"] == threshold
    clicks = counts.get("clicks", counts.get("rows_rated_above_3"))
    assert label.sum() == clicks and f"{clicks / 120:.1%}" in printed
    if texts := config["item_text_fields"]:
        ids = [cells[0] for cells in lines_of("item")]
        found = read_item_texts(ItemFile(FOLDER / "d.item", "item_id"), texts, ids)
        assert all(len(text) > 5 and "<" not in text and "&amp;" not in text for text in found)


@pytest.mark.parametrize("name", PUBLISHED)
def test_malformed_lines_are_counted_up_to_the_stated_share(tmp_path, capsys, name):
    arguments = PUBLISHED[name](tmp_path / "raw")
    file = reviews_file(arguments)
    content = file.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    file.write_bytes(content + b"{'broken': \nsecond, broken\n\n")  # blank lines do not count
    assert prepare(**arguments, dataset="d") == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert re.search(
        rf"{file.name}: 2 of \d+ lines are malformed.*max_malformed=0.001", printed.err
    )
    assert list(Path("dataset").iterdir()) == []
    assert prepare(**arguments, dataset="d", max_malformed=0.04) == 0
    assert provenance()["counts"]["rows"] == 120
    assert provenance()["sources"][0]["malformed_lines"] == 2


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_line_given_again_is_written_once_and_counted(tmp_path, name):
    arguments = PUBLISHED[name](tmp_path / "raw")
    file = reviews_file(arguments)
    content = file.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    last = content.rstrip(b"\n").rpartition(b"\n")[2]
    file.write_bytes(content + last + b"\n" + last + b"\n")
    assert prepare(**arguments, dataset="d") == 0
    counts = provenance()["counts"]
    assert (counts["rows"], counts["exact_repeats_left_out"]) == (120, 2)


@pytest.mark.parametrize("name", ["amazon-2018", "kuairand", "steam", "yelp"])
def test_an_item_described_twice_keeps_its_first_description(tmp_path, capsys, name):
    arguments = PUBLISHED[name](tmp_path / "raw")
    file = (
        next((arguments["input"] / "data").glob("*_basic_*"))
        if name == "kuairand"
        else arguments["meta"]
    )
    content = file.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    second = content.splitlines()[1]
    file.write_bytes(content + second + b"\n")
    assert prepare(**arguments, dataset="d") == 0
    assert provenance()["counts"]["item_file"]["repeated_ids"] == 1
    assert "left out: 1 more description of the same items" in capsys.readouterr().out


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_optional_files_items_have_their_ids(tmp_path, capsys, name):
    arguments = PUBLISHED[name](tmp_path / "raw")
    for optional in ("meta", "users"):
        arguments.pop(optional, None)
    assert prepare(**arguments, dataset="d") == 0
    assert len(lines_of("item")) == 12
    assert "--model=DIN" in capsys.readouterr().out  # no texts, no semantic IDs


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_an_example_of_its_arguments(name):
    given = re.findall(r"--(\w+)=", FORMATS[name].example)
    known = {*FORMATS[name].required, *FORMATS[name].optional, "dataset"}
    assert set(FORMATS[name].required) <= set(given) <= known


def test_what_counts_as_a_click_is_what_the_properties_say():
    for raw, (name, threshold) in zip((Amazon, KuaiRand, Steam, Taobao, Yelp), DATASETS.values()):
        properties = yaml.safe_load((properties_folder() / f"dataset/{name}.yaml").read_text())
        assert properties.get("threshold") == threshold and raw.properties == name
        column = list(raw.inter_fields)[2]
        if raw.inter_fields is INTERACTION_FIELDS:
            assert raw.click_from is None and threshold == {"rating": 4}
        else:
            label = properties.get("LABEL_FIELD", "label")
            assert raw.click_from == (threshold or {label: 1})[column]
    assert MovieLens.click_from is None


# ------------------------------------------------------------ Amazon 2018


def test_amazon_2018_ratings_and_reviews_give_the_same_rows(tmp_path):
    assert prepare(**amazon_2018(tmp_path / "a"), dataset="d") == 0
    assert prepare(**amazon_2018(tmp_path / "b", as_csv=True), dataset="csv") == 0
    assert Path("dataset/csv/csv.inter").read_bytes() == (FOLDER / "d.inter").read_bytes()
    assert lines_of("inter")[0] == ["A0000000000000", "B000000000", "1", "1469000000"]


def test_amazon_2018_metadata_are_cleaned_of_the_page_they_stood_on(tmp_path):
    arguments = amazon_2018(tmp_path)
    meta = [
        json.loads(line) for line in gzip.decompress(arguments["meta"].read_bytes()).splitlines()
    ]
    meta[1] |= {
        "title": "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();",
        "price": "$5.00 - $9.99",
        "main_cat": "",
    }
    meta[2] |= {"price": ".a-box-inner{background-color:#fff}", "main_cat": "Musical Instruments"}
    write_lines(arguments["meta"], meta)
    assert prepare(**arguments, dataset="d") == 0
    items = read_back(FOLDER, "item").fillna("")
    assert items.iloc[0].tolist() == [
        "B000000000",
        "Speaker & amplifier 0",
        "Home Audio",
        "Electronics > Audio & Video 0",
        "Sony",
        1012.99,
        "Two channels Black",
        "Loud speaker 0.",
    ]
    assert items.title[1] == "" and list(items.price[1:3]) == ["", ""]
    assert list(items.main_category[1:3]) == ["Electronics", "Musical Instruments"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A1B2C3D4E5F6G7,B000000001,5.0,1469000000", "item id 'A1B2C3D4E5F6G7' has not the 10"),
        ("a,b,c", "starts with 'a,b,c'; --format=amazon-2018 needs CSV without a header"),
        ('{"asin": "B000000001"}', "line 1: no field 'reviewerID'"),
    ],
)
def test_amazon_2018_faults(tmp_path, capsys, line, message):
    file = write_lines(tmp_path / "r", [line])
    assert prepare(format="amazon-2018", interactions=file, dataset="d") == 2
    assert message in capsys.readouterr().err


# ------------------------------------------------------------ KuaiRand


def test_kuairand_keeps_all_feedback_and_describes_videos_and_users(tmp_path):
    assert prepare(**kuairand(tmp_path), dataset="d") == 0
    assert lines_of("inter")[1] == (
        "1 3 1 1650485802298 0 0 0 0 0 0 0 3000 10400 0 0 0 3 0".split()
    )
    inter, items, users = (read_back(FOLDER, suffix) for suffix in ("inter", "item", "user"))
    assert list(inter) == list(KuaiRand.inter_fields) and set(inter.is_rand) == {"0"}
    assert inter.long_view.sum() > 0 and set(inter.tab) == {"0", "1", "2"}
    assert inter.hour[3] == str(int(inter.play_time_ms[3]) // 1000)  # 930 is 9:30
    assert items.iloc[1].tolist() == [
        *("1", "1", "NORMAL", "2020-07-08", "ShortImport", 17200.0, 720.0, 1280.0),
        *("9892064671", "4", "12 1", "Food, drink > Tea"),
    ]
    assert users.follow_user_num_range[0] == "(0,10]" and users.fans_user_num[0] == 312
    assert users.onehot_feat4[0] == "4" and users.onehot_feat5.isna().all()


@pytest.mark.parametrize(("logs", "rows"), [("random", 7), ("all", 127)])
def test_kuairand_reads_the_logs_asked_for(tmp_path, logs, rows):
    assert prepare(**kuairand(tmp_path), dataset="d", logs=logs) == 0
    inter = read_back(FOLDER, "inter")
    assert len(inter) == rows and list(inter.is_rand[-7:]) == ["1"] * 7


def test_the_logs_of_kuairand_27k_are_read_part_by_part(tmp_path):
    arguments = kuairand(tmp_path, version="27k")
    data = arguments["input"] / "data"
    write_lines(data / "log_standard_4_08_to_4_21_27k_part1.csv.md5", ["another kind of file"])
    for log in sorted(data.glob("log_standard_*.csv")):
        header, *lines = log.read_text().splitlines()
        log.unlink()
        for part, chosen in ((1, lines[:50]), (2, lines[50:])):
            write_lines(data / f"{log.stem}_part{part}.csv", [header, *chosen])
    assert prepare(**arguments | {"input": data}, dataset="d") == 0  # data/ itself will do
    assert [int(cells[3]) for cells in lines_of("inter")] == [
        1_650_485_801_301 + row * 997 for row in range(120)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.rename(data.with_name("elsewhere")), "holds no log_standard_*.csv"),
        (lambda data: next(data.glob("user_*")).unlink(), "holds no user_features_*.csv"),
        (
            lambda data: write_lines(data / "log_standard_4_08_to_4_21_1k.csv", ["x"]),
            "several versions of KuaiRand, 1k and pure",
        ),
        (
            lambda data: write_lines(data / "user_features_pure.csv.gz", ["x"], zipped=True),
            "holds user_features_pure.csv and user_features_pure.csv.gz, which are too many",
        ),
        (
            lambda data: write_lines(data / "log_standard_4_08_to_4_21_pure.csv.gz", ["x"]),
            "log_standard_4_08_to_4_21_pure.csv.gz and log_standard_4_22_to_5_08_pure.csv, which",
        ),
        (
            lambda data: write_lines(
                data / "video_features_basic_pure.csv", ["video_id,tag", "1,2"]
            ),
            "starts with 'video_id,tag'; it lacks the columns author_id, video_type",
        ),
    ],
)
def test_a_folder_that_is_not_kuairand_is_refused(tmp_path, capsys, change, message):
    arguments = kuairand(tmp_path)
    change(arguments["input"] / "data")
    assert prepare(**arguments, dataset="d") == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not Path("dataset").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1,0,0,0,0,0,0,3000,", ",7,0,0,0,0,0,0,3000,", "line 3: is_click '7' is neither 0 nor 1"),
        (",10400,", ",,", "line 2: no duration_ms"),
        ("1650485802298", "now", "line 3: timestamp 'now' is not a number"),
    ],
)
def test_faults_in_a_log_of_kuairand_are_named(tmp_path, capsys, old, new, message):
    arguments = kuairand(tmp_path)
    log = reviews_file(arguments)
    log.write_text(log.read_text().replace(old, new))
    assert prepare(**arguments, dataset="d") == 2
    assert message in capsys.readouterr().err


def test_kuairand_refuses_other_logs_and_other_categories(tmp_path, capsys):
    arguments = kuairand(tmp_path)
    assert prepare(**arguments, dataset="d", logs="both") == 2
    assert "logs: 'both' is not one of standard, random, all" in capsys.readouterr().err
    write_lines(arguments["meta"], [CATEGORY_HEADER.replace("first", "1st")])
    assert prepare(**arguments, dataset="d") == 2
    assert "it lacks the column first_level_category_name" in capsys.readouterr().err


# ------------------------------------------------------------ Steam


def test_steam_reviews_are_literals_whose_names_become_ids(tmp_path):
    assert prepare(**steam(tmp_path), dataset="d") == 0
    assert lines_of("inter")[1] == ["Chaos%20Syren%201", "725283", "1.5", "1325462400", "1"]
    items = read_back(FOLDER, "item").fillna("")
    assert items.iloc[2].tolist() == [
        "725282",
        "Lost Summoner Kitty 2",
        "Kotoshiro's 2",
        "Kotoshiro",
        "Action|Free to Play|Design & Illustration",
        "Strategy|Turn-Based",
        "Single-player",
        "2018",
        4.99,
    ]
    assert items.price[0] == ""  # Free To Play


def test_steam_names_of_any_form_stay_apart(tmp_path):
    names = [
        "a b",
        "a  b",
        "a%20b",
        "a\tb",
        " a b",
        "\xa0",
        "NA",
        "\U0001f600",
        "\ud83d\ude01",
        "ä",
    ]
    lines = [
        f"{{u'username': {ascii(name)}, u'product_id': u'1', u'date': u'2017-12-17'}}"
        for name in names
    ]
    file = write_lines(tmp_path / "r", lines)
    assert prepare(format="steam", interactions=file, dataset="d") == 0
    users = read_back(FOLDER, "inter").user_id.tolist()
    assert users == [
        *("a%20b", "a%20%20b", "a%2520b", "a%09b", "%20a%20b", "%C2%A0", "NA"),
        *("\U0001f600", "\U0001f601", "ä"),
    ]
    assert set(read_back(FOLDER, "inter").hours) == {0.0}  # none on record


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
REVIEWS = st.tuples(NAMES, st.integers(0, 10**6), st.dates(min_value=date(1970, 1, 1)))


@settings(max_examples=12, deadline=None)
@given(reviews=st.lists(REVIEWS, min_size=1, max_size=6))
def test_every_steam_review_is_one_row_whatever_its_name(tmp_path_factory, reviews):
    lines = [
        f"{{u'username': u{ascii(name)}, u'product_id': u'{game}', u'date': u'{day}'}}"
        for name, game, day in reviews
    ]
    file = write_lines(tmp_path_factory.mktemp("steam") / "r", lines)
    rows = list(Steam(file, None, 0.0).interactions())
    assert [(urllib.parse.unquote(user), item) for user, item, *_ in rows] == [
        (name, str(game)) for name, game, _ in reviews
    ]
    assert [day for *_, day in reviews] == [
        date.fromordinal(date(1970, 1, 1).toordinal() + row[3] // 86_400) for row in rows
    ]
    assert all(len(row[0].split()) == 1 for row in rows)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'username': open('ran', 'w'), 'product_id': 1, 'date': 2}", "neither a JSON object"),
        ("{'username': u'', 'product_id': u'1', 'date': u'2017-12-17'}", "no username"),
        (
            "{'username': u'a', 'product_id': u'1', 'date': u'17 Dec 2017'}",
            "date '17 Dec 2017' is not",
        ),
        (
            "{'username': u'a', 'product_id': u'1', 'date': u'2017-13-17'}",
            "date '2017-13-17' is not",
        ),
        ("{'username': 'a', 'product_id': '1', 'date': '2017-12-17', 'hours': 'x'}", "hours 'x'"),
        ("{'username': 'a', 'product_id': '1', 'date': '2017-12-17', 'hours': -1}", "below 0"),
        ("{'username': 'a', 'product_id': " + "[" * 5000 + ", 'date': 1}", "neither a JSON object"),
        ("username,product_id,date", "--interactions needs a Python literal or JSON object a line"),
    ],
)
def test_steam_faults_are_named_and_nothing_is_run(tmp_path, capsys, line, message):
    file = write_lines(tmp_path / "r", [line])
    assert prepare(format="steam", interactions=file, dataset="d") == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
    assert not Path("ran").exists()


def test_steam_games_in_place_of_reviews_are_refused(tmp_path, capsys):
    arguments = steam(tmp_path)
    assert prepare(format="steam", interactions=arguments["meta"], dataset="d") == 2
    assert "steam_games.json.gz starts with" in capsys.readouterr().err


# ------------------------------------------------------------ Taobao


@pytest.mark.parametrize(
    ("positive", "labels"),
    [(None, {"cart", "fav", "buy"}), ("buy", {"buy"}), ("buy, cart", {"buy", "cart"})],
)
def test_taobao_labels_are_the_behaviours_asked_for(tmp_path, positive, labels):
    arguments = taobao(tmp_path) | ({"positive": positive} if positive else {})
    assert prepare(**arguments, dataset="d") == 0
    raw = [line.split(",") for line in arguments["interactions"].read_text().splitlines()]
    assert lines_of("inter") == [
        [user, item, str(int(behaviour in labels)), time] for user, item, _, behaviour, time in raw
    ]
    assert {tuple(cells) for cells in lines_of("item")} == {
        (item, kind) for _, item, kind, *_ in raw
    }


def test_a_taobao_item_of_two_categories_keeps_the_first_and_is_counted(tmp_path):
    lines = ["1,7,10,pv,1511544070", "2,7,11,buy,1511544071", "3,7,11,pv,1511544072"]
    file = write_lines(tmp_path / "u.csv", lines)
    assert prepare(format="taobao", interactions=file, dataset="d") == 0
    assert lines_of("item") == [["7", "10"]]
    assert provenance()["counts"]["item_file"]["repeated_ids"] == 1


@pytest.mark.parametrize(
    ("line", "positive", "message"),
    [
        (
            "1,7,10,pv,1511544070",
            "click",
            "positive: 'click' is not one or more of pv, cart, fav, buy",
        ),
        ("1,7,10,pv,1511544070", "pv,cart,fav,buy", "rows of both labels are needed"),
        ("1,7,10,look,1511544070", "buy", "behaviour 'look' is none of pv, cart, fav, buy"),
        ("1,7,10,pv,-2134949234", "buy", "timestamp '-2134949234' is not a whole number from 0"),
        ("1,7,pv,1511544070", "buy", "starts with '1,7,pv,1511544070'; --format=taobao needs"),
        ("1,7,,pv,1511544070", "buy", "no category id"),
    ],
)
def test_taobao_faults(tmp_path, capsys, line, positive, message):
    file = write_lines(tmp_path / "u.csv", [line])
    assert prepare(format="taobao", interactions=file, dataset="d", positive=positive) == 2
    assert message in capsys.readouterr().err and not FOLDER.exists()


# ------------------------------------------------------------ Yelp


def test_yelp_reviews_businesses_and_users(tmp_path):
    assert prepare(**yelp(tmp_path), dataset="d") == 0
    assert lines_of("inter")[1] == [
        *("mh_-eMZ6K5RLWhZyISBh1", "XQfwVwDr-v0ZS3_CbbE3"),
        *("4", "1530403271"),  # 2018-07-01 00:01:11
    ]
    items = read_back(FOLDER, "item").fillna("")
    assert items.iloc[1].tolist() == [
        "XQfwVwDr-v0ZS3_CbbE1",
        "Turning Point 1",
        "Cafes, Tea Rooms",
        "North Wales",
        "PA",
        "19454",
        40.2101961875,
        -75.2236385919,
    ]
    assert items.categories[2] == ""
    assert set(read_back(FOLDER, "user").yelping_since) == {"2007"}


def test_yelp_files_of_earlier_years(tmp_path):
    """Until 2018 dates had no time and categories were a list."""
    arguments = yelp(tmp_path)
    for key, change in (
        ("interactions", lambda record: {"date": record["date"][:10]}),
        ("meta", lambda record: {"categories": (record["categories"] or "").split(", ")}),
    ):
        records = map(json.loads, arguments[key].read_text().splitlines())
        write_lines(arguments[key], [record | change(record) for record in records])
    assert prepare(**arguments, dataset="d") == 0
    assert {int(cells[3]) % 86_400 for cells in lines_of("inter")} == {0}
    assert read_back(FOLDER, "item").categories[1] == "Cafes, Tea Rooms"


def test_yelp_files_in_each_others_place_are_refused(tmp_path, capsys):
    arguments = yelp(tmp_path)
    swapped = arguments | {"meta": arguments["users"], "users": arguments["meta"]}
    assert prepare(**swapped, dataset="d") == 2
    assert (
        "which has no business_id, categories. Give reviews by --inter" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stars": 6}, "rating 6 is not between 0 and 5"),
        ({"date": "yesterday"}, "date 'yesterday' is not of the form"),
        ({"date": None}, "no date"),
        ({"business_id": ""}, "no item id"),
    ],
)
def test_yelp_faults(tmp_path, capsys, change, message):
    arguments = yelp(tmp_path, rows=1)
    record = json.loads(arguments["interactions"].read_text())
    write_lines(arguments["interactions"], [record | change])
    assert prepare(**arguments, dataset="d") == 2
    assert message in capsys.readouterr().err
