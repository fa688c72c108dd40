"""A dataset folder is whole or absent; bad files and bad words are one sentence and status 2;
memory stays flat.
"""

import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from raw_files import HEADER_2023, metadata_2023, prepare, ratings_2023, write_lines

import recbole_genci
from recbole_genci.config import Config
from recbole_genci.data.prepare import Amazon, build_dataset, duplicates
from recbole_genci.data.prepare.__main__ import main
from recbole_genci.data.prepare.duplicates import RepeatFinder
from recbole_genci.data.prepare.output import whole_folder, write_interactions

GOOD = {"format": "amazon-2023", "dataset": "d"}


def failure(capsys, **keys):
    """The one line that a refused request prints; nothing may be left behind."""
    assert prepare(**keys) == 2
    printed = capsys.readouterr()
    assert (
        printed.out == ""
        and printed.err.startswith("recbole_genci: ")
        and printed.err.count("\n") == 1
    )
    assert not Path("dataset").exists() or list(Path("dataset").iterdir()) == []
    return printed.err


# ---------------------------------------------------------------- bad words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--dataset=d"],
            "--format must be movielens, .* or [a-z]*; it is missing.*Example: python -m",
        ),
        (["--format=csv"], "'csv' is none.* Tables of your own .CSV, Parquet.: .* --format=table"),
        (["--format=amazon-2032"], "'amazon-2032' is none. Did you mean 'amazon-2023'"),
        (
            ["--format=movielens", "--dataset=d"],
            "--input is missing.*--format=movielens --input=ml-1m",
        ),
        (["--format=movielens", "--input=x"], "--dataset is missing"),
        (
            ["--format=movielens", "--interactions=x"],
            "--interactions is no argument of --format=movielens",
        ),
        (
            ["--format=amazon-2023", "--interaction=x"],
            "Did you mean 'interactions'.*meta_Musical_Instruments.jsonl.gz",
        ),
        (
            ["--format=amazon-2014", "--dataset=d"],
            "--interactions is missing.*--format=amazon-2014",
        ),
        (
            ["--format=movielens", "--input=x", "--dataset=../d"],
            "--dataset=../d must be a name, not a path",
        ),
        (["--format=movielens", "--input=x", "--dataset=.d"], "must be a name, not a path"),
        (
            ["--format=movielens", "--input=x", "--dataset=d", "--max_malformed=2"],
            "max_malformed: 2 is not a number from 0 to below 1",
        ),
        (
            ["--format=movielens", "--input=x", "--dataset=d", "--overwrite=maybe"],
            "overwrite: 'maybe' is neither True nor False",
        ),
        (["movielens"], "'movielens' is not of the form --key=value"),
        (
            ["--format=amazon-2023", "--interactions=nowhere.csv", "--dataset=d"],
            "nowhere.csv does not exist",
        ),
    ],
)
def test_words_that_make_no_sense_are_named_with_an_example(capsys, words, message):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err), printed.err
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_help_says_what_there_is(capsys):
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(
        word in printed
        for word in (
            "--format",
            "--input",
            "--interactions",
            "--meta",
            "--overwrite",
            "--max_malformed",
        )
    )
    assert main([]) == 2


def test_a_name_without_properties_of_its_own_is_given_those_that_fit(tmp_path, capsys):
    reviews = write_lines(tmp_path / "r.csv", ratings_2023())
    assert prepare(**GOOD, interactions=reviews, output=tmp_path / "out") == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert f"--dataset=d --data_path={tmp_path}/out --config_files=" in command
    config = Config(
        "LR", "d", [command.rpartition("--config_files=")[2]], {"data_path": str(tmp_path / "out")}
    )
    assert config["MAX_ITEM_LIST_LENGTH"] == 20 and config["seq_separator"] == " > "


# ---------------------------------------------------------------- bad files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "r.csv is empty"),
        (
            b"user,item,rating,time\n1,2,3,4\n",
            "starts with 'user,item,rating,time'; --format=amazon-2023 needs a CSV header with "
            "user_id, parent_asin, rating, timestamp, or one JSON object",
        ),
        (f"{HEADER_2023}\n".encode(), "has a header but no rows"),
        (
            f"{HEADER_2023}\nu,i,5.0\n".encode(),
            r"1 of 1 lines are malformed \(100.00%\).*line 2: 3 values, not 4",
        ),
        (f"{HEADER_2023}\nu,i,great,5\n".encode(), "line 2: rating 'great' is not a number"),
        (f"{HEADER_2023}\nu,i,5,NaN\n".encode(), "line 2: timestamp 'NaN' is not a number"),
        (f"{HEADER_2023}\nu,i,5,inf\n".encode(), "line 2: timestamp 'inf' is not a number"),
        (f"{HEADER_2023}\nu,i,5,1_0\n".encode(), "line 2: timestamp '1_0' is not a number"),
        (
            f"{HEADER_2023}\nu,i,5,1e300\n".encode(),
            "line 2: timestamp '1e300' is not a whole number",
        ),
        (f"{HEADER_2023}\nu,,5,1\n".encode(), "line 2: no item id"),
        (f"{HEADER_2023}\nu,i,,1\n".encode(), "line 2: no rating"),
        (
            b'{"user_id": "u", "asin": "i", "rating": 5, "timestamp": 1}\n',
            "line 1: no field 'parent_asin'",
        ),
        (
            b'{"user_id": ["u"], "parent_asin": "i", "rating": 5, "timestamp": 1}\n',
            "line 1: user id \\['u'\\] is not an id",
        ),
        (
            b'{"user_id": "u", "parent_asin": "i", "rating": NaN, "timestamp": 1}\n',
            "line 1: rating nan is not a number",
        ),
        (
            b'{"user_id": "u", "parent_asin": "i", "rating": true, "timestamp": 1}\n',
            "line 1: rating True is not a number",
        ),
        (b'{"user_id": "u", "parent_asin"\n', "line 1: not a JSON object"),
        (b'{"a": ' + b"[" * 100_000, "line 1: not a JSON object"),
        (
            gzip.compress("\n".join(ratings_2023(300)).encode())[:3000],
            "r.csv breaks off or is damaged after line .*again",
        ),
        (b"\x1f\x8bnot gzip at all", "r.csv breaks off or is damaged after line 0"),
    ],
)
def test_bad_interactions_are_named_by_file_and_line(tmp_path, capsys, content, message):
    (tmp_path / "r.csv").write_bytes(content)
    printed = failure(capsys, **GOOD, interactions=tmp_path / "r.csv")
    assert re.search(message, printed), printed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "starts with '\\[1, 2\\]': metadata need one JSON object a line"),
        ('{"title": "x"}', "line 1: no parent_asin"),
        ("{'parent_asin': 'I1'}", "line 1: not a JSON object"),
        ('{"parent_asin": "I1", "title": {}}', "title holds a dict, not text"),
        (HEADER_2023, "metadata need one JSON object"),
    ],
)
def test_bad_metadata_are_named_by_file_and_line(tmp_path, capsys, line, message):
    reviews = write_lines(tmp_path / "r.csv", ratings_2023())
    printed = failure(
        capsys, **GOOD, interactions=reviews, meta=write_lines(tmp_path / "meta.jsonl", [line])
    )
    assert "meta.jsonl" in printed and re.search(message, printed), printed


def test_malformed_lines_stop_the_run_only_past_the_stated_share(tmp_path, capsys):
    lines = ratings_2023()
    for place in (3, 40, 41, 100, 150, 200, 230):
        lines.insert(place, f"broken,{place}")
    reviews = write_lines(tmp_path / "r.csv", lines)  # 7 of 247
    printed = failure(capsys, **GOOD, interactions=reviews, max_malformed=0.028)
    assert (
        "7 of 247 lines are malformed (2.83%), more than max_malformed=0.028 allows. line 4: 2 "
        "values, not 4" in printed
    )
    assert "line 151" in printed and "line 201" not in printed  # the first five
    assert prepare(**GOOD, interactions=reviews, max_malformed=0.029) == 0
    assert (
        "247 lines, 7 malformed and left out\n    line 4: 2 values, not 4\n"
        in capsys.readouterr().out
    )
    assert Path("dataset/d/d.inter").read_text().count("\n") == len(ratings_2023())


def test_a_long_file_of_another_kind_is_refused_early(tmp_path, capsys):
    reviews = write_lines(tmp_path / "r.csv", [HEADER_2023, *["another file"] * 50_000])
    assert "1000 of 1000 lines are malformed" in failure(capsys, **GOOD, interactions=reviews)


# ---------------------------------------------------------------- whole or absent


def test_provenance_tells_sources_and_counts(tmp_path):
    reviews = write_lines(tmp_path / "r.csv.gz", ratings_2023(), zipped=True)
    meta = write_lines(tmp_path / "meta.jsonl", metadata_2023())
    assert prepare(**GOOD, interactions=reviews, meta=meta) == 0
    provenance = json.loads(Path("dataset/d/provenance.json").read_text())
    assert [s["file"] for s in provenance["sources"]] == ["r.csv.gz", "meta.jsonl"]
    for source, file in zip(provenance["sources"], (reviews, meta)):
        assert source["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert source["bytes"] == file.stat().st_size and source["malformed_lines"] == 0
    assert [s["lines"] for s in provenance["sources"]] == [240, 13]
    assert {k: provenance["counts"][k] for k in ("rows", "users", "items")} == {
        "rows": 240,
        "users": 30,
        "items": 12,
    }
    assert (
        provenance["format"] == "amazon-2023"
        and provenance["fields"]["inter"]["timestamp"] == "float"
    )


def test_an_existing_folder_is_replaced_only_when_asked_and_only_if_it_is_a_dataset(
    tmp_path, capsys
):
    reviews = write_lines(tmp_path / "r.csv", ratings_2023())
    assert prepare(**GOOD, interactions=reviews) == 0
    before = Path("dataset/d/d.inter").read_bytes()
    shorter = write_lines(tmp_path / "r.csv", ratings_2023(num_users=9))
    assert prepare(**GOOD, interactions=shorter) == 2
    assert "d exists already. Give --overwrite=True" in capsys.readouterr().err
    assert Path("dataset/d/d.inter").read_bytes() == before
    assert prepare(**GOOD, interactions=shorter, overwrite=True) == 0
    assert len(Path("dataset/d/d.inter").read_bytes()) < len(before)
    assert [p.name for p in Path("dataset").iterdir()] == ["d"]
    broken = write_lines(tmp_path / "r.csv", [HEADER_2023, "broken"])
    after = Path("dataset/d/d.inter").read_bytes()
    assert prepare(**GOOD, interactions=broken, overwrite=True) == 2
    assert Path("dataset/d/d.inter").read_bytes() == after  # a failure leaves the old one
    Path("dataset/d/thesis.tex").write_text("years of work")
    assert prepare(**GOOD, interactions=shorter, overwrite=True) == 2
    assert "holds thesis.tex, which is no file of the dataset" in capsys.readouterr().err
    assert Path("dataset/d/thesis.tex").is_file()


def test_the_folder_appears_at_the_end_with_the_permissions_of_any_other(tmp_path):
    (tmp_path / "ordinary").mkdir()
    with whole_folder(tmp_path / "d") as folder:
        (folder / "d.inter").write_text("x")
        assert not (tmp_path / "d").exists()
    assert (tmp_path / "d/d.inter").read_text() == "x"
    assert (tmp_path / "d").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError("No space left on device")])
def test_a_run_that_stops_in_the_middle_leaves_nothing(tmp_path, stop):
    class Stopping(Amazon):
        def items(self, wanted):
            yield {"item_id": "I1"}
            raise stop

    reviews = write_lines(tmp_path / "r.csv", ratings_2023())
    with pytest.raises(type(stop) if isinstance(stop, OSError) else stop):
        build_dataset(
            Stopping("amazon-2023", reviews, None, 0.0), "amazon-2023", tmp_path / "out/d"
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_run_that_is_killed_leaves_no_dataset_folder(tmp_path):
    reviews = write_lines(tmp_path / "r.csv", ratings_2023(num_users=40_000))
    checkout = Path(recbole_genci.__file__).parent.parent
    words = [
        sys.executable,
        "-m",
        "recbole_genci.data.prepare",
        "--format=amazon-2023",
        f"--interactions={reviews}",
        "--dataset=d",
    ]
    process = subprocess.Popen(words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(checkout)})
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("dataset/.d-*/d.inter")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "dataset/d").exists()
    # What the killed run left is in nobody's way.
    write_lines(reviews, ratings_2023())
    assert prepare(**GOOD, interactions=reviews, output=tmp_path / "dataset") == 0
    assert (tmp_path / "dataset/d/d.inter").is_file()


# ---------------------------------------------------------------- repeats and memory


def test_repeated_keys_are_found_whatever_their_number(tmp_path):
    def finder(keys):
        finder = RepeatFinder(tmp_path / "scratch")
        for key in keys:
            finder.add(key)
        return finder

    keys = [("key", n) for n in (*range(150_000), *range(0, 150_000, 50_000), 7, 7)]
    assert finder(keys).count() == 5
    assert finder(keys).hashes() == {hash(("key", n)) for n in (0, 50_000, 100_000, 7)}
    for few in ([], ["one"]):
        assert finder(few).count() == 0 and finder(few).hashes() == set()
    assert not (tmp_path / "scratch").exists()


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "_CHUNK", 1 << 12)

    def peak(number):
        tracemalloc.start()
        rows = ((f"U{n % 100}", f"I{n % 77}", 5.0, 1_600_000_000_000 + n) for n in range(number))
        counts, users, items = write_interactions(tmp_path / "d.inter", rows)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (counts["rows"], len(users), len(items)) == (number, 100, 77)
        return size

    short, long = peak(10_000), peak(40_000)
    assert long < short + 30_000 * 4  # not even one hash a row
