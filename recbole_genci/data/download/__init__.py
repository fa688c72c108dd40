"""Datasets that are not on the disk: downloaded by name, checked, and made into atomic files."""

from recbole_genci.data.download.dataset import check_dataset, find_or_download
from recbole_genci.data.download.sources import known_downloads

__all__ = ["check_dataset", "find_or_download", "known_downloads"]
