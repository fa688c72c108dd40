"""Read RecBole's atomic files: ``field:type`` headers, one separator, no quoting.

Every reader of ``.inter``, ``.user`` and ``.item`` files goes through here, so that all agree on
what a line and a cell is. A quotation mark is an ordinary character. A byte order mark is no part
of the first name.
"""

from recbole_genci.utils.atomic_files.lines import (
    FIELD_TYPES,
    LARGEST_NUMBER,
    encoding_of,
    line_of_row,
)
from recbole_genci.utils.atomic_files.reading import read_atomic_file, read_header
from recbole_genci.utils.atomic_files.sequences import (
    other_seq_separator,
    read_sequences,
    split_sequences,
)

__all__ = [
    "FIELD_TYPES",
    "LARGEST_NUMBER",
    "encoding_of",
    "line_of_row",
    "other_seq_separator",
    "read_atomic_file",
    "read_header",
    "read_sequences",
    "split_sequences",
]
