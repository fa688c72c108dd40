"""MovieLens folders: the cells of RecBole's own atomic files, and the paper's counts."""

import csv
import html
import json
import re
import tracemalloc
from pathlib import Path

import pytest
import recbole
import yaml
from raw_files import prepare, read_back, real, write_lines

from recbole_genci.config import Config, properties_folder
from recbole_genci.data import create_dataset
from recbole_genci.data.prepare import source
from recbole_genci.data.prepare.movielens import _GENRES_100K, MovieLens

MOVIES = [
    "1::Toy Story (1995)::Animation|Children's|Comedy",
    "2::Misérables, Les (1995)::Drama|Musical",
    "3::Face::Off; a :: title (1997)::Action",
    "4::No year at all::Drama",
    "9::Never rated (2000)::Drama",
]
USERS = ["1::F::1::10::48067", "2::M::56::16::70072"]
RATINGS = ["1::1::5::978300760", "1::2::3::978302109", "2::1::4::978301968", "2::4::1::978300275"]


def write_ml1m(folder, movies=MOVIES, users=USERS, ratings=RATINGS, encoding="latin-1"):
    write_lines(folder / "movies.dat", movies, encoding=encoding)
    write_lines(folder / "users.dat", users)
    write_lines(folder / "ratings.dat", ratings)
    return folder


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_folder_becomes_the_three_atomic_files(tmp_path, capsys, encoding):
    folder = write_ml1m(tmp_path / "raw", encoding=encoding)
    assert prepare(format="movielens", input=folder, dataset="ml-1m") == 0
    lines = {
        s: Path(f"dataset/ml-1m/ml-1m.{s}").read_text(encoding="utf-8").splitlines()
        for s in ("inter", "item", "user")
    }
    assert lines["inter"] == [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        *(line.replace("::", "\t") for line in RATINGS),
    ]
    assert lines["item"] == [
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq",
        "1\tToy Story\t1995\tAnimation Children's Comedy",
        "2\tMisérables, Les\t1995\tDrama Musical",
        "3\tFace::Off; a :: title\t1997\tAction",
        "4\tNo year at all\t\tDrama",
        "9\tNever rated\t2000\tDrama",
    ]
    assert lines["user"] == [
        "user_id:token\tgender:token\tage:token\toccupation:token\tzip_code:token",
        *(line.replace("::", "\t") for line in USERS),
    ]
    printed = capsys.readouterr().out
    assert "4 rows, 2 users, 3 items; 50.0% rated above 3, 1 row rated 3" in printed
    assert "run_recbole_genci.py --model=GenCI --dataset=ml-1m\n" in printed


def test_raters_and_movies_without_a_description_keep_their_rows(tmp_path, capsys):
    folder = write_ml1m(tmp_path / "raw", movies=MOVIES[:1], users=USERS[:1])
    assert prepare(format="movielens", input=folder, dataset="ml-1m") == 0
    items = read_back(Path("dataset/ml-1m"), "item")
    assert items.item_id.tolist() == ["1", "2", "4"] and items.movie_title.isna().tolist() == [
        False,
        True,
        True,
    ]
    assert read_back(Path("dataset/ml-1m"), "user").user_id.tolist() == ["1", "2"]
    printed = capsys.readouterr().out
    assert (
        "have their id only: 2 items of the rows" in printed
        and "have their id only: 1 user of the rows" in printed
    )


def test_ml100k_gives_the_rows_that_recbole_ships(tmp_path):
    """u.data, u.item and u.user written from RecBole's atomic files, and prepared back."""
    shipped = Path(recbole.__file__).parent / "dataset_example/ml-100k"
    atomic = {
        s: [
            line.split("\t")
            for line in (shipped / f"ml-100k.{s}").read_text(encoding="utf-8").split("\n")[1:]
            if line
        ]
        for s in ("inter", "item", "user")
    }
    # RecBole's two odd rows, the movie without a name and the one whose year became "V", as they
    # were published.
    odd = {
        "267": ("unknown", ""),
        "1412": ("Land Before Time III: The Time of the Great Giving (1995) (V)", ""),
    }
    movies = []
    for movie, title, year, genres in atomic["item"]:
        title = odd[movie][0] if movie in odd else f"{title} ({year})"
        flags = "|".join("01"[genre in genres.split()] for genre in _GENRES_100K)
        movies.append(f"{movie}|{title}|01-Jan-{year}||http://us.imdb.com/{movie}|{flags}")
    raw = tmp_path / "raw"
    write_lines(raw / "u.data", ["\t".join(row) for row in atomic["inter"]])
    write_lines(raw / "u.item", movies, encoding="latin-1")
    write_lines(raw / "u.user", ["|".join(row) for row in atomic["user"]])
    assert prepare(format="movielens", input=raw, dataset="ml-100k") == 0
    made = Path("dataset/ml-100k")
    for suffix in ("inter", "user"):
        assert (made / f"ml-100k.{suffix}").read_text().rstrip() == (
            shipped / f"ml-100k.{suffix}"
        ).read_text().rstrip()
    rows = [
        line.split("\t")
        for line in (made / "ml-100k.item").read_text(encoding="utf-8").splitlines()
    ]
    assert rows[0] == [
        "item_id:token",
        "movie_title:token_seq",
        "release_year:token",
        "class:token_seq",
    ]
    # RecBole lists some genres in another order.
    assert [r[:3] + [set(r[3].split())] for r in rows[1:] if r[0] not in odd] == [
        r[:3] + [set(r[3].split())] for r in atomic["item"] if r[0] not in odd
    ]
    assert [r for r in rows if r[0] in odd] == [
        ["267", "unknown", "", "unknown"],
        [
            "1412",
            "Land Before Time III: The Time of the Great Giving",
            "1995",
            "Animation Children's",
        ],
    ]
    parts = create_dataset(Config("LR", "ml-100k", config_dict={"data_path": "dataset"})).build()
    assert sum(map(len, parts)) == 72855


def test_ml1m_gives_recboles_atomic_rows_and_the_papers_counts(tmp_path):
    atomic, raw = real("ml-1m"), real("raw", "ml-1m")
    folder = tmp_path / "raw"
    folder.mkdir()
    for name in ("movies.dat", "users.dat"):
        (folder / name).write_bytes((raw / name).read_bytes())
    header, _, rows = (atomic / "ml-1m.inter").read_text().partition("\n")
    (folder / "ratings.dat").write_text(rows.replace("\t", "::"))
    assert prepare(format="movielens", input=folder, dataset="ml-1m") == 0

    made = Path("dataset/ml-1m")
    assert (made / "ml-1m.inter").read_bytes() == (atomic / "ml-1m.inter").read_bytes()
    assert (made / "ml-1m.user").read_bytes() == (atomic / "ml-1m.user").read_bytes()
    # RecBole's file holds one HTML entity ("Et Dieu&#8230;Créa la Femme"), which is resolved here.
    assert (made / "ml-1m.item").read_text("utf-8") == html.unescape(
        (atomic / "ml-1m.item").read_text("utf-8")
    )

    provenance = json.loads((made / "provenance.json").read_text())
    assert {k: provenance["counts"][k] for k in ("rows", "users", "items")} == {
        "rows": 1000209,
        "users": 6040,
        "items": 3706,
    }
    assert provenance["counts"]["rows"] - provenance["counts"]["rows_rated_3"] == 739012
    # Table 2, whose 6,041 users and 3,669 items count padding.
    dataset = create_dataset(Config("LR", "ml-1m", config_dict={"data_path": "dataset"}))
    assert len(dataset.inter_feat) == 739012
    assert (
        dataset.inter_feat.user_id.nunique() == 6040
        and dataset.inter_feat.item_id.nunique() == 3668
    )


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        (
            "ratings.dat",
            ["userId,movieId,rating,timestamp", "1,2,3,4"],
            "ratings.dat: 2 of 2 lines are malformed.*1 values, separated by '::', not 4",
        ),
        ("ratings.dat", ["1::1::five::978300760"], "line 1: rating 'five' is not a number"),
        ("ratings.dat", ["1::1::6::978300760"], "line 1: rating '6' is not between 0 and 5"),
        ("ratings.dat", ["1::1::nan::978300760"], "rating 'nan' is not a number"),
        ("ratings.dat", ["1::1::5::nan"], "timestamp 'nan' is not a number"),
        ("ratings.dat", ["1::1::5::978300760.5"], "timestamp '978300760.5' is not a whole number"),
        ("ratings.dat", ["1::1::5::-1"], "timestamp '-1' is not a whole number from 0"),
        ("ratings.dat", ["::1::5::978300760"], "no user id"),
        ("ratings.dat", ["1 2::1::5::978300760"], "user id '1 2' holds white space"),
        ("ratings.dat", [], "ratings.dat is empty"),
        ("ratings.dat", ["", "  "], "ratings.dat is empty"),
        (
            "movies.dat",
            ["1::Toy Story (1995)"],
            "movies.dat: 1 of 1 lines.*2 values, separated by '::', not 3",
        ),
        (
            "users.dat",
            ["1::F::1::10"],
            "users.dat: 1 of 1 lines.*4 values, separated by '::', not 5",
        ),
    ],
)
def test_a_file_of_another_kind_is_one_sentence_and_leaves_nothing(
    tmp_path, capsys, file, lines, message
):
    folder = write_ml1m(tmp_path / "raw")
    write_lines(folder / file, lines)
    assert prepare(format="movielens", input=folder, dataset="ml-1m") == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed), printed
    assert printed.count("\n") == 1
    assert not Path("dataset").exists() or list(Path("dataset").iterdir()) == []


def test_missing_folders_and_files_are_named(tmp_path, capsys):
    assert prepare(format="movielens", input=tmp_path / "nowhere", dataset="ml-1m") == 2
    assert "nowhere is not a folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert prepare(format="movielens", input=tmp_path / "empty", dataset="ml-1m") == 2
    printed = capsys.readouterr().err
    assert (
        "holds neither u.data (MovieLens-100K) nor ratings.dat (1M, 10M) nor ratings.csv (20M, 25M"
        in printed
    )
    assert "but nothing. Give" in printed
    folder = write_ml1m(tmp_path / "raw")
    (folder / "users.dat").unlink()
    assert prepare(format="movielens", input=folder, dataset="ml-1m") == 2
    assert "users.dat does not exist" in capsys.readouterr().err


# ---------------------------------------------------------------- half stars: 10M, 20M and later

HALF_STARS = [
    (1, 122, "5", 838985046),
    (1, 185, "3.5", 838983525),
    (2, 122, "0.5", 838983392),
    (2, 9, "3", 838983421),
]
# As published: quoted with a comma, doubled quotes, a blank too many, no year, a series, one
# parenthesis too many.
MOVIES_CSV = [
    ("122", '"American President, The (1995)"', "Comedy|Drama|Romance"),
    ("185", '"""Great Performances"" Cats (1998)"', "Musical"),
    ("9", "The Dawn Wall  (2017) ", "(no genres listed)"),
    ("10", "Babylon 5", "Sci-Fi"),
    ("11", "Death Note: Desu nôto (2006–2007)", "(no genres listed)"),
    ("12", "Terrace House (2015– )", "IMAX|Children"),
    ("13", "Mona and the Time of Burning Love (1983))", "Drama"),
    ("14", '"City of Lost Children, The (Cité des enfants perdus, La) (1995)"', "Film-Noir"),
    ("15", "The Godfather Trilogy: 1972-1990 (1992)", "Crime"),
    ("16", "Das Millionenspiel", "Action"),
    ("17", "2001: A Space Odyssey (1968)", "Sci-Fi"),
]
ITEMS_CSV = [
    ("122", "American President, The", "1995", "Comedy Drama Romance"),
    ("185", '"Great Performances" Cats', "1998", "Musical"),
    ("9", "The Dawn Wall", "2017", ""),
    ("10", "Babylon 5", "", "Sci-Fi"),
    ("11", "Death Note: Desu nôto", "2006", ""),
    ("12", "Terrace House", "2015", "IMAX Children"),
    ("13", "Mona and the Time of Burning Love", "1983", "Drama"),
    ("14", "City of Lost Children, The (Cité des enfants perdus, La)", "1995", "Film-Noir"),
    ("15", "The Godfather Trilogy: 1972-1990", "1992", "Crime"),
    ("16", "Das Millionenspiel", "", "Action"),
    ("17", "2001: A Space Odyssey", "1968", "Sci-Fi"),
]


def write_csv(folder, ratings=HALF_STARS, movies=MOVIES_CSV, end="\r\n"):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        "userId,movieId,rating,timestamp",
        *(f"{u},{m},{float(r)},{t}" for u, m, r, t in ratings),
    ]
    (folder / "ratings.csv").write_bytes("".join(row + end for row in rows).encode())
    rows = ["movieId,title,genres", *(",".join(movie) for movie in movies)]
    (folder / "movies.csv").write_bytes("".join(row + end for row in rows).encode())
    return folder


def write_ml10m(folder):
    write_lines(folder / "ratings.dat", [f"{u}::{m}::{r}::{t}" for u, m, r, t in HALF_STARS])
    unquoted = csv.reader(",".join(movie) for movie in MOVIES_CSV)
    write_lines(folder / "movies.dat", ["::".join(movie) for movie in unquoted])
    return folder


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("name", ["ml-20m", "ml-25m", "ml-32m", "ml-latest-small"])
def test_csv_editions_become_two_atomic_files(tmp_path, capsys, name, end):
    assert (
        prepare(format="movielens", input=write_csv(tmp_path / "raw", end=end), dataset=name) == 0
    )
    folder = Path("dataset") / name
    assert sorted(p.name for p in folder.iterdir()) == [
        f"{name}.inter",
        f"{name}.item",
        "provenance.json",
    ]
    rows = [line.split("\t") for line in (folder / f"{name}.inter").read_text().splitlines()[1:]]
    assert rows == [[str(value) for value in row] for row in HALF_STARS]
    lines = (folder / f"{name}.item").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq"
    assert [tuple(line.split("\t")) for line in lines[1:]] == ITEMS_CSV
    assert f"--dataset={name}\n" in capsys.readouterr().out


@pytest.mark.parametrize("mark", ["tags.dat", "ml-10M100K"])
def test_ml10m_has_the_files_of_ml1m_but_no_users(tmp_path, mark):
    folder = write_ml10m(tmp_path / (mark if mark != "tags.dat" else "raw"))
    if mark == "tags.dat":
        write_lines(folder / "tags.dat", ["1::122::excellent::1"])
    assert prepare(format="movielens", input=folder, dataset="ml-10m") == 0
    made = Path("dataset/ml-10m")
    assert sorted(p.name for p in made.iterdir()) == [
        "ml-10m.inter",
        "ml-10m.item",
        "provenance.json",
    ]
    rows = [line.split("\t") for line in (made / "ml-10m.inter").read_text().splitlines()[1:]]
    assert rows == [[str(value) for value in row] for row in HALF_STARS]
    items = [
        tuple(line.split("\t"))
        for line in (made / "ml-10m.item").read_text(encoding="utf-8").splitlines()[1:]
    ]
    assert items == ITEMS_CSV


@pytest.mark.parametrize(("writer", "properties"), [(write_csv, "ml-20m"), (write_ml10m, "ml-10m")])
def test_another_name_is_given_the_protocol_of_the_edition(tmp_path, capsys, writer, properties):
    assert (
        prepare(format="movielens", input=writer(tmp_path / "a 10M edition"), dataset="mine") == 0
    )
    file = properties_folder() / f"dataset/{properties}.yaml"
    assert f"--dataset=mine --config_files={file}" in capsys.readouterr().out
    assert yaml.safe_load(file.read_text())["threshold"] == {"rating": 3.5}


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("ratings.csv", "1,2,3", "3 values, separated by ',', not 4"),
        ("ratings.csv", "1,2,5.5,1", "rating '5.5' is not between 0 and 5"),
        ("movies.csv", '7,"An open quote (1999),Drama', "not a line of CSV"),
        ("movies.csv", "7,A bare comma, The (1999),Drama", "4 values, separated by ',', not 3"),
    ],
)
def test_malformed_lines_of_csv_are_named(tmp_path, capsys, file, line, message):
    folder = write_csv(tmp_path / "raw")
    with (folder / file).open("a") as more:
        more.write(line + "\r\n")
    assert prepare(format="movielens", input=folder, dataset="ml-20m") == 2
    printed = capsys.readouterr().err
    assert f"{folder / file}: 1 of " in printed and message in printed
    assert list(Path("dataset").iterdir()) == []


def test_a_csv_file_with_other_columns_is_refused(tmp_path, capsys):
    folder = write_csv(tmp_path / "raw")
    write_lines(folder / "movies.csv", ["id,title,genres", "1,A (1999),Drama"])
    assert prepare(format="movielens", input=folder, dataset="ml-20m") == 2
    assert (
        "starts with 'id,title,genres', not with 'movieId,title,genres'" in capsys.readouterr().err
    )


def test_ratings_of_csv_are_streamed(tmp_path, monkeypatch):
    """Five times the rows take no more memory."""
    monkeypatch.setattr(source, "_BUFFER", 1 << 12)

    def peak(rows):
        ratings = ((n % 50, n % 9, "3.5", 10**9 + n) for n in range(rows))
        raw = MovieLens(write_csv(tmp_path / str(rows), ratings), 0.0)
        tracemalloc.start()
        assert sum(1 for _ in raw.interactions()) == rows
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100)  # what is imported and cached once
    assert peak(20_000) < peak(4_000) + 16_000  # not even a byte a row
