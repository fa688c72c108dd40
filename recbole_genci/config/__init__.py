"""The configuration of a run: its keys, how they are set, and the checks before a run starts."""

from recbole_genci.config.config import (
    Config,
    config_files_words,
    listed_files,
    lists_for_tuples,
    parse_argv,
    parse_value,
)
from recbole_genci.config.keys import RECBOLE_FOLDER, known_keys, properties_folder

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
