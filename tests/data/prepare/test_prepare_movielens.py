"""MovieLens folders: the cells of RecBole's own atomic files, and the paper's counts."""

import html
import json
import re
from pathlib import Path

import pytest
import recbole
from raw_files import prepare, read_back, real, write_lines

from recbole_genci.config import Config
from recbole_genci.data import create_dataset
from recbole_genci.data.prepare.movielens import _GENRES_100K

MOVIES = ["1::Toy Story (1995)::Animation|Children's|Comedy", "2::Misérables, Les (1995)::Drama|Musical",
          "3::Face::Off; a :: title (1997)::Action", "4::No year at all::Drama", "9::Never rated (2000)::Drama"]  # fmt: skip
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
    lines = {s: Path(f"dataset/ml-1m/ml-1m.{s}").read_text(encoding="utf-8").splitlines() for s in ("inter", "item", "user")}
    assert lines["inter"] == ["user_id:token\titem_id:token\trating:float\ttimestamp:float",
                              *(line.replace("::", "\t") for line in RATINGS)]  # fmt: skip
    assert lines["item"] == [
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq",
        "1\tToy Story\t1995\tAnimation Children's Comedy", "2\tMisérables, Les\t1995\tDrama Musical",
        "3\tFace::Off; a :: title\t1997\tAction", "4\tNo year at all\t\tDrama", "9\tNever rated\t2000\tDrama",
    ]  # fmt: skip
    assert lines["user"] == ["user_id:token\tgender:token\tage:token\toccupation:token\tzip_code:token",
                             *(line.replace("::", "\t") for line in USERS)]  # fmt: skip
    printed = capsys.readouterr().out
    assert "4 rows, 2 users, 3 items; 50.0% rated above 3, 1 rows rated 3" in printed
    assert "run_recbole_genci.py --model=GenCI --dataset=ml-1m\n" in printed


def test_raters_and_movies_without_a_description_keep_their_rows(tmp_path, capsys):
    folder = write_ml1m(tmp_path / "raw", movies=MOVIES[:1], users=USERS[:1])
    assert prepare(format="movielens", input=folder, dataset="ml-1m") == 0
    items = read_back(Path("dataset/ml-1m"), "item")
    assert items.item_id.tolist() == ["1", "2", "4"] and items.movie_title.isna().tolist() == [False, True, True]
    assert read_back(Path("dataset/ml-1m"), "user").user_id.tolist() == ["1", "2"]
    printed = capsys.readouterr().out
    assert "2 items of the rows are not described" in printed and "1 users of the rows are not described" in printed


def test_ml100k_gives_the_rows_that_recbole_ships(tmp_path):
    """u.data, u.item and u.user written from RecBole's atomic files, and prepared back."""
    shipped = Path(recbole.__file__).parent / "dataset_example/ml-100k"
    atomic = {s: [line.split("\t") for line in (shipped / f"ml-100k.{s}").read_text(encoding="utf-8").split("\n")[1:] if line]
              for s in ("inter", "item", "user")}  # fmt: skip
    # RecBole's two odd rows, the movie without a name and the one whose year became "V", as they were published.
    odd = {"267": ("unknown", ""), "1412": ("Land Before Time III: The Time of the Great Giving (1995) (V)", "")}
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
        assert (made / f"ml-100k.{suffix}").read_text().rstrip() == (shipped / f"ml-100k.{suffix}").read_text().rstrip()
    rows = [line.split("\t") for line in (made / "ml-100k.item").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq"]
    # RecBole lists some genres in another order.
    assert [r[:3] + [set(r[3].split())] for r in rows[1:] if r[0] not in odd] == [
        r[:3] + [set(r[3].split())] for r in atomic["item"] if r[0] not in odd
    ]
    assert [r for r in rows if r[0] in odd] == [
        ["267", "unknown", "", "unknown"],
        ["1412", "Land Before Time III: The Time of the Great Giving", "1995", "Animation Children's"],
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
    assert (made / "ml-1m.item").read_text("utf-8") == html.unescape((atomic / "ml-1m.item").read_text("utf-8"))

    provenance = json.loads((made / "provenance.json").read_text())
    assert {k: provenance["counts"][k] for k in ("rows", "users", "items")} == {"rows": 1000209, "users": 6040, "items": 3706}
    assert provenance["counts"]["rows"] - provenance["counts"]["rows_rated_3"] == 739012
    # Table 2, whose 6,041 users and 3,669 items count padding.
    dataset = create_dataset(Config("LR", "ml-1m", config_dict={"data_path": "dataset"}))
    assert len(dataset.inter_feat) == 739012
    assert dataset.inter_feat.user_id.nunique() == 6040 and dataset.inter_feat.item_id.nunique() == 3668


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("ratings.dat", ["userId,movieId,rating,timestamp", "1,2,3,4"], "ratings.dat: 2 of 2 lines are malformed.*1 values, "
         "separated by '::', not 4"),
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
        ("movies.dat", ["1::Toy Story (1995)"], "movies.dat: 1 of 1 lines.*2 values, separated by '::', not 3"),
        ("users.dat", ["1::F::1::10"], "users.dat: 1 of 1 lines.*4 values, separated by '::', not 5"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_one_sentence_and_leaves_nothing(tmp_path, capsys, file, lines, message):
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
    assert "holds neither ratings.dat (MovieLens-1M) nor u.data (MovieLens-100K), but nothing" in capsys.readouterr().err
    folder = write_ml1m(tmp_path / "raw")
    (folder / "users.dat").unlink()
    assert prepare(format="movielens", input=folder, dataset="ml-1m") == 2
    assert "users.dat does not exist" in capsys.readouterr().err
