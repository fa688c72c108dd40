"""KuaiRand (kuairand.com): logs of a short-video app with twelve kinds of feedback.

One folder, ``KuaiRand-Pure``, ``-1K`` or ``-27K``, holds the logs of recommended videos
(``log_standard_*.csv``), those of videos shown at random (``log_random_*.csv``), users and videos.
The statistics of videos are not read: they sum up the feedback of all days, even of the test rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

from recbole_genci.data.prepare.cleaning import (
    MalformedLine,
    as_entries,
    as_id,
    as_number,
    as_timestamp,
    clean_text,
    number_text,
)
from recbole_genci.data.prepare.records import csv_cells
from recbole_genci.data.prepare.source import SourceFile

#: Values of ``--logs``, and how the names of the files begin.
LOGS = {
    "standard": ("log_standard_",),
    "random": ("log_random_",),
    "all": ("log_standard_", "log_random_"),
}
#: Any of these may be LABEL_FIELD.
FEEDBACK = (
    "is_click is_like is_follow is_comment is_forward is_hate long_view is_profile_enter"
).split()
_LEVELS = ("first", "second", "third", "fourth")
_UNKNOWN = "UNKNOWN"
#: The end of a file's name, with the version in it.
_NAME = re.compile(r"(?:_(pure|1k|27k))?(?:_part\d+)?\.csv(?:\.gz)?$")
_WHOLE_NUMBER = re.compile(r"(-?\d+)\.0+")

_MEASURES = ("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time")
_VIDEO = {
    "author_id": "token",
    "video_type": "token",
    "upload_dt": "token",
    "upload_type": "token",
    "video_duration": "float",
    "server_width": "float",
    "server_height": "float",
    "music_id": "token",
    "music_type": "token",
    "tag": "token_seq",
}
_COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
_USER = {
    "user_active_degree": "token",
    "is_lowactive_period": "token",
    "is_live_streamer": "token",
    "is_video_author": "token",
    **{
        name: kind
        for count in _COUNTS
        for name, kind in ((count, "float"), (f"{count}_range", "token"))
    },
    **{f"onehot_feat{number}": "token" for number in range(18)},
}
_LOG = (*FEEDBACK, *_MEASURES, "tab", "is_rand")
_CATEGORY_COLUMNS = ("final_video_id", *(f"{level}_level_category_name" for level in _LEVELS))


class KuaiRand:
    """The folder of one version. Each file is read once.

    Args:
        folder: the unpacked folder, or ``data`` in it.
        logs: ``standard``, ``random`` or ``all``.
        categories: ``kuairand_video_categories.csv``, published apart, or None; its names are the
            only texts of videos.
        max_malformed: share of lines in each file that may be malformed.

    Raises:
        FileNotFoundError: there is no such folder, or files are missing in it.
        ValueError: it holds files of several versions, or a file lacks columns.
    """

    properties = "kuairand"
    click_from: float | None = 1.0
    inter_fields = {
        "user_id": "token",
        "item_id": "token",
        "is_click": "float",
        "timestamp": "float",
        **{name: "float" for name in (*FEEDBACK[1:], *_MEASURES)},
        "tab": "token",
        "hour": "token",
        "is_rand": "token",
    }

    def __init__(self, folder: Path, logs: str, categories: Path | None, max_malformed: float):
        self.user_fields: dict[str, str] | None = {"user_id": "token", **_USER}
        self.item_fields = {"item_id": "token", **_VIDEO}
        files = _find(folder, logs)
        self._logs = [SourceFile(file, max_malformed) for file in files["logs"]]
        self._videos = SourceFile(files["video_features_basic_"][0], max_malformed)
        self._users = SourceFile(files["user_features_"][0], max_malformed)
        self._categories = SourceFile(categories, max_malformed) if categories else None
        if self._categories:
            self.item_fields["categories"] = "token"
        self.sources = [
            *self._logs,
            *([self._categories] if self._categories else []),
            self._videos,
            self._users,
        ]
        for log in self._logs:
            _places(log, ("user_id", "video_id", "time_ms", "hourmin", *_LOG))
        _places(self._videos, ("video_id", *_VIDEO))
        _places(self._users, ("user_id", *_USER))
        if self._categories:
            _places(self._categories, _CATEGORY_COLUMNS)

    def interactions(self) -> Iterator[tuple]:
        """(user, video, click, milliseconds, other feedback ...), log by log in file order."""
        for log in self._logs:
            yield from log.rows(_log_parser(log), has_header=True)

    def items(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """The descriptions of the wanted videos."""
        categories = dict(self._named_categories(wanted))
        for row in _described(self._videos, "video_id", "item_id", _VIDEO, wanted):
            yield row | {"categories": categories.get(row["item_id"], "")}

    def users(self, wanted: Container[str]) -> Iterator[dict[str, str]]:
        """The descriptions of the wanted users."""
        return _described(self._users, "user_id", "user_id", _USER, wanted)

    def _named_categories(self, wanted: Container[str]) -> Iterator[tuple[str, str]]:
        if self._categories is None:
            return
        places = _places(self._categories, _CATEGORY_COLUMNS)
        number = len(self._categories.first_line.split(","))

        def parse(line: str) -> tuple[str, str]:
            cells = csv_cells(line, number)
            video, *names = (cells[place] for place in places)
            known = [name for name in names if name != _UNKNOWN]
            return as_id(video, "final_video_id"), as_entries(known, "category", " > ")

        rows = self._categories.rows(parse, has_header=True)
        yield from (row for row in rows if row[0] in wanted)


def _find(folder: Path, logs: str) -> dict[str, list[Path]]:
    """The files of one version, by what their names begin with.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing.
        ValueError: there are files of several versions, or one file twice.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder. Give the unpacked folder KuaiRand-Pure, -1K or -27K by "
            "--input."
        )
    place = folder / "data" if (folder / "data").is_dir() else folder
    found = {
        prefix: sorted(p for p in place.glob(f"{prefix}*") if _NAME.search(p.name))
        for prefix in (*LOGS[logs], "video_features_basic_", "user_features_")
    }
    for prefix, files in found.items():
        if not files:
            raise FileNotFoundError(
                f"{place} holds no {prefix}*.csv; --input must be a folder KuaiRand-Pure, -1K or "
                "-27K as unpacked."
            )
        # Only logs come in several files; one file may lie there gzipped and unpacked.
        names = [file.name.removesuffix(".gz") for file in files]
        if len(set(names)) < len(names) or (len(names) > 1 and not prefix.startswith("log_")):
            raise ValueError(
                f"{place} holds {' and '.join(file.name for file in files)}, which are too many. "
                "Leave each file there once, and files of one version of KuaiRand only."
            )
    matches = (_NAME.search(file.name) for files in found.values() for file in files)
    versions = sorted({match[1] for match in matches if match and match[1]})
    if len(versions) > 1:
        raise ValueError(
            f"{place} holds files of several versions of KuaiRand, {' and '.join(versions)}. Put "
            "each version into a folder of its own."
        )
    return found | {"logs": [file for prefix in LOGS[logs] for file in found[prefix]]}


def _places(source: SourceFile, names: tuple[str, ...]) -> list[int]:
    """Where the columns stand in a file.

    Raises:
        ValueError: some are missing.
    """
    header = [name.strip() for name in source.first_line.split(",")]
    missing = [name for name in names if name not in header]
    if missing:
        raise ValueError(
            f"{source.path} starts with {source.first_line[:60]!r}; it lacks the "
            f"column{'s' if missing[1:] else ''} {', '.join(missing)}. Is this the published file?"
        )
    return [header.index(name) for name in names]


def _number(text: str, name: str) -> str:
    # Most are whole numbers, written as they should be.
    if text.isascii() and text.isdigit():
        return text
    return number_text(as_number(text, name))


def _token(text: str, name: str) -> str:
    """A cell's text; pandas wrote whole numbers of columns with gaps as ``9.0``."""
    match = _WHOLE_NUMBER.fullmatch(text)
    return match[1] if match else clean_text(text)


def _tags(text: str, name: str) -> str:
    return as_entries(text.split(","), name, " ")


_CELLS: Mapping[str, Callable[[str, str], str]] = {
    "token": _token,
    "float": lambda text, name: _number(text, name) if text else "",
    "token_seq": _tags,
}


def _log_parser(log: SourceFile) -> Callable[[str], tuple]:
    number = len(log.first_line.split(","))
    places = _places(log, ("user_id", "video_id", "time_ms", "hourmin", *_LOG))

    def parse(line: str) -> tuple:
        cells = line.split(",")  # whole numbers: nothing is quoted
        if len(cells) != number:
            raise MalformedLine(f"{len(cells)} values, separated by ',', not {number}")
        user, video, time, hourmin, *others = [cells[place] for place in places]
        for name, value in zip(FEEDBACK, others):
            if value not in ("0", "1"):
                raise MalformedLine(f"{name} {value!r} is neither 0 nor 1")
        click, *numbers = [_number(value, name) for name, value in zip(_LOG, others)]
        hour = as_number(hourmin, "hourmin") // 100  # 1930 is half past seven
        return (
            as_id(user, "user_id"),
            as_id(video, "video_id"),
            float(click),
            as_timestamp(time),
            *numbers[:-1],
            number_text(hour),
            numbers[-1],
        )

    return parse


def _described(
    source: SourceFile,
    id_column: str,
    id_field: str,
    kinds: Mapping[str, str],
    wanted: Container[str],
) -> Iterator[dict[str, str]]:
    """The rows of a file of users or videos whose ids are wanted."""
    places = _places(source, (id_column, *kinds))
    number = len(source.first_line.split(","))

    def parse(line: str) -> dict[str, str]:
        cells = csv_cells(line, number)
        row = {id_field: as_id(cells[places[0]], id_column)}
        for (name, kind), place in zip(kinds.items(), places[1:]):
            row[name] = _CELLS[kind](cells[place].strip(), name)
        return row

    return (row for row in source.rows(parse, has_header=True) if row[id_field] in wanted)
