"""Small files in the published formats, and where the real ones are looked for."""

import gzip
import json
import os
from pathlib import Path

import pytest

from recbole_genci.data.prepare.__main__ import main
from recbole_genci.utils.atomic_files import read_atomic_file, read_header

#: A folder with ``ml-1m/`` and ``amazon-*/`` as atomic files and ``raw/`` as published; beside the
#: checkout by default.
REAL_DATA = Path(
    os.environ.get("RECBOLE_GENCI_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")
)


def real(*parts):
    """A file or folder of the real data; skips the test where it is absent."""
    path = REAL_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in {REAL_DATA} (set RECBOLE_GENCI_DATA)")
    return path


def write_lines(file, lines, zipped=False, encoding="utf-8"):
    file.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(
        f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines
    ).encode(encoding)
    file.write_bytes(gzip.compress(content) if zipped else content)
    return file


HEADER_2023 = "user_id,parent_asin,rating,timestamp"


def ratings_2023(num_users=30, rows_per_user=8, num_items=12):
    """Lines of a ratings CSV: all times of a user within one second, so that float32 could not tell
    them apart.
    """
    lines = [HEADER_2023]
    for user in range(num_users):
        for row in range(rows_per_user):
            item = (user * 5 + row) % num_items
            lines.append(
                f"U{user},I{item},{1 + (user + row * 3) % 5}.0,"
                f"{1_600_000_000_000 + user * 1000 + (row * 37) % 1000}"
            )
    return lines


def metadata_2023(num_items=12):
    """Metadata of the items of ``ratings_2023``, and of one more that nobody rated."""
    return [
        {
            "main_category": "Musical Instruments",
            "title": f"Guitar &amp; Bass\t{item}",
            "average_rating": 4.5,
            "rating_number": 12,
            "features": ["Solid top", "Bone nut"],
            "description": ["A <b>fine</b> guitar.", "Loud."],
            "price": 12.5,
            "store": "Fender",
            "categories": ["Musical Instruments", f"Guitars & More {item % 3}"],
            "images": [],
            "parent_asin": f"I{item}",
        }
        for item in range(num_items + 1)
    ]


def prepare(*words, **keys):
    """Run the command in this process; returns its exit status."""
    return main([*words, *(f"--{key}={value}" for key, value in keys.items())])


def read_back(folder, suffix):
    """Rows of an atomic file, as our own reader reads them."""
    file = folder / f"{folder.name}.{suffix}"
    header = read_header(file)
    return read_atomic_file(file, list(header), header)
