"""The same catalogue from its two origins, RecBole's atomic files and MovieLens' own, fits the
published semantic IDs.
"""

import shutil
from pathlib import Path

import numpy as np
import recbole
from raw_files import prepare, real, write_lines

from recbole_genci.config import properties_folder
from recbole_genci.data.prepare.movielens import _GENRES_100K
from recbole_genci.tokenizer import SemanticIDs
from recbole_genci.tokenizer.artifact.files import read_text_digests
from recbole_genci.tokenizer.artifact.published import best_fit, text_digests
from recbole_genci.tokenizer.encoding.item_file import ItemFile
from recbole_genci.tokenizer.encoding.text import read_item_texts

ML100K = Path(recbole.__file__).parent / "dataset_example/ml-100k/ml-100k.item"


def _fit(item_file):
    return best_fit(ItemFile(item_file, "item_id"))


def test_the_digests_of_ml1m_can_be_made_again():
    folder = properties_folder() / "semantic_ids/ml-1m"
    ids = SemanticIDs.load(folder)
    fields = ids.manifest["settings"]["item_text_fields"]
    texts = read_item_texts(
        ItemFile(real("ml-1m", "ml-1m.item"), "item_id"), fields, ids.item_tokens
    )
    np.testing.assert_array_equal(read_text_digests(folder), text_digests(texts)[:, None])


def test_movielens_own_files_fit_after_our_preparation(tmp_path):
    rows = [line.split("\t") for line in ML100K.read_text(encoding="utf-8").split("\n")[1:] if line]
    odd = {
        "267": "unknown",
        "1412": "Land Before Time III: The Time of the Great Giving (1995) (V)",
    }
    movies = []
    for movie, title, year, genres in rows:
        flags = "|".join("01"[genre in genres.split()] for genre in _GENRES_100K)
        title = odd.get(movie, f"{title} ({year})")
        movies.append(f"{movie}|{title}|01-Jan-{year}||http://us.imdb.com/{movie}|{flags}")
    raw = tmp_path / "raw"
    write_lines(raw / "u.data", ["1\t1\t5\t874965758"])
    write_lines(raw / "u.item", movies, encoding="latin-1")
    write_lines(raw / "u.user", ["1|24|M|technician|85711"])
    assert prepare(format="movielens", input=raw, dataset="films") == 0
    fit = _fit(Path("dataset/films/films.item"))
    assert (fit.published.name, fit.equal) == ("ml-100k", 1682)


def test_both_origins_of_ml1m_fit(tmp_path):
    assert _fit(real("ml-1m", "ml-1m.item")).equal == 3883
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in ("movies.dat", "users.dat"):
        shutil.copyfile(real("raw", "ml-1m", name), raw / name)
    write_lines(raw / "ratings.dat", ["1::1193::5::978300760"])
    assert prepare(format="movielens", input=raw, dataset="ml1m") == 0
    fit = _fit(Path("dataset/ml1m/ml1m.item"))
    assert (fit.published.name, fit.items, fit.equal) == ("ml-1m", 3883, 3883)
