"""The configuration of a run: keys, the words that set them, and the checks that every run passes
first.
"""

from recbole_genci.config.config import (
    RECBOLE_FOLDER,
    Config,
    config_files_words,
    known_keys,
    listed_files,
    lists_for_tuples,
    parse_argv,
    parse_value,
    properties_folder,
)

__all__ = [
    "RECBOLE_FOLDER",
    "Config",
    "config_files_words",
    "known_keys",
    "listed_files",
    "lists_for_tuples",
    "parse_argv",
    "parse_value",
    "properties_folder",
]
