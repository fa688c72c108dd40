"""MovieLens folders: MovieLens-1M (``ratings.dat``, ...) and MovieLens-100K (``u.data``, ...).

Fields and cells are those of RecBole's atomic ``ml-1m`` and ``ml-100k``, so that their properties work unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from recbole_genci.data.prepare.cleaning import MalformedLine, as_id, as_interaction, clean_text
from recbole_genci.data.prepare.source import SourceFile

#: "Toy Story (1995)"; MovieLens-100K marks one video by a "(V)" behind the year.
_TITLE_AND_YEAR = re.compile(r"(.*?)\s*\((\d{4})\)\s*(?:\(V\)\s*)?")

#: The 19 flags of u.item, in their order (u.genre).
_GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical Mystery "
    "Romance Sci-Fi Thriller War Western"
).split()


def _cells(line: str, separator: str, number: int) -> list[str]:
    cells = line.split(separator)
    if len(cells) != number:
        raise MalformedLine(f"{len(cells)} values, separated by '{separator}', not {number}")
    return cells


def _movie(movie: str, title: str, genres: list[str], genre_field: str) -> dict[str, str]:
    title = clean_text(title)
    match = _TITLE_AND_YEAR.fullmatch(title)
    name, year = match.groups() if match else (title, "")
    return {"item_id": as_id(movie, "movie id"), "movie_title": name, "release_year": year,
            genre_field: " ".join(clean_text(genre) for genre in genres)}  # fmt: skip


def _movie_1m(line: str) -> dict[str, str]:
    # A title may hold the separator; ids and genres do not.
    movie, _, rest = line.partition("::")
    title, separator, genres = rest.rpartition("::")
    if not separator:
        raise MalformedLine(f"{line.count('::') + 1} values, separated by '::', not 3")
    return _movie(movie, title, genres.split("|"), "genre")


def _movie_100k(line: str) -> dict[str, str]:
    # id | title | release date | video release date | address | 19 flags
    movie, title, *_ = cells = _cells(line, "|", 5 + len(_GENRES_100K))
    return _movie(movie, title, [genre for genre, flag in zip(_GENRES_100K, cells[5:]) if flag == "1"], "class")


def _user_parser(separator: str, fields: tuple[str, ...]) -> Callable[[str], dict[str, str]]:
    def parse(line: str) -> dict[str, str]:
        user, *others = _cells(line, separator, len(fields))
        return {"user_id": as_id(user, "user id")} | dict(zip(fields[1:], map(clean_text, others)))

    return parse


@dataclass(frozen=True)
class _Edition:
    """File names, separators and fields of one edition."""

    ratings: str
    movies: str
    users: str
    rating_separator: str
    user_separator: str
    user_fields: tuple[str, ...]
    genre_field: str
    parse_movie: Callable[[str], dict[str, str]]


_EDITIONS = (
    _Edition("ratings.dat", "movies.dat", "users.dat", "::", "::",
             ("user_id", "gender", "age", "occupation", "zip_code"), "genre", _movie_1m),
    _Edition("u.data", "u.item", "u.user", "\t", "|",
             ("user_id", "age", "gender", "occupation", "zip_code"), "class", _movie_100k),
)  # fmt: skip


class MovieLens:
    """A MovieLens folder; files are read by iterating, once each.

    Args:
        folder: as unpacked from ml-1m.zip or ml-100k.zip.
        max_malformed: share of malformed lines that each file may have.

    Raises:
        FileNotFoundError: no such folder, or files missing in it.
        ValueError: an empty file.
    """

    def __init__(self, folder: Path, max_malformed: float):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder. Give the unpacked MovieLens folder by --input.")
        edition = next((e for e in _EDITIONS if (folder / e.ratings).is_file()), None)
        if edition is None:
            found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
            raise FileNotFoundError(
                f"{folder} holds neither ratings.dat (MovieLens-1M) nor u.data (MovieLens-100K), but {found}. Give the folder "
                "that holds the unpacked files by --input."
            )
        self._edition = edition
        # Published in latin-1; copies in UTF-8 go around.
        self._ratings, self._movies, self._users = self.sources = [
            SourceFile(folder / name, max_malformed, "latin-1") for name in (edition.ratings, edition.movies, edition.users)
        ]
        self.item_fields = {"item_id": "token", "movie_title": "token_seq", "release_year": "token",
                            edition.genre_field: "token_seq"}  # fmt: skip
        self.user_fields = dict.fromkeys(edition.user_fields, "token")
        self.properties = "ml-1m" if edition is _EDITIONS[0] else "ml-100k"

    def interactions(self) -> Iterator[tuple[str, str, float, int]]:
        """(user, item, rating, seconds) in the order of the file."""
        separator = self._edition.rating_separator
        return self._ratings.rows(lambda line: as_interaction(*_cells(line, separator, 4)))

    def items(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """All movies, whether rated or not, as in RecBole's atomic files."""
        return self._movies.rows(self._edition.parse_movie)

    def users(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """All users."""
        return self._users.rows(_user_parser(self._edition.user_separator, self._edition.user_fields))
