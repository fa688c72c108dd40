"""MovieLens folders of every edition.

These are 100K (``u.data``), 1M and 10M (``ratings.dat``), 20M and later (``ratings.csv``). Fields
and cells are those of RecBole's atomic ``ml-1m`` and ``ml-100k``, so that their properties fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from recbole_genci.data.prepare.cleaning import MalformedLine, as_id, as_interaction, clean_text
from recbole_genci.data.prepare.output import INTERACTION_FIELDS
from recbole_genci.data.prepare.records import csv_cells
from recbole_genci.data.prepare.source import SourceFile

#: "Toy Story (1995)". 100K has one "(V)" for a video after the year. Later editions have series,
#: "(2006–2007)" and "(2009– )", and titles with one parenthesis too many. The first year counts.
_TITLE_AND_YEAR = re.compile(r"(.*?)\s*\((\d{4})(?:\s*[-–—]\s*(?:\d{4})?)?\s*\)+\s*(?:\(V\)\s*)?")

#: Later editions write this for a movie without genre.
_NO_GENRE = "(no genres listed)"

#: The 19 flags of u.item, in their order (u.genre).
_GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy "
    "Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
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
    genres = [clean_text(genre) for genre in genres if genre != _NO_GENRE]
    return {
        "item_id": as_id(movie, "movie id"),
        "movie_title": name,
        "release_year": year,
        genre_field: " ".join(genres),
    }


def _movie_dat(line: str) -> dict[str, str]:
    # A title may hold the separator; ids and genres do not.
    movie, _, rest = line.partition("::")
    title, separator, genres = rest.rpartition("::")
    if not separator:
        raise MalformedLine(f"{line.count('::') + 1} values, separated by '::', not 3")
    return _movie(movie, title, genres.split("|"), "genre")


def _movie_100k(line: str) -> dict[str, str]:
    # id | title | release date | video release date | address | 19 flags
    movie, title, *_ = cells = _cells(line, "|", 5 + len(_GENRES_100K))
    return _movie(
        movie,
        title,
        [genre for genre, flag in zip(_GENRES_100K, cells[5:]) if flag == "1"],
        "class",
    )


def _movie_csv(line: str) -> dict[str, str]:
    # A title with a comma is quoted, and a quotation mark in it is doubled. No title holds a line
    # end.
    cells = csv_cells(line, 3)
    return _movie(cells[0], cells[1], cells[2].split("|"), "genre")


def _user_parser(separator: str, fields: tuple[str, ...]) -> Callable[[str], dict[str, str]]:
    def parse(line: str) -> dict[str, str]:
        user, *others = _cells(line, separator, len(fields))
        return {"user_id": as_id(user, "user id")} | dict(zip(fields[1:], map(clean_text, others)))

    return parse


@dataclass(frozen=True)
class Edition:
    """File names, separators and fields of one kind of edition.

    Attributes:
        name: its common name.
        properties: the dataset under ``properties/dataset/`` whose protocol fits.
        ratings, movies, users: its files; ``users`` is None if users are not described.
        separator, user_separator: stand between the values of a rating and of a user.
        parse_movie: turns a line of ``movies`` into the cells of an item.
        user_fields: fields of the ``.user`` file, id first.
        genre_field: RecBole's name of the field of genres.
        headers: first lines of ``ratings`` and ``movies``; None if they have no header.
    """

    name: str
    properties: str
    ratings: str
    movies: str
    separator: str
    parse_movie: Callable[[str], dict[str, str]]
    users: str | None = None
    user_separator: str = ""
    user_fields: tuple[str, ...] = ()
    genre_field: str = "genre"
    headers: tuple[str, str] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are read."""
        return tuple(filter(None, (self.ratings, self.movies, self.users)))


_100K = Edition(
    name="MovieLens-100K",
    properties="ml-100k",
    ratings="u.data",
    movies="u.item",
    users="u.user",
    separator="\t",
    user_separator="|",
    user_fields=("user_id", "age", "gender", "occupation", "zip_code"),
    genre_field="class",
    parse_movie=_movie_100k,
)
_1M_USERS = "users.dat"
_1M = Edition(
    name="MovieLens-1M",
    properties="ml-1m",
    ratings="ratings.dat",
    movies="movies.dat",
    users=_1M_USERS,
    separator="::",
    user_separator="::",
    user_fields=("user_id", "gender", "age", "occupation", "zip_code"),
    parse_movie=_movie_dat,
)
_10M = Edition(
    name="MovieLens-10M",
    properties="ml-10m",
    ratings="ratings.dat",
    movies="movies.dat",
    separator="::",
    parse_movie=_movie_dat,
)
_CSV = Edition(
    name="MovieLens-20M and later",
    properties="ml-20m",
    ratings="ratings.csv",
    movies="movies.csv",
    separator=",",
    headers=("userId,movieId,rating,timestamp", "movieId,title,genres"),
    parse_movie=_movie_csv,
)

#: The files of all editions.
EDITION_FILES = frozenset(name for edition in (_100K, _1M, _10M, _CSV) for name in edition.files)


def find_edition(folder: Path) -> Edition:
    """The kind of edition that ``folder`` holds, by the names of its files.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no ratings.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder. Give the unpacked MovieLens folder by --input."
        )
    candidates = (edition for edition in (_1M, _100K, _CSV) if (folder / edition.ratings).is_file())
    edition = next(candidates, None)
    if edition is None:
        files = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"{folder} holds neither u.data (MovieLens-100K) nor ratings.dat (1M, 10M) nor "
            f"ratings.csv (20M, 25M, 32M, latest, latest-small), but {files}. Give the folder that "
            "holds the unpacked files by --input."
        )
    if edition is not _1M or (folder / _1M_USERS).is_file():
        return edition
    # The files of 1M and 10M have the same names; 10M does not describe users, and has tags.
    if (folder / "tags.dat").is_file() or "10m" in folder.name.lower():
        return _10M
    raise FileNotFoundError(
        f"{folder / _1M_USERS} does not exist; MovieLens-1M has it, and MovieLens-10M, which does "
        "not, has tags.dat. Give the folder that holds all unpacked files by --input."
    )


class MovieLens:
    """A MovieLens folder. Each file is read once.

    Args:
        folder: the folder unpacked from the zip of any edition.
        max_malformed: share of lines in each file that may be malformed.

    Raises:
        FileNotFoundError: there is no such folder, or files are missing in it.
        ValueError: a file is empty, or a CSV file has other columns.
    """

    inter_fields = INTERACTION_FIELDS
    click_from: float | None = None

    def __init__(self, folder: Path, max_malformed: float):
        self._edition = edition = find_edition(folder)
        # The first editions were published in latin-1, but there are copies in UTF-8.
        self.sources = [
            SourceFile(folder / name, max_malformed, "latin-1") for name in edition.files
        ]
        for source, header in zip(self.sources, edition.headers or ()):
            if source.first_line.strip() != header:
                raise ValueError(
                    f"{source.path} starts with {source.first_line[:60]!r}, not with '{header}'. "
                    f"Is this the file of {edition.name}?"
                )
        self._ratings, self._movies, *users = self.sources
        self._users = users[0] if users else None
        self.item_fields = {
            "item_id": "token",
            "movie_title": "token_seq",
            "release_year": "token",
            edition.genre_field: "token_seq",
        }
        self.user_fields = dict.fromkeys(edition.user_fields, "token") or None
        self.properties = edition.properties

    @property
    def _has_header(self) -> bool:
        return self._edition.headers is not None

    def interactions(self) -> Iterator[tuple[str, str, float, int]]:
        """(user, item, rating, seconds) in the order of the file."""
        separator = self._edition.separator  # ids and numbers: nothing is quoted

        def parse(line: str) -> tuple[str, str, float, int]:
            return as_interaction(*_cells(line, separator, 4))

        return self._ratings.rows(parse, self._has_header)

    def items(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """All movies, whether rated or not, as in RecBole's atomic files."""
        return self._movies.rows(self._edition.parse_movie, self._has_header)

    def users(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """All users."""
        assert self._users is not None  # as user_fields says
        return self._users.rows(
            _user_parser(self._edition.user_separator, self._edition.user_fields)
        )
