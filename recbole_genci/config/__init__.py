"""The configuration of a run: its keys, how they are set, and the checks before a run starts."""

from recbole_genci.config.config import Config
from recbole_genci.config.keys import RECBOLE_FOLDER, known_keys, properties_folder
from recbole_genci.config.words import (
    config_files_words,
    listed_files,
    lists_for_tuples,
    parse_argv,
    parse_value,
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
